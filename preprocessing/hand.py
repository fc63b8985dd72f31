"""One hand in one radiograph: its mask, its landmarks, how it lies, and whether all that can be trusted."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8

from preprocessing.landmarks import Landmarks, load_landmarks
from preprocessing.orient import Pose, find_pose
from preprocessing.quality import Gate, Measures, check, measure, measure_contrast
from preprocessing.segmentation import Segmentation, Segmenter, segment_turned
from preprocessing.segmenters import LANDMARKS_FILE

# A hand darker than its surroundings by this share of the grey range is a radiograph with black bone.
_INVERTED_CONTRAST = -0.08


@dataclasses.dataclass(frozen=True, eq=False)
class Hand:
    """What was found in a radiograph.

    Args:
        pixels: Contrast-normalised radiograph, bright bone: turned round if the file shows black bone.
        inverted: Whether it was.
        segmentation: The mask and how it was chosen.
        landmarks: Wrist and finger joints; None without a hand.
        pose: How the hand lies; None without a hand.
        measures: What the gate looked at.
        reasons: Why it cannot be trusted; empty if it can.
    """

    pixels: UInt8[np.ndarray, "height width"]
    inverted: bool
    segmentation: Segmentation
    landmarks: Landmarks | None
    pose: Pose | None
    measures: Measures
    reasons: tuple[str, ...]


def find_hand(pixels: UInt8[np.ndarray, "height width"], *, segmenter: Segmenter, grey_levels: int, gate: Gate) -> Hand:
    """Find the hand in a radiograph and judge it.

    Args:
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8.
        segmenter: What draws the mask.
        grey_levels: Grey levels between the percentiles that were stretched, in the file's own depth.
        gate: What is trusted.
    """
    segmentation = segmenter(pixels)
    contrast = measure_contrast(pixels, segmentation.mask)
    inverted = contrast < _INVERTED_CONTRAST
    if inverted:
        negative = 255 - pixels
        again = segmenter(negative)
        # What is darker than its surroundings either way is no hand; its own reasons will tell.
        inverted = (its_contrast := measure_contrast(negative, again.mask)) > 0
        if inverted:
            pixels, segmentation, contrast = negative, again, its_contrast
    landmarks, pose = _find_pose(pixels, segmentation.mask)
    quarters = pose.quarters if pose else 0
    if quarters and segmentation.score is not None:  # a mask that was given is as good whichever way the hand lies
        # Networks outline a hand best that stands upright, as nearly all do that they learnt from.
        again = segment_turned(segmenter, pixels, quarters=quarters)
        if again.mask.any():
            segmentation, contrast = again, measure_contrast(pixels, again.mask)
            landmarks, pose = _find_pose(pixels, again.mask)
    measures = measure(segmentation, grey_levels=grey_levels, contrast=contrast, landmarks=landmarks, pose=pose)
    return Hand(pixels, inverted, segmentation, landmarks, pose, measures, check(measures, gate=gate))


def _find_pose(
    pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> tuple[Landmarks | None, Pose | None]:
    if not mask.any():
        return None, None
    landmarks = _landmarks()(pixels, mask)
    return landmarks, find_pose(landmarks.points)


@functools.cache
def _landmarks() -> Callable[[UInt8[np.ndarray, "height width"], Bool[np.ndarray, "height width"]], Landmarks]:
    return load_landmarks(LANDMARKS_FILE)
