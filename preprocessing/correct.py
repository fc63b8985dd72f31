"""A mask that a person corrects: hand-SAM is told the clicks; where it does not follow, the edges decide."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from preprocessing.choice import Candidate, weigh
from preprocessing.crop import Box, resize
from preprocessing.hand_sam import HAND_SAM_SIZE_PX, MAX_POINTS
from preprocessing.letterbox import Letterbox
from preprocessing.prompts import Prompts, find_prompts
from preprocessing.rims import end_at_rims
from preprocessing.segmentation import Predictor, finish_mask

# What one click can change where the model does not follow it, as a share of the frame's longest side: about two
# fingers wide. What is wrong over more than that takes several clicks.
_REACH_SHARE = 0.08
_SEED_PX = 2
_MIN_BOX_PX = 32
_OUTSIDE, _ON_HAND = 1, 2
# Logit of what was decided against the model.
_DECIDED_LOGIT = 2.0
# How sure a mask that was drawn is of its inside, as a share of the coarse pixel.
_SURE_SHARE = 0.999


@dataclasses.dataclass(frozen=True)
class Click:
    """A place of which a person says whether it is hand.

    Args:
        x: Column in pixels of the frame.
        y: Row in pixels of the frame.
        on_hand: Whether it is.
    """

    x: float
    y: float
    on_hand: bool


def correct_mask(
    predict: Predictor, pixels: UInt8[np.ndarray, "height width"], *, clicks: Sequence[Click], box: Box | None = None
) -> Bool[np.ndarray, "height width"]:
    """Draw the mask of the hand as a person wants it.

    The model is told the latest clicks, and of its masks the one is taken that the most of all clicks agree with.
    Around those that it contradicts, the radiograph is divided anew, along its edges, between the clicks and what lies
    around them. The hand is one piece, without holes.

    Args:
        predict: The model, hand-SAM.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        clicks: What the person says; clicks outside of `box` are not heard.
        box: Where the hand is looked for, and nowhere else; the whole frame without it.

    Returns:
        True on the hand, shape `(height, width)`.

    Raises:
        ValueError: If `box` is too small or not within the frame.
    """
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    height, width = pixels.shape
    if box and not (
        0 <= left < right <= width and 0 <= top < bottom <= height and min(right - left, bottom - top) >= _MIN_BOX_PX
    ):
        raise ValueError(
            f"`box` must have sides of {_MIN_BOX_PX} pixels or more within the frame of {width} x {height}. "
            f"Received: {box}."
        )
    seen = np.ascontiguousarray(pixels[top:bottom, left:right])
    inside = [
        Click(click.x - left, click.y - top, click.on_hand)
        for click in clicks
        if left <= click.x < right and top <= click.y < bottom
    ]
    mask = np.zeros(pixels.shape, np.bool_)
    best, contradicted = ask_with_clicks(predict, seen, inside)
    logits = _divide(best.logits, seen, inside, contradicted=contradicted) if contradicted else best.logits
    mask[top:bottom, left:right] = finish_mask(logits, shape=seen.shape)
    return mask


def ending_at_rims(predict: Predictor) -> Predictor:
    """Make a model whose masks end at the film's rims, as those of the records do, for `correct_mask` to begin with."""

    def predict_ended(pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
        return [dataclasses.replace(each, logits=end_at_rims(each.logits, pixels)) for each in predict(pixels, prompts)]

    return predict_ended


def looking_turned(predict: Predictor, *, quarters: int) -> Predictor:
    """Make a model that is shown frames turned, as `find_hand` looks at lying hands, for `correct_mask` to begin with.

    Args:
        predict: The model.
        quarters: By how often 90 degrees, counter-clockwise.
    """

    def predict_turned(pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
        turned = np.ascontiguousarray(np.rot90(pixels, quarters))
        return [each.turn(-quarters) for each in predict(turned, prompts.turn(quarters, shape=pixels.shape))]

    return predict_turned


def go_on_from(mask: Bool[np.ndarray, "height width"]) -> Predictor:
    """Make a model that offers a mask which was drawn already, for `correct_mask` to go on from."""

    def predict(_: UInt8[np.ndarray, "height width"], __: Prompts) -> list[Candidate]:
        height, width = Letterbox(mask.shape, HAND_SAM_SIZE_PX).size
        share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        share = np.clip(share, 1 - _SURE_SHARE, _SURE_SHARE)
        return [weigh(np.log(share / (1 - share)), predicted_iou=1.0)]

    return predict


def ask_with_clicks(
    predict: Predictor, pixels: UInt8[np.ndarray, "height width"], clicks: Sequence[Click]
) -> tuple[Candidate, list[Click]]:
    """Tell the model the latest clicks.

    Returns:
        Of its masks the one that the most of all clicks agree with, and the clicks that it contradicts all the same.
    """
    prompts = find_prompts(pixels)
    if clicks:
        told = clicks[2 - MAX_POINTS :]
        prompts = dataclasses.replace(
            prompts,
            points=tuple((int(click.x), int(click.y)) for click in told if click.on_hand),
            points_outside=tuple((int(click.x), int(click.y)) for click in told if not click.on_hand),
        )

    answers = [
        (candidate, _find_contradicted(candidate.logits > 0, clicks, shape=pixels.shape))
        for candidate in predict(pixels, prompts)
    ]
    return min(answers, key=lambda answer: (len(answer[1]), -answer[0].score))


def _divide(
    logits: Float32[np.ndarray, "rows columns"],
    pixels: UInt8[np.ndarray, "height width"],
    clicks: Sequence[Click],
    *,
    contradicted: Sequence[Click],
) -> Float32[np.ndarray, "rows columns"]:
    """Divide the surroundings of contradicted clicks anew, by a watershed from all clicks and from what stays."""
    found = logits > 0
    size = logits.shape[::-1]
    look: np.ndarray = cv2.cvtColor(resize(pixels, size=size), cv2.COLOR_GRAY2BGR)
    open_ground = np.zeros(logits.shape, np.uint8)
    for click in contradicted:
        cv2.circle(open_ground, _place(click, logits.shape, pixels.shape), round(_REACH_SHARE * max(size)), 1, -1)
    markers: np.ndarray = np.where(open_ground == 1, 0, np.where(found, _ON_HAND, _OUTSIDE)).astype(np.int32)
    for click in clicks:
        label = _ON_HAND if click.on_hand else _OUTSIDE
        cv2.circle(markers, _place(click, logits.shape, pixels.shape), _SEED_PX, label, -1)
    # OpenCV takes the outermost pixels for a boundary: they lie in a margin of their own.
    look, markers = (cv2.copyMakeBorder(each, 1, 1, 1, 1, cv2.BORDER_REPLICATE) for each in (look, markers))
    decided = (cv2.watershed(look, markers) == _ON_HAND)[1:-1, 1:-1]
    decided = np.where(open_ground == 1, decided, found)
    against = np.where(decided, np.float32(_DECIDED_LOGIT), np.float32(-_DECIDED_LOGIT))
    return np.where(decided == found, logits, against)


def _find_contradicted(
    found: Bool[np.ndarray, "rows columns"], clicks: Sequence[Click], *, shape: tuple[int, int]
) -> list[Click]:
    """List the clicks that a coarse mask over a frame of `shape` contradicts."""
    places = [_place(click, found.shape, shape) for click in clicks]
    return [click for click, (x, y) in zip(clicks, places, strict=True) if found[y, x] != click.on_hand]


def _place(click: Click, coarse: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the coarse pixel `(x, y)` of a click in a frame of `shape`."""
    return int(click.x * coarse[1] / shape[1]), int(click.y * coarse[0] / shape[0])
