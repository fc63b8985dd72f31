"""Decode PNG, JPEG, BMP, TIFF and JPEG 2000 files to grey pixels.

Pillow reads most of them: it reads the header without decoding, so that the size is checked first, and it refuses
truncated data where OpenCV fills the rest with grey. On a 1500 x 2000 PNG the two are equally fast. OpenCV reads PNG
files of several channels of 16 bits, of which Pillow keeps 8; imagecodecs reads JPEG 2000, which Pillow stretches to 16
bits; `boneage.preprocessing.io.tiff` reads the kinds of TIFF that Pillow does not.
"""

import struct
import warnings
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from boneage.preprocessing.io.codestreams import read_jpeg_2000_size, read_jpeg_size
from boneage.preprocessing.io.grey import GreyImage, to_grey
from boneage.preprocessing.io.radiograph import DECODER_LOCK, UnreadableImageError, check_size
from boneage.preprocessing.io.samples import blend_with_black, to_unsigned
from boneage.preprocessing.io.square import resample_to_square
from boneage.preprocessing.io.tiff import TiffDirectory, decode_tiff, orient, read_tiff_directory

_EXIF_ORIENTATION = 0x0112
# From this orientation on, rows and columns are exchanged.
_EXCHANGED = 5
# Pillow joins the EXIF segments of a JPEG file, and copies the values of each tag.
_MAX_EXIF_SEGMENTS = 2


