"""Reports of readings: DICOM objects in the study of the radiograph, and FHIR observations."""

from boneage.base.errors import BoneAgeError


class ReportError(BoneAgeError):
    """Raised if a report cannot be written."""
