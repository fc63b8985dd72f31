"""Contrast normalisation: any bit depth and exposure to the full 8-bit range."""

import numpy as np
from jaxtyping import UInt8, UInt16


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
    # Integer grey values have a small histogram, which is many times faster than sorting millions of pixels.
    cumulative = np.cumsum(np.bincount(pixels.ravel()))
    # At least the first pixel, so that percentile 0 is the darkest value there is and not the darkest there could be.
    ranks = (max(1, share / 100 * cumulative[-1]) for share in (low_percentile, high_percentile))
    low, high = (int(np.searchsorted(cumulative, rank)) for rank in ranks)
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
    table = np.rint(np.clip((levels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return table[pixels]
