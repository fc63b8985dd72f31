"""The quality gate: what makes a radiograph one whose hand cannot be trusted, and why."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from preprocessing.crop import shrink
from preprocessing.landmarks import Landmarks
from preprocessing.orient import MIDDLE_TIP, WRIST, Pose
from preprocessing.segmentation import Segmentation

# Looking at an outline needs no more pixels than this.
_LOOK_PX = 256
_RING_SHARE = 0.05
_RANGE_PERCENTILES = (1.0, 99.0)
_BAND_SHARE = 0.025
# The hand begins this far above the wrist, as a share of its length: what lies below may leave the frame.
_HAND_SHARE = 0.12


@dataclasses.dataclass(frozen=True)
class Gate:
    """Where the gate stands; what lies beyond it is given a reason. The card of the networks justifies each value.

    Args:
        min_grey_levels: Fewest grey levels between the 1st and 99th percentile of the file: fewer is `too_dark`.
        min_area_share: Smallest share of the frame that a hand covers: less is `no_hand`.
        max_area_share: Largest share: more is `bad_mask`.
        min_mask_score: Smallest trust in a mask: less is `bad_mask`.
        max_landmark_doubt: Largest spread of the landmarks, as a share of the hand's box: more is
            `unsure_orientation`, for a hand's joints are not where they should be, if it is one.
        min_side_margin: Smallest distance between thumb and little finger across the hand, as a share of its length:
            less is `unsure_orientation`.
        min_contrast: How much brighter a hand is than what surrounds it, as a share of their grey range: less is
            `low_contrast`.
        max_edge_share: How much of the hand above the wrist may lie on the frame's edge, as a share of its length:
            more is `cut_off`.
        max_second_share: Size of the second piece of the mask against the first: more is `several_hands`.
    """

    min_grey_levels: int = 12
    min_area_share: float = 0.03
    max_area_share: float = 0.7
    min_mask_score: float = 0.75
    max_landmark_doubt: float = 0.1
    min_side_margin: float = 0.4
    min_contrast: float = 0.03
    max_edge_share: float = 0.2
    max_second_share: float = 0.06

    def __post_init__(self):
        """Check every value."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"`{field.name}` must not be negative. Received: {getattr(self, field.name)}.")


@dataclasses.dataclass(frozen=True)
class Measures:
    """What the gate looks at; None where there is no hand to measure. See `Gate` for each."""

    grey_levels: int
    area_share: float
    mask_score: float | None
    second_share: float
    landmark_doubt: float | None = None
    side_margin: float | None = None
    contrast: float | None = None
    edge_share: float | None = None


def check(measures: Measures, *, gate: Gate) -> tuple[str, ...]:
    """Return why a radiograph cannot be trusted, the plainest reason first; nothing if it can."""

    def below(value: float | int | None, least: float | int) -> bool:
        return value is not None and value < least

    def above(value: float | None, most: float | int) -> bool:
        return value is not None and value > most

    reasons = {
        "too_dark": below(measures.grey_levels, gate.min_grey_levels),
        "no_hand": below(measures.area_share, gate.min_area_share),
        "several_hands": above(measures.second_share, gate.max_second_share),
        "cut_off": above(measures.edge_share, gate.max_edge_share),
        "low_contrast": below(measures.contrast, gate.min_contrast),
        "bad_mask": below(measures.mask_score, gate.min_mask_score) or above(measures.area_share, gate.max_area_share),
        "unsure_orientation": above(measures.landmark_doubt, gate.max_landmark_doubt)
        or below(measures.side_margin, gate.min_side_margin),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def measure(
    segmentation: Segmentation,
    *,
    grey_levels: int,
    contrast: float,
    landmarks: Landmarks | None,
    pose: Pose | None,
) -> Measures:
    """Measure what the gate looks at.

    Args:
        segmentation: The mask.
        grey_levels: Grey levels of the file between the percentiles that were stretched.
        contrast: What `measure_contrast` tells of it.
        landmarks: Wrist and finger joints; None without a hand.
        pose: How the hand lies; None without a hand.
    """
    mask = segmentation.mask
    found = Measures(
        grey_levels=grey_levels,
        area_share=int(np.count_nonzero(mask)) / mask.size,
        mask_score=segmentation.score,
        second_share=segmentation.second_share,
    )
    if landmarks is None or pose is None:
        return found
    return dataclasses.replace(
        found,
        landmark_doubt=landmarks.doubt,
        side_margin=pose.side_margin,
        contrast=contrast,
        edge_share=measure_edge(mask, landmarks.points),
    )


def measure_contrast(pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]) -> float:
    """Return how much brighter a hand is than what surrounds it, as a share of their grey range; negative if darker.

    Args:
        pixels: Contrast-normalised radiograph.
        mask: The hand.

    Returns:
        Median of the hand less the median of a ring around it, over the range of the grey values of both, in [-1, 1];
        0 without a hand.
    """
    small, _ = shrink(pixels, max_size_px=_LOOK_PX)
    hand = cv2.resize(mask.astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    if not hand.any():
        return 0.0
    side = 2 * max(1, round(_RING_SHARE * max(small.shape))) + 1
    ring = (cv2.dilate(hand, np.ones((side, side), np.uint8)) == 1) & (cv2.dilate(hand, np.ones((3, 3))) == 0)
    if not ring.any():
        return 0.0
    low, high = np.percentile(small[(hand == 1) | ring], _RANGE_PERCENTILES)
    return float((np.median(small[hand == 1]) - np.median(small[ring])) / max(high - low, 1.0))


def measure_edge(mask: Bool[np.ndarray, "height width"], points: Float[np.ndarray, "21 2"]) -> float:
    """Return how much of the hand above the wrist lies on the frame's edge, as a share of the hand's length.

    Args:
        mask: The hand.
        points: Its landmarks, `(x, y)` in pixels.
    """
    upwards = points[MIDDLE_TIP] - points[WRIST]
    length = float(np.hypot(*upwards))
    height, width = mask.shape
    # An outline may end a little before the frame does.
    band = 1 + round(_BAND_SHARE * max(height, width))
    lines = [
        (np.flatnonzero(mask[rows].any(axis=0)), y) for rows, y in ((slice(band), 0), (slice(-band, None), height))
    ]
    sides = [
        (x, np.flatnonzero(mask[:, columns].any(axis=1)))
        for columns, x in ((slice(band), 0), (slice(-band, None), width))
    ]
    edge = np.concatenate([np.column_stack(np.broadcast_arrays(x, y)) for x, y in (*lines, *sides)])
    above = (edge - points[WRIST]) @ upwards / length**2 > _HAND_SHARE
    return float(above.sum()) / length
