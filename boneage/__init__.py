"""Bone age in months from radiographs of the hand: prepare, train, evaluate, predict."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boneage.calibration import calibrate
    from boneage.delivery import sync
    from boneage.ensemble import ensemble
    from boneage.evaluation import evaluate
    from boneage.leaderboard import best
    from boneage.prediction import predict
    from boneage.training import train
    from boneage.tuning import tune
    from preprocessing.prepare import prepare
    from preprocessing.segment import segment

__all__ = ["best", "calibrate", "ensemble", "evaluate", "predict", "prepare", "segment", "sync", "train", "tune"]

_MODULES = {
    "best": "boneage.leaderboard",
    "calibrate": "boneage.calibration",
    "ensemble": "boneage.ensemble",
    "evaluate": "boneage.evaluation",
    "predict": "boneage.prediction",
    "prepare": "preprocessing.prepare",
    "segment": "preprocessing.segment",
    "sync": "boneage.delivery",
    "train": "boneage.training",
    "tune": "boneage.tuning",
}


def __getattr__(name: str) -> Any:
    """Import a module when its function is first used: importing the package alone loads no heavy library."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
