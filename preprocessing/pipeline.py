"""The steps from a radiograph to a prepared square, and the fingerprint that names them."""

import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from preprocessing.contrast import find_percentiles, stretch_between, stretch_contrast
from preprocessing.crop import Box, thin, to_square
from preprocessing.hand import Hand, find_hand
from preprocessing.orient import WRIST, find_pose
from preprocessing.quality import Gate
from preprocessing.radiograph import Radiograph, UnreadableImage
from preprocessing.review import UNREVIEWED, Review
from preprocessing.segmentation import Segmentation
from preprocessing.segmenters import DEFAULT_SAM_MODEL, LANDMARKS_FILE, get_segmenter, weights_sha256
from preprocessing.upright import cut_upright
from tfrecords.errors import check_shares

# Raised whenever the same configuration would give other pixels than before, so that no model meets what it never saw.
FRAME_VERSION, HAND_VERSION = 2, 10
WHOLE_FRAME = "none"
# Of a small copy that was turned or framed, thinning would lose detail that the copies in the training data kept.
_HARDLY_LARGER = 1.5
# What a whole frame knows nothing of.
_OF_HANDS = ("forearm_share", "margin_share", "thinned_frame_px", "gate")
# What the weights' own hash tells, and other segmenters know nothing of.
_OF_SAM = ("sam_model", "sam_checkpoint")

_ADVICE = {
    "too_dark": "its grey levels are too few to see a hand",
    "no_hand": "no hand was found in it",
    "several_hands": "it shows more than one hand",
    "cut_off": "the frame cuts the hand off",
    "low_contrast": "the hand does not stand out from its background",
    "bad_mask": "the hand's outline cannot be trusted",
    "unsure_orientation": "it is not clear how the hand lies, if it is one",
    "rejected_by_reviewer": "a reviewer rejected it",
}


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """How a radiograph becomes a prepared square.

    Args:
        segmenter: Name of the segmenter that finds the hand; `"none"` takes the whole frame as it is, and of what
            follows only the size and the contrast apply then.
        image_size_px: Longest side of the prepared square in pixels. Hands are enlarged to twice their size at most,
            whole frames never.
        contrast_low_percentile: Percentile of the grey values that becomes black.
        contrast_high_percentile: Percentile of the grey values that becomes white.
        forearm_share: How much of the forearm stays below the wrist, as a share of the hand's length from wrist to
            middle fingertip: the same for all, so that the length of the forearm tells nothing.
        margin_share: Black margin around the hand, as a share of its length.
        thinned_frame_px: Side of the square to which larger frames are thinned, by picking pixels, before the hand is
            cut out of them; 0 for none. Frames at most half as large again stay as they are. It is for networks that
            learnt from small square copies made in this way, to whom finer bones look older, and slimmer hands strange.
            The hand is found in the whole frame all the same.
        gate: What is trusted.
        sam_model: Which official model the segmenter `"sam"` is: `"vit_b"`, `"vit_l"` or `"vit_h"`.
        sam_checkpoint: Path of its checkpoint; the official one, fetched once, where empty. Where the file lies does
            not matter to the fingerprint, what is in it does.
    """

    segmenter: str = "hand_sam"
    image_size_px: int = 512
    contrast_low_percentile: float = 1.0
    contrast_high_percentile: float = 99.0
    forearm_share: float = 0.15
    margin_share: float = 0.04
    thinned_frame_px: int = 0
    gate: Gate = dataclasses.field(default_factory=Gate)
    sam_model: str = DEFAULT_SAM_MODEL
    sam_checkpoint: str = ""

    def __post_init__(self):
        """Check every value, so that a mistake is named before the first file is read."""
        for name in ("contrast_low_percentile", "contrast_high_percentile", "forearm_share", "margin_share"):
            # 1 and 1.0 are the same value and must have the same fingerprint.
            object.__setattr__(self, name, float(getattr(self, name)))
        get_segmenter(self.segmenter, sam_model=self.sam_model)
        if not 16 <= self.image_size_px <= 4096:
            raise ValueError(f"`image_size_px` must lie in [16, 4096]. Received: {self.image_size_px}.")
        if not 0 <= self.contrast_low_percentile < self.contrast_high_percentile <= 100:
            raise ValueError(
                "`contrast_low_percentile` must be below `contrast_high_percentile`, both in [0, 100]. "
                f"Received: {self.contrast_low_percentile} and {self.contrast_high_percentile}."
            )
        if self.thinned_frame_px and not 16 <= self.thinned_frame_px <= 4096:
            raise ValueError(f"`thinned_frame_px` must be 0 or lie in [16, 4096]. Received: {self.thinned_frame_px}.")
        check_shares(self, "forearm_share", "margin_share")


