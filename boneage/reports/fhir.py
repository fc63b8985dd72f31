"""A reading as a FHIR R4 Observation (https://hl7.org/fhir/R4/observation.html), which tells nothing of a person."""

from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from boneage.reader import Reader, Reading, describe
from boneage.reports.words import VERSION, has_interval, list_remarks, name_interval
from preprocessing.dicom import keep_silent

# LOINC's term for the bone age that HL7's profile of it took (https://hl7.org/fhir/2016Jan/hspc/hspc-boneage.html), and
# the younger one, of which LOINC says that it reports the number. What both display changes between LOINC's releases.
BONE_AGE_LOINC = ("37362-1", "85151-9")


def observe(reading: Reading, *, reader: Reader, id: str, study: Dataset | None) -> dict[str, Any]:
    """Describe a reading as an Observation.

    Args:
        reading: What was read.
        reader: What read it.
        id: Id of the observation.
        study: Header of the DICOM file that was read, whose study is named by its UID; None for any other file.

    Returns:
        The resource, ready for JSON.
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
        "note": [{"text": remark} for remark in list_remarks(reading)],
    }
    if has_interval(reading):
        interval = {"low": _months(reading.low_months), "high": _months(reading.high_months)}
        observation["component"] = [{"code": {"text": name_interval(reader)}, "valueRange": interval}]
    if study is not None and (uid := _study_uid(study)):
        observation["derivedFrom"] = [
            {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}
        ]
    return observation


def _device(reader: Reader) -> dict[str, Any]:
    versions = {
        "software": VERSION,
        "network SHA-256": reader.age.metadata["sha256"]["model.onnx"],
        "preprocessing": reader.age.metadata["fingerprint"],
    }
    return {
        "resourceType": "Device",
        "id": "boneage",
        "deviceName": [
            {"name": "boneage", "type": "user-friendly-name"},
            {"name": describe(reader).name, "type": "model-name"},
        ],
        "version": [{"type": {"text": name}, "value": value} for name, value in versions.items()],
    }


def _months(value: float) -> dict[str, Any]:
    """A quantity in UCUM's months, to a tenth."""
    return {"value": round(value, 1), "unit": "months", "system": "http://unitsofmeasure.org", "code": "mo"}


def _study_uid(study: Dataset) -> str | None:
    with keep_silent():
        uid = UID(str(study.get("StudyInstanceUID") or ""))
    return str(uid) if uid.is_valid else None
