"""Read a radiograph, or only the header of one, from a DICOM file.

What identifies a person is read only to become an age in months or a hash, or to stand in another object of the same
study, and never enters a message.
"""

import hashlib
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from preprocessing.dicom_pixels import displayed_pixels, numbers
from preprocessing.radiograph import DECODING, Radiograph, UnreadableImage, check_size, read_head

_DAYS_PER_MONTH = 365.25 / 12
_MONTHS_PER_AGE_UNIT = {"D": 1 / _DAYS_PER_MONTH, "W": 7 / _DAYS_PER_MONTH, "M": 1.0, "Y": 12.0}
# ISO/IEC 15444-1 A.4.1 and A.5.1: the start of a JPEG 2000 codestream and the marker of its size.
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# ITU-T T.81 table B.1 and ITU-T T.87 C.1.1: JPEG and JPEG-LS name their size after a start-of-frame marker.
_JPEG_START = b"\xff\xd8"
_JPEG_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "jpeg_ls", "highdicom")
_HEADER_KEYWORDS = [
    "SOPInstanceUID", "IssuerOfPatientID", "PatientID", "PatientSex", "PatientAge", "PatientBirthDate", "StudyDate",
    "ImageLaterality", "Laterality",
]  # fmt: skip


@dataclass(frozen=True)
class DicomHeader:
    """What the scan of a folder asks of a DICOM file before any pixels are read.

    Attributes:
        sop_instance_uid: The unique identifier of the image, or None where absent.
        patient: A hash that is equal for all files of one patient, or None where unknown. It serves to group files and
            must not be written out: whoever knows a patient number can compute its hash.
        sex: `"female"`, `"male"` or None.
        chronological_age_months: Age on the day of the study, in months, or None.
        laterality: `"left"`, `"right"` or None.
    """

    sop_instance_uid: str | None
    patient: str | None
    sex: str | None
    chronological_age_months: float | None
    laterality: str | None


def is_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes of a file whether it is DICOM.

    A DICOM file has the prefix `DICM` at byte 128 (PS3.10 7.1). Older software wrote the bare data set, which starts
    with an element of group 0002 or 0008 in little endian, followed by its type or a short length (PS3.5 7.1).
    """
    starts_with_element = head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00"
    type_or_length = head[4:6].isalpha() or head[6:8] == b"\x00\x00"
    return head[128:132] == b"DICM" or (starts_with_element and type_or_length)


def read_dicom_header(path: str | Path) -> DicomHeader:
    """Read what a folder scan needs, without reading the pixels.

    Args:
        path: A DICOM file.

    Returns:
        Identifier, patient group, sex, age and laterality.

    Raises:
        UnreadableImage: If the file is missing, empty, not DICOM or damaged.
    """
    path = Path(path)
    head = read_head(path)
    if not is_dicom(head):
        raise UnreadableImage(f"{path} is not a DICOM file; read it with `read_radiograph`.", reason="not_an_image")
    _refuse_deflated(head, path=path)
    with _private_errors(path):
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_HEADER_KEYWORDS)
        patient_id = str(dataset.get("PatientID") or "").strip()
        issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
        instance = UID(str(dataset.get("SOPInstanceUID") or ""))
        return DicomHeader(
            sop_instance_uid=str(instance) if instance.is_valid else None,
            patient=hashlib.sha256(f"{issuer}\n{patient_id}".encode()).hexdigest() if patient_id else None,
            sex=_sex(dataset),
            chronological_age_months=_chronological_age_months(dataset),
            laterality=_laterality(dataset),
        )


def read_dicom(data: bytes, *, path: Path, max_pixels: int) -> Radiograph:
    """Read the radiograph from the bytes of a DICOM file.

    Args:
        data: The whole file.
        path: Where it came from, named in errors.
        max_pixels: The most pixels to decode.

    Returns:
        The radiograph, bright = bone. The pixels have the bit depth of the last lookup table in the file, or that of
        the stored values where there is none.

    Raises:
        UnreadableImage: If the file holds no greyscale image of one frame, or more than `max_pixels`.
    """
    _refuse_deflated(data[:2048], path=path)
    with _private_errors(path):
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        _check(dataset, path=path, max_pixels=max_pixels)
        return Radiograph(
            pixels=displayed_pixels(dataset),
            pixel_spacing_mm=_pixel_spacing_mm(dataset),
            sex=_sex(dataset),
            chronological_age_months=_chronological_age_months(dataset),
            laterality=_laterality(dataset),
            source_sha256=hashlib.sha256(data).hexdigest(),
        )


def read_study(path: str | Path) -> Dataset:
    """Read all of a DICOM file but its pixels, to write another object of the same study.

    It tells who the patient is: what is made of it belongs into that object, and nowhere else.

    Args:
        path: A DICOM file.

    Raises:
        UnreadableImage: If the file is missing, empty, deflated or damaged.
    """
    path = Path(path)
    _refuse_deflated(read_head(path), path=path)
    with _private_errors(path):
        return pydicom.dcmread(path, force=True, stop_before_pixels=True)


@contextmanager
def keep_silent() -> Iterator[None]:
    """Keep warnings and log records of DICOM libraries to ourselves: they quote values, which may be a name."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with DECODING:
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            with warnings.catch_warnings(), pydicom.config.disable_value_validation():
                warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|highdicom)\.")
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _private_errors(path: Path) -> Iterator[None]:
    """Turn whatever pydicom meets in a damaged file into one error: it documents no closed set, and quotes values."""
    try:
        with keep_silent():
            yield
    except UnreadableImage:
        raise
    except Exception:
        raise UnreadableImage(
            f"{path} is a damaged or incomplete DICOM file; export it again from its source.", reason="damaged_image"
        ) from None


