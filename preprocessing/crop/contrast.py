"""Contrast normalisation: map any bit depth and exposure to the full 8-bit range."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt16

# Metal in or on a hand would take up the grey range. Of 300 hands, none has its 99th percentile further above the
# 75th than 3.1 times what that is above the median, or further above the median than 2.2 times what that is above the
# 1st: brighter than both of these is no tissue.
_MAX_ABOVE_UPPER_QUARTILE, _MAX_ABOVE_MEDIAN = 3.5, 2.5
# Longest side of a sample of grey values, at most twice that.
_SAMPLE_SIZE_PX = 512


def sample_greys(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
) -> UInt8[np.ndarray, " pixels"] | UInt16[np.ndarray, " pixels"]:
    """Return the grey values of a hand; of a large radiograph, those of every nth row and column.

    Args:
        pixels: Radiograph, uint8 or uint16.
        mask: The hand.

    Returns:
        Not empty, unless the mask is.
    """
    step = max(1, max(pixels.shape) // _SAMPLE_SIZE_PX)
    sample: UInt8[np.ndarray, " pixels"] | UInt16[np.ndarray, " pixels"] = pixels[::step, ::step][mask[::step, ::step]]
    return sample if sample.size else pixels[mask]


def find_tissue_greys(
    greys: UInt8[np.ndarray, " pixels"], *, low_percentile: float, high_percentile: float
) -> tuple[float, float]:
    """Return two percentiles of the grey values of a hand, the higher one without metal in it.

    Args:
        greys: Grey values of its pixels, uint8, bright bone, not empty.
        low_percentile: The lower percentile, in [0, 100).
        high_percentile: The higher one, in (0, 100].
    """
    low, high, darkest, middle, upper = np.percentile(greys, (low_percentile, high_percentile, 1, 50, 75)).tolist()
    brightest = max(
        upper + _MAX_ABOVE_UPPER_QUARTILE * (upper - middle), middle + _MAX_ABOVE_MEDIAN * (middle - darkest)
    )
    if high > brightest:
        high = float(np.percentile(greys[greys <= brightest], high_percentile))
    return low, high


def stretch_contrast(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
    *,
    low_percentile: float = 1.0,
    high_percentile: float = 99.0,
) -> UInt8[np.ndarray, "height width"]:
    """Stretch the grey values between two percentiles to 0-255.

    Args:
        pixels: Radiograph, shape `(height, width)`, uint8 or uint16, bright bone.
        low_percentile: Percentile that becomes 0, in [0, 100).
        high_percentile: Percentile that becomes 255, in (0, 100].

    Returns:
        The stretched radiograph, shape `(height, width)`, uint8. A constant radiograph becomes 0 everywhere.

    Raises:
        ValueError: If the percentiles are not in order.
    """
    if not 0 <= low_percentile < high_percentile <= 100:
        raise ValueError(
            "`low_percentile` must be below `high_percentile`, both in [0, 100]. "
            f"Received: {low_percentile} and {high_percentile}."
        )
    return stretch_between(pixels, *find_percentiles(pixels, low_percentile, high_percentile))


def stretch_between(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"], low: int, high: int
) -> UInt8[np.ndarray, "height width"]:
    """Stretch the grey values between `low` and `high` to 0-255; all 0 if `high` is not above `low`."""
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
    table = np.rint(np.clip((levels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    # OpenCV's look-up is several times as fast, but takes 8 bits only.
    return cv2.LUT(pixels, table) if pixels.dtype == np.uint8 else table[pixels]


def find_percentiles(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"], *percentiles: float
) -> list[int]:
    """Return percentiles of integer grey values, computed from the histogram: many times faster than sorting."""
    levels = np.iinfo(pixels.dtype).max + 1
    counts = cv2.calcHist([pixels], [0], None, [levels], [0, levels])
    cumulative = np.cumsum(counts.ravel().astype(np.int64))
    # At least one pixel, so that percentile 0 is the darkest value in the image, not the darkest possible one.
    return [int(np.searchsorted(cumulative, max(1, share / 100 * cumulative[-1]))) for share in percentiles]
