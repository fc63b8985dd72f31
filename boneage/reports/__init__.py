"""What a reading becomes for other systems: DICOM objects in the study of the radiograph, and a FHIR observation."""

from tfrecords.errors import BoneAgeError


class ReportError(BoneAgeError):
    """A report that cannot be written."""
