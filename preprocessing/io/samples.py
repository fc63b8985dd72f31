"""Bring samples of any type to unsigned integers of at most 16 bits."""

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

_MAXIMUM = np.iinfo(np.uint16).max


def to_unsigned(samples: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"] | UInt16[np.ndarray, "*shape"]:
    """Bring samples of any type to uint8 or uint16 without losing a level, if their range has no more than 65,536.

    Whole numbers of 0 to 65,535 stay as they are, whatever type they are stored in. Others are shifted so that the
    lowest is 0; what spans more, or has fractions, is stretched to 16 bits.

    Args:
        samples: Booleans, integers or floating point numbers. What is not a finite number counts as the lowest one.
    """
    if samples.dtype in (np.uint8, np.uint16):
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.dtype == bool:
        return samples.astype(np.uint8) * np.uint8(255)
    is_whole = samples.dtype.kind in "iu"
    if not is_whole:
        # More than single precision is lost in 16 bits anyway.
        samples = samples.astype(np.float32)
        finite = np.isfinite(samples)
        samples = np.where(finite, samples, samples[finite].min() if finite.any() else 0)
        is_whole = bool((samples == np.rint(samples)).all())
    low, high = float(samples.min()), float(samples.max())
    if is_whole and low >= 0 and high <= _MAXIMUM:
        return samples.astype(np.uint16)
    if is_whole and high - low <= _MAXIMUM:
        return (samples.astype(np.int64) - int(low)).astype(np.uint16)
    # float64: the range of float32 numbers may exceed float32.
    return np.rint((samples.astype(np.float64) - low) * (_MAXIMUM / max(high - low, np.finfo(float).tiny))).astype(
        np.uint16
    )


def blend_with_black(
    samples: Shaped[np.ndarray, "height width *channels"], alpha: Shaped[np.ndarray, "height width *one"]
) -> Shaped[np.ndarray, "height width *channels"]:
    """Show samples on black, as their opacity says: what is transparent is background.

    Args:
        samples: Grey values or colours, uint8 or uint16.
        alpha: Opacity, of the same dtype; the largest value is opaque. An image that is transparent everywhere is taken
            as opaque, since some software leaves the channel empty.
    """
    if not alpha.any():
        return samples
    maximum = np.iinfo(samples.dtype).max
    blended: np.ndarray = (samples.astype(np.uint32) * alpha + maximum // 2) // maximum
    return blended.astype(samples.dtype)
