"""Weights that only training needs: in a checkout beside the code, else in the distribution boneage-training-weights.

They are as large as the rest of the package, and prediction needs none of them.
"""

import importlib.util
from pathlib import Path

from boneage.base.errors import BoneAgeError

_PACKAGE = "boneage_training_weights"


class TrainingWeightsError(BoneAgeError):
    """Weights that are trained from are not installed."""


def find_training_weights(path: Path) -> Path | None:
    """Find a weights file, or return None if it is not installed.

    Args:
        path: Its place in a checkout. The distribution has it under the same name, in a folder of the same name.
    """
    if path.exists():
        return path
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / path.parent.name / path.name


def require_training_weights(path: Path) -> Path:
    """Find a weights file as `find_training_weights` does.

    Raises:
        TrainingWeightsError: If it is not installed; the message says how to install it.
    """
    found = find_training_weights(path)
    if found is None:
        raise TrainingWeightsError(
            f"{path.parent.name}/{path.name}: the weights to train from are not installed; install them by "
            "`pip install boneage-training-weights`, or in a checkout by `pip install ./training_weights`."
        )
    return found
