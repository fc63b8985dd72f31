"""One radiograph in memory, and the one error for a file that does not hold one."""

import hashlib
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from tfrecords.errors import BoneAgeError

# Decoders are kept silent by switches of the whole process, so that no two files may decode at once.
DECODING = threading.RLock()


class UnreadableImage(BoneAgeError):
    """A file from which no radiograph can be read.

    Its message is one line that names the file and what to do. It never quotes what a DICOM file says of a patient.

    Attributes:
        reason: A code to count and filter by: `"missing_file"`, `"empty_file"`, `"not_an_image"`, `"damaged_image"`,
            `"too_large"`, `"no_pixels"`, `"multi_frame"`, `"not_a_radiograph"` (a colour photograph),
            `"unsupported_encoding"` or `"no_hand"`.
    """

    def __init__(self, message: str, *, reason: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        # Worker processes send the error home pickled; by default the keyword-only argument would be lost.
        return partial(UnreadableImage, reason=self.reason), (str(self),)


@dataclass(frozen=True, eq=False)
class Radiograph:
    """Pixels of one radiograph and what its file says about them.

    Attributes:
        pixels: Shape `(height, width)`, bright = bone. The values keep the bit depth of their source and are not
            stretched: a 12-bit image lies in `[0, 4095]`.
        pixel_spacing_mm: Distance between pixel centres down a column and along a row, `(row, column)`, in mm.
        sex: `"female"`, `"male"` or None where unknown. Only DICOM files tell.
        chronological_age_months: Age on the day of the study, in months. Only DICOM files tell.
        laterality: Which hand, `"left"`, `"right"` or None where unknown. Only DICOM files tell.
        source_sha256: SHA-256 of the file's bytes, 64 hexadecimal digits.
    """

    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
    pixel_spacing_mm: tuple[float, float] | None
    sex: str | None
    chronological_age_months: float | None
    laterality: str | None
    source_sha256: str


def pixel_hash(pixels: Shaped[np.ndarray, "..."]) -> str:
    """Hash an image by its content, so that copies are found whatever their file name or file format.

    Args:
        pixels: Any shape and dtype.

    Returns:
        SHA-256 over shape, dtype and values, 64 hexadecimal digits.

    Example:
        >>> pixel_hash(np.zeros((2, 3), np.uint8))[:8]
        'a8b8f304'
    """
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype.name}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def read_head(path: Path) -> bytes:
    """Read the start of a file, enough to tell its format by.

    Args:
        path: The file.

    Returns:
        The first 2048 bytes, fewer where the file is shorter.

    Raises:
        UnreadableImage: If there is no such file, or it is empty (`missing_file`, `empty_file`).
    """
    if path.is_dir():
        raise UnreadableImage(f"{path} is a folder; give the path of an image file.", reason="missing_file")
    try:
        with path.open("rb") as file:
            head = file.read(2048)
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path} does not exist; check the path.", reason="missing_file") from error
    except OSError as error:
        raise UnreadableImage(
            f"{path} cannot be opened ({error.strerror}); check its permissions.", reason="missing_file"
        ) from error
    if not head:
        raise UnreadableImage(f"{path} is empty (0 bytes); copy it again from its source.", reason="empty_file")
    return head


def check_size(path: Path, *, height: int, width: int, max_pixels: int) -> None:
    """Refuse an image whose header claims no pixels, or more than memory should be spent on.

    Args:
        path: The file, named in the error.
        height: Claimed height in pixels.
        width: Claimed width in pixels.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableImage: If the size is refused (`damaged_image`, `too_large`).
    """
    if height < 1 or width < 1:
        raise UnreadableImage(
            f"{path} claims {height} x {width} pixels; export it again from its source.", reason="damaged_image"
        )
    if height * width > max_pixels:
        raise UnreadableImage(
            f"{path} claims {height} x {width} pixels, more than max_pixels={max_pixels}; "
            "crop or shrink it, or raise max_pixels if the size is real.",
            reason="too_large",
        )
