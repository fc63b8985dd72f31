"""Read a radiograph, or only the header of one, from a DICOM file.

What identifies a person is read only to become an age in months or a hash, or to be copied into another object of the
same study, and never enters a message.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from boneage.base.sex import MAX_SHOWN, UnknownSexError, parse_sex
from boneage.preprocessing.io.dicom.dataset import InflatedSizeError, TooManyElementsError, is_dicom, parse_dicom
from boneage.preprocessing.io.dicom.decoders import DecodingError
from boneage.preprocessing.io.dicom.display import decode_display_pixels
from boneage.preprocessing.io.dicom.elements import read_numbers
from boneage.preprocessing.io.dicom.pixel_description import describe_pixels
from boneage.preprocessing.io.radiograph import (
    DECODER_LOCK,
    Radiograph,
    UnreadableImageError,
    max_file_bytes,
    read_first_bytes,
)
from boneage.preprocessing.io.square import resample_to_square

_DAYS_PER_MONTH = 365.25 / 12
_MONTHS_PER_AGE_UNIT = {"D": 1 / _DAYS_PER_MONTH, "W": 7 / _DAYS_PER_MONTH, "M": 1.0, "Y": 12.0}
_PIXEL_DATA = 0x7FE00010
# More than the header of any radiograph.
HEADER_BYTES = 2**24
# What anonymisers write for every patient, without blanks and punctuation.
_NO_PATIENT = frozenset({
    "anon", "anonym", "anonymous", "anonymised", "anonymized", "anonymisiert", "anonyme", "anonimo", "anonymouspatient",
    "deidentified", "redacted", "removed", "unknown", "unbekannt", "none", "null", "na", "nan", "noid", "nopatientid",
    "patient", "patientid", "test", "xxx", "xxxx",
})  # fmt: skip
_LOGGERS = ("pydicom", "imagecodecs", "highdicom")
_HEADER_KEYWORDS = [
    "SOPInstanceUID", "StudyInstanceUID", "IssuerOfPatientID", "PatientID", "PatientSex", "PatientAge",
    "PatientBirthDate", "StudyDate", "ImageLaterality", "Laterality",
]  # fmt: skip


@dataclass(frozen=True)
class DicomHeader:
    """Header fields that a folder scan needs.

    Attributes:
        sop_instance_uid: The unique identifier of the image, or None where absent.
        patient: A hash that is equal for all files of one patient, or None where unknown. It serves to group files and
            must not be written out: anyone who knows a patient number can compute its hash.
        study: A hash that is equal for all files of one study, or None where unknown; like `patient`.
        sex: `"female"`, `"male"` or None.
        chronological_age_months: Age on the day of the study, in months, or None.
        laterality: `"left"`, `"right"` or None.
    """

    sop_instance_uid: str | None
    patient: str | None
    study: str | None
    sex: str | None
    chronological_age_months: float | None
    laterality: str | None


def hash_patient(patient_id: str, *, issuer: str = "") -> str | None:
    """Return a hash that is equal for all files of one patient; None for a word that anonymisers write for all."""
    word = re.sub(r"[\W_]", "", patient_id.casefold())
    if not word or word in _NO_PATIENT:
        return None
    return hashlib.sha256(f"{issuer}\n{patient_id}".encode()).hexdigest()


def read_dicom_header(path: str | Path) -> DicomHeader:
    """Read what a folder scan needs, without reading the pixels.

    Args:
        path: A DICOM file.

    Returns:
        Identifier, patient group, sex, age and laterality.

    Raises:
        UnreadableImageError: If the file is missing, empty, not DICOM or damaged.
    """
    path = Path(path)
    head = read_first_bytes(path)
    if not is_dicom(head):
        raise UnreadableImageError(
            f"{path} is not a DICOM file; read it with `read_radiograph`.", reason="not_an_image"
        )
    with redact_errors(path), path.open("rb") as file:
        dataset = parse_dicom(
            file, max_bytes=HEADER_BYTES, may_be_cut=True, stop_before_pixels=True, specific_tags=_HEADER_KEYWORDS
        )
        patient_id, issuer, study = (
            str(dataset.get(keyword) or "").strip()
            for keyword in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")
        )
        instance = UID(str(dataset.get("SOPInstanceUID") or ""))
        return DicomHeader(
            sop_instance_uid=str(instance) if instance.is_valid else None,
            patient=hash_patient(patient_id, issuer=issuer),
            study=hashlib.sha256(study.encode()).hexdigest() if study else None,
            sex=_sex(dataset)[0],
            chronological_age_months=_chronological_age_months(dataset),
            laterality=_laterality(dataset),
        )


def read_dicom(data: bytes, *, path: Path, max_pixels: int) -> Radiograph:
    """Read the radiograph from the bytes of a DICOM file.

    Args:
        data: The whole file.
        path: Name used in error messages.
        max_pixels: The most pixels to decode.

    Returns:
        The radiograph, bright = bone, with its header. The pixels have the bit depth of the last lookup table in the
        file, or that of the stored values where there is none.

    Raises:
        UnreadableImageError: If the file contains no greyscale image of one frame, or more than `max_pixels`.
    """
    with redact_errors(path):
        dataset = parse_dicom(BytesIO(data), max_bytes=max_file_bytes(max_pixels))
        pixel_format = describe_pixels(dataset, path=path, max_pixels=max_pixels)
        spacing = _pixel_spacing_mm(dataset)
        height, width = spacing or read_numbers(dataset, "PixelAspectRatio")[:2] or (1.0, 1.0)
        image = decode_display_pixels(dataset, pixel_format, path=path)
        square = resample_to_square(image, aspect=height / width, path=path, max_pixels=max_pixels)
        sex, unknown_sex = _sex(dataset)
        return Radiograph(
            pixels=square.pixels,
            coloured=square.coloured,
            pixel_spacing_mm=spacing if square is image or spacing is None else (min(spacing), min(spacing)),
            sex=sex,
            chronological_age_months=_chronological_age_months(dataset),
            laterality=_laterality(dataset),
            source_sha256=hashlib.sha256(data).hexdigest(),
            unknown_sex=unknown_sex,
            header=dataset[:_PIXEL_DATA],
        )


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Silence warnings and logs of DICOM libraries: they quote values, which may identify a patient."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with DECODER_LOCK:
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
def redact_errors(path: Path) -> Iterator[None]:
    """Turn every error of pydicom in a damaged file into one: it documents no closed set of them, and quotes values.

    Args:
        path: The file, named in the error.

    Raises:
        UnreadableImageError: In place of any other error of the body.
    """
    try:
        with silence_libraries():
            yield
    except (UnreadableImageError, MemoryError):
        raise
    except DecodingError as error:
        raise UnreadableImageError(
            f"{path}: {error}; export it again from its source.", reason="damaged_image"
        ) from None
    except TooManyElementsError:
        raise UnreadableImageError(
            f"{path} has more elements than a radiograph; export the image again from its source.",
            reason="damaged_image",
        ) from None
    except InflatedSizeError:
        raise UnreadableImageError(
            f"{path} is deflated and too large when inflated; convert it to Explicit VR Little Endian.",
            reason="too_large",
        ) from None
    except Exception:
        raise UnreadableImageError(
            f"{path} is a damaged or incomplete DICOM file; export it again from its source.", reason="damaged_image"
        ) from None


def _pixel_spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """Pixel spacing at the hand, (row, column), or None.

    `PixelSpacing` is calibrated (PS3.3 10.7.1.3). `ImagerPixelSpacing` applies at the detector (PS3.3 C.8.11.4); the
    estimated magnification converts it to the hand. `NominalScannedPixelSpacing` applies to a scanned film (PS3.3
    C.8.6.2).
    """
    magnification = (read_numbers(dataset, "EstimatedRadiographicMagnificationFactor") or [1.0])[0]
    for keyword, factor in (
        ("PixelSpacing", 1.0),
        ("ImagerPixelSpacing", magnification),
        ("NominalScannedPixelSpacing", 1.0),
    ):
        spacing = read_numbers(dataset, keyword)
        if len(spacing) == 2 and min(*spacing, factor) > 0:
            return spacing[0] / factor, spacing[1] / factor
    return None


def _sex(dataset: Dataset) -> tuple[str | None, str | None]:
    """The sex, and what the header says where that is not understood; each may be None."""
    text = str(dataset.get("PatientSex") or "")
    try:
        return parse_sex(text), None
    except UnknownSexError:
        # A code is one word. Anything else may be a name, which nobody may see.
        return None, text.strip() if re.fullmatch(rf"\w{{1,{MAX_SHOWN}}}", text.strip()) else "?"


def _laterality(dataset: Dataset) -> str | None:
    """Which hand: of the image (PS3.3 C.8.11.2), else of the series (PS3.3 C.7.3.1)."""
    code = dataset.get("ImageLaterality") or dataset.get("Laterality")
    return {"L": "left", "R": "right"}.get(str(code))


def _chronological_age_months(dataset: Dataset) -> float | None:
    """Age on the day of the study, in months.

    The stated age (PS3.5 6.2, type AS) is cut to whole years, months, weeks or days. The dates of birth and study give
    days, and are used where there is no stated age or they agree with it; if they disagree, as after the dates were
    replaced to de-identify a person, the stated age is used.
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