def _refuse_deflated(head: bytes, *, path: Path) -> None:
    """Refuse a file that would be inflated in one go, to a size that no header tells beforehand (PS3.5 A.5)."""
    if DeflatedExplicitVRLittleEndian.encode() in head:
        raise UnreadableImage(
            f"{path} is a deflated DICOM file; convert it to Explicit VR Little Endian.", reason="unsupported_encoding"
        )


def _check(dataset: Dataset, *, path: Path, max_pixels: int) -> None:
    """Refuse a data set that is no single greyscale image of a bounded size, before its pixels are decoded."""
    if not dataset.get("PixelData"):
        raise UnreadableImage(
            f"{path} holds no pixels (a report, a directory, or a file cut short); give the image file of the study.",
            reason="no_pixels",
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableImage(
            f"{path} holds {int(dataset.NumberOfFrames)} frames; save the radiograph as a single frame.",
            reason="multi_frame",
        )
    if dataset.SamplesPerPixel != 1 or dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnreadableImage(
            f"{path} is a colour image; give the greyscale radiograph of the study.", reason="not_a_radiograph"
        )
    if dataset.BitsAllocated not in (8, 16):
        raise UnreadableImage(
            f"{path} has {int(dataset.BitsAllocated)} bits per pixel; a radiograph has 8 or 16.",
            reason="not_a_radiograph",
        )
    check_size(path, height=dataset.Rows, width=dataset.Columns, max_pixels=max_pixels)
    if "TransferSyntaxUID" not in dataset.file_meta:
        # A bare data set does not name its encoding; pydicom has worked it out to read the elements.
        is_implicit, is_little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    try:
        is_available = get_decoder(dataset.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        is_available = False
    if not is_available:
        raise UnreadableImage(
            f"{path} is compressed as {dataset.file_meta.TransferSyntaxUID.name}; "
            "convert it to Explicit VR Little Endian.",
            reason="unsupported_encoding",
        )
    claimed = _compressed_size(dataset)
    if claimed not in (None, (dataset.Rows, dataset.Columns)):
        raise UnreadableImage(
            f"{path} has a header and compressed pixels that disagree on the size; export it again from its source.",
            reason="damaged_image",
        )


def _compressed_size(dataset: Dataset) -> tuple[int, int] | None:
    """Height and width that compressed pixels claim of themselves and a decoder would believe, or None."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return None
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if (start := frame.find(_JPEG_2000_START, 0, 256)) >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left
    position = 2
    while frame.startswith(_JPEG_START) and position + 9 <= len(frame):
        marker, length, height, width = struct.unpack_from(">xBHx2H", frame, position)
        if marker in _JPEG_FRAME_MARKERS:
            return height, width
        position += 2 + length
    return None


def _pixel_spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """Distance between pixel centres in the hand, (row, column), as far as the file tells.

    `PixelSpacing` is calibrated (PS3.3 10.7.1.3). `ImagerPixelSpacing` holds at the detector (PS3.3 C.8.11.4), and the
    estimated magnification brings it to the hand. `NominalScannedPixelSpacing` holds on a scanned film (PS3.3 C.8.6.2).
    """
    magnification = (numbers(dataset, "EstimatedRadiographicMagnificationFactor") or [1.0])[0]
    for keyword, factor in (
        ("PixelSpacing", 1.0),
        ("ImagerPixelSpacing", magnification),
        ("NominalScannedPixelSpacing", 1.0),
    ):
        spacing = numbers(dataset, keyword)
        if len(spacing) == 2 and min(*spacing, factor) > 0:
            return spacing[0] / factor, spacing[1] / factor
    return None


def _sex(dataset: Dataset) -> str | None:
    return {"F": "female", "M": "male"}.get(str(dataset.get("PatientSex")))


def _laterality(dataset: Dataset) -> str | None:
    """Which hand: of the image (PS3.3 C.8.11.2), else of the series (PS3.3 C.7.3.1)."""
    code = dataset.get("ImageLaterality") or dataset.get("Laterality")
    return {"L": "left", "R": "right"}.get(str(code))


def _chronological_age_months(dataset: Dataset) -> float | None:
    """Age on the day of the study, in months.

    The stated age (PS3.5 6.2, type AS) is cut to whole years, months, weeks or days. The dates of birth and study give
    days, and are used where there is no stated age or they agree with it; where they disagree, as after the dates were
    replaced to hide a person, the stated age holds.
    """
    born, studied = (_date(dataset, keyword) for keyword in ("PatientBirthDate", "StudyDate"))
    exact = (studied - born).days / _DAYS_PER_MONTH if born and studied and born <= studied else None
    stated = re.fullmatch(r"(\d{1,3})([DWMY])", str(dataset.get("PatientAge") or "").strip())
    if stated is None:
        return exact
    unit = _MONTHS_PER_AGE_UNIT[stated[2]]
    age = int(stated[1]) * unit
    # Half a unit of slack, for birthdays and for months of unequal length.
    return exact if exact is not None and -0.5 * unit <= exact - age <= 1.5 * unit else age


def _date(dataset: Dataset, keyword: str) -> date | None:
    """A date as PS3.5 6.2 writes it (type DA, `YYYYMMDD`), or None where it is absent or masked."""
    try:
        return datetime.strptime(str(dataset.get(keyword)).strip(), "%Y%m%d").date()
    except ValueError:
        return None
