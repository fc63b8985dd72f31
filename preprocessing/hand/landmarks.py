"""The landmark network: locate wrist and finger joints in a hand mask, with ONNX Runtime."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from boneage.preprocessing.crop.contrast import find_percentiles, sample_greys, stretch_between
from boneage.preprocessing.crop.crop import bounding_box, warp
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST

LANDMARKS_SIZE_PX = 128
HEATMAP_SIZE_PX = 32
# Margin around the box of the mask, as a share of its longer side.
MARGIN_SHARE = 0.05
# The contrast is that of the hand and of its surroundings up to this distance.
_NEAR_PX = 4
_PERCENTILES = (1.0, 99.0)
# A landmark this close to the mask lies in it, as a share of the hand's length: fingertips are narrow.
_NEAR_SHARE = 0.02
# Nearly all of a hand is brighter than this percentile of its grey values, and plain film is not.
_TISSUE_PERCENTILE = 5.0

Forward = Callable[[Float32[np.ndarray, "1 side side 1"]], Float32[np.ndarray, "1 cells cells 21"]]
"""From a square radiograph in [0, 1] to one heatmap of logits for each landmark."""


def soft_argmax(heatmaps: Float[np.ndarray, "*batch cells cells points"]) -> Float[np.ndarray, "*batch points 2"]:
    """Return the expected position under the softmax of each heatmap (soft-argmax).

    Args:
        heatmaps: Logits, shape `(..., cells, cells, points)`.

    Returns:
        `(x, y)` as shares of the square's side, shape `(..., points, 2)`.
    """
    *batch, height, width, points = heatmaps.shape
    flat = heatmaps.reshape(*batch, height * width, points)
    weight = np.exp(flat - flat.max(axis=-2, keepdims=True))
    weight = (weight / weight.sum(axis=-2, keepdims=True)).reshape(heatmaps.shape)
    x = (weight.sum(axis=-3) * ((np.arange(width) + 0.5) / width)[:, None]).sum(axis=-2)
    y = (weight.sum(axis=-2) * ((np.arange(height) + 0.5) / height)[:, None]).sum(axis=-2)
    return np.stack([x, y], axis=-1)


def measure_uncertainty(heatmaps: Float[np.ndarray, "cells cells points"]) -> float:
    """Return the mean spread of the heatmaps around their expected positions, as a share of the square's side.

    A hand gives narrow peaks; other objects and incomplete hands give broad ones.

    Args:
        heatmaps: Logits, shape `(cells, cells, points)`.
    """
    height, width, points = heatmaps.shape
    flat = heatmaps.reshape(-1, points)
    weight = np.exp(flat - flat.max(axis=0))
    weight /= weight.sum(axis=0)
    down, across = np.divmod(np.arange(height * width), width)
    positions = np.stack([(across + 0.5) / width, (down + 0.5) / height], axis=-1)
    squared = ((positions[:, None] - weight.T @ positions) ** 2).sum(axis=-1)
    return float(np.sqrt((weight * squared).sum(axis=0)).mean())


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks of a hand.

    Args:
        points: `(x, y)` in pixels of the frame, shape `(21, 2)`, in the order of
            `boneage.preprocessing.synthetic.LANDMARK_NAMES`.
        uncertainty: Mean spread of the heatmaps, as a share of the hand's box (stored as `landmark_doubt`).
    """

    points: Float[np.ndarray, "21 2"]
    uncertainty: float


def measure_share_in_mask(points: Float[np.ndarray, "21 2"], mask: Bool[np.ndarray, "height width"]) -> float:
    """Return the share of landmarks that lie in a mask or close to it, in [0, 1].

    Args:
        points: Landmarks `(x, y)` in pixels of the frame.
        mask: The hand.
    """
    return sum(bool(mask[near].any()) for near in _list_surroundings(points)) / len(points)


def measure_missed(
    points: Float[np.ndarray, "21 2"], mask: Bool[np.ndarray, "height width"], pixels: UInt8[np.ndarray, "height width"]
) -> float:
    """Return the share of landmarks that lie on tissue outside a mask, in [0, 1].

    The landmark network sees the radiograph around the mask, and finds fingers that the mask leaves out. A landmark on
    plain film is itself misplaced.

    Args:
        points: Landmarks `(x, y)` in pixels of the frame.
        mask: The hand, not empty.
        pixels: Contrast-normalised radiograph, bright bone.
    """
    tissue = float(np.percentile(sample_greys(pixels, mask), _TISSUE_PERCENTILE))
    missed = 0
    for near in _list_surroundings(points):
        missed += bool(mask[near].size and not mask[near].any() and pixels[near].mean() > tissue)
    return missed / len(points)


def _list_surroundings(points: Float[np.ndarray, "21 2"]) -> list[tuple[slice, slice]]:
    """List the rows and columns around each landmark."""
    reach = max(1, round(_NEAR_SHARE * float(np.hypot(*(points[MIDDLE_TIP] - points[WRIST])))))
    places = np.rint(points).astype(int)
    starts, ends = np.maximum(places - reach, 0), np.maximum(places + reach + 1, 0)
    return [(slice(start[1], end[1]), slice(start[0], end[0])) for start, end in zip(starts, ends, strict=True)]


Locate = Callable[[UInt8[np.ndarray, "height width"], Bool[np.ndarray, "height width"]], Landmarks]
"""From a contrast-normalised radiograph and the mask of its hand to landmarks."""


def locate_landmarks(
    forward: Forward, pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> Landmarks:
    """Locate the landmarks of the hand in a mask with a network.

    Args:
        forward: The network.
        pixels: Contrast-normalised radiograph, uint8, bright bone.
        mask: The hand, not empty.
    """
    left, top, right, bottom = bounding_box(mask)
    side = max(right - left, bottom - top) * (1 + 2 * MARGIN_SHARE)
    scale = LANDMARKS_SIZE_PX / side
    corner = np.array([(left + right - side) / 2, (top + bottom - side) / 2])
    offset = -corner * scale + (scale - 1) / 2
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    square = warp(pixels, matrix, scale=scale, side=LANDMARKS_SIZE_PX, interpolation=cv2.INTER_LINEAR)
    hand = cv2.warpAffine(mask.astype(np.uint8), matrix, square.shape, flags=cv2.INTER_NEAREST)
    # With the whole square, a bright border of the film would leave few grey levels for the hand.
    near = cv2.dilate(hand, np.ones((2 * _NEAR_PX + 1, 2 * _NEAR_PX + 1), np.uint8)) == 1
    square = stretch_between(square, *find_percentiles(square[near][None], *_PERCENTILES))
    heatmaps = forward(square[None, ..., None].astype(np.float32) / 255)[0]
    return Landmarks(points=corner + soft_argmax(heatmaps) * side - 0.5, uncertainty=measure_uncertainty(heatmaps))


def load_landmarks(path: Path) -> Locate:
    """Load a landmark network from ONNX as a function from radiograph and mask to landmarks."""
    # Imported late: ONNX Runtime is slow to import and not needed for whole frames.
    from boneage.preprocessing.segmentation.onnx_session import load_network

    return functools.partial(locate_landmarks, load_network(path))
