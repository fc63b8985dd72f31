"""The gate: thresholds on the measures of a hand, and the reasons for rejecting a radiograph."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from boneage.base.errors import check_shares
from boneage.preprocessing.crop.crop import shrink
from boneage.preprocessing.hand.landmarks import Landmarks
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST, Pose
from boneage.preprocessing.segmentation.segmentation import Segmentation

# Longest side on which contrast is measured: an outline needs no more pixels.
_WORKING_SIZE_PX = 256
_RING_SHARE = 0.05
_RANGE_PERCENTILES = (1.0, 99.0)
_BAND_SHARE = 0.025
# The hand begins this far above the wrist, as a share of its length; the part below may leave the frame.
_HAND_SHARE = 0.12


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """Thresholds of the gate; each measure that is out of range gives a reason to reject the radiograph.

    The model card of the hand networks justifies each default.

    Args:
        min_grey_levels: Fewest grey levels between the 1st and 99th percentile of the file: fewer is `too_dark`.
        min_area_share: Smallest share of the frame that a hand covers: less is `no_hand`.
        max_area_share: Largest share of the frame that a hand covers: more is `bad_mask`.
        min_mask_score: Lowest confidence in the mask, in [0, 1]: less is `bad_mask`.
        max_landmark_doubt: Largest uncertainty of the landmarks, as a share of the hand's box: more is
            `unsure_orientation`, since the joints are not where those of a hand are.
        min_side_margin: Smallest distance between thumb and little finger across the hand, as a share of its length:
            less is `unsure_orientation`.
        min_contrast: Smallest difference in brightness between hand and surroundings, as a share of their grey range:
            less is `low_contrast`.
        max_edge_share: Largest part of the hand above the wrist on the edge of the frame, as a share of its length:
            more is `cut_off`.
        max_second_share: Largest size of the mask's second piece relative to the first: more is `several_hands`.
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

    def __post_init__(self) -> None:
        """Check every value."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value >= 0:  # also rejects NaN
                raise ValueError(f"`{field.name}` must not be negative. Received: {value}.")
        check_shares(self, "min_area_share", "max_area_share", "min_mask_score", "min_contrast", "max_second_share")


@dataclasses.dataclass(frozen=True)
class HandMeasures:
    """Measures that the gate checks; None without a hand. `GateConfig` describes each."""

    grey_levels: int
    area_share: float
    mask_score: float | None
    second_share: float
    landmark_doubt: float | None = None
    side_margin: float | None = None
    contrast: float | None = None
    edge_share: float | None = None


def check_gate(measures: HandMeasures, *, gate: GateConfig) -> tuple[str, ...]:
    """Return the reasons to reject a radiograph, the most obvious first; empty if it is accepted."""

    def below(value: float | int | None, minimum: float | int) -> bool:
        return value is not None and value < minimum

    def above(value: float | None, maximum: float | int) -> bool:
        return value is not None and value > maximum

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
    return tuple(reason for reason, applies in reasons.items() if applies)


def measure_hand(
    segmentation: Segmentation,
    *,
    grey_levels: int,
    contrast: float,
    landmarks: Landmarks | None,
    pose: Pose | None,
) -> HandMeasures:
    """Measure what the gate checks.

    Args:
        segmentation: The mask.
        grey_levels: Number of grey levels between the percentiles of the contrast, in the file's own bit depth.
        contrast: Result of `measure_contrast`.
        landmarks: Wrist and finger joints; None without a hand.
        pose: Pose of the hand; None without a hand.
    """
    mask = segmentation.mask
    measures = HandMeasures(
        grey_levels=grey_levels,
        area_share=int(np.count_nonzero(mask)) / mask.size,
        mask_score=segmentation.score,
        second_share=segmentation.second_share,
    )
    if landmarks is None or pose is None:
        return measures
    return dataclasses.replace(
        measures,
        landmark_doubt=landmarks.uncertainty,
        side_margin=pose.side_margin,
        contrast=contrast,
        edge_share=measure_edge(mask, landmarks.points),
    )


def measure_contrast(pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]) -> float:
    """Return how much brighter a hand is than its surroundings, as a share of their grey range; negative if darker.

    Args:
        pixels: Contrast-normalised radiograph.
        mask: The hand.

    Returns:
        Median of the hand minus the median of a ring around it, divided by the range of their grey values, in [-1, 1];
        0 without a hand.
    """
    small, _ = shrink(pixels, max_size_px=_WORKING_SIZE_PX)
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
    # The outline of a hand that the frame cuts may end a few pixels before the edge.
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
