"""A mask that a person corrects: hand-SAM is told the clicks; where it does not follow, the grey levels decide."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from skimage.graph import MCP_Geometric

from preprocessing.choice import Candidate
from preprocessing.crop import Box, bounding_box
from preprocessing.hand_sam import MAX_POINTS
from preprocessing.letterbox import resize_map
from preprocessing.morphology import clean_mask
from preprocessing.prompts import Prompts, find_prompts
from preprocessing.rims import end_at_rims
from preprocessing.segmentation import Predictor, finish_mask, segment_prompted

# What one click can change where the model does not follow it, as a share of the hand's longer side: about two fingers
# wide. What is wrong over more than that takes several clicks.
_REACH_SHARE = 0.08
# That reach in the pixels that are divided: enough for the gap between two fingers.
_REACH_PX = 24
_SEED_PX = 2
# Difference in grey that makes a way as long as one more pixel.
_GREY_PER_STEP = 10.0
# Grey levels are compared at a place and around it, by Gauss's blur.
_BLURS_PX = (1.5, 4.0)
# Outlines of the same thing differ by slivers this thin, as a share of the frame's longest side, which join what is
# wrong here to what is right there.
_SLIVER_SHARE = 0.003
_MIN_BOX_PX = 32


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
    predict: Predictor,
    pixels: UInt8[np.ndarray, "height width"],
    *,
    clicks: Sequence[Click],
    mask: Bool[np.ndarray, "height width"] | None = None,
    box: Box | None = None,
) -> Bool[np.ndarray, "height width"]:
    """Draw the mask of the hand as a person wants it.

    What no click asks for stays as it is. The model is told the latest clicks, and of the changes that it would make to
    the mask those are made that lie under a click that asks for them. Around clicks that the mask contradicts still,
    the radiograph is divided anew, by its grey levels and edges. The hand is one piece, without holes.

    Args:
        predict: The model, hand-SAM.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        clicks: What the person says; clicks outside of `box` are not heard.
        mask: What is corrected, shape `(height, width)`, bool; without it, what the model draws by itself.
        box: Where the hand is looked for, and nowhere else; the whole frame without it.

    Returns:
        True on the hand, shape `(height, width)`.

    Raises:
        ValueError: If `box` is too small or not within the frame.
    """
    height, width = pixels.shape
    left, top, right, bottom = box or (0, 0, width, height)
    if box and not (
        0 <= left < right <= width and 0 <= top < bottom <= height and min(right - left, bottom - top) >= _MIN_BOX_PX
    ):
        raise ValueError(
            f"`box` must have sides of {_MIN_BOX_PX} pixels or more within the frame of {width} x {height}. "
            f"Received: {box}."
        )
    within = np.s_[top:bottom, left:right]
    seen = np.ascontiguousarray(pixels[within])
    inside = [
        Click(click.x - left, click.y - top, click.on_hand)
        for click in clicks
        if left <= click.x < right and top <= click.y < bottom
    ]
    begun = segment_prompted(predict, seen).mask if mask is None else mask[within]
    corrected = np.zeros(pixels.shape, np.bool_)
    corrected[within] = _follow(inside, predict, seen, begun)
    return corrected


def find_contradicted(mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click]) -> list[Click]:
    """List the clicks within a mask's frame that it contradicts."""
    height, width = mask.shape
    inside = (click for click in clicks if 0 <= click.x < width and 0 <= click.y < height)
    return [click for click in inside if mask[int(click.y), int(click.x)] != click.on_hand]


