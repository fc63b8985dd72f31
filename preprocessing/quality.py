"""The quality gate: what makes a segmented radiograph one that cannot be trusted, and why."""

import dataclasses

import numpy as np
from jaxtyping import Bool

from preprocessing.orient import Pose


@dataclasses.dataclass(frozen=True)
class Gate:
    """Where the gate stands; what lies beyond it is given a reason.

    Args:
        min_area_share: Smallest share of the frame that a hand covers: less is `no_hand`.
        max_area_share: Largest share: more is `bad_mask`.
        min_mask_score: Smallest stability of a mask: less is `bad_mask`.
        min_side_margin: Smallest distance between thumb and little finger across the hand, as a share of its length:
            less is `unsure_orientation`.
    """

    min_area_share: float = 0.02
    max_area_share: float = 0.7
    min_mask_score: float = 0.85
    min_side_margin: float = 0.15


def check_mask(mask: Bool[np.ndarray, "height width"], *, score: float | None, gate: Gate) -> list[str]:
    """Return why a mask cannot be a hand's; nothing if it can."""
    share = float(mask.mean())
    if share < gate.min_area_share:
        return ["no_hand"]
    unstable = score is not None and score < gate.min_mask_score
    return ["bad_mask"] if unstable or share > gate.max_area_share else []


def check_pose(pose: Pose, *, gate: Gate) -> list[str]:
    """Return why it is not known how a hand lies; nothing if it is."""
    return ["unsure_orientation"] if pose.side_margin < gate.min_side_margin else []