class Untrusted(UnreadableImage):
    """A radiograph that was read but whose hand cannot be trusted.

    Attributes:
        hand: What was found.
        crop: The square that would have been kept, shape `(size, size)`, uint8; None where there is no hand at all.
        decisions: What was decided, as in the records.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        hand: Hand,
        crop: UInt8[np.ndarray, "size size"] | None,
        decisions: dict[str, Any],
    ):
        super().__init__(message, reason=reason)
        self.hand, self.crop, self.decisions = hand, crop, decisions


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared radiograph and what was decided on the way.

    Args:
        image: The square, shape `(size, size)`, uint8, bright bone, padding 0.
        crop_box_px: Box `(left, top, right, bottom)` in the source, right and bottom exclusive.
        rotation_degrees: Turn applied, counter-clockwise positive.
        mirrored: Whether it was mirrored once it stood upright.
        mask_score: Trust in the mask, in [0, 1], `None` where the segmenter measures nothing.
        pixel_spacing_mm: Side of one pixel of `image` in mm, `None` where the source does not tell.
        decisions: Everything else that was decided, for people and for the record; empty for a whole frame.
        hand: What was found; `None` for a whole frame.
    """

    image: UInt8[np.ndarray, "size size"]
    crop_box_px: Box
    rotation_degrees: float
    mirrored: bool
    mask_score: float | None
    pixel_spacing_mm: float | None
    decisions: dict[str, Any]
    hand: Hand | None


def fingerprint(config: PreprocessingConfig) -> str:
    """Name the preprocessing: equal fingerprints mean equal pixels from the same file (16 hexadecimal digits).

    Raises:
        CheckpointUnavailable: If the checkpoint of the segmenter `"sam"` is not there and cannot be fetched.
    """
    whole = config.segmenter == WHOLE_FRAME
    decided: dict[str, Any] = {"version": FRAME_VERSION if whole else HAND_VERSION, **dataclasses.asdict(config)}
    if whole:
        for name in _OF_HANDS:
            del decided[name]
    else:
        decided["landmarks_sha256"] = _landmarks_sha256()
    sam = {name: decided.pop(name) for name in _OF_SAM}
    if weights := weights_sha256(config.segmenter, **sam):
        decided["segmenter_sha256"] = weights
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _landmarks_sha256() -> str:
    return hashlib.sha256(LANDMARKS_FILE.read_bytes()).hexdigest()


def examine(radiograph: Radiograph, config: PreprocessingConfig, *, review: Review = UNREVIEWED) -> Hand:
    """Find the hand in a radiograph and judge it; see `preprocessing.hand.find_hand`."""
    segmenter = get_segmenter(config.segmenter, sam_model=config.sam_model, sam_checkpoint=config.sam_checkpoint)
    if review.mask is not None:
        mask = review.read_mask(radiograph.pixels.shape)
        segmenter = lambda _: Segmentation(mask=mask, score=None)  # noqa: E731
    low, high = find_percentiles(radiograph.pixels, config.contrast_low_percentile, config.contrast_high_percentile)
    pixels = stretch_between(radiograph.pixels, low, high)
    return find_hand(pixels, segmenter=segmenter, grey_levels=high - low, gate=config.gate)


def process(
    radiograph: Radiograph, config: PreprocessingConfig, *, path: Path, review: Review = UNREVIEWED
) -> Prepared:
    """Take one radiograph through all the steps: hand, gate, upright, forearm cut, background, contrast, square.

    Args:
        radiograph: The radiograph.
        config: The preprocessing.
        path: Its file, named in the error.
        review: What a person decided of it; it stands above the gate.

    Raises:
        Untrusted: If the hand cannot be trusted; its reason names why, several joined by `;`.
    """
    if config.segmenter == WHOLE_FRAME:
        return _take_frame(radiograph, config)
    return cut_out(radiograph, examine(radiograph, config, review=review), config, path=path, review=review)