def looking_turned(predict: Predictor, *, quarters: int) -> Predictor:
    """Make a model that is shown frames turned, for hands that lie.

    Args:
        predict: The model.
        quarters: By how often 90 degrees, counter-clockwise.
    """

    def predict_turned(pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
        turned = np.ascontiguousarray(np.rot90(pixels, quarters))
        return [each.turn(-quarters) for each in predict(turned, prompts.turn(quarters, shape=pixels.shape))]

    return predict_turned


def _follow(
    clicks: Sequence[Click],
    predict: Predictor,
    pixels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """Correct a mask by clicks, all of them within it."""
    if not find_contradicted(mask, clicks):
        return mask
    mask = _take_over(_ask(predict, pixels, clicks), mask, clicks)
    side_px = max(mask.shape)
    if mask.any():
        left, top, right, bottom = bounding_box(mask)
        side_px = max(right - left, bottom - top)
    for click in clicks:
        if find_contradicted(mask, [click]):
            mask = _divide(mask, pixels, click, clicks, reach_px=_REACH_SHARE * side_px)
    return clean_mask(mask, closing_share=0.0)


def _ask(
    predict: Predictor, pixels: UInt8[np.ndarray, "height width"], clicks: Sequence[Click]
) -> Bool[np.ndarray, "height width"]:
    """Tell the model the latest clicks, and return the mask of those that it offers that the most of all agree with."""
    told = clicks[2 - MAX_POINTS :]
    prompts = dataclasses.replace(
        find_prompts(pixels),
        points=tuple((int(click.x), int(click.y)) for click in told if click.on_hand),
        points_outside=tuple((int(click.x), int(click.y)) for click in told if not click.on_hand),
    )

    def rank(candidate: Candidate) -> tuple[int, float]:
        coarse = candidate.logits > 0
        across, down = coarse.shape[1] / pixels.shape[1], coarse.shape[0] / pixels.shape[0]
        placed = [Click(click.x * across, click.y * down, click.on_hand) for click in clicks]
        return len(find_contradicted(coarse, placed)), -candidate.score

    best = min(predict(pixels, prompts), key=rank)
    return finish_mask(end_at_rims(best.logits, pixels), shape=pixels.shape)


def _take_over(
    answer: Bool[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click]
) -> Bool[np.ndarray, "height width"]:
    """Do to a mask what an answer would, where it lies under a click that asks for it."""
    side = 2 * round(_SLIVER_SHARE * max(mask.shape)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    taken = mask.copy()
    for on_hand in {click.on_hand for click in clicks}:
        change = answer & ~mask if on_hand else mask & ~answer
        _, pieces = cv2.connectedComponents(cv2.morphologyEx(change.astype(np.uint8), cv2.MORPH_OPEN, kernel))
        asked = {int(pieces[int(click.y), int(click.x)]) for click in clicks if click.on_hand == on_hand} - {0}
        taken[np.isin(pieces, list(asked))] = on_hand
    return taken


def _divide(
    mask: Bool[np.ndarray, "height width"],
    pixels: UInt8[np.ndarray, "height width"],
    click: Click,
    clicks: Sequence[Click],
    *,
    reach_px: float,
) -> Bool[np.ndarray, "height width"]:
    """Divide the surroundings of a click anew by GrabCut (Rother et al. 2004), and change what hangs together with it.

    They are cut out of the frame, and shrunk to what is enough to tell one finger from the next.
    """
    (left, right), (top, bottom) = (
        (max(0, int(at - 2 * reach_px)), min(length, int(at + 2 * reach_px) + 1))
        for at, length in ((click.x, mask.shape[1]), (click.y, mask.shape[0]))
    )
    around = np.s_[top:bottom, left:right]
    scale = min(1.0, _REACH_PX / reach_px)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))

    def place(each: Click) -> tuple[int, int]:
        return int((each.x - left) * size[0] / (right - left)), int((each.y - top) * size[1] / (bottom - top))

    column, row = place(click)
    grey = cv2.resize(pixels[around], size, interpolation=cv2.INTER_AREA)
    looks = cv2.merge([grey, *(cv2.GaussianBlur(grey, (0, 0), blur) for blur in _BLURS_PX)])
    before = cv2.resize(mask[around].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    reached = cv2.circle(np.zeros(before.shape, np.uint8), (column, row), round(reach_px * scale), 1, -1) == 1
    labels = np.where(before, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[reached] = np.where(before, cv2.GC_PR_FGD, cv2.GC_PR_BGD)[reached]
    way = _find_way(grey, (column, row), before == click.on_hand)
    for at, on_hand in [*((each, click.on_hand) for each in way), *((place(each), each.on_hand) for each in clicks)]:
        cv2.circle(labels, at, _SEED_PX, cv2.GC_FGD if on_hand else cv2.GC_BGD, -1)
    if len(np.unique(labels & 1)) == 2:  # hand and background, of both of which GrabCut must know something
        cv2.setRNGSeed(0)
        cv2.grabCut(looks, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    after = (labels & 1) == 1
    change = (after & ~before if click.on_hand else before & ~after).astype(np.uint8)
    _, pieces = cv2.connectedComponents(change, connectivity=4)
    changed = ((pieces == pieces[row, column]) & (change == 1)).astype(np.float32)
    cv2.circle(changed, (column, row), _SEED_PX, 1, -1)
    divided = mask.copy()
    divided[around][resize_map(changed, shape=(bottom - top, right - left)) > 0.5] = click.on_hand
    return divided


def _find_way(
    grey: UInt8[np.ndarray, "rows columns"], start: tuple[int, int], ends: Bool[np.ndarray, "rows columns"]
) -> list[tuple[int, int]]:
    """Return the pixels `(x, y)` from a click to its own kind, along which the grey stays most like that clicked on.

    What was clicked on hangs together with its own kind: the hand is one piece, and no background lies within it.
    """
    column, row = start
    steps = MCP_Geometric(1 + cv2.absdiff(grey, np.full_like(grey, grey[row, column])) / _GREY_PER_STEP)
    costs, _ = steps.find_costs([(row, column)])
    end = np.unravel_index(int(np.where(ends, costs, np.inf).argmin()), ends.shape)
    return [(int(x), int(y)) for y, x in steps.traceback(end)] if ends.any() else []
