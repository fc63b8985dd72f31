"""A reading as DICOM objects in the study of the radiograph: a structured report and a secondary capture.

Both carry the identity of the patient, as the standard requires; no other output does.
"""

import uuid
from io import BytesIO
from pathlib import Path
from typing import Any

from highdicom.sc import SCImage
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.reports import ReportError
from boneage.inference.reports.fhir import BONE_AGE_LOINC
from boneage.inference.reports.picture import draw_report
from boneage.inference.reports.properties import MONTHS, make_properties
from boneage.inference.reports.wording import VERSION, format_hand, format_interval, list_remarks
from boneage.preprocessing.io.dicom.read import silence_libraries
from boneage.preprocessing.io.radiograph import Radiograph

_BONE_AGE = Code(BONE_AGE_LOINC[0], "LN", "Bone age")
_SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right}
# Viewers order series by number: these come after the series of the study itself.
_REPORT_SERIES, _CAPTURE_SERIES = 9001, 9002
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# Patient (PS3.3 C.7.1.1), general study (C.7.2.1) and patient study (C.7.2.2): equal in all objects of a study. The
# first ones are required, possibly empty.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
_COPIED = (
    *_TYPE_2,
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "OtherPatientNames",
    "PatientBirthTime", "EthnicGroup", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "IssuerOfAccessionNumberSequence", "StudyDescription",
    "ProcedureCodeSequence", "PatientAge", "PatientSize", "PatientWeight",
    "SpecificCharacterSet", "TimezoneOffsetFromUTC",
)  # fmt: skip


def make_dicom_objects(
    study: Dataset, radiograph: Radiograph, reading: Reading, *, reader: Reader, path: Path
) -> dict[str, bytes]:
    """Make the structured report and the secondary capture of a reading.

    Args:
        study: Header of the DICOM file.
        radiograph: The radiograph.
        reading: Its reading.
        reader: The reader.
        path: The file, named in errors.

    Returns:
        The content of each file, keyed by file name (the new SOPInstanceUID).

    Raises:
        ReportError: If the header does not allow it; the message quotes no value of the header.
    """
    files = {}
    try:
        with silence_libraries():
            source = _refer(study, path=path)
            capture = _capture(source, radiograph, reading, reader)
            # The text beside the radiograph identifies nobody, so that the value of the source holds (PS3.3 C.7.6.1);
            # without one it is unknown.
            if study.get("BurnedInAnnotation") in ("YES", "NO"):
                capture.BurnedInAnnotation = study.BurnedInAnnotation
            for made in (_report(source, radiograph, reading, reader), capture):
                for keyword in _COPIED:
                    if keyword in study:
                        made[keyword] = study[keyword]
                content = BytesIO()
                made.save_as(content, enforce_file_format=True)
                files[f"{made.SOPInstanceUID}.dcm"] = content.getvalue()
    except ReportError:
        raise
    except Exception as error:  # pydicom and highdicom quote header values that they cannot process
        raise ReportError(
            f"{path}: its header allows no DICOM report ({type(error).__name__}); export it again from its source."
        ) from None
    return files


def _refer(study: Dataset, *, path: Path) -> Dataset:
    """Return the UIDs of the source alone: highdicom quotes unusual patient names in warnings."""
    source = Dataset()
    for keyword in _UIDS:
        uid = UID(str(study.get(keyword) or ""))
        if not uid.is_valid:
            raise ReportError(
                f"{path}: its header has no valid {keyword}, needed for DICOM reports; export it again from its source."
            )
        setattr(source, keyword, uid)
    for keyword in _TYPE_2:
        setattr(source, keyword, "")
    return source


def _report(source: Dataset, radiograph: Radiograph, reading: Reading, reader: Reader) -> Dataset:
    """Make the measurement report (PS3.16 TID 1500)."""
    model, metadata = reader.info, reader.age_bundle.metadata
    months = max(reading.bone_age_months, 0.0)
    algorithm = AlgorithmIdentification(
        name="boneage",
        version=VERSION,
        parameters=[
            f"model {model.name}",
            f"network SHA-256 {metadata['sha256']['model.onnx']}",
            f"preprocessing {metadata['fingerprint']}",
        ],
    )
    measurement = Measurement(
        name=_BONE_AGE,
        value=round(months, 1),
        unit=MONTHS,
        algorithm_id=algorithm,
        properties=make_properties(reading),
        referenced_images=[SourceImageForMeasurement(source.SOPClassUID, source.SOPInstanceUID)],
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(prefix=None), identifier="Bone age"),
        finding_sites=[FindingSite(codes.SCT.Hand, laterality=_SIDES.get(radiograph.laterality or ""))],
        measurements=[measurement],
        source_images=[SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
    )
    for remark in (format_interval(reading, reader=reader), *list_remarks(reading, reader=reader, with_age=True)):
        comment = TextContentItem(codes.DCM.Comment, remark, relationship_type=RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(comment)
    device = DeviceObserverIdentifyingAttributes(
        # The same network is the same observer on every machine.
        uid=f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, metadata['sha256']['model.onnx']).int}",
        name="boneage",
        model_name=model.label,
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=codes.SCT.PlainRadiography,
        imaging_measurements=[group],
    )
    return ComprehensiveSR(
        evidence=[source],
        content=content,
        series_number=_REPORT_SERIES,
        is_complete=True,
        series_description=_describe("Bone age", reading),
        **_new_instance(),
    )


def _capture(source: Dataset, radiograph: Radiograph, reading: Reading, reader: Reader) -> Dataset:
    """Make the secondary capture."""
    capture = SCImage(
        pixel_array=draw_report(radiograph, reading, reader=reader),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.StudyInstanceUID,
        series_number=_CAPTURE_SERIES,
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=_describe("Bone age, picture", reading),
        **_new_instance(),
    )
    # The two parts of the image have different orientations (PS3.3 C.7.6.1.1.1: it may be empty, as the laterality).
    capture.PatientOrientation = []
    capture.Laterality = {"left": "L", "right": "R"}.get(radiograph.laterality or "", "")
    capture.ConversionType = "WSD"
    capture.DerivationDescription = "Outline of the hand, crop and bone age"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    capture.SourceImageSequence = [reference]
    return capture


def _describe(content: str, reading: Reading) -> str:
    """Describe a series, with the hand on a film of two."""
    return ", ".join(filter(None, [content, format_hand(reading).lower()]))


def _new_instance() -> dict[str, Any]:
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
        "manufacturer": "boneage",
        "manufacturer_model_name": "boneage",
        "software_versions": VERSION,
    }