def decode_image(data: bytes, *, file_format: str, path: Path, max_pixels: int) -> GreyImage:
    """Decode the bytes of an image file to grey pixels, bright = bone, that are square.

    Args:
        data: The whole file.
        file_format: `"PNG"`, `"JPEG"`, `"BMP"`, `"TIFF"` or `"JPEG 2000"`.
        path: Name used in error messages.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableImageError: If the file contains no radiograph; `reason` is the code.
    """
    with DECODER_LOCK, warnings.catch_warnings():
        # The size is checked below against max_pixels; unusual metadata is harmless.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        try:
            return _decode(data, file_format=file_format, path=path, max_pixels=max_pixels)
        except (UnreadableImageError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(
                f"{path} states more pixels than can be decoded; crop or shrink it.", reason="too_large"
            ) from error
        except Exception as error:  # Pillow documents no closed set of errors for damaged files.
            raise UnreadableImageError(
                f"{path} is a damaged or incomplete {file_format} file; copy or export it again from its source.",
                reason="damaged_image",
            ) from error


def convert_image(image: Image.Image, *, path: Path, max_pixels: int) -> GreyImage:
    """Convert a Pillow image to grey pixels, bright = bone, that are square, as `decode_image` does with its file.

    Args:
        image: The image, which is not changed.
        path: Name used in error messages.
        max_pixels: The most pixels to convert.

    Raises:
        UnreadableImageError: If it is no radiograph; `reason` is the code.
    """
    check_size(path, height=image.height, width=image.width, max_pixels=max_pixels)
    with DECODER_LOCK:
        try:
            image = image.copy()
            orientation, aspect = image.getexif().get(_EXIF_ORIENTATION, 1), _aspect(image)
            grey = _to_grey(image, b"", bits=8, directory=None, path=path)
        except (UnreadableImageError, MemoryError):
            raise
        except Exception as error:  # Pillow documents no closed set of errors for damaged files.
            raise UnreadableImageError(
                f"{path} is a damaged or incomplete image; open it again from its source.", reason="damaged_image"
            ) from error
    aspect = 1 / aspect if orientation >= _EXCHANGED else aspect
    return resample_to_square(grey, aspect=aspect, path=path, max_pixels=max_pixels)


def _decode(data: bytes, *, file_format: str, path: Path, max_pixels: int) -> GreyImage:
    if file_format == "JPEG 2000":
        return _decode_jpeg_2000(data, path=path, max_pixels=max_pixels)
    directory = None
    if file_format == "TIFF":
        directory = read_tiff_directory(data)
        directory.check(path=path, max_pixels=max_pixels)
        if not directory.is_plain:
            grey = decode_tiff(data, directory, path=path)
            aspect = 1 / directory.aspect if directory.orientation >= _EXCHANGED else directory.aspect
            return resample_to_square(grey, aspect=aspect, path=path, max_pixels=max_pixels)
    if file_format == "JPEG":
        _check_jpeg(data, path=path, max_pixels=max_pixels)
    if file_format == "PNG":
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            check_size(path, height=image.height, width=image.width, max_pixels=max_pixels)
            image.verify()  # Compares the checksums, which decoding alone does not.
    with Image.open(BytesIO(data), formats=[file_format]) as image:
        check_size(path, height=image.height, width=image.width, max_pixels=max_pixels)
        # Pillow counts the pages of a TIFF one by one, each time from the first; the directory names the second.
        if directory is None and getattr(image, "n_frames", 1) > 1:
            raise UnreadableImageError(
                f"{path} contains several images; save one radiograph per file.", reason="multi_frame"
            )
        _drop_damaged_exif(image)
        orientation = directory.orientation if directory else image.getexif().get(_EXIF_ORIENTATION, 1)
        aspect = directory.aspect if directory else _aspect(image)
        image.load()
        bits = data[24] if file_format == "PNG" else 8
        grey = _to_grey(image, data, bits=bits, directory=directory, path=path)
    aspect = 1 / aspect if orientation >= _EXCHANGED else aspect
    return resample_to_square(grey, aspect=aspect, path=path, max_pixels=max_pixels)


def _check_jpeg(data: bytes, *, path: Path, max_pixels: int) -> None:
    """Refuse a JPEG file that states no size, or metadata of which Pillow would make copies without bounds."""
    size = read_jpeg_size(data)
    if size is None or data.count(b"Exif\0\0") > _MAX_EXIF_SEGMENTS:
        raise UnreadableImageError(f"{path} is a damaged or unusual JPEG file; save it again.", reason="damaged_image")
    check_size(path, height=size.height, width=size.width, max_pixels=max_pixels)


def _drop_damaged_exif(image: Image.Image) -> None:
    """Remove EXIF metadata that no camera writes: beside sound pixels it is no matter, but reading it may take long."""
    if exif := image.info.get("exif"):
        try:
            read_tiff_directory(exif.removeprefix(b"Exif\0\0"))
        except (ValueError, struct.error):
            del image.info["exif"]


def _aspect(image: Image.Image) -> float:
    """Height of a pixel divided by its width, by the resolution that the file states."""
    across, down = image.info.get("dpi") or image.info.get("aspect") or image.info.get("jfif_density") or (1, 1)
    return float(across) / float(down) if across > 0 and down > 0 else 1.0


def _to_grey(image: Image.Image, data: bytes, *, bits: int, directory: TiffDirectory | None, path: Path) -> GreyImage:
    """Turn an opened image of any kind into grey pixels, bright = bone."""
    if bits == 16 and image.mode in ("LA", "RGB", "RGBA"):
        return _decode_deep_png(data, orientation=image.getexif().get(_EXIF_ORIENTATION, 1), path=path)
    transparency = image.info.get("transparency")
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        pixels = np.array(image, dtype=np.uint16)
        if isinstance(transparency, int):
            pixels[pixels == transparency] = 0
        # Pillow itself inverts images of up to 8 bits.
        return GreyImage(2**directory.bits - 1 - pixels if directory and directory.white_is_zero else pixels, None)
    if image.mode in ("1", "L") and transparency is None:
        return GreyImage(np.array(image.convert("L")), None)
    if image.mode in ("1", "L", "LA", "La"):
        grey, alpha = np.moveaxis(np.array(image.convert("LA")), 2, 0)
        return GreyImage(blend_with_black(grey, alpha), None)
    if image.mode in ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"):
        opaque = image.mode in ("RGB", "RGBX", "CMYK", "YCbCr") and transparency is None
        channels = np.asarray(image.convert("RGB" if opaque else "RGBA"))
        if not opaque:
            channels = blend_with_black(channels[..., :3], channels[..., 3:])
        return to_grey(channels, maximum=255, path=path)
    raise UnreadableImageError(
        f"{path} has the unsupported pixel format {image.mode}; save it as 8-bit or 16-bit greyscale.",
        reason="not_a_radiograph",
    )


def _decode_deep_png(data: bytes, *, orientation: int, path: Path) -> GreyImage:
    """Decode a PNG file of several channels of 16 bits."""
    samples = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    samples = orient(samples, orientation)
    channels = samples[..., 2::-1]
    if samples.shape[2] == 4:
        channels = blend_with_black(channels, samples[..., 3:])
    return to_grey(channels, maximum=np.iinfo(samples.dtype).max, path=path)


def _decode_jpeg_2000(data: bytes, *, path: Path, max_pixels: int) -> GreyImage:
    # Imported by the first such file: others do not need it.
    import imagecodecs

    size = read_jpeg_2000_size(data)
    if size is None or size.num_samples > 4:
        raise UnreadableImageError(
            f"{path} is a damaged or unusual JPEG 2000 file; save it as PNG.", reason="damaged_image"
        )
    check_size(path, height=size.height, width=size.width, max_pixels=max_pixels)
    samples = imagecodecs.jpeg2k_decode(data)
    if samples.ndim == 2:
        return GreyImage(to_unsigned(samples), None)
    maximum = 2**size.bits - 1
    channels = to_unsigned(samples)
    num_colours = channels.shape[2] - 1 + channels.shape[2] % 2
    if channels.shape[2] > num_colours:
        alpha = channels[..., num_colours:].astype(np.uint32) * np.iinfo(channels.dtype).max // maximum
        channels = blend_with_black(channels[..., :num_colours], alpha.astype(channels.dtype))
    if num_colours == 1:
        return GreyImage(channels[..., 0].copy(), None)
    return to_grey(channels, maximum=maximum, path=path)
