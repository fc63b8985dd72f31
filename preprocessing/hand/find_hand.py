"""Find the hand in a radiograph: mask, landmarks, pose, and the measures that the gate checks."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from boneage.preprocessing.crop.contrast import find_percentiles, sample_greys, stretch_between
from boneage.preprocessing.crop.tone import measure_unusual_tone
from boneage.preprocessing.hand.gate import GateConfig, HandMeasures, check_gate, measure_contrast, measure_hand
from boneage.preprocessing.hand.landmarks import Landmarks, Locate, load_landmarks
from boneage.preprocessing.hand.pose import Pose, find_pose
from boneage.preprocessing.hand.renderings import (
    AS_IT_IS,
    Rendering,
    find_close_up,
    lift_soft_tissue,
    render_close_up,
)
from boneage.preprocessing.hand.second_look import is_doubtful, look_again
from boneage.preprocessing.hand.segmenters import LANDMARKS_FILE, get_segmenter
from boneage.preprocessing.segmentation.segmentation import Segmentation, Segmenter, segment_rotated

# A hand darker than its surroundings by this share of the grey range is a radiograph with black bone.
_INVERTED_CONTRAST = -0.08
# A hand on a third of its plate has 3 of 100 pixels above the 99th percentile of the plate, a small one many more: of
# those that the file can tell apart, at most this share is white.
_MAX_WHITE_SHARE = 0.06
# From here on hand-SAM, which learned from ordinary tones, outlines worse than the U-Net, in levels of 255: one of 50
# radiographs of RSNA 2017, nearly all printed and burnt-out ones, three quarters of the equalised ones.
_UNUSUAL_TONE = 25.0
# What another rendering may mend. A hand that is cut off stays so.
_RETRIED_REASONS = frozenset({"no_hand", "low_contrast", "bad_mask", "unsure_orientation"})


@dataclasses.dataclass(frozen=True, eq=False)
class Hand:
    """The hand in a radiograph.

    Args:
        pixels: Contrast-normalised radiograph, bright bone: inverted if the file shows black bone. The contrast is that
            of the whole radiograph, that of the close-up in which the hand was found, or that of a small hand itself.
        inverted: Whether `pixels` was inverted.
        segmentation: The mask and how it was chosen.
        landmarks: Wrist and finger joints; None without a hand.
        pose: Pose of the hand; None without a hand.
        measures: What the gate checks.
        rendering: How the radiograph was shown to the networks; see `boneage.preprocessing.hand.renderings`.
    """

    pixels: UInt8[np.ndarray, "height width"]
    inverted: bool
    segmentation: Segmentation
    landmarks: Landmarks | None
    pose: Pose | None
    measures: HandMeasures
    rendering: str = AS_IT_IS


def find_hand(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
    *,
    segmenter: Segmenter,
    gate: GateConfig,
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> Hand:
    """Find the hand in a radiograph and measure it.

    Where the gate does not trust what is found, landmarks lie outside the mask, or hand-SAM meets an unusual tone, the
    U-Net and other renderings are tried. The first hand without the first two faults is taken, if there is one.

    Args:
        pixels: Radiograph, shape `(height, width)`, uint8 or uint16.
        segmenter: The segmenter that outlines the hand.
        gate: Thresholds of the gate.
        percentiles: Percentiles of the grey values that become black and white.
    """
    low, high = find_percentiles(pixels, *percentiles)
    hand = _find_as_it_is(stretch_between(pixels, low, high), segmenter=segmenter, grey_levels=high - low)
    bright_bone = np.iinfo(pixels.dtype).max - pixels if hand.inverted else pixels
    reasons = set(check_gate(hand.measures, gate=gate))
    distrusted = bool(reasons & _RETRIED_REASONS) or (not reasons and _has_doubts(hand))
    if hand.segmentation.score is None or not distrusted:
        hand = _restore_white(hand, bright_bone, low_percentile=percentiles[0])
        if segmenter is not get_segmenter("hand_sam") or reasons or not _has_unusual_tone(hand):
            return hand
    whole = Rendering("U-Net", hand.pixels, frame=hand.pixels, grey_levels=high - low)
    attempts = _list_attempts(bright_bone, whole, segmenter=segmenter, percentiles=percentiles, distrusted=distrusted)
    for other_segmenter, rendering in attempts:
        other = _find_as_it_is(rendering.pixels, segmenter=other_segmenter, grey_levels=rendering.grey_levels)
        if not check_gate(other.measures, gate=gate) and not _has_doubts(other):
            frame = 255 - rendering.frame if other.inverted else rendering.frame
            placed = _place_in_frame(other, rendering.corner, pixels=frame)
            return dataclasses.replace(placed, inverted=hand.inverted != other.inverted, rendering=rendering.name)
    return hand


def _restore_white(
    hand: Hand, pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"], *, low_percentile: float
) -> Hand:
    """Stretch the contrast anew by the hand itself, if more of it is white than may be."""
    mask = hand.segmentation.mask
    if not mask.any() or np.mean(sample_greys(hand.pixels, mask) == 255) <= _MAX_WHITE_SHARE:
        return hand
    greys = sample_greys(pixels, mask)
    [low] = find_percentiles(pixels, low_percentile)
    high = int(np.percentile(greys, 100 * (1 - _MAX_WHITE_SHARE)))
    stretched = stretch_between(pixels, low, high)
    return dataclasses.replace(hand, pixels=stretched) if high > low else hand


def _has_doubts(hand: Hand) -> bool:
    """Find out whether landmarks and mask contradict each other."""
    return hand.landmarks is not None and is_doubtful(hand.landmarks, hand.segmentation.mask)


def _has_unusual_tone(hand: Hand) -> bool:
    """Find out whether the grey values of a hand are unlike those that hand-SAM learned from."""
    greys = sample_greys(hand.pixels, hand.segmentation.mask)
    return bool(greys.size) and measure_unusual_tone(greys) > _UNUSUAL_TONE


def _list_attempts(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
    whole: Rendering,
    *,
    segmenter: Segmenter,
    percentiles: tuple[float, float],
    distrusted: bool,
) -> Iterator[tuple[Segmenter, Rendering]]:
    """Yield further attempts: a close-up of a small hand, then the U-Net, which knows more tones than hand-SAM.

    Where nothing but the tone is in doubt, the U-Net sees the close-up, and no second attempt is worth its time.
    """
    unet = get_segmenter("unet")
    close_up = render_close_up(pixels, find_close_up(whole.pixels), percentiles=percentiles)
    if not distrusted:
        yield unet, lift_soft_tissue(close_up or whole)
        return
    if close_up:
        yield segmenter, close_up
    yield unet, lift_soft_tissue(whole)
    if segmenter is not unet:
        yield unet, whole


def _place_in_frame(hand: Hand, corner: tuple[int, int], *, pixels: UInt8[np.ndarray, "height width"]) -> Hand:
    """Place the hand that was found in a part of the frame in the frame's own pixels."""
    if hand.landmarks is None:
        return dataclasses.replace(hand, pixels=pixels)
    points = hand.landmarks.points + corner
    return dataclasses.replace(
        hand,
        pixels=pixels,
        segmentation=hand.segmentation.place_in_frame(corner, shape=pixels.shape),
        landmarks=dataclasses.replace(hand.landmarks, points=points),
    )


