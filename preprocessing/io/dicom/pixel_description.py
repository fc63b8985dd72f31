"""What the header of a DICOM file says of its pixels, checked before they are decoded."""

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from boneage.preprocessing.io.dicom.decoders import SYNTAXES, PixelFormat
from boneage.preprocessing.io.dicom.elements import read_first_item, read_numbers, read_text
from boneage.preprocessing.io.radiograph import UnreadableImageError, check_size

_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
# PS3.3 C.7.6.3.1.2, without what no still image has.
_COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


def describe_pixels(dataset: Dataset, *, path: Path, max_pixels: int) -> PixelFormat:
    """Read the image pixel description of PS3.3 C.7.6.3, and refuse what is no radiograph of a bounded size.

    Args:
        dataset: The data set, with its pixels.
        path: Name used in error messages.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableImageError: If there is no single frame, too many pixels, or another kind of image than a radiograph.
    """
    if not dataset.get("PixelData"):
        raise UnreadableImageError(
            f"{path} contains no pixel data (a report, a directory, or a truncated file); give the image file of the "
            "study.",
            reason="no_pixels",
        )
    num_frames = _read_number(dataset, "NumberOfFrames", 1)
    if num_frames > 1:
        raise UnreadableImageError(
            f"{path} contains {num_frames} frames; save the radiograph as a single frame.", reason="multi_frame"
        )
    num_samples = _read_number(dataset, "SamplesPerPixel", 1)
    # Some software leaves the photometric interpretation empty.
    photometric = read_text(dataset, "PhotometricInterpretation") or ("MONOCHROME2" if num_samples == 1 else "RGB")
    if num_samples not in (1, 3) or photometric not in (_GREY if num_samples == 1 else _COLOURS):
        raise UnreadableImageError(
            f"{path} states colours or samples that no radiograph has; give the radiograph of the study.",
            reason="not_a_radiograph",
        )
    bits_allocated = _read_number(dataset, "BitsAllocated", 0)
    if bits_allocated not in (8, 16):
        raise UnreadableImageError(
            f"{path} has {bits_allocated} bits per pixel; a radiograph has 8 or 16.", reason="not_a_radiograph"
        )
    height, width = (_read_number(dataset, keyword, 0) for keyword in ("Rows", "Columns"))
    check_size(path, height=height, width=width, max_pixels=max_pixels)
    bits_stored = _read_number(dataset, "BitsStored", bits_allocated)
    high_bit = _read_number(dataset, "HighBit", bits_stored - 1)
    if not 1 <= bits_stored <= high_bit + 1 <= bits_allocated:
        raise UnreadableImageError(
            f"{path} states bits per pixel that contradict each other; export it again from its source.",
            reason="damaged_image",
        )
    _reject_unprocessed(dataset, path=path)
    return PixelFormat(
        height=height,
        width=width,
        num_samples=num_samples,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        shift=high_bit + 1 - bits_stored,
        signed=_read_number(dataset, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        by_plane=num_samples > 1 and _read_number(dataset, "PlanarConfiguration", 0) == 1,
        syntax=_transfer_syntax(dataset, path=path),
    )


def _read_number(dataset: Dataset, keyword: str, default: int) -> int:
    numbers = read_numbers(dataset, keyword)
    return int(numbers[0]) if numbers else default


def _reject_unprocessed(dataset: Dataset, *, path: Path) -> None:
    """Refuse what a detector counted, before the processing for the eye: bone has other grey values there.

    PS3.3 C.8.11.1: such an image is marked by its presentation intent or by its SOP class. A lookup table for display
    makes it presentable; a window does not, since it keeps the counts linear.
    """
    intent = read_text(dataset, "PresentationIntentType") or UID(str(dataset.get("SOPClassUID") or "")).name.upper()
    if intent.endswith("FOR PROCESSING") and read_first_item(dataset, "VOILUTSequence") is None:
        raise UnreadableImageError(
            f"{path} contains raw detector values (FOR PROCESSING); export the image FOR PRESENTATION.",
            reason="for_processing",
        )


def _transfer_syntax(dataset: Dataset, *, path: Path) -> UID:
    """Return the transfer syntax, which a bare data set does not name: pydicom has determined it to read elements."""
    file_meta = getattr(dataset, "file_meta", Dataset())
    is_implicit, is_little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    syntax = UID(file_meta.get("TransferSyntaxUID") or (ImplicitVRLittleEndian if is_implicit else explicit))
    if syntax not in SYNTAXES:
        raise UnreadableImageError(
            f"{path} is compressed as {syntax.name if syntax.is_transfer_syntax else 'nothing known'}; "
            "convert it to Explicit VR Little Endian.",
            reason="unsupported_encoding",
        )
    return syntax
