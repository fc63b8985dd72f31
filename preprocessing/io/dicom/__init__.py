"""Read radiographs and their headers from DICOM files."""
