"""Parametric drawings of left-hand radiographs whose bone age, outline and landmarks are known exactly.

No patient data is needed to try, test or demonstrate the package. The skeleton follows published timetables
(`timetable`), pose and film are random with a seed, and the same arguments give the same bytes. The drawings show a
network the course of ossification; they do not replace radiographs and have no clinical validity.

Example:
    >>> from boneage.preprocessing.synthetic import draw_radiograph
    >>> radiograph = draw_radiograph(120, sex="female", seed=7)
    >>> radiograph.pixels.shape
    (640, 512)
"""

import lazy_loader

# The names stand in `__init__.pyi`; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