def cut_out(
    radiograph: Radiograph, hand: Hand, config: PreprocessingConfig, *, path: Path, review: Review = UNREVIEWED
) -> Prepared:
    """Take a radiograph through the steps after `examine`: gate, upright, forearm cut, background, contrast, square.

    Args:
        radiograph: The radiograph.
        hand: What `examine` found in it.
        config: The preprocessing.
        path: Its file, named in the error.
        review: What a person decided of it; it stands above the gate.

    Raises:
        Untrusted: If the hand cannot be trusted; its reason names why, several joined by `;`.
    """
    reasons = review.judge(hand.reasons)
    decisions = _list_decisions(hand, config, review=review)
    mirror = hand.pose is not None and (hand.pose.side == "right") != review.flip
    # A reviewer turns the crop that he sees, mirrored as it may be.
    turn = review.rotate_degrees if mirror else -review.rotate_degrees
    angle_degrees, cut, mask = turn, None, hand.segmentation.mask
    rows, columns = _thin_shape(mask.shape, config.thinned_frame_px)
    shares = np.array([columns / mask.shape[1], rows / mask.shape[0]])
    if hand.pose and hand.landmarks and (mask := thin(mask, shape=(rows, columns))).any():
        points = (hand.landmarks.points + 0.5) * shares - 0.5
        pose = find_pose(points)
        angle_degrees += pose.angle_degrees
        cut = cut_upright(
            thin(hand.pixels, shape=(rows, columns)),
            mask,
            wrist=points[WRIST],
            angle_degrees=angle_degrees,
            length_px=pose.length_px,
            mirror=mirror,
            forearm_share=config.forearm_share,
            margin_share=config.margin_share,
            max_size_px=config.image_size_px,
            low_percentile=config.contrast_low_percentile,
            high_percentile=config.contrast_high_percentile,
        )
    if cut is None:  # keeping what is not there keeps nothing
        reasons = reasons or ("no_hand",)
    if reasons or cut is None:
        raise Untrusted(
            f"{path}: {' and '.join(_ADVICE[reason] for reason in reasons)}; look at it, then keep, mend or reject it "
            "by a review.",
            reason=";".join(reasons),
            hand=hand,
            crop=cut.image if cut else None,
            decisions=decisions,
        )
    return Prepared(
        image=cut.image,
        crop_box_px=_widen(cut.box_px, shares, shape=radiograph.pixels.shape),
        rotation_degrees=0.0 - angle_degrees,
        mirrored=mirror,
        mask_score=hand.segmentation.score,
        pixel_spacing_mm=_scale_spacing(radiograph, cut.scale * float(np.sqrt(shares.prod()))),
        decisions=decisions,
        hand=hand,
    )


def _take_frame(radiograph: Radiograph, config: PreprocessingConfig) -> Prepared:
    stretched = stretch_contrast(
        radiograph.pixels,
        low_percentile=config.contrast_low_percentile,
        high_percentile=config.contrast_high_percentile,
    )
    image, scale = to_square(stretched, max_size_px=config.image_size_px)
    height, width = radiograph.pixels.shape
    return Prepared(
        image=image,
        crop_box_px=(0, 0, width, height),
        rotation_degrees=0.0,
        mirrored=False,
        mask_score=None,
        pixel_spacing_mm=_scale_spacing(radiograph, scale),
        decisions={},
        hand=None,
    )


def _thin_shape(shape: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Return the rows and columns to keep of a frame."""
    if not side_px or max(shape) <= _HARDLY_LARGER * side_px:
        return shape
    return min(shape[0], side_px), min(shape[1], side_px)


def _widen(box: Box, shares: Float[np.ndarray, "2"], *, shape: tuple[int, int]) -> Box:
    """Return the box of a thinned frame in pixels of the whole one."""
    left, top, right, bottom = np.array(box) / np.tile(shares, 2)
    return math.floor(left), math.floor(top), min(math.ceil(right), shape[1]), min(math.ceil(bottom), shape[0])


def _scale_spacing(radiograph: Radiograph, scale: float) -> float | None:
    # Detectors have square pixels; the mean covers the rounding of the few whose two spacings differ in a digit.
    spacing = radiograph.pixel_spacing_mm
    return None if spacing is None else float(np.mean(spacing)) / scale


def _list_decisions(hand: Hand, config: PreprocessingConfig, *, review: Review) -> dict[str, Any]:
    """List what was decided, in plain values and few digits."""
    segmentation = hand.segmentation
    decisions: dict[str, Any] = {
        "segmenter": config.segmenter,
        "inverted": hand.inverted,
        "reasons": list(hand.reasons),
        "measures": {
            name: round(value, 4) for name, value in dataclasses.asdict(hand.measures).items() if value is not None
        },
    }
    if segmentation.prompts:
        decisions["prompts"] = {"box": segmentation.prompts.box, "points": segmentation.prompts.points}
    if segmentation.candidates:
        names = ("predicted_iou", "stability", "plausibility", "score")
        decisions["candidates"] = [
            {name: round(getattr(candidate, name), 4) for name in names} for candidate in segmentation.candidates
        ]
    if segmentation.turned_degrees:
        decisions["looked_at_turned_degrees"] = segmentation.turned_degrees
    if hand.pose and hand.landmarks:
        decisions["angle_degrees"] = round(hand.pose.angle_degrees, 2)
        decisions["side"] = hand.pose.side
        decisions["hand_length_px"] = round(hand.pose.length_px, 1)
        decisions["landmarks_px"] = [[round(float(each), 1) for each in point] for point in hand.landmarks.points]
    if review.rows:
        decisions["review"] = list(review.rows)
    return decisions
