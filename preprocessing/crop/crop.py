"""Box of a mask, resizing, and padding to a square."""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Box = tuple[int, int, int, int]


def bounding_box(mask: Bool[np.ndarray, "height width"]) -> Box:
    """Return the smallest box `(left, top, right, bottom)` in pixels around the true pixels of a mask.

    Raises:
        ValueError: If the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        raise ValueError("`mask` must not be empty.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def shrink(
    pixels: UInt8[np.ndarray, "height width"], *, max_size_px: int
) -> tuple[UInt8[np.ndarray, "rows columns"], float]:
    """Downscale an image so that its longest side is at most `max_size_px`; smaller images are unchanged.

    Returns:
        The image, and the scale, target pixels per source pixel.
    """
    height, width = pixels.shape
    scale = min(1.0, max_size_px / max(height, width))
    if scale < 1:
        pixels = resize(pixels, size=(max(1, round(width * scale)), max(1, round(height * scale))))
    return pixels, scale


def resize(pixels: UInt8[np.ndarray, "height width"], *, size: tuple[int, int]) -> UInt8[np.ndarray, "rows columns"]:
    """Resize an image: area averaging to shrink, bilinear interpolation to enlarge.

    Halving is by far the fastest area averaging of OpenCV. An image that shrinks to less than half is therefore first
    resampled linearly to a power of two times the size, which hardly aliases at so small a factor.

    Args:
        pixels: Shape `(height, width)`, uint8.
        size: Columns and rows of the result.
    """
    shares = [after / before for after, before in zip(size, pixels.shape[::-1], strict=True)]
    for power in range(math.floor(-math.log2(max(shares))), 0, -1):
        pixels = cv2.resize(pixels, (size[0] << power, size[1] << power), interpolation=cv2.INTER_LINEAR)
    # Area averaging is the only interpolation of OpenCV that does not alias when shrinking.
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if min(shares) < 1 else cv2.INTER_LINEAR)


def warp(
    pixels: UInt8[np.ndarray, "height width"],
    matrix: Float[np.ndarray, "2 3"],
    *,
    scale: float,
    side: int,
    interpolation: int,
) -> UInt8[np.ndarray, "side side"]:
    """Resample an image by an affine matrix; if it shrinks the image, areas are averaged first.

    Args:
        pixels: Shape `(height, width)`, uint8.
        matrix: From `(x, y)` of the image's pixel centres to those of the result.
        scale: Scale factor of the matrix.
        side: Side of the result in pixels; it is 0 outside the image.
        interpolation: OpenCV interpolation flag.
    """
    matrix = matrix.copy()
    if scale < 1:
        height, width = pixels.shape
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = resize(pixels, size=size)
        ratio = np.array([size[0] / width, size[1] / height])
        # small = ratio * (large + 0.5) - 0.5, inverted and put into the matrix
        matrix[:, 2] += matrix[:, :2] @ (0.5 / ratio - 0.5)
        matrix[:, :2] /= ratio
    return cv2.warpAffine(pixels, matrix, (side, side), flags=interpolation)


def pad_to_square(
    pixels: UInt8[np.ndarray, "height width"], *, max_size_px: int
) -> tuple[UInt8[np.ndarray, "size size"], float]:
    """Downscale a crop to at most `max_size_px` and pad it with black to a square; proportions are kept.

    Args:
        pixels: Crop, shape `(height, width)`, uint8.
        max_size_px: Longest side of the result in pixels. Smaller crops are never enlarged.

    Returns:
        The square, shape `(size, size)`, uint8, the crop in its middle; and the scale, target pixels per source pixel.
    """
    pixels, scale = shrink(pixels, max_size_px=max_size_px)
    height, width = pixels.shape
    size = max(height, width)
    square = np.zeros((size, size), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square, scale
