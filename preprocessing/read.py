"""Read a radiograph from a PNG, JPEG, TIFF or DICOM file.

What the file holds decides its format, never its ending. Pillow reads PNG, JPEG and TIFF: it reads the header without
decoding, so that the size is bounded first, and it refuses truncated data where OpenCV fills the rest with grey. On a
1500 x 2000 PNG the two are equally fast.
"""

import hashlib
import warnings
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image, ImageOps, TiffImagePlugin

from preprocessing.dicom import is_dicom, read_dicom
from preprocessing.radiograph import DECODING, Radiograph, UnreadableImage, check_size, pixel_hash, read_head

__all__ = [
    "RADIOGRAPH_SUFFIXES",
    "Radiograph",
    "UnreadableImage",
    "decode_radiograph",
    "pixel_hash",
    "read_radiograph",
]

RADIOGRAPH_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom"})
"""Lower-case endings that a folder scan looks at."""

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}

# Four channels of 16 bits without compression, and room for a header: no file needs more.
_MOST_BYTES_PER_PIXEL = 8
_MOST_HEADER_BYTES = 2**24

_TIFF_WHITE_IS_ZERO = 0

# JPEG stores colour differences coarsely, so a grey image saved in colour comes back with channels a few levels apart;
# a radiograph may also carry a small coloured mark. A photograph differs by more, over most of its area.
_COLOURED_LEVELS = 16 / 255
_COLOURED_SHARE = 0.01


def read_radiograph(path: str | Path, *, max_pixels: int = 100_000_000) -> Radiograph:
    """Read a radiograph, with bone bright whatever the file's convention.

    Alpha channels are dropped, palettes are looked up, and the orientation that an EXIF tag asks for is applied. DICOM
    files go through their lookup tables as `read_dicom` describes.

    Args:
        path: A PNG, JPEG, TIFF or DICOM file.
        max_pixels: The most pixels to decode; a larger image is refused by its header alone. Pillow itself refuses
            images of more than 178,956,970 pixels.

    Returns:
        The pixels, and what a DICOM header says of them and of the child: sex, age in months and laterality, never a
        name, a number or a date.

    Raises:
        UnreadableImage: If the file holds no radiograph; `reason` tells why.

    Example:
        >>> radiograph = read_radiograph("1520.png")
        >>> radiograph.pixels.shape
        (2570, 2040)
    """
    path = Path(path)
    file_format = _file_format(read_head(path), path=path)
    if path.stat().st_size > _MOST_BYTES_PER_PIXEL * max_pixels + _MOST_HEADER_BYTES:
        raise UnreadableImage(
            f"{path} has more bytes than an image of max_pixels={max_pixels}; save the radiograph alone "
            "or raise max_pixels.",
            reason="too_large",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(
            f"{path} cannot be read ({error.strerror}); copy it again from its source.", reason="missing_file"
        ) from error
    return _read(data, file_format=file_format, path=path, max_pixels=max_pixels)


def decode_radiograph(data: bytes, *, path: str | Path, max_pixels: int = 100_000_000) -> Radiograph:
    """Read a radiograph from the bytes of a file that was never on the disk, as `read_radiograph` does.

    Args:
        data: The whole file.
        path: What errors call it.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableImage: If it holds no radiograph; `reason` tells why.
    """
    path = Path(path)
    if not data:
        raise UnreadableImage(f"{path} is empty (0 bytes); send it again from its source.", reason="empty_file")
    return _read(data, file_format=_file_format(data[:2048], path=path), path=path, max_pixels=max_pixels)


def _read(data: bytes, *, file_format: str, path: Path, max_pixels: int) -> Radiograph:
    if file_format == "DICOM":
        return read_dicom(data, path=path, max_pixels=max_pixels)
    return Radiograph(
        pixels=_decode(data, file_format=file_format, path=path, max_pixels=max_pixels),
        pixel_spacing_mm=None,
        sex=None,
        chronological_age_months=None,
        laterality=None,
        source_sha256=hashlib.sha256(data).hexdigest(),
    )


def _file_format(head: bytes, *, path: Path) -> str:
    """Tell the format of a file from its first bytes."""
    # DICOM first: its free first 128 bytes may make the file a TIFF as well (PS3.10 7.1).
    if is_dicom(head):
        return "DICOM"
    for signature, file_format in _SIGNATURES.items():
        if head.startswith(signature):
            return file_format
    raise UnreadableImage(
        f"{path} is no image of a known format; convert it to PNG, JPEG, TIFF or DICOM.", reason="not_an_image"
    )


def _decode(
    data: bytes, *, file_format: str, path: Path, max_pixels: int
) -> UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]:
    """Decode the bytes of a PNG, JPEG or TIFF file to grey pixels, bright = bone."""
    with DECODING, warnings.catch_warnings():
        # The size is checked below against max_pixels; odd metadata beside sound pixels is no reason to alarm anyone.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        try:
            if file_format == "PNG":
                with Image.open(BytesIO(data), formats=["PNG"]) as image:
                    check_size(path, height=image.height, width=image.width, max_pixels=max_pixels)
                    image.verify()  # Compares the checksums, which decoding alone does not.
            with Image.open(BytesIO(data), formats=[file_format]) as image:
                check_size(path, height=image.height, width=image.width, max_pixels=max_pixels)
                return _grey(image, data, path=path)
        except UnreadableImage:
            raise
        except Image.DecompressionBombError as error:
            raise UnreadableImage(
                f"{path} claims more pixels than can be decoded; crop or shrink it.", reason="too_large"
            ) from error
        except Exception as error:  # Pillow documents no closed set of errors for damaged files.
            raise UnreadableImage(
                f"{path} is a damaged or incomplete {file_format} file; copy or export it again from its source.",
                reason="damaged_image",
            ) from error


