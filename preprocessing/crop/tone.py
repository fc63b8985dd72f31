"""Tone of a hand: how its grey values are distributed, and how far that is from ordinary radiographs."""

import numpy as np
from jaxtyping import Bool, UInt8

from boneage.preprocessing.crop.contrast import find_tissue_greys

# Between these lie two thirds of the radiographs of RSNA 2017, quantile by quantile (`tools/tone_limits.py`), of hands
# whose grey values are stretched between their 1st and 99th percentile.
QUANTILES = np.linspace(0, 1, 21)
_LOWEST = np.array([1, 23, 33, 41, 49, 59, 70, 81, 90, 98, 106, 113, 121, 130, 141, 155, 170, 185, 201, 222, 255])
_HIGHEST = np.array([2, 37, 51, 61, 72, 84, 97, 108, 118, 127, 135, 143, 151, 161, 171, 181, 192, 205, 219, 235, 255])
_RANGE_PERCENTILES = (1.0, 99.0)


def measure_unusual_tone(greys: UInt8[np.ndarray, " pixels"]) -> float:
    """Return how far a hand's grey values are from those of ordinary radiographs, in levels of 255.

    Printed plates, equalised radiographs and burnt-out bone are far from them; a longer or shorter exposure is not.

    Args:
        greys: Grey values of a hand's pixels, uint8, bright bone, not empty.
    """
    low, high = find_tissue_greys(greys, low_percentile=_RANGE_PERCENTILES[0], high_percentile=_RANGE_PERCENTILES[1])
    stretched = np.clip((np.quantile(greys, QUANTILES) - low) / max(high - low, 1.0), 0, 1) * 255
    return float(np.abs(stretched - np.clip(stretched, _LOWEST, _HIGHEST)).max())


def limit_tone(
    pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width"]:
    """Move the grey values of a hand as far as ordinary radiographs go, by one curve for all of its pixels.

    Two thirds of ordinary radiographs lie within the limits at a quantile and stay as they are there. Gamma, printing,
    equalising and burning out change the distribution of the grey values: most of such a change is undone.

    Args:
        pixels: Radiograph stretched between percentiles of its hand, uint8, bright bone.
        mask: The hand.

    Returns:
        The radiograph with its hand's grey values moved, and what lies beyond the hand as it was.
    """
    if not mask.any():
        return pixels
    quantiles = np.quantile(pixels[mask], QUANTILES)
    limited = np.clip(quantiles, _LOWEST, _HIGHEST)
    # Interpolation needs grey values that rise, also where many pixels share one.
    table = np.interp(np.arange(256), quantiles + np.arange(len(quantiles)) * 1e-6, limited)
    return np.where(mask, np.rint(table).astype(np.uint8)[pixels], pixels)
