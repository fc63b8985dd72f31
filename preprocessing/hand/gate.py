"""The gate: thresholds on the measures of a hand, and the reasons for rejecting a radiograph."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from boneage.base.errors import check_shares
from boneage.preprocessing.crop.contrast import find_tissue_greys, sample_greys
from boneage.preprocessing.crop.crop import shrink
from boneage.preprocessing.hand.cast import measure_cast
from boneage.preprocessing.hand.completeness import find_film_box, measure_cut, measure_film_below, measure_palm
from boneage.preprocessing.hand.landmarks import Landmarks, measure_missed
from boneage.preprocessing.hand.pose import Pose
from boneage.preprocessing.segmentation.segmentation import Segmentation

# Longest side on which contrast is measured: an outline needs no more pixels.
_WORKING_SIZE_PX = 256
_RING_SHARE = 0.05
_RANGE_PERCENTILES = (1.0, 99.0)
# Length of a hand in a crop of 256 px.
_NOISE_LENGTH_PX = 190
_SECOND_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_NORMAL_MEDIAN = 0.6745  # median of the absolute value of a standard normal variable


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """Thresholds of the gate; each measure that is out of range gives a reason to reject the radiograph.

    The model card of the hand networks justifies each default.

    Args:
        min_grey_levels: Fewest grey levels between the 1st and 99th percentile of the hand, in the file's own bit
            depth: fewer is `too_dark`.
        max_noise: Largest standard deviation of the noise, as a share of the hand's grey range: more is `too_noisy`.
        min_length_px: Shortest hand, from wrist to middle fingertip, in pixels of the file: less is `too_coarse`.
        min_area_share: Smallest share of the frame that a hand covers: less is `no_hand`.
        max_area_share: Largest share of the frame that a hand covers: more is `bad_mask`.
        min_mask_score: Lowest confidence in the mask, in [0, 1]: less is `bad_mask`.
        max_landmark_doubt: Largest uncertainty of the landmarks, as a share of the hand's box: more is
            `unsure_orientation`, since the joints are not where those of a hand are.
        min_side_margin: Smallest distance between thumb and little finger across the hand, as a share of its length:
            less is `unsure_orientation`.
        min_contrast: Smallest difference in brightness between hand and surroundings, as a share of their grey range:
            less is `low_contrast`.
        warn_cut_score: Part of the film's edge that cuts through the hand above the wrist, weighted by its brightness,
            as a share of the hand's length, from which an accepted hand has the warning `hand_cut_off`.
        max_cut_score: The largest such part: more is `cut_off`.
        min_film_below_wrist: Smallest extent of the film below the wrist, as a share of the hand's length: less is
            `no_wrist`.
        min_palm_share: Smallest length of the palm relative to the middle finger, as a share of the usual: less is
            `no_wrist`, since the wrist is not where that of a hand is.
        max_cast_score: Largest difference in brightness, relative to bone, by which the border of wrist or palm may
            resemble a cast: more is `in_cast`.
        max_landmarks_missed: Largest share of the landmarks that lie on tissue outside the mask: more is `bad_mask`,
            since fingers are missing.
        max_second_share: Largest size of the mask's second piece relative to the first: more is `several_hands`.
    """

    min_grey_levels: int = 8
    max_noise: float = 0.05
    min_length_px: float = 45.0
    min_area_share: float = 0.03
    max_area_share: float = 0.7
    min_mask_score: float = 0.75
    max_landmark_doubt: float = 0.1
    min_side_margin: float = 0.4
    min_contrast: float = 0.03
    warn_cut_score: float = 0.015
    max_cut_score: float = 0.15
    min_film_below_wrist: float = 0.05
    min_palm_share: float = 0.82
    max_cast_score: float = 0.2
    max_landmarks_missed: float = 0.05
    max_second_share: float = 0.06

    def __post_init__(self) -> None:
        """Check every value."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value >= 0:  # also rejects NaN
                raise ValueError(f"`{field.name}` must not be negative. Received: {value}.")
        check_shares(self, "min_area_share", "max_area_share", "min_mask_score", "min_contrast")
        check_shares(self, "max_landmarks_missed", "max_second_share")


@dataclasses.dataclass(frozen=True)
class HandMeasures:
    """Measures that the gate checks; None without a hand. `GateConfig` describes each."""

    grey_levels: float
    area_share: float
    mask_score: float | None
    second_share: float
    landmark_doubt: float | None = None
    side_margin: float | None = None
    contrast: float | None = None
    cut_score: float | None = None
    film_below_wrist: float | None = None
    palm_share: float | None = None
    cast_score: float | None = None
    landmarks_missed: float | None = None
    noise: float | None = None
    length_px: float | None = None


