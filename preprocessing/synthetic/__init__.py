"""Parametric drawings of left-hand radiographs whose bone age, outline and landmarks are known exactly.

Nobody's radiograph is needed to try the package, to test it or to show it: the skeleton follows published
timetables (`timetable`), the pose and the film are drawn from a seed, and the same arguments give the same bytes.
The drawings teach a network how ossification looks; they are no substitute for radiographs and carry no clinical truth.

Example:
    >>> from preprocessing.synthetic import draw_radiograph
    >>> radiograph = draw_radiograph(120, sex="female", seed=7)
    >>> radiograph.pixels.shape
    (640, 512)
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "LANDMARK_NAMES": "pose",
    "SyntheticRadiograph": "draw",
    "draw_many": "dataset",
    "draw_radiograph": "draw",
    "write_dataset": "dataset",
}
__all__ = ["LANDMARK_NAMES", "SyntheticRadiograph", "draw_many", "draw_radiograph", "write_dataset"]


def __getattr__(name: str) -> Any:
    """Load the module that holds `name` on first use, so that importing the package stays light (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
