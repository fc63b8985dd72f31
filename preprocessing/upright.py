"""From a hand in its frame to the prepared square: upright, forearm cut, background black, contrast its own."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from preprocessing.crop import Box, warp

# Resampling blurs what is as fine as the pixels; on a grid up to twice as fine, a small radiograph keeps what it shows.
MAX_ENLARGEMENT = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Upright:
    """An upright crop and how it was cut.

    Args:
        image: The square, shape `(size, size)`, uint8, bright bone, 0 off the hand.
        box_px: Smallest box `(left, top, right, bottom)` in the frame around the cut, right and bottom exclusive.
        scale: Pixels of the square for each pixel of the frame.
    """

    image: UInt8[np.ndarray, "size size"]
    box_px: Box
    scale: float


def cut_upright(
    pixels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    *,
    wrist: Float[np.ndarray, "2"],
    angle_degrees: float,
    length_px: float,
    mirror: bool,
    forearm_share: float,
    margin_share: float,
    max_size_px: int,
    low_percentile: float,
    high_percentile: float,
) -> Upright | None:
    """Turn a hand fingers up, cut its forearm, and lay it into a square of true proportions.

    Turn, mirror, cut and size are one cubic resampling; a hand that is shrunk is averaged by area before it.

    Args:
        pixels: Radiograph, uint8, bright bone.
        mask: The hand with wrist and forearm, not empty.
        wrist: The wrist `(x, y)` in pixels.
        angle_degrees: Where the fingers point against straight up, counter-clockwise positive.
        length_px: Distance from wrist to middle fingertip in pixels.
        mirror: Whether to mirror the hand once it is upright.
        forearm_share: How much of the forearm stays below the wrist, as a share of the hand's length.
        margin_share: Black margin around the hand, as a share of its length.
        max_size_px: Longest side of the square in pixels. Hands are enlarged to `MAX_ENLARGEMENT` times at most.
        low_percentile: Percentile of the hand's grey values that becomes black.
        high_percentile: Percentile of the hand's grey values that becomes white.

    Returns:
        The crop; None if nothing of the mask lies above the cut.
    """
    down, cut = place_cut(wrist, angle_degrees=angle_degrees, length_px=length_px, forearm_share=forearm_share)
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
    # (x, y) of the frame's pixel centres to those of the square.
    offset = (side - extent * scale) / 2 - low * scale - 0.5
    matrix = np.column_stack([axes * scale, offset])

    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])]) @ axes  # its inverse transposed
    # A pixel reaches half a pixel beyond its centre.
    left, top = np.clip(np.floor(corners.min(axis=0) + 0.5).astype(int), 0, None).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0) + 0.5).astype(int), mask.shape[::-1]).tolist()
    near = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (near[1].start, near[0].start)
    image, share = (
        warp(np.ascontiguousarray(each), moved, scale=scale, side=side, how=cv2.INTER_CUBIC)
        for each in (pixels[near], mask[near].astype(np.uint8) * 255)
    )
    rows = (np.arange(side) - offset[1]) / scale  # downwards, in pixels of the frame
    hand = (share > 127) & (rows <= cut)[:, None]
    return Upright(
        image=stretch_inside(image, hand, low_percentile=low_percentile, high_percentile=high_percentile),
        box_px=(left, top, right, bottom),
        scale=scale,
    )


def place_cut(
    wrist: Float[np.ndarray, "2"], *, angle_degrees: float, length_px: float, forearm_share: float
) -> tuple[Float[np.ndarray, "2"], float]:
    """Return which way the forearm points, `(x, y)` of length 1, and how far along it the cut lies, in pixels.

    Arguments as of `cut_upright`; what is kept of the frame are the places whose product with the direction is no
    larger than the cut.
    """
    turn = np.radians(angle_degrees)
    down = np.array([np.sin(turn), np.cos(turn)])
    return down, float(down @ wrist) + forearm_share * length_px


def stretch_inside(
    pixels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    *,
    low_percentile: float,
    high_percentile: float,
) -> UInt8[np.ndarray, "height width"]:
    """Stretch the grey values of the hand between two of its percentiles to 0-255; what is off the hand becomes 0."""
    if not mask.any():
        return np.zeros_like(pixels)
    low, high = np.percentile(pixels[mask], (low_percentile, high_percentile))
    stretched = np.rint(np.clip((pixels.astype(np.float32) - low) / max(high - low, 1.0), 0, 1) * 255)
    return np.where(mask, stretched, 0).astype(np.uint8)
