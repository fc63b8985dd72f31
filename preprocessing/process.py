"""The steps from a radiograph to a prepared square."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from boneage.preprocessing.config import WHOLE_FRAME, PreprocessingConfig
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.crop.crop import Box, pad_to_square
from boneage.preprocessing.crop.tone import limit_tone
from boneage.preprocessing.crop.upright import Placement, place_upright, stretch_within_mask, warp_upright
from boneage.preprocessing.decisions import list_decisions
from boneage.preprocessing.hand.find_hand import Hand, find_hand
from boneage.preprocessing.hand.gate import GateConfig, check_gate
from boneage.preprocessing.hand.pose import WRIST, Pose
from boneage.preprocessing.hand.segmenters import get_segmenter
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.segmentation.segmentation import Segmentation
from boneage.preprocessing.sources.review_csv import UNREVIEWED, Review

# Of a hand, arrows and measuring lines cover a few hundredths; of a photographed one, skin is nearly all.
_MAX_COLOURED_SHARE = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """What the preprocessing makes of a radiograph: a square to use, or reasons not to use it.

    Args:
        image: The square, shape `(size, size)`, uint8, bright bone, padding 0. Of a rejected hand, the square that
            would have been used; None where there is nothing to crop.
        reasons: Why the hand is rejected, the most obvious reason first; empty if it is accepted.
        crop_box_px: Box `(left, top, right, bottom)` in the source, right and bottom exclusive; None without a square.
        rotation_degrees: Rotation applied, counter-clockwise positive; 0 without a square.
        mirrored: Whether it was mirrored once it was upright.
        mask_score: Confidence in the mask, in [0, 1]; None where the segmenter measures none.
        pixel_spacing_mm: Side of one pixel of `image` in mm; None where the source does not state it, and without a
            square.
        decisions: Everything else that was decided, for people and for the record; empty for a whole frame.
        hand: What was found; None for a whole frame.
    """

    image: UInt8[np.ndarray, "size size"] | None
    reasons: tuple[str, ...]
    crop_box_px: Box | None
    rotation_degrees: float
    mirrored: bool
    mask_score: float | None
    pixel_spacing_mm: float | None
    decisions: dict[str, Any]
    hand: Hand | None


def process(
    radiograph: Radiograph, config: PreprocessingConfig, *, review: Review = UNREVIEWED, hand: Hand | None = None
) -> Prepared:
    """Take one radiograph through all the steps: hand, gate, upright, forearm cut, square, background, contrast, tone.

    Upright, forearm cut and square are one resampling: the radiograph is interpolated only once.

    Args:
        radiograph: The radiograph.
        config: The preprocessing.
        review: The reviewer's decisions; they override the gate.
        hand: The hand that `analyse_hand` found in it (default: it is found here).

    Returns:
        The prepared square. A rejected hand has `reasons`.
    """
    if config.segmenter == WHOLE_FRAME:
        return _process_whole_frame(radiograph, config)
    hand = hand or analyse_hand(radiograph, config, review=review)
    gate_reasons = find_reasons(radiograph, hand, gate=config.gate)
    prepared = Prepared(
        image=None,
        reasons=review.override_reasons(gate_reasons),
        crop_box_px=None,
        rotation_degrees=0.0,
        mirrored=False,
        mask_score=hand.segmentation.score,
        pixel_spacing_mm=None,
        decisions=list_decisions(hand, segmenter=config.segmenter, reasons=gate_reasons, review=review),
        hand=hand,
    )
    angle_degrees, mirror = _orient(hand.pose, review=review)
    placement = _place(hand, config, angle_degrees=angle_degrees, mirror=mirror)
    if placement is None:
        # A `keep` decision cannot help without a square.
        return dataclasses.replace(prepared, reasons=prepared.reasons or ("no_hand",))
    square, mask = warp_upright(hand.pixels, hand.segmentation.mask, placement)
    return dataclasses.replace(
        prepared,
        image=_stretch(square, mask, config),
        crop_box_px=placement.box_px,
        rotation_degrees=0.0 - angle_degrees,
        mirrored=mirror,
        pixel_spacing_mm=_scale_spacing(radiograph, placement.scale),
    )


def analyse_hand(radiograph: Radiograph, config: PreprocessingConfig, *, review: Review = UNREVIEWED) -> Hand:
    """Find the hand in a radiograph; see `boneage.preprocessing.hand.find_hand.find_hand`.

    Args:
        radiograph: The radiograph.
        config: The preprocessing, of which segmenter and contrast apply.
        review: The reviewer's decisions, of which the mask applies.

    Raises:
        UnreadableImageError: If the reviewer's mask cannot be read or has another size (`bad_mask`).
    """
    segmenter = get_segmenter(config.segmenter, sam_model=config.sam_model, sam_checkpoint=config.sam_checkpoint)
    if review.mask is not None:
        mask = review.read_mask(radiograph.pixels.shape)
        segmenter = lambda _: Segmentation(mask=mask, score=None)  # noqa: E731
    return find_hand(
        radiograph.pixels,
        segmenter=segmenter,
        gate=config.gate,
        percentiles=(config.contrast_low_percentile, config.contrast_high_percentile),
    )


def find_reasons(radiograph: Radiograph, hand: Hand, *, gate: GateConfig) -> tuple[str, ...]:
    """Return the reasons to reject a hand, the most obvious first; empty if it is accepted.

    Args:
        radiograph: The radiograph.
        hand: The hand that `analyse_hand` found in it.
        gate: Thresholds of the gate.
    """
    return _check_colours(radiograph, hand.segmentation.mask) + check_gate(hand.measures, gate=gate)


def _orient(pose: Pose | None, *, review: Review) -> tuple[float, bool]:
    """Return the angle of the fingers from vertical, and whether to mirror the upright hand, as corrected in review."""
    if pose is None:
        return 0.0, False
    mirror = (pose.side == "right") != review.flip
    # Reviewers rotate the crop shown, which may be mirrored.
    return pose.angle_degrees + (review.rotate_degrees if mirror else -review.rotate_degrees), mirror


def _place(hand: Hand, config: PreprocessingConfig, *, angle_degrees: float, mirror: bool) -> Placement | None:
    """Place the hand upright in its square, the forearm cut; None without a hand, or if nothing lies above the cut."""
    if hand.pose is None or hand.landmarks is None:
        return None
    return place_upright(
        hand.segmentation.mask,
        wrist=hand.landmarks.points[WRIST],
        angle_degrees=angle_degrees,
        length_px=hand.pose.length_px,
        mirror=mirror,
        forearm_share=config.forearm_share,
        margin_share=config.margin_share,
        max_size_px=config.image_size_px,
    )


def _stretch(
    square: UInt8[np.ndarray, "size size"], mask: Bool[np.ndarray, "size size"], config: PreprocessingConfig
) -> UInt8[np.ndarray, "size size"]:
    """Make the background black, stretch the contrast of the hand, and limit its tone."""
    stretched = stretch_within_mask(
        square, mask, low_percentile=config.contrast_low_percentile, high_percentile=config.contrast_high_percentile
    )
    return limit_tone(stretched, mask)


def _check_colours(radiograph: Radiograph, mask: Bool[np.ndarray, "height width"]) -> tuple[str, ...]:
    """Find out whether the hand is photographed; colours beside it are annotations."""
    if radiograph.coloured is None or not mask.any():
        return ()
    return ("not_a_radiograph",) if np.mean(radiograph.coloured[mask]) > _MAX_COLOURED_SHARE else ()


def _process_whole_frame(radiograph: Radiograph, config: PreprocessingConfig) -> Prepared:
    stretched = stretch_contrast(
        radiograph.pixels,
        low_percentile=config.contrast_low_percentile,
        high_percentile=config.contrast_high_percentile,
    )
    image, scale = pad_to_square(stretched, max_size_px=config.image_size_px)
    height, width = radiograph.pixels.shape
    return Prepared(
        image=image,
        reasons=_check_colours(radiograph, np.ones((height, width), bool)),
        crop_box_px=(0, 0, width, height),
        rotation_degrees=0.0,
        mirrored=False,
        mask_score=None,
        pixel_spacing_mm=_scale_spacing(radiograph, scale),
        decisions={},
        hand=None,
    )


def _scale_spacing(radiograph: Radiograph, scale: float) -> float | None:
    # The two spacings differ by a hundredth at most; see `Radiograph`.
    spacing = radiograph.pixel_spacing_mm
    return None if spacing is None else float(np.mean(spacing)) / scale
