"""A reading as DICOM objects of the radiograph's own study: a structured report and a secondary capture.

Both are objects of the same patient, so that they carry who that is, as the standard demands; nothing else does.
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
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
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

from boneage.reader import Reader, Reading, describe
from boneage.reports import ReportError
from boneage.reports.fhir import BONE_AGE_LOINC
from boneage.reports.picture import draw_report
from boneage.reports.words import VERSION, has_interval, list_remarks, say_interval
from preprocessing.dicom import keep_silent
from preprocessing.radiograph import Radiograph

_BONE_AGE = Code(BONE_AGE_LOINC[0], "LN", "Bone age")
_MONTHS = Code("mo", "UCUM", "month")
_SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right}
# Far behind the series of the study itself, in whose order viewers show them.
_REPORT_SERIES, _CAPTURE_SERIES = 9001, 9002
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# Patient (PS3.3 C.7.1.1), general study (C.7.2.1) and patient study (C.7.2.2): equal in all objects of a study. The
# first ones must be there, if empty.
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


def make_objects(
    study: Dataset, radiograph: Radiograph, reading: Reading, *, reader: Reader, path: Path
) -> dict[str, bytes]:
    """Make the structured report and the secondary capture of a reading.

    Args:
        study: Header of the DICOM file that was read.
        radiograph: The radiograph.
        reading: What was read in it.
        reader: What read it.
        path: The file, named in errors.

    Returns:
        The content of each file by its name, the new SOPInstanceUID.

    Raises:
        ReportError: If the header does not allow it; the message quotes nothing of it.
    """
    files = {}
    try:
        with keep_silent():
            source = _refer(study, path=path)
            capture = _capture(source, radiograph, reading, reader)
            # What is written beside the radiograph tells of nobody, so that it is as its source says of itself (PS3.3
            # C.7.6.1); where that says nothing, nobody knows.
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
    except Exception as error:  # whatever a header holds that pydicom or highdicom cannot take; they quote it
        raise ReportError(
            f"{path}: no DICOM report can be made from its header ({type(error).__name__}); export it again from its "
            "source."
        ) from None
    return files


def _refer(study: Dataset, *, path: Path) -> Dataset:
    """Return what names the source, and nothing else: highdicom would warn of odd names of patients, quoting them."""
    source = Dataset()
    for keyword in _UIDS:
        uid = UID(str(study.get(keyword) or ""))
        if not uid.is_valid:
            raise ReportError(
                f"{path}: its header has no valid {keyword}, so that no DICOM report can join its study; export it "
                "again from its source."
            )
        setattr(source, keyword, uid)
    for keyword in _TYPE_2:
        setattr(source, keyword, "")
    return source


def _report(source: Dataset, radiograph: Radiograph, reading: Reading, reader: Reader) -> Dataset:
    """Make the measurement report (PS3.16 TID 1500)."""
    model, metadata = describe(reader), reader.age.metadata
    months = max(reading.bone_age_months, 0.0)
    properties = MeasurementProperties()
    if has_interval(reading):
        for name, reach in (
            (codes.SCT.RangeOfUpperMeasurementUncertainty, reading.high_months - months),
            (codes.SCT.RangeOfLowerMeasurementUncertainty, months - reading.low_months),
        ):
            # highdicom's own arguments for these give them no unit.
            item = NumContentItem(
                name, round(reach, 1), _MONTHS, relationship_type=RelationshipTypeValues.HAS_PROPERTIES
            )
            properties.append(item)
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
        unit=_MONTHS,
        algorithm_id=algorithm,
        properties=properties,
        referenced_images=[SourceImageForMeasurement(source.SOPClassUID, source.SOPInstanceUID)],
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(prefix=None), identifier="Bone age"),
        finding_sites=[FindingSite(codes.SCT.Hand, laterality=_SIDES.get(radiograph.laterality or ""))],
        measurements=[measurement],
        source_images=[SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
    )
    for remark in (say_interval(reading, reader=reader), *list_remarks(reading)):
        comment = TextContentItem(codes.DCM.Comment, remark, relationship_type=RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(comment)
    device = DeviceObserverIdentifyingAttributes(
        # One network, one observer, wherever it runs.
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
        series_description="Bone age",
        **_new_instance(),
    )


def _capture(source: Dataset, radiograph: Radiograph, reading: Reading, reader: Reader) -> Dataset:
    """Make the secondary capture of the picture."""
    capture = SCImage(
        pixel_array=draw_report(radiograph, reading, reader=reader),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.StudyInstanceUID,
        series_number=_CAPTURE_SERIES,
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="Bone age, picture",
        **_new_instance(),
    )
    # The two views in the picture lie differently (PS3.3 C.7.6.1.1.1: it may be empty, and so may the laterality).
    capture.PatientOrientation = []
    capture.Laterality = {"left": "L", "right": "R"}.get(radiograph.laterality or "", "")
    capture.ConversionType = "WSD"
    capture.DerivationDescription = "Outline of the hand, crop and bone age"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    capture.SourceImageSequence = [reference]
    return capture


def _new_instance() -> dict[str, Any]:
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
        "manufacturer": "boneage",
        "manufacturer_model_name": "boneage",
        "software_versions": VERSION,
    }
