"""Bone age in months from radiographs of the hand: prepare, train, evaluate, predict."""

import importlib.metadata

import lazy_loader

# The functions stand in `__init__.pyi`; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = importlib.metadata.version("boneage")
