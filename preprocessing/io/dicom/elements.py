"""Read values of DICOM elements as people and machines write them.

Equipment writes decimal commas, other value representations than the standard's, upper and lower case. pydicom refuses
such a value when it is first used; a file is not damaged because of it.
"""

import math

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

# PS3.5 6.2: value representations of binary numbers. All others that contain numbers are text.
_BINARY_NUMBERS = {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"}

# A lookup table has at most 65,536 entries of two bytes; a sequence of more bytes than this holds something else, such
# as millions of empty items.
_MAX_SEQUENCE_BYTES = 2**20


def read_numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Read the values of a numeric element.

    Args:
        dataset: The data set.
        keyword: Name of the element, such as `"WindowCenter"`.

    Returns:
        The values; none where the element is absent, empty or contains anything but finite numbers.
    """
    element = dataset.get_item(keyword)
    if element is None:
        return []
    if isinstance(element, RawDataElement):
        unnamed = element.VR is None or element.VR == "UN"
        if (dictionary_VR(Tag(keyword)) if unnamed else element.VR) not in _BINARY_NUMBERS:
            return _parse_numbers((element.value or b"").decode("ascii", errors="replace").split("\\"))
    value = dataset[keyword].value
    return _parse_numbers([str(item) for item in (value if isinstance(value, MultiValue | list) else [value])])


def read_text(dataset: Dataset, keyword: str) -> str:
    """Read a code or another short text, in upper case and without blanks around it; empty where it is absent.

    Args:
        dataset: The data set.
        keyword: Name of the element, such as `"PhotometricInterpretation"`.
    """
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0").upper()


def read_first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    """Read the first item of a sequence, None where there is none.

    Args:
        dataset: The data set.
        keyword: Name of the sequence, such as `"VOILUTSequence"`.

    Raises:
        ValueError: If the sequence is longer than any that a radiograph has.
    """
    element = dataset.get_item(keyword)
    if element is None:
        return None
    if isinstance(element, RawDataElement) and element.value is not None and len(element.value) > _MAX_SEQUENCE_BYTES:
        raise ValueError(f"{keyword} has at most {_MAX_SEQUENCE_BYTES} bytes. Received: {len(element.value)}.")
    items = dataset[keyword].value
    return items[0] if items else None


def _parse_numbers(texts: list[str]) -> list[float]:
    try:
        numbers = [float(text.strip(" \0").replace(",", ".")) for text in texts]
    except ValueError:
        return []
    return numbers if all(math.isfinite(number) for number in numbers) else []