def _grey(
    image: Image.Image, data: bytes, *, path: Path
) -> UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]:
    """Turn an opened image of any grey kind into pixels, bright = bone."""
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImage(f"{path} holds several images; save one radiograph per file.", reason="multi_frame")
    image.load()
    bits, white_is_zero = _encoding(image, data)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I;16", "I;16B"):
        pixels = np.array(image, dtype=np.uint16)
        # Pillow itself turns images of up to 8 bits.
        return 2**bits - 1 - pixels if white_is_zero else pixels
    if image.mode in ("1", "L") or (image.mode == "LA" and bits == 8):
        return np.array(image.convert("L"))
    if image.mode in ("LA", "RGB", "RGBA") and bits == 16:
        # Pillow keeps 8 of 16 bits where there are several channels; OpenCV keeps all.
        channels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        return _equal_channel(np.asarray(channels), path=path)
    if image.mode in ("P", "PA", "RGB", "RGBA"):
        return _equal_channel(np.asarray(image if image.mode.startswith("RGB") else image.convert("RGBA")), path=path)
    raise UnreadableImage(
        f"{path} has pixels of kind {image.mode}; save it as 8-bit or 16-bit greyscale.", reason="not_a_radiograph"
    )


def _encoding(image: Image.Image, data: bytes) -> tuple[int, bool]:
    """Bits per channel and whether the lowest value is white, which Pillow's `mode` does not tell."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        return bits, image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _TIFF_WHITE_IS_ZERO
    # A PNG file starts with its header, where the bit depth follows the width and the height.
    return data[24] if image.format == "PNG" else 8, False


def _equal_channel(
    channels: Shaped[np.ndarray, "height width channels"], *, path: Path
) -> UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]:
    """Return the one grey channel of an image stored in colour, or refuse a photograph."""
    red, green, blue = (channels[..., index] for index in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if np.mean(spread > _COLOURED_LEVELS * np.iinfo(channels.dtype).max) > _COLOURED_SHARE:
        raise UnreadableImage(
            f"{path} is a colour photograph; give the radiograph itself, or save it as greyscale if it has a tint.",
            reason="not_a_radiograph",
        )
    return green.copy()
