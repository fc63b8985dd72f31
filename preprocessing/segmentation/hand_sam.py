"""Hand-SAM: the small Segment Anything model that ships with the package, with ONNX Runtime and without torch."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from boneage.preprocessing.crop.crop import Box, bounding_box
from boneage.preprocessing.crop.letterbox import Letterbox
from boneage.preprocessing.segmentation.mask_selection import (
    NO_HAND_LOGIT,
    Candidate,
    rank_candidates,
    score_candidate,
)
from boneage.preprocessing.segmentation.onnx_session import open_session
from boneage.preprocessing.segmentation.prompts import Prompts

HAND_SAM_SIZE_PX = 256
# Shorter sides of its input: multiples of 32, the stride of its image encoder, from three quarters of a square, which
# most films fill. It was trained on squares, and its outlines are worse on narrower inputs.
SHORTER_SIDES_PX = (192, 224)
# Two corners of the box and up to four points; unused ones are labelled -1.
MAX_POINTS = 6
# If the hand's box, with a margin, is smaller than this share of the frame, the network also sees a close-up of it:
# fingers are only a few of the network's pixels otherwise.
_CLOSE_UP_SHARE = 0.85
_MARGIN_SHARE = 0.1  # of the hand's longer side
_MIN_CLOSE_UP_SHARE = 0.4

Shape = tuple[int, int]
Forward = Callable[
    [
        Float32[np.ndarray, "1 1 height width"],
        Float32[np.ndarray, "1 points 2"],
        Float32[np.ndarray, "1 points"],
    ],
    tuple[Float32[np.ndarray, "1 masks height width"], Float32[np.ndarray, "1 masks"]],
]
"""From a radiograph in [0, 255], points and their labels to logits of masks and their predicted IoU.

The longer side is `HAND_SAM_SIZE_PX`, the other that or one of `SHORTER_SIDES_PX`.
"""


def predict_masks(forward: Forward, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
    """Predict masks; if the hand fills little of the frame, predict again on a close-up and average both.

    Args:
        forward: The network.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        prompts: Prompts of the model.

    Returns:
        Four candidates: the mask for clear prompts, then the three for ambiguous ones.
    """
    overviews = _run_network(forward, pixels, prompts)
    candidates = [score_candidate(logits, predicted_iou=iou) for logits, iou in overviews]
    hand = rank_candidates(candidates)[0].logits > 0
    if not hand.any():
        return candidates
    tight = _find_box(hand, prompts.points, shape=pixels.shape)
    box = _add_margin(tight, shape=pixels.shape)
    left, top, right, bottom = box
    if max(right - left, bottom - top) > _CLOSE_UP_SHARE * max(pixels.shape):
        return candidates

    def move(points: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((x - left, y - top) for x, y in points if left <= x < right and top <= y < bottom)

    close_up_prompts = Prompts(
        (tight[0] - left, tight[1] - top, tight[2] - left, tight[3] - top),
        points=move(prompts.points),
        points_outside=move(prompts.points_outside),
    )
    close_ups = _run_network(forward, np.ascontiguousarray(pixels[top:bottom, left:right]), close_up_prompts)
    return [
        score_candidate(_paste_into_frame(close_up, box, shape=pixels.shape, overview=overview), predicted_iou=iou)
        for (close_up, iou), (overview, _) in zip(close_ups, overviews, strict=True)
    ]


def _run_network(
    forward: Forward, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts
) -> list[tuple[Float32[np.ndarray, "rows columns"], float]]:
    """Return the logits of each mask over the whole of `pixels`, and its predicted intersection over union."""
    box = Letterbox(pixels.shape, HAND_SAM_SIZE_PX, shorter_px=SHORTER_SIDES_PX)
    left, top, right, bottom = prompts.box
    corners = (left, top), (right - 1, bottom - 1)
    known = np.array([*corners, *prompts.points, *prompts.points_outside][:MAX_POINTS], np.float64)
    points = np.zeros((1, MAX_POINTS, 2), np.float32)
    labels = np.full((1, MAX_POINTS), -1, np.float32)
    points[0, : len(known)] = box.map_points(known)
    labels[0, : len(known)] = (2, 3, *[1] * len(prompts.points), *[0] * len(prompts.points_outside))[:MAX_POINTS]
    masks, quality = forward(box.apply(pixels)[None, None], points, labels)
    return [
        (np.ascontiguousarray(logits[box.frame_slices]), float(iou))
        for logits, iou in zip(masks[0], quality[0], strict=True)
    ]


def _find_box(hand: Bool[np.ndarray, "rows columns"], points: Sequence[tuple[int, int]], *, shape: Shape) -> Box:
    """Return the box, in pixels of the frame of `shape`, around a coarse mask and points on the hand."""
    across, down = shape[1] / hand.shape[1], shape[0] / hand.shape[0]
    left, top, right, bottom = bounding_box(hand)
    columns = [int(left * across), math.ceil(right * across), *(x for x, _ in points), *(x + 1 for x, _ in points)]
    rows = [int(top * down), math.ceil(bottom * down), *(y for _, y in points), *(y + 1 for _, y in points)]
    return min(columns), min(rows), max(columns), max(rows)


def _add_margin(box: Box, *, shape: Shape) -> Box:
    """Add a margin around a box, within the frame of `shape`."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    margin = math.ceil(max(_MARGIN_SHARE * side, (_MIN_CLOSE_UP_SHARE * max(shape) - side) / 2))
    return max(0, left - margin), max(0, top - margin), min(shape[1], right + margin), min(shape[0], bottom + margin)


def _paste_into_frame(
    close_up: Float32[np.ndarray, "close_rows close_columns"],
    box: Box,
    *,
    shape: Shape,
    overview: Float32[np.ndarray, "rows columns"],
) -> Float32[np.ndarray, "more_rows more_columns"]:
    """Paste the logits of a close-up into a map over the whole frame of `shape`, at the close-up's resolution.

    Inside the box, logits are the mean of close-up and overview: the errors of the two predictions are largely
    independent, above all at the edge of the film.
    """
    left, top, right, bottom = box
    fine = np.array([close_up.shape[1] / (right - left), close_up.shape[0] / (bottom - top)])  # coarse pixels per pixel
    size = np.rint(fine * (shape[1], shape[0])).astype(int)
    step = np.array([shape[1], shape[0]]) / size
    start = (step / 2 - (left, top)) * fine - 0.5
    matrix = np.column_stack([np.diag(step * fine), start])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    whole = cv2.warpAffine(close_up, matrix, size.tolist(), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    whole = (whole + cv2.resize(overview, size.tolist(), interpolation=cv2.INTER_LINEAR)) / 2
    columns, rows = ((np.arange(count) + 0.5) * step_px for count, step_px in zip(size, step, strict=True))
    whole[(rows < top) | (rows > bottom)] = NO_HAND_LOGIT
    whole[:, (columns < left) | (columns > right)] = NO_HAND_LOGIT
    return whole


def load_hand_sam(path: Path) -> Callable[[UInt8[np.ndarray, "height width"], Prompts], list[Candidate]]:
    """Load hand-SAM from ONNX as a predictor."""
    session = open_session(path)

    def forward(image: np.ndarray, points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(session.run(None, {"image": image, "points": points, "labels": labels}))

    return lambda pixels, prompts: predict_masks(forward, pixels, prompts)
