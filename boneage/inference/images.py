"""Radiographs as Python programs hold them: files, bytes, arrays, Pillow images and pydicom data sets."""

from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
from jaxtyping import Shaped

from boneage.preprocessing.io.dicom.read import silence_libraries
from boneage.preprocessing.io.grey import GreyImage, to_grey
from boneage.preprocessing.io.image_files import convert_image
from boneage.preprocessing.io.isolated import decode_isolated, read_isolated
from boneage.preprocessing.io.radiograph import (
    MAX_PIXELS,
    Radiograph,
    UnreadableImageError,
    check_size,
    hash_pixels,
)

Image = str | Path | bytes | bytearray | memoryview | np.ndarray | PIL.Image.Image | pydicom.Dataset
"""What `boneage.inference.reader.Reader.predict` takes for one radiograph."""


def to_radiograph(image: Image, *, name: Path) -> Radiograph:
    """Turn an image into a radiograph.

    Args:
        image: Path of a file; the bytes of one; grey values of shape `(height, width)` or colours of shape
            `(height, width, 3)`, uint8 or uint16, bright bone; a Pillow image, bright bone; or a pydicom data set.
        name: Name of the image in errors.

    Raises:
        UnreadableImageError: If it contains no radiograph.
        ValueError: If it is of another type, shape or dtype.
    """
    if isinstance(image, str | Path):
        return read_isolated(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_isolated(bytes(image), path=name)
    if isinstance(image, np.ndarray):
        return _wrap(_convert_array(image, name=name))
    if isinstance(image, PIL.Image.Image):
        return _wrap(convert_image(image, path=name, max_pixels=MAX_PIXELS))
    if isinstance(image, pydicom.Dataset):
        return decode_isolated(_encode_dataset(image), path=name)
    raise ValueError(
        "an image must be a path, the bytes of a file, a NumPy array, a Pillow image or a pydicom data set. "
        f"Received: {type(image).__name__}."
    )


def _convert_array(pixels: Shaped[np.ndarray, "..."], *, name: Path) -> GreyImage:
    if pixels.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ValueError(
            f"an array must be of dtype uint8 or uint16, bone bright. Received: {pixels.dtype}; scale and convert it."
        )
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(
            f"an array must have the shape (height, width) or (height, width, 3). Received: {pixels.shape}; give "
            "several images as a list."
        )
    check_size(name, height=pixels.shape[0], width=pixels.shape[1], max_pixels=MAX_PIXELS)
    # A copy: the caller may change theirs.
    pixels = np.array(pixels, dtype=pixels.dtype.newbyteorder("="), order="C")
    if pixels.ndim == 2:
        return GreyImage(pixels, None)
    return to_grey(pixels, maximum=int(np.iinfo(pixels.dtype).max), path=name)


def _wrap(grey: GreyImage) -> Radiograph:
    return Radiograph(
        pixels=grey.pixels,
        coloured=grey.coloured,
        pixel_spacing_mm=None,
        sex=None,
        chronological_age_months=None,
        laterality=None,
        source_sha256=hash_pixels(grey.pixels),
    )


def _encode_dataset(dataset: pydicom.Dataset) -> bytes:
    """Write a data set as the file it would be, so that it is read like one."""
    file = BytesIO()
    problem = ""
    with silence_libraries():
        try:
            pydicom.dcmwrite(file, dataset, enforce_file_format=True)
        except Exception as error:  # pydicom documents no closed set of errors, and its messages quote values
            problem = type(error).__name__
    if problem:
        raise UnreadableImageError(
            f"the data set cannot be written as a DICOM file ({problem}); give one that `pydicom.dcmread` returns, "
            "with its `file_meta`.",
            reason="damaged_image",
        )
    return file.getvalue()