def check_gate(measures: HandMeasures, *, gate: GateConfig) -> tuple[str, ...]:
    """Return the reasons to reject a radiograph, the most obvious first; empty if it is accepted."""

    def below(value: float | int | None, minimum: float | int) -> bool:
        return value is not None and value < minimum

    def above(value: float | None, maximum: float | int) -> bool:
        return value is not None and value > maximum

    reasons = {
        "too_dark": below(measures.grey_levels, gate.min_grey_levels),
        "too_noisy": above(measures.noise, gate.max_noise),
        "too_coarse": below(measures.length_px, gate.min_length_px),
        "no_hand": below(measures.area_share, gate.min_area_share),
        "several_hands": above(measures.second_share, gate.max_second_share),
        "cut_off": above(measures.cut_score, gate.max_cut_score),
        "no_wrist": below(measures.film_below_wrist, gate.min_film_below_wrist)
        or below(measures.palm_share, gate.min_palm_share),
        "in_cast": above(measures.cast_score, gate.max_cast_score),
        "low_contrast": below(measures.contrast, gate.min_contrast),
        "bad_mask": below(measures.mask_score, gate.min_mask_score)
        or above(measures.area_share, gate.max_area_share)
        or above(measures.landmarks_missed, gate.max_landmarks_missed),
        "unsure_orientation": above(measures.landmark_doubt, gate.max_landmark_doubt)
        or below(measures.side_margin, gate.min_side_margin),
    }
    return tuple(reason for reason, applies in reasons.items() if applies)


def list_gate_warnings(measures: HandMeasures, *, gate: GateConfig) -> tuple[str, ...]:
    """List what a reader must know of a hand that is accepted all the same.

    Returns:
        Keys of `boneage.inference.messages.WARNINGS`.
    """
    cut = measures.cut_score is not None and measures.cut_score > gate.warn_cut_score
    return ("hand_cut_off",) if cut else ()


def measure_hand(
    pixels: UInt8[np.ndarray, "height width"],
    segmentation: Segmentation,
    *,
    grey_levels: int,
    contrast: float,
    landmarks: Landmarks | None,
    pose: Pose | None,
) -> HandMeasures:
    """Measure what the gate checks.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.
        segmentation: The mask.
        grey_levels: Number of grey levels of the whole radiograph, of which `pixels` has 256, in the file's own bit
            depth.
        contrast: Result of `measure_contrast`.
        landmarks: Wrist and finger joints; None without a hand.
        pose: Pose of the hand; None without a hand.
    """
    mask = segmentation.mask
    measures = HandMeasures(
        grey_levels=float(grey_levels),
        area_share=int(np.count_nonzero(mask)) / mask.size,
        mask_score=segmentation.score,
        second_share=segmentation.second_share,
    )
    if landmarks is None or pose is None:
        return measures
    grey_range = measure_range(sample_greys(pixels, mask))
    left, top, right, bottom = box = find_film_box(pixels)
    film = slice(top, bottom), slice(left, right)
    return dataclasses.replace(
        measures,
        grey_levels=grey_levels * grey_range / 255,
        noise=measure_noise(pixels, mask, length_px=pose.length_px) / max(grey_range, 1.0),
        length_px=pose.length_px,
        landmark_doubt=landmarks.uncertainty,
        side_margin=pose.side_margin,
        contrast=contrast,
        cut_score=measure_cut(pixels[film], mask[film], landmarks.points - (left, top)),
        film_below_wrist=measure_film_below(box, landmarks.points),
        palm_share=measure_palm(landmarks.points),
        cast_score=measure_cast(pixels, mask, landmarks.points),
        landmarks_missed=measure_missed(landmarks.points, mask, pixels),
    )


def measure_range(greys: UInt8[np.ndarray, " pixels"]) -> float:
    """Return the range of the grey values of a hand without metal, between its 1st and 99th percentile."""
    low, high = find_tissue_greys(greys, low_percentile=_RANGE_PERCENTILES[0], high_percentile=_RANGE_PERCENTILES[1])
    return high - low


def measure_noise(
    pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"], *, length_px: float
) -> float:
    """Return the standard deviation of the noise in a hand, in grey values.

    It is estimated from the differences that no edge has (Immerkaer 1996, doi:10.1006/cviu.1996.0060), at the size at
    which networks see hands: larger radiographs are averaged, and so is their noise.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.
        mask: The hand, not empty.
        length_px: Distance from wrist to middle fingertip in pixels.
    """
    small, scale = shrink(pixels, max_size_px=max(1, round(max(pixels.shape) * _NOISE_LENGTH_PX / length_px)))
    hand = mask if scale == 1 else cv2.resize(mask.astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    differences = np.abs(cv2.filter2D(small, cv2.CV_32F, _SECOND_DIFFERENCES))[hand > 0]
    if not differences.size:  # a mask so thin that shrinking loses it
        return 0.0
    # The median passes over outlines and edges of bones. The filter's weights have a norm of 6.
    return float(np.median(differences)) / _NORMAL_MEDIAN / 6


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
