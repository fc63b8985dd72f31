"""From the stored values of a DICOM image to the grey values that a viewer shows.

The standard sets the order: modality lookup table (PS3.3 C.11.1), value-of-interest lookup table or window (PS3.3
C.11.2), polarity (PS3.3 C.7.6.3.1.2). Each step looks at one value alone, so the chain is worked out once for every
value that a pixel can store (at most 65,536 of them) and the whole image is then looked up in that table.
"""

import numpy as np
from jaxtyping import Float, Shaped, UInt8, UInt16
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


def displayed_pixels(
    dataset: Dataset,
) -> UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]:
    """Decode the pixels and take them to what a viewer shows.

    Args:
        dataset: One monochrome frame with 8 or 16 bits allocated (PS3.3 C.7.6.3).

    Returns:
        Shape `(height, width)`, bright = bone, in `[0, 2**depth - 1]`: the depth is that of the last lookup table,
        or `BitsStored` where there is none. uint8 up to a depth of 8, else uint16.
    """
    stored = np.ascontiguousarray(dataset.pixel_array)
    as_index = stored.view(f"u{stored.itemsize}")
    every_value = np.arange(2 ** (8 * stored.itemsize), dtype=as_index.dtype).view(stored.dtype)
    return _display_table(every_value, dataset)[as_index]


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Values of a numeric element, none where it is absent or empty.

    Args:
        dataset: Where to look.
        keyword: Name of the element, such as `"WindowCenter"`.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return [float(item) for item in (value if isinstance(value, MultiValue) else [value])]


def _display_table(
    stored: Shaped[np.ndarray, " values"], dataset: Dataset
) -> UInt8[np.ndarray, " values"] | UInt16[np.ndarray, " values"]:
    """Grey value to show for each stored value."""
    values, value_range, depth = _modality_values(stored, dataset)
    if dataset.get("VOILUTSequence"):
        # PS3.3 C.11.2.1.1. A file with a window as well offers two views; the table is the more specific one.
        shown, depth = _look_up(values, dataset.VOILUTSequence[0])
    else:
        shown = (2**depth - 1) * _window(values, dataset, value_range=value_range)
    # PS3.3 C.7.6.3.1.2: the lowest value is white in MONOCHROME1. Presentation LUT Shape says the same a second time
    # (PS3.3 C.8.11.3.1) and is wrong in some computed radiographs, so it is not asked.
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 2**depth - 1 - shown
    # PS3.3 C.7.5.1.1.2: padding is no part of the image; it becomes background.
    padding = numbers(dataset, "PixelPaddingValue")[:1] + numbers(dataset, "PixelPaddingRangeLimit")[:1]
    if padding:
        shown[(stored >= min(padding)) & (stored <= max(padding))] = 0
    # Tables are met whose entries exceed the depth that they state.
    return np.clip(np.rint(shown), 0, 2**depth - 1).astype(np.uint8 if depth <= 8 else np.uint16)


def _modality_values(
    stored: Shaped[np.ndarray, " values"], dataset: Dataset
) -> tuple[Float[np.ndarray, " values"], tuple[float, float], int]:
    """Apply the modality LUT of PS3.3 C.11.1: a table, else a line, else nothing.

    Returns:
        The values, the range that they can take, and their bit depth.
    """
    if dataset.get("ModalityLUTSequence"):
        values, depth = _look_up(stored.astype(np.float64), dataset.ModalityLUTSequence[0])
        return values, (0.0, 2.0**depth - 1), depth
    depth = int(dataset.BitsStored)
    lowest = -(2 ** (depth - 1)) if dataset.PixelRepresentation == 1 else 0
    slope = (numbers(dataset, "RescaleSlope") or [1.0])[0]
    intercept = (numbers(dataset, "RescaleIntercept") or [0.0])[0]
    ends = lowest * slope + intercept, (lowest + 2**depth - 1) * slope + intercept
    return stored * slope + intercept, (min(ends), max(ends)), depth


def _look_up(values: Float[np.ndarray, " values"], table: Dataset) -> tuple[Float[np.ndarray, " values"], int]:
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
    center, width = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not center or not width or width[0] <= 0:
        return np.interp(values, value_range, (0, 1))
    low, high = center[0] - width[0] / 2, center[0] + width[0] / 2
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        # PS3.3 C.11.2.1.3.1, 1 / (1 + exp(-4 (x - c) / w)), written so that it cannot overflow.
        return 0.5 + 0.5 * np.tanh(2 * (values - center[0]) / width[0])
    if function != "LINEAR_EXACT":
        # PS3.3 C.11.2.1.2.1, LINEAR: the window spans `width` whole values, hence `width - 1` steps.
        high = max(low, high - 1)
    return np.interp(values, (low, high), (0, 1))
