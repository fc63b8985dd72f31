"""A radiograph in memory, and the error for a file that contains none."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8, UInt16
from pydicom.dataset import Dataset

from boneage.base.errors import BoneAgeError

# Warnings are silenced process-wide while decoding, so decoding is serialised by this lock.
DECODER_LOCK = threading.RLock()
# The most pixels of a radiograph that is read by default.
MAX_PIXELS = 100_000_000


class UnreadableImageError(BoneAgeError):
    """A file from which no radiograph can be read.

    Its message is one line that names the file and the fix. It never quotes what a DICOM file says of a patient.

    Attributes:
        reason: A code to count and filter by: `"missing_file"`, `"empty_file"`, `"not_an_image"`, `"damaged_image"`,
            `"too_large"`, `"too_slow"`, `"no_pixels"`, `"multi_frame"`, `"not_a_radiograph"` (a colour photograph),
            `"for_processing"`, `"unsupported_encoding"`, `"no_hand"`, `"sex_unknown"` or `"sex_conflict"`.
    """

    def __init__(self, message: str, *, reason: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Callable[[str], "UnreadableImageError"], tuple[str]]:
        # Worker processes return the error pickled; by default the keyword-only argument would be lost.
        return partial(UnreadableImageError, reason=self.reason), (str(self),)


@dataclass(frozen=True, eq=False)
class Radiograph:
    """Pixels of one radiograph, and what its file says about it.

    Attributes:
        pixels: Shape `(height, width)`, bright = bone. The values keep the bit depth of their source and are not
            stretched: a 12-bit image lies in `[0, 4095]`.
        pixel_spacing_mm: Distance between pixel centres down a column and along a row, `(row, column)`, in mm. The two
            differ by a hundredth at most: pixels that are not square are resampled.
        sex: `"female"`, `"male"` or None where unknown. Known from DICOM files only.
        chronological_age_months: Age on the day of the study, in months. Known from DICOM files only.
        laterality: Which hand, `"left"`, `"right"` or None where unknown. Known from DICOM files only.
        source_sha256: SHA-256 of the file's bytes, 64 hexadecimal digits.
        unknown_sex: What the file says of the sex where that is not understood, `"?"` where it is more than a word;
            else None.
        header: The DICOM file without its pixels, None for other formats. It identifies the patient: use it only for
            objects of the same study.
        coloured: Where the file shows colours that are not those of its film, shape `(height, width)`, True where they
            do; None where that is a trace at most.
    """

    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
    pixel_spacing_mm: tuple[float, float] | None
    sex: str | None
    chronological_age_months: float | None
    laterality: str | None
    source_sha256: str
    unknown_sex: str | None = None
    header: Dataset | None = field(default=None, repr=False)
    coloured: Bool[np.ndarray, "height width"] | None = field(default=None, repr=False)


def resolve_sex(radiograph: Radiograph, given: str | None, *, path: Path) -> str | None:
    """Return the sex in the header of a radiograph, else the given one; None if both are unknown.

    Args:
        radiograph: The radiograph.
        given: The sex by the table or the request, `"female"`, `"male"` or None.
        path: Its file, named in the error.

    Raises:
        UnreadableImageError: If the header is not understood (`sex_unknown`), so that nobody knows whether it
            contradicts the given sex, or if it does contradict it (`sex_conflict`).
    """
    if radiograph.unknown_sex is not None:
        raise UnreadableImageError(
            f"{path.name}: PatientSex is {radiograph.unknown_sex!r}, which is not understood; correct it to F or M, or "
            "clear it.",
            reason="sex_unknown",
        )
    if radiograph.sex and given and radiograph.sex != given:
        raise UnreadableImageError(
            f"{path.name}: the header says {radiograph.sex}, the request says {given}; correct one of them.",
            reason="sex_conflict",
        )
    return radiograph.sex or given


def hash_pixels(pixels: Shaped[np.ndarray, "..."]) -> str:
    """Hash an image by its content, so that copies are found regardless of their file names and formats.

    Args:
        pixels: Any shape and dtype.

    Returns:
        SHA-256 over shape, dtype and values, 64 hexadecimal digits.

    Example:
        >>> hash_pixels(np.zeros((2, 3), np.uint8))[:8]
        'a8b8f304'
    """
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype.name}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def read_first_bytes(path: Path) -> bytes:
    """Read the start of a file, enough to detect its format.

    Args:
        path: The file.

    Returns:
        The first 2048 bytes, fewer where the file is shorter.

    Raises:
        UnreadableImageError: If there is no such file, it is empty, or it is a pipe or a device (`missing_file`,
            `empty_file`, `not_an_image`).
    """
    if path.is_dir():
        raise UnreadableImageError(f"{path} is a folder; give the path of an image file.", reason="missing_file")
    if path.exists() and not path.is_file():  # opening a pipe waits for a writer
        raise UnreadableImageError(
            f"{path} is not a regular file; give the path of an image file.", reason="not_an_image"
        )
    try:
        with path.open("rb") as file:
            head = file.read(2048)
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{path} does not exist; check the path.", reason="missing_file") from error
    except OSError as error:
        raise UnreadableImageError(
            f"{path} cannot be opened ({error.strerror}); check its permissions.", reason="missing_file"
        ) from error
    if not head:
        raise UnreadableImageError(f"{path} is empty (0 bytes); copy it again from its source.", reason="empty_file")
    return head


def max_file_bytes(max_pixels: int) -> int:
    """Return the most bytes of a file, read or inflated: four channels of 16 bits, and room for a header.

    Args:
        max_pixels: The most pixels to decode.
    """
    return 8 * max_pixels + 2**24


def check_size(path: Path, *, height: int, width: int, max_pixels: int) -> None:
    """Reject an image whose header states no pixels or more than `max_pixels`.

    Args:
        path: The file, named in the error.
        height: Height in pixels by the header.
        width: Width in pixels by the header.
        max_pixels: The most pixels to decode.

    Raises:
        UnreadableImageError: If the size is rejected (`damaged_image`, `too_large`).
    """
    if height < 1 or width < 1:
        raise UnreadableImageError(
            f"{path} states {height} x {width} pixels; export it again from its source.", reason="damaged_image"
        )
    if height * width > max_pixels:
        raise UnreadableImageError(
            f"{path} states {height} x {width} pixels, more than max_pixels={max_pixels}; "
            "crop or shrink it, or raise max_pixels if the size is real.",
            reason="too_large",
        )
