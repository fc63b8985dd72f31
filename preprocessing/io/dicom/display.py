"""From the stored values of a DICOM image to the grey values that a viewer shows.

The standard sets the order: modality lookup table (PS3.3 C.11.1), value-of-interest lookup table or window (PS3.3
C.11.2), polarity (PS3.3 C.7.6.3.1.2). Each step depends on one value alone, so the chain is computed once for every
value that a pixel can store (at most 65,536 of them) and the whole image is then mapped by that table.

pydicom's `apply_modality_lut` and `apply_voi_lut` do not suffice. In a table of 8-bit entries the index wraps at 256,
and entries packed two to a word are not unpacked (PS3.3 C.11.2.1.1); a window of width 0, which means none, is an
error, and a steep sigmoid overflows (PS3.3 C.11.2.1.2); the range of the result is left open.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8, UInt16
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from boneage.preprocessing.io.dicom.decoders import PixelFormat, StoredPixels, decode_pixels
from boneage.preprocessing.io.dicom.elements import read_first_item, read_numbers, read_text
from boneage.preprocessing.io.grey import GreyImage, to_grey


def decode_display_pixels(dataset: Dataset, pixel_format: PixelFormat, *, path: Path) -> GreyImage:
    """Decode the pixels and convert them to the grey values that a viewer shows.

    Args:
        dataset: One frame with 8 or 16 bits allocated (PS3.3 C.7.6.3).
        pixel_format: What its header says of the pixels.
        path: Name used in error messages.

    Returns:
        The image, bright = bone, in `[0, 2**depth - 1]`: the depth is that of the last lookup table, or `BitsStored`
        where there is none. uint8 up to a depth of 8, else uint16.

    Raises:
        UnreadableImageError: If the image is a colour photograph.
    """
    pixels = decode_pixels(dataset, pixel_format)
    values = _sample_values(pixels, pixel_format)
    if pixel_format.num_samples > 1:
        return to_grey(_narrow(values)[pixels.words], maximum=2**pixel_format.bits_stored - 1, path=path)
    if pixel_format.photometric == "PALETTE COLOR":
        # PS3.3 C.7.6.3.1.5: each value stands for a colour.
        palette = apply_color_lut(values, dataset)
        return to_grey(palette[pixels.words], maximum=np.iinfo(palette.dtype).max, path=path)
    shown: np.ndarray = _display_table(values, dataset, pixel_format)[pixels.words]
    return GreyImage(shown, None)


def _sample_values(pixels: StoredPixels, pixel_format: PixelFormat) -> Shaped[np.ndarray, " words"]:
    """Value of the sample in every word that can be stored (PS3.5 8.1.1).

    The bits beside the sample belong to an overlay in older files (PS3.5 8.1.2), or to nothing.
    """
    words = np.arange(2 ** (8 * pixels.words.itemsize))
    values: np.ndarray = (words >> pixels.shift) & (2**pixel_format.bits_stored - 1)
    if pixel_format.signed:
        values -= (values >> (pixel_format.bits_stored - 1)) << pixel_format.bits_stored
    return values


def _narrow(values: Shaped[np.ndarray, " words"]) -> UInt8[np.ndarray, " words"] | UInt16[np.ndarray, " words"]:
    return values.astype(np.uint8 if values.max() <= np.iinfo(np.uint8).max else np.uint16)


def _display_table(
    stored: Shaped[np.ndarray, " values"], dataset: Dataset, pixel_format: PixelFormat
) -> UInt8[np.ndarray, " values"] | UInt16[np.ndarray, " values"]:
    """Grey value to show for each stored value."""
    values, value_range, depth = _modality_values(stored, dataset, pixel_format)
    if table := read_first_item(dataset, "VOILUTSequence"):
        # PS3.3 C.11.2.1.1. A file with a window as well offers two displays; the table is the more specific one.
        shown, depth = _apply_lut(values, table)
    else:
        shown = (2**depth - 1) * _window(values, dataset, value_range=value_range)
    # PS3.3 C.7.6.3.1.2: the lowest value is white in MONOCHROME1. Presentation LUT Shape says the same a second time
    # (PS3.3 C.8.11.3.1) and is wrong in some computed radiographs, so it is ignored.
    if pixel_format.photometric == "MONOCHROME1":
        shown = 2**depth - 1 - shown
    # PS3.3 C.7.5.1.1.2: padding is not part of the image; it becomes background.
    padding = read_numbers(dataset, "PixelPaddingValue")[:1] + read_numbers(dataset, "PixelPaddingRangeLimit")[:1]
    if padding:
        shown[(stored >= min(padding)) & (stored <= max(padding))] = 0
    # The entries of some tables exceed the depth that they state.
    displayed: np.ndarray = np.clip(np.rint(shown), 0, 2**depth - 1).astype(np.uint8 if depth <= 8 else np.uint16)
    return displayed


def _modality_values(
    stored: Shaped[np.ndarray, " values"], dataset: Dataset, pixel_format: PixelFormat
) -> tuple[Float[np.ndarray, " values"], tuple[float, float], int]:
    """Apply the modality LUT of PS3.3 C.11.1: a table, else a line, else nothing.

    Returns:
        The values, the range that they can take, and their bit depth.
    """
    if table := read_first_item(dataset, "ModalityLUTSequence"):
        values, depth = _apply_lut(stored.astype(np.float64), table)
        return values, (0.0, 2.0**depth - 1), depth
    depth = pixel_format.bits_stored
    lowest = -(2 ** (depth - 1)) if pixel_format.signed else 0
    slope = (read_numbers(dataset, "RescaleSlope") or [1.0])[0]
    intercept = (read_numbers(dataset, "RescaleIntercept") or [0.0])[0]
    ends = lowest * slope + intercept, (lowest + 2**depth - 1) * slope + intercept
    return stored * slope + intercept, (min(ends), max(ends)), depth


def _apply_lut(values: Float[np.ndarray, " values"], table: Dataset) -> tuple[Float[np.ndarray, " values"], int]:
    """Look values up in a table as PS3.3 C.11.1.1 and C.11.2.1.1 describe it.

    Returns:
        The looked-up values, and the bit depth of the table's entries.
    """
    num_entries, first_value, depth = (int(number) for number in table.LUTDescriptor)
    if not 8 <= depth <= 16:
        raise ValueError(f"The entries of a lookup table have 8 to 16 bits. Received: {depth}.")
    num_entries = num_entries or 2**16
    entries = table.LUTData
    if isinstance(entries, bytes):
        itemsize = len(entries) // num_entries  # Entries of 8 bits may be packed two to a word.
        byte_order = "<" if table.original_encoding[1] is not False else ">"
        entries = np.frombuffer(entries, f"{byte_order}u{itemsize}", count=num_entries)
    # Values before the first entry take the first, values past the last take the last.
    index = np.clip(np.rint(values) - first_value, 0, num_entries - 1).astype(int)
    return np.asarray(entries, np.float64)[index], depth


def _window(
    values: Float[np.ndarray, " values"], dataset: Dataset, *, value_range: tuple[float, float]
) -> Float[np.ndarray, " values"]:
    """Apply the first window of PS3.3 C.11.2.1.2, or spread the whole range of values where there is none.

    Returns:
        Brightness as a share, in `[0, 1]`.
    """
    center, width = read_numbers(dataset, "WindowCenter"), read_numbers(dataset, "WindowWidth")
    brightness: np.ndarray
    if not center or not width or width[0] <= 0:
        brightness = np.interp(values, value_range, (0, 1))
        return brightness
    low, high = center[0] - width[0] / 2, center[0] + width[0] / 2
    function = read_text(dataset, "VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        # PS3.3 C.11.2.1.3.1, 1 / (1 + exp(-4 (x - c) / w)), written so that it cannot overflow.
        brightness = 0.5 + 0.5 * np.tanh(2 * (values - center[0]) / width[0])
        return brightness
    if function != "LINEAR_EXACT":
        # PS3.3 C.11.2.1.2.1, LINEAR: the window spans `width` whole values, hence `width - 1` steps.
        high = max(low, high - 1)
    brightness = np.interp(values, (low, high), (0, 1))
    return brightness
