"""A second look at a hand whose landmarks are uncertain: without the long forearm, and upside down."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, UInt8

from boneage.preprocessing.hand.landmarks import Landmarks, Locate, measure_share_in_mask

# Landmarks are looked for again if they are more uncertain than this, as in `GateConfig.max_landmark_doubt`, or if
# fewer of them lie in the mask.
_UNSURE, _MIN_SHARE_IN_MASK = 0.1, 0.95
# They are believed if they are as certain as those of nearly all hands; images without a hand have 0.08 and more.
_SURE = 0.065
# A hand is at most this long with the wrist and a part of the forearm, relative to the width of its mask.
_HAND_LENGTH = 1.8
_STEP_SHARE = 1 / 256  # a coarse grid is enough to find the axis of a mask


def is_doubtful(landmarks: Landmarks, mask: Bool[np.ndarray, "height width"]) -> bool:
    """Find out whether landmarks, or the mask in which they were found, may be wrong.

    Args:
        landmarks: The landmarks that were found in a mask.
        mask: The mask.
    """
    return landmarks.uncertainty > _UNSURE or measure_share_in_mask(landmarks.points, mask) < _MIN_SHARE_IN_MASK


def look_again(
    locate: Locate, pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> Landmarks | None:
    """Locate the landmarks of a hand in either end of its mask, upright and upside down.

    The landmark network expects a box of mostly hand: a long forearm leaves the hand few of its pixels.

    Args:
        locate: The landmark network.
        pixels: Contrast-normalised radiograph, uint8, bright bone.
        mask: Hand and forearm, not empty.

    Returns:
        The least uncertain landmarks; None if these are uncertain too.
    """
    size = np.array(mask.shape[::-1])
    found = []
    for part in (mask, *split_ends(mask)):
        found.append(locate(pixels, part))
        turned = locate(np.ascontiguousarray(pixels[::-1, ::-1]), np.ascontiguousarray(part[::-1, ::-1]))
        found.append(Landmarks(points=size - 1 - turned.points, uncertainty=turned.uncertainty))
    best = min(found, key=lambda landmarks: landmarks.uncertainty)
    return best if best.uncertainty <= _SURE else None


def split_ends(mask: Bool[np.ndarray, "height width"]) -> Iterator[Bool[np.ndarray, "height width"]]:
    """Yield both ends of a long mask, each as long as a hand of its width; nothing if the mask is not longer.

    Args:
        mask: Hand and forearm at any angle, not empty.
    """
    step = max(1, round(max(mask.shape) * _STEP_SHARE))
    points = np.argwhere(mask[::step, ::step])[:, ::-1] * float(step)
    if len(points) < 3:
        return
    _, axes = np.linalg.eigh(np.cov(points.T))  # the shorter axis first
    width, length = np.ptp(points @ axes, axis=0)
    if length <= _HAND_LENGTH * width:
        return
    along = np.arange(mask.shape[1]) * axes[0, 1] + np.arange(mask.shape[0])[:, None] * axes[1, 1]
    first, last = np.quantile(points @ axes[:, 1], (0, 1))
    yield mask & (along <= first + _HAND_LENGTH * width)
    yield mask & (along >= last - _HAND_LENGTH * width)
