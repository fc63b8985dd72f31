"""What the header of a DICOM file says of the exposure. Nothing is estimated, and no effective dose is computed."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from boneage.base.errors import printable
from boneage.preprocessing.io.dicom.dataset import parse_dicom
from boneage.preprocessing.io.dicom.elements import read_numbers
from boneage.preprocessing.io.dicom.read import HEADER_BYTES, redact_errors

# Element, and the factor to the unit of the result; where several say the same, the first that is there counts.
_POSITIVE = {
    "tube_voltage_kv": (("KVP", 1.0),),  # (0018,0060), kV
    "exposure_mas": (("ExposureInuAs", 0.001), ("Exposure", 1.0)),  # (0018,1153), µAs; (0018,1152), mAs
    "dose_area_product_dgy_cm2": (("ImageAndFluoroscopyAreaDoseProduct", 1.0),),  # (0018,115E), dGy cm²
    "entrance_dose_mgy": (("EntranceDoseInmGy", 1.0), ("EntranceDose", 100.0)),  # (0040,8302), mGy; (0040,0302), dGy
    "exposure_index": (("ExposureIndex", 1.0),),  # (0018,1411)
    "target_exposure_index": (("TargetExposureIndex", 1.0),),  # (0018,1412)
}
_DEVICE = ("Manufacturer", "ManufacturerModelName")
_KEYWORDS = [
    *(keyword for sources in _POSITIVE.values() for keyword, _ in sources), "DeviationIndex", "StudyDate", *_DEVICE,
]  # fmt: skip
_MAX_DEVICE = 64


@dataclass(frozen=True)
class Exposure:
    """The exposure of one radiograph as its header states it; None where it does not.

    Args:
        device: Manufacturer and model, `""` where absent.
        year: Year of the study.
        tube_voltage_kv: Peak voltage of the tube, in kV.
        exposure_mas: Current times time, in mAs.
        dose_area_product_dgy_cm2: Dose area product, in dGy cm² (the unit of the header; 1 dGy cm² is 10 µGy m²).
        entrance_dose_mgy: Entrance dose, in mGy.
        exposure_index: Exposure index of IEC 62494-1.
        target_exposure_index: Its target.
        deviation_index: Deviation index.
    """

    device: str
    year: int | None
    tube_voltage_kv: float | None
    exposure_mas: float | None
    dose_area_product_dgy_cm2: float | None
    entrance_dose_mgy: float | None
    exposure_index: float | None
    target_exposure_index: float | None
    deviation_index: float | None


def read_exposure(path: str | Path) -> Exposure:
    """Read what the header of a DICOM file says of the exposure.

    Zero is how equipment writes that it does not know; it counts as absent, except for the deviation index.

    Args:
        path: A DICOM file.

    Raises:
        UnreadableImageError: If it is damaged.
    """
    path = Path(path)
    with redact_errors(path), path.open("rb") as file:
        dataset = parse_dicom(
            file, max_bytes=HEADER_BYTES, may_be_cut=True, stop_before_pixels=True, specific_tags=_KEYWORDS
        )
        deviation = read_numbers(dataset, "DeviationIndex")
        words = [str(dataset.get(keyword) or "").strip() for keyword in _DEVICE]
        return Exposure(
            device=printable(" ".join(filter(None, words)))[:_MAX_DEVICE],
            year=_read_year(dataset),
            **{name: _read_positive(dataset, sources) for name, sources in _POSITIVE.items()},
            deviation_index=deviation[0] if len(deviation) == 1 else None,
        )


def _read_positive(dataset: Dataset, sources: tuple[tuple[str, float], ...]) -> float | None:
    for keyword, factor in sources:
        numbers = read_numbers(dataset, keyword)
        if len(numbers) == 1 and numbers[0] > 0:
            return numbers[0] * factor
    return None


def _read_year(dataset: Dataset) -> int | None:
    """Read the year of the study (PS3.5 6.2, type DA)."""
    found = re.fullmatch(r"((?:19|20)\d\d)\d{4}", str(dataset.get("StudyDate") or "").strip(), flags=re.ASCII)
    return int(found[1]) if found else None
