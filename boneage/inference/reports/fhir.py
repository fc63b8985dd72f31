"""A reading as a FHIR R4 Observation (https://hl7.org/fhir/R4/observation.html), without personal data."""

from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.reports.wording import (
    VERSION,
    format_hand,
    format_interval,
    has_interval,
    interval_label,
    is_open,
    list_remarks,
)
from boneage.preprocessing.io.dicom.read import silence_libraries

# The LOINC term for bone age in HL7's profile (https://hl7.org/fhir/2016Jan/hspc/hspc-boneage.html), and the newer one
# that LOINC defines for the number. Their display names change between LOINC releases, so none is given.
BONE_AGE_LOINC = ("37362-1", "85151-9")
_UCUM = "http://unitsofmeasure.org"
_INTERPRETATIONS_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_INTERPRETATIONS = {"delayed": "L", "normal": "N", "advanced": "H", "indeterminate": "IND"}


def make_observation(reading: Reading, *, reader: Reader, id: str, study: Dataset | None) -> dict[str, Any]:
    """Describe a reading as an Observation.

    Args:
        reading: The reading.
        reader: The reader.
        id: Id of the observation.
        study: Header of the DICOM file, whose study is referenced by its UID; None for other files.

    Returns:
        The resource, as JSON values.
    """
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": id,
        "status": "preliminary",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}]}
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": code} for code in BONE_AGE_LOINC],
            "text": "Bone age",
        },
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "valueQuantity": _months(max(reading.bone_age_months, 0.0)),
        "method": {"text": "Convolutional network on a radiograph of the hand and wrist"},
        "contained": [_device(reader)],
        "device": {"reference": "#boneage"},
        "note": [{"text": remark} for remark in list_remarks(reading, reader=reader)],
    }
    if hand := format_hand(reading):
        observation["bodySite"] = {"text": hand}
    if has_interval(reading):
        observation["note"].insert(0, {"text": format_interval(reading, reader=reader)})
    observation |= _compare(reading)
    if components := _list_components(reading, reader=reader):
        observation["component"] = components
    if study is not None and (date := _study_date(study)):
        observation["effectiveDateTime"] = date
    if study is not None and (uid := _study_uid(study)):
        observation["derivedFrom"] = [
            {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}
        ]
    return observation


def _compare(reading: Reading) -> dict[str, Any]:
    """Return interpretation and reference range, as far as the chronological age is known."""
    comparison, elements = reading.comparison, dict[str, Any]()
    if comparison.determination:
        coding = {"system": _INTERPRETATIONS_SYSTEM, "code": _INTERPRETATIONS[comparison.determination]}
        elements["interpretation"] = [{"coding": [coding], "text": comparison.determination}]
    if comparison.normal_months is not None:
        # Whole months: more digits would reveal the age to the day.
        low, high = (_months(round(end)) for end in comparison.normal_months)
        text = f"Two standard deviations about the mean by {comparison.reference}"
        elements["referenceRange"] = [{"low": low, "high": high, "text": text}]
    return elements


def _list_components(reading: Reading, *, reader: Reader) -> list[dict[str, Any]]:
    components = []
    if has_interval(reading):
        interval = {"low": _months(reading.low_months)}
        # A range without `high` has no known upper end (https://hl7.org/fhir/R4/datatypes.html#Range).
        if not is_open(reading):
            interval["high"] = _months(reading.high_months)
        components.append({"code": {"text": interval_label(reader)}, "valueRange": interval})
    comparison = reading.comparison
    if not comparison.missing:
        for name, value, unit in (
            ("Standard deviation score", round(comparison.sds, 1), "1"),
            ("Centile", comparison.centile, "%"),
        ):
            quantity = {"value": value, "system": _UCUM, "code": unit}
            components.append({"code": {"text": f"{name} by {comparison.reference}"}, "valueQuantity": quantity})
    return components


def _device(reader: Reader) -> dict[str, Any]:
    versions = {
        "software": VERSION,
        "network SHA-256": reader.age_bundle.metadata["sha256"]["model.onnx"],
        "preprocessing": reader.age_bundle.metadata["fingerprint"],
    }
    return {
        "resourceType": "Device",
        "id": "boneage",
        "deviceName": [
            {"name": "boneage", "type": "user-friendly-name"},
            {"name": reader.info.name, "type": "model-name"},
        ],
        "version": [{"type": {"text": name}, "value": value} for name, value in versions.items()],
    }


def _months(value: float) -> dict[str, Any]:
    """Return a quantity in UCUM months, rounded to 0.1."""
    return {"value": round(value, 1), "unit": "months", "system": _UCUM, "code": "mo"}


def _study_uid(study: Dataset) -> str | None:
    with silence_libraries():
        uid = UID(str(study.get("StudyInstanceUID") or ""))
    return str(uid) if uid.is_valid else None


def _study_date(study: Dataset) -> str | None:
    """Return the day of the radiograph, as far as its header tells."""
    with silence_libraries():
        for keyword in ("AcquisitionDate", "ContentDate", "StudyDate"):
            try:
                return datetime.strptime(str(study.get(keyword) or ""), "%Y%m%d").date().isoformat()
            except ValueError:
                continue
    return None
