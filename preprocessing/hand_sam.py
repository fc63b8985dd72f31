"""Hand-SAM: a small Segment Anything model that ships with the package, by ONNX Runtime; torch is not needed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from preprocessing.choice import Candidate, choose, weigh
from preprocessing.crop import Box, bounding_box
from preprocessing.inference import open_session
from preprocessing.letterbox import Letterbox
from preprocessing.prompts import Prompts

HAND_SAM_SIZE_PX = 256
# The shorter side of what it is shown: multiples of 32, by which its image encoder shrinks, from three quarters of a
# square, which most films fill. It learnt from squares, and outlines worse what is shown in less.
SHORTER_SIDES_PX = (192, 224)
# Two corners of the box and up to four points; those there are not are labelled -1.
MAX_POINTS = 6
# Of a hand whose box, with a margin, is smaller than this share of the frame, the network is shown the box alone: its
# fingers are few of the network's pixels otherwise.
_CLOSE_SHARE = 0.85
_MARGIN_SHARE = 0.1  # of the hand's longer side
_CLOSEST_SHARE = 0.4
_NO_HAND_LOGIT = -8.0

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


def predict_with(forward: Forward, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
    """Ask the model for masks; where the hand fills little of the frame, ask again closer to it and take the mean.

    Args:
        forward: The network.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        prompts: What the model is told.

    Returns:
        Four candidates: the answer to clear prompts, then the three to ambiguous ones.
    """
    first = _ask(forward, pixels, prompts)
    candidates = [weigh(each, predicted_iou=iou) for each, iou in first]
    hand = choose(candidates)[0].logits > 0
    if not hand.any():
        return candidates
    tight = _find_box(hand, prompts.points, shape=pixels.shape)
    box = _surround(tight, shape=pixels.shape)
    left, top, right, bottom = box
    if max(right - left, bottom - top) > _CLOSE_SHARE * max(pixels.shape):
        return candidates

    def move(points: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((x - left, y - top) for x, y in points if left <= x < right and top <= y < bottom)

    told = Prompts(
        (tight[0] - left, tight[1] - top, tight[2] - left, tight[3] - top),
        points=move(prompts.points),
        points_outside=move(prompts.points_outside),
    )
    closer = _ask(forward, np.ascontiguousarray(pixels[top:bottom, left:right]), told)
    return [
        weigh(_put_back(near, box, shape=pixels.shape, far=far), predicted_iou=iou)
        for (near, iou), (far, _) in zip(closer, first, strict=True)
    ]


def _ask(
    forward: Forward, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts
) -> list[tuple[Float32[np.ndarray, "rows columns"], float]]:
    """Return logits of each mask, over the whole of `pixels`, and its predicted intersection over union."""
    box = Letterbox(pixels.shape, HAND_SAM_SIZE_PX, shorter_px=SHORTER_SIDES_PX)
    left, top, right, bottom = prompts.box
    corners = (left, top), (right - 1, bottom - 1)
    known = np.array([*corners, *prompts.points, *prompts.points_outside][:MAX_POINTS], np.float64)
    points = np.zeros((1, MAX_POINTS, 2), np.float32)
    labels = np.full((1, MAX_POINTS), -1, np.float32)
    points[0, : len(known)] = box.place_points(known)
    labels[0, : len(known)] = (2, 3, *[1] * len(prompts.points), *[0] * len(prompts.points_outside))[:MAX_POINTS]
    logits, quality = forward(box.place(pixels)[None, None], points, labels)
    return [
        (np.ascontiguousarray(each[box.inside]), float(iou)) for each, iou in zip(logits[0], quality[0], strict=True)
    ]


def _find_box(hand: Bool[np.ndarray, "rows columns"], points: Sequence[tuple[int, int]], *, shape: Shape) -> Box:
    """Return the box, in pixels of the frame of `shape`, around a coarse mask and points on the hand."""
    across, down = shape[1] / hand.shape[1], shape[0] / hand.shape[0]
    left, top, right, bottom = bounding_box(hand)
    columns = [int(left * across), math.ceil(right * across), *(x for x, _ in points), *(x + 1 for x, _ in points)]
    rows = [int(top * down), math.ceil(bottom * down), *(y for _, y in points), *(y + 1 for _, y in points)]
    return min(columns), min(rows), max(columns), max(rows)


def _surround(box: Box, *, shape: Shape) -> Box:
    """Leave a margin around a box, within the frame of `shape`."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    margin = math.ceil(max(_MARGIN_SHARE * side, (_CLOSEST_SHARE * max(shape) - side) / 2))
    return max(0, left - margin), max(0, top - margin), min(shape[1], right + margin), min(shape[0], bottom + margin)


def _put_back(
    near: Float32[np.ndarray, "near_rows near_columns"],
    box: Box,
    *,
    shape: Shape,
    far: Float32[np.ndarray, "rows columns"],
) -> Float32[np.ndarray, "more_rows more_columns"]:
    """Lay what was seen in a box into a map over the whole frame of `shape`, as fine as it was seen.

    The logits there are the mean of it and of what was seen from afar: the two looks err apart from each other, most of
    all about where the film ends.
    """
    left, top, right, bottom = box
    fine = np.array([near.shape[1] / (right - left), near.shape[0] / (bottom - top)])  # coarse pixels per pixel
    size = np.rint(fine * (shape[1], shape[0])).astype(int)
    step = np.array([shape[1], shape[0]]) / size
    start = (step / 2 - (left, top)) * fine - 0.5
    matrix = np.column_stack([np.diag(step * fine), start])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    whole = cv2.warpAffine(near, matrix, size.tolist(), flags=how, borderMode=cv2.BORDER_REPLICATE)
    whole = (whole + cv2.resize(far, size.tolist(), interpolation=cv2.INTER_LINEAR)) / 2
    columns, rows = ((np.arange(count) + 0.5) * each for count, each in zip(size, step, strict=True))
    whole[(rows < top) | (rows > bottom)] = _NO_HAND_LOGIT
    whole[:, (columns < left) | (columns > right)] = _NO_HAND_LOGIT
    return whole


def load_hand_sam(path: Path) -> Callable[[UInt8[np.ndarray, "height width"], Prompts], list[Candidate]]:
    """Load hand-SAM from ONNX as a predictor."""
    session = open_session(path)

    def forward(image: np.ndarray, points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(session.run(None, {"image": image, "points": points, "labels": labels}))

    return lambda pixels, prompts: predict_with(forward, pixels, prompts)
