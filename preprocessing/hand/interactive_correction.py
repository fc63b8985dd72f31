"""Interactive correction of a mask: clicks become prompts of hand-SAM; GrabCut segments where its mask disagrees."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from skimage.graph import MCP_Geometric

from boneage.preprocessing.crop.crop import Box, bounding_box
from boneage.preprocessing.crop.letterbox import resize_map
from boneage.preprocessing.segmentation.film_edge import cut_at_film_edges
from boneage.preprocessing.segmentation.hand_sam import MAX_POINTS
from boneage.preprocessing.segmentation.mask_selection import Candidate
from boneage.preprocessing.segmentation.morphology import clean_mask
from boneage.preprocessing.segmentation.prompts import Prompts, find_prompts
from boneage.preprocessing.segmentation.segmentation import Predictor, postprocess_mask, segment_with_prompts

# Radius that one click can change where the model disagrees, as a share of the hand's longer side: about two fingers
# wide. Larger errors take several clicks.
_REACH_SHARE = 0.08
# That radius in the pixels that GrabCut works on: enough for the gap between two fingers.
_REACH_PX = 24
_SEED_PX = 2
# Difference in grey that counts as much as one more pixel of a path.
_GREY_PER_STEP = 10.0
# Standard deviations of the Gaussian blurs by which GrabCut also compares the surroundings of a pixel.
_BLURS_PX = (1.5, 4.0)
# Outlines of the same object differ by slivers this thin, as a share of the frame's longest side; they would connect
# changes that belong to different clicks.
_SLIVER_SHARE = 0.003
_MIN_BOX_PX = 32


@dataclasses.dataclass(frozen=True)
class Click:
    """A click of a person on the hand or on the background.

    Args:
        x: Column in pixels of the frame.
        y: Row in pixels of the frame.
        on_hand: Whether the point is on the hand.
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
    """Correct the mask of the hand by clicks.

    The latest clicks become prompts of the model. Of the changes between its mask and the given one, only those under a
    click that asks for them are applied. Around clicks that the mask still contradicts, GrabCut segments the radiograph
    by its grey levels and edges. The rest of the mask is unchanged. The hand is one piece, without holes.

    Args:
        predict: The model, hand-SAM.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        clicks: The clicks; those outside `box` are ignored.
        mask: The mask to correct, shape `(height, width)`, bool (default: the model's own mask).
        box: Region of interest, which contains the hand (default: the whole frame).

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
            f"`box` must lie within the frame of {width} x {height} with sides of at least {_MIN_BOX_PX} pixels. "
            f"Received: {box}."
        )
    within = np.s_[top:bottom, left:right]
    region = np.ascontiguousarray(pixels[within])
    inside = [
        Click(click.x - left, click.y - top, click.on_hand)
        for click in clicks
        if left <= click.x < right and top <= click.y < bottom
    ]
    initial_mask = segment_with_prompts(predict, region).mask if mask is None else mask[within]
    corrected = np.zeros(pixels.shape, np.bool_)
    corrected[within] = _apply_clicks(inside, predict, region, initial_mask)
    return corrected


def find_contradicted_clicks(mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click]) -> list[Click]:
    """Return the clicks inside the frame that the mask contradicts."""
    height, width = mask.shape
    inside = (click for click in clicks if 0 <= click.x < width and 0 <= click.y < height)
    return [click for click in inside if mask[int(click.y), int(click.x)] != click.on_hand]


def rotate_predictor(predict: Predictor, *, quarter_turns: int) -> Predictor:
    """Wrap a predictor to see rotated frames, for hands that are not upright.

    Args:
        predict: The model.
        quarter_turns: Number of counter-clockwise quarter turns.
    """

    def predict_rotated(pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
        rotated = np.ascontiguousarray(np.rot90(pixels, quarter_turns))
        candidates = predict(rotated, prompts.rotate(quarter_turns, shape=pixels.shape))
        return [candidate.rotate(-quarter_turns) for candidate in candidates]

    return predict_rotated


def _apply_clicks(
    clicks: Sequence[Click],
    predict: Predictor,
    pixels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """Correct a mask by clicks, all of them inside its frame."""
    if not find_contradicted_clicks(mask, clicks):
        return mask
    mask = _apply_requested_changes(_predict_from_clicks(predict, pixels, clicks), mask, clicks)
    side_px = max(mask.shape)
    if mask.any():
        left, top, right, bottom = bounding_box(mask)
        side_px = max(right - left, bottom - top)
    for click in clicks:
        if find_contradicted_clicks(mask, [click]):
            mask = _segment_around_click(mask, pixels, click, clicks, reach_px=_REACH_SHARE * side_px)
    return clean_mask(mask, closing_share=0.0)


def _predict_from_clicks(
    predict: Predictor, pixels: UInt8[np.ndarray, "height width"], clicks: Sequence[Click]
) -> Bool[np.ndarray, "height width"]:
    """Prompt the model with the latest clicks, and return its mask that contradicts the fewest of all clicks."""
    recent_clicks = clicks[2 - MAX_POINTS :]
    prompts = dataclasses.replace(
        find_prompts(pixels),
        points=tuple((int(click.x), int(click.y)) for click in recent_clicks if click.on_hand),
        points_outside=tuple((int(click.x), int(click.y)) for click in recent_clicks if not click.on_hand),
    )

    def rank(candidate: Candidate) -> tuple[int, float]:
        coarse = candidate.logits > 0
        across, down = coarse.shape[1] / pixels.shape[1], coarse.shape[0] / pixels.shape[0]
        scaled = [Click(click.x * across, click.y * down, click.on_hand) for click in clicks]
        return len(find_contradicted_clicks(coarse, scaled)), -candidate.score

    best = min(predict(pixels, prompts), key=rank)
    return postprocess_mask(cut_at_film_edges(best.logits, pixels), shape=pixels.shape)


def _apply_requested_changes(
    proposed: Bool[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click]
) -> Bool[np.ndarray, "height width"]:
    """Apply the changes of a proposed mask that lie under a click that asks for them."""
    side = 2 * round(_SLIVER_SHARE * max(mask.shape)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    corrected = mask.copy()
    for on_hand in {click.on_hand for click in clicks}:
        change = proposed & ~mask if on_hand else mask & ~proposed
        _, pieces = cv2.connectedComponents(cv2.morphologyEx(change.astype(np.uint8), cv2.MORPH_OPEN, kernel))
        requested = {int(pieces[int(click.y), int(click.x)]) for click in clicks if click.on_hand == on_hand} - {0}
        corrected[np.isin(pieces, list(requested))] = on_hand
    return corrected


def _segment_around_click(
    mask: Bool[np.ndarray, "height width"],
    pixels: UInt8[np.ndarray, "height width"],
    click: Click,
    clicks: Sequence[Click],
    *,
    reach_px: float,
) -> Bool[np.ndarray, "height width"]:
    """Segment the surroundings of a click by GrabCut (Rother et al. 2004), and change the piece that contains it.

    The surroundings are cut out of the frame and downscaled to a resolution that separates fingers.
    """
    (left, right), (top, bottom) = (
        (max(0, int(centre - 2 * reach_px)), min(length, int(centre + 2 * reach_px) + 1))
        for centre, length in ((click.x, mask.shape[1]), (click.y, mask.shape[0]))
    )
    around = np.s_[top:bottom, left:right]
    scale = min(1.0, _REACH_PX / reach_px)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))

    def to_patch(point: Click) -> tuple[int, int]:
        return int((point.x - left) * size[0] / (right - left)), int((point.y - top) * size[1] / (bottom - top))

    column, row = to_patch(click)
    grey = cv2.resize(pixels[around], size, interpolation=cv2.INTER_AREA)
    channels = cv2.merge([grey, *(cv2.GaussianBlur(grey, (0, 0), blur) for blur in _BLURS_PX)])
    before = cv2.resize(mask[around].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    reached = cv2.circle(np.zeros(before.shape, np.uint8), (column, row), round(reach_px * scale), 1, -1) == 1
    labels = np.where(before, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[reached] = np.where(before, cv2.GC_PR_FGD, cv2.GC_PR_BGD)[reached]
    path = _find_path(grey, (column, row), before == click.on_hand)
    seeds = [*((point, click.on_hand) for point in path), *((to_patch(other), other.on_hand) for other in clicks)]
    for point, on_hand in seeds:
        cv2.circle(labels, point, _SEED_PX, cv2.GC_FGD if on_hand else cv2.GC_BGD, -1)
    if len(np.unique(labels & 1)) == 2:  # GrabCut needs pixels of both hand and background
        cv2.setRNGSeed(0)
        cv2.grabCut(channels, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    after = (labels & 1) == 1
    change = (after & ~before if click.on_hand else before & ~after).astype(np.uint8)
    _, pieces = cv2.connectedComponents(change, connectivity=4)
    changed = ((pieces == pieces[row, column]) & (change == 1)).astype(np.float32)
    cv2.circle(changed, (column, row), _SEED_PX, 1, -1)
    corrected = mask.copy()
    corrected[around][resize_map(changed, shape=(bottom - top, right - left)) > 0.5] = click.on_hand
    return corrected


def _find_path(
    grey: UInt8[np.ndarray, "rows columns"], start: tuple[int, int], ends: Bool[np.ndarray, "rows columns"]
) -> list[tuple[int, int]]:
    """Return the pixels `(x, y)` from a click to the nearest pixel of its class, along the path of most similar grey.

    The clicked point is connected to its class: the hand is one piece, and no background lies within it.
    """
    column, row = start
    steps = MCP_Geometric(1 + cv2.absdiff(grey, np.full_like(grey, grey[row, column])) / _GREY_PER_STEP)
    costs, _ = steps.find_costs([(row, column)])
    end = np.unravel_index(int(np.where(ends, costs, np.inf).argmin()), ends.shape)
    return [(int(x), int(y)) for y, x in steps.traceback(end)] if ends.any() else []
