"""Read radiographs from image and DICOM files."""
