"""Rotate a hand upright, cut its forearm, and resample it into a square: background black, contrast of the hand."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from boneage.preprocessing.crop.contrast import find_tissue_greys
from boneage.preprocessing.crop.crop import Box, warp

# Resampling blurs what is as fine as the pixels; on a grid up to twice as fine, a small radiograph keeps its detail.
MAX_ENLARGEMENT = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """Placement of an upright hand in its square.

    Args:
        matrix: From `(x, y)` of the frame's pixel centres to those of the square, shape `(2, 3)`.
        scale: Pixels of the square for each pixel of the frame.
        side_px: Side of the square in pixels.
        cut_px: Distance of the forearm's cut along the downward direction of the hand, in pixels of the frame.
        box_px: Smallest box `(left, top, right, bottom)` in the frame around the square's content, right and bottom
            exclusive.
    """

    matrix: Float[np.ndarray, "2 3"]
    scale: float
    side_px: int
    cut_px: float
    box_px: Box


def place_upright(
    mask: Bool[np.ndarray, "height width"],
    *,
    wrist: Float[np.ndarray, "2"],
    angle_degrees: float,
    length_px: float,
    mirror: bool,
    forearm_share: float,
    margin_share: float,
    max_size_px: int,
) -> Placement | None:
    """Place a hand upright in a square of true proportions, its forearm cut.

    Args:
        mask: The hand with wrist and forearm, not empty.
        wrist: The wrist `(x, y)` in pixels.
        angle_degrees: Angle of the fingers from vertical, counter-clockwise positive.
        length_px: Distance from wrist to middle fingertip in pixels.
        mirror: Whether to mirror the hand once it is upright.
        forearm_share: Length of forearm kept below the wrist, as a share of the hand's length.
        margin_share: Black margin around the hand, as a share of its length.
        max_size_px: Longest side of the square in pixels. Hands are enlarged to `MAX_ENLARGEMENT` times at most.

    Returns:
        The placement; None if nothing of the mask lies above the cut.
    """
    down, cut = find_forearm_cut(wrist, angle_degrees=angle_degrees, length_px=length_px, forearm_share=forearm_share)
    # Rows of the matrix: rightwards and downwards of the upright hand, in the frame's (x, y).
    axes = np.array([[down[1], -down[0]], down])
    if mirror:
        axes[0] *= -1
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = np.concatenate([contour[:, 0] for contour in contours]).astype(np.float64) @ axes.T
    kept = outline[outline[:, 1] <= cut]
    if not len(kept):
        return None
    margin = margin_share * length_px
    low = kept.min(axis=0) - 0.5 - margin
    high = np.array([kept[:, 0].max() + 0.5, min(outline[:, 1].max() + 0.5, cut)]) + margin
    extent = high - low
    scale = min(MAX_ENLARGEMENT, max_size_px / float(extent.max()))
    side = max(1, round(float(extent.max()) * scale))
    offset = (side - extent * scale) / 2 - low * scale - 0.5
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])]) @ axes  # its inverse transposed
    # A pixel reaches half a pixel beyond its centre.
    left, top = np.clip(np.floor(corners.min(axis=0) + 0.5).astype(int), 0, None).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0) + 0.5).astype(int), mask.shape[::-1]).tolist()
    return Placement(
        matrix=np.column_stack([axes * scale, offset]),
        scale=scale,
        side_px=side,
        cut_px=cut,
        box_px=(left, top, right, bottom),
    )


def warp_upright(
    pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"], placement: Placement
) -> tuple[UInt8[np.ndarray, "side side"], Bool[np.ndarray, "side side"]]:
    """Resample a hand into its square by one cubic interpolation; a hand that shrinks is averaged by area before it.

    Args:
        pixels: Radiograph, uint8, bright bone.
        mask: The hand with wrist and forearm.
        placement: The placement that `place_upright` found for the mask.

    Returns:
        The square, shape `(side, side)`, uint8; and the hand in it above the forearm's cut, bool.
    """
    scale, side = placement.scale, placement.side_px
    left, top, right, bottom = placement.box_px
    near = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
    matrix = placement.matrix.copy()
    matrix[:, 2] += placement.matrix[:, :2] @ (near[1].start, near[0].start)
    image, share = (
        warp(np.ascontiguousarray(source), matrix, scale=scale, side=side, interpolation=cv2.INTER_CUBIC)
        for source in (pixels[near], mask[near].astype(np.uint8) * 255)
    )
    rows = (np.arange(side) - placement.matrix[1, 2]) / scale  # downwards, in pixels of the frame
    return image, (share > 127) & (rows <= placement.cut_px)[:, None]


def find_forearm_cut(
    wrist: Float[np.ndarray, "2"], *, angle_degrees: float, length_px: float, forearm_share: float
) -> tuple[Float[np.ndarray, "2"], float]:
    """Return the direction of the forearm, `(x, y)` of length 1, and the distance of the cut along it, in pixels.

    Points of the frame are kept whose product with the direction is at most this distance. The arguments are those of
    `place_upright`.
    """
    turn = np.radians(angle_degrees)
    down = np.array([np.sin(turn), np.cos(turn)])
    return down, float(down @ wrist) + forearm_share * length_px


def stretch_within_mask(
    pixels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    *,
    low_percentile: float,
    high_percentile: float,
) -> UInt8[np.ndarray, "height width"]:
    """Stretch the grey values of the hand between two of its percentiles to 0-255; the background becomes 0.

    Metal has no part in the percentiles; see `boneage.preprocessing.crop.contrast.find_tissue_greys`.
    """
    if not mask.any():
        return np.zeros_like(pixels)
    low, high = find_tissue_greys(pixels[mask], low_percentile=low_percentile, high_percentile=high_percentile)
    stretched = np.rint(np.clip((pixels.astype(np.float32) - low) / max(high - low, 1.0), 0, 1) * 255)
    return np.where(mask, stretched, 0).astype(np.uint8)
