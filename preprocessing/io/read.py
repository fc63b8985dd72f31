"""Read a radiograph from a PNG, JPEG, JPEG 2000, TIFF, BMP or DICOM file.

The format is detected from the content, not from the file extension.
"""

import hashlib
from pathlib import Path

from boneage.preprocessing.io.codestreams import JP2_SIGNATURE, JPEG_2000_START
from boneage.preprocessing.io.dicom.dataset import is_dicom
from boneage.preprocessing.io.dicom.read import read_dicom
from boneage.preprocessing.io.image_files import decode_image
from boneage.preprocessing.io.radiograph import (
    MAX_PIXELS,
    Radiograph,
    UnreadableImageError,
    hash_pixels,
    max_file_bytes,
    read_first_bytes,
)

__all__ = [
    "RADIOGRAPH_SUFFIXES",
    "Radiograph",
    "UnreadableImageError",
    "decode_radiograph",
    "hash_pixels",
    "read_radiograph",
]

RADIOGRAPH_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})
"""Lower-case file extensions of radiographs."""

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    JP2_SIGNATURE: "JPEG 2000",
    JPEG_2000_START: "JPEG 2000",
}
# The size of the second header of a BMP file, which its version is known by.
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}


def read_radiograph(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Read a radiograph; bone is bright for every convention of the file.

    Transparent parts become black, palettes are looked up, the orientation that an EXIF tag asks for is applied, and
    pixels that are not square are resampled. DICOM files go through their lookup tables as `read_dicom` describes.

    Args:
        path: A PNG, JPEG, JPEG 2000, TIFF, BMP or DICOM file.
        max_pixels: The most pixels to decode; a larger image is refused by its header alone. Pillow itself refuses
            images of more than 178,956,970 pixels.

    Returns:
        The pixels, and the sex, age in months and laterality by the header of a DICOM file.

    Raises:
        UnreadableImageError: If the file contains no radiograph; `reason` is the code.

    Example:
        >>> radiograph = read_radiograph("1520.png")
        >>> radiograph.pixels.shape
        (2570, 2040)
    """
    path = Path(path)
    file_format = _file_format(read_first_bytes(path), path=path)
    try:
        if path.stat().st_size > max_file_bytes(max_pixels):
            raise UnreadableImageError(
                f"{path} has more bytes than an image of max_pixels={max_pixels}; save the radiograph alone "
                "or raise max_pixels.",
                reason="too_large",
            )
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(
            f"{path} cannot be read ({error.strerror}); copy it again from its source.", reason="missing_file"
        ) from error
    return _read(data, file_format=file_format, path=path, max_pixels=max_pixels)


def decode_radiograph(data: bytes, *, path: str | Path, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Read a radiograph from the bytes of a file, as `read_radiograph` does.

    Args:
        data: The whole file.
        path: Name used in error messages.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableImageError: If the bytes contain no radiograph; `reason` is the code.
    """
    path = Path(path)
    if not data:
        raise UnreadableImageError(f"{path} is empty (0 bytes); send it again from its source.", reason="empty_file")
    return _read(data, file_format=_file_format(data[:2048], path=path), path=path, max_pixels=max_pixels)


def _read(data: bytes, *, file_format: str, path: Path, max_pixels: int) -> Radiograph:
    if file_format == "DICOM":
        return read_dicom(data, path=path, max_pixels=max_pixels)
    image = decode_image(data, file_format=file_format, path=path, max_pixels=max_pixels)
    return Radiograph(
        pixels=image.pixels,
        coloured=image.coloured,
        pixel_spacing_mm=None,
        sex=None,
        chronological_age_months=None,
        laterality=None,
        source_sha256=hashlib.sha256(data).hexdigest(),
    )


def _file_format(head: bytes, *, path: Path) -> str:
    """Detect the format of a file from its first bytes."""
    # DICOM first: its free first 128 bytes may make the file a TIFF as well (PS3.10 7.1).
    if is_dicom(head):
        return "DICOM"
    for signature, file_format in _SIGNATURES.items():
        if head.startswith(signature):
            return file_format
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    raise UnreadableImageError(f"{path} is not a PNG, JPEG, TIFF or DICOM file; convert it.", reason="not_an_image")