def _find_as_it_is(pixels: UInt8[np.ndarray, "height width"], *, segmenter: Segmenter, grey_levels: int) -> Hand:
    segmentation = segmenter(pixels)
    contrast = measure_contrast(pixels, segmentation.mask)
    inverted = contrast < _INVERTED_CONTRAST
    if inverted:
        negative = 255 - pixels
        second_segmentation = segmenter(negative)
        # A mask that is darker than its surroundings in both is not a hand; the gate gives the reasons.
        inverted = (negative_contrast := measure_contrast(negative, second_segmentation.mask)) > 0
        if inverted:
            pixels, segmentation, contrast = negative, second_segmentation, negative_contrast
    landmarks, pose = _find_pose(pixels, segmentation.mask)
    quarter_turns = pose.quarter_turns if pose else 0
    if quarter_turns and segmentation.score is not None:  # a mask drawn by a person has no score and stays
        # Networks outline upright hands best, as nearly all hands in their training data are upright.
        rotated = segment_rotated(segmenter, pixels, quarter_turns=quarter_turns)
        if rotated.mask.any():
            segmentation, contrast = rotated, measure_contrast(pixels, rotated.mask)
            landmarks, pose = _find_pose(pixels, rotated.mask)
    measures = measure_hand(
        pixels, segmentation, grey_levels=grey_levels, contrast=contrast, landmarks=landmarks, pose=pose
    )
    return Hand(pixels, inverted, segmentation, landmarks, pose, measures)


def _find_pose(
    pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> tuple[Landmarks | None, Pose | None]:
    if not mask.any():
        return None, None
    landmarks = _landmarks()(pixels, mask)
    if is_doubtful(landmarks, mask):
        landmarks = look_again(_landmarks(), pixels, mask) or landmarks
    return landmarks, find_pose(landmarks.points)


@functools.cache
def _landmarks() -> Locate:
    return load_landmarks(LANDMARKS_FILE)
