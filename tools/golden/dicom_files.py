"""The DICOM files of a golden run: drawn radiographs in several encodings, and pydicom's example files."""

from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

# Example files that come with pydicom: one for each way in which they hold grey values.
ENCODED = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG-lossy.dcm", "JPEG2000.dcm", "JPGExtended.dcm",
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm",
)  # fmt: skip
SYNTAXES = {
    "explicit": uid.ExplicitVRLittleEndian,
    "rle": uid.RLELossless,
    "jpeg_ls": uid.JPEGLSLossless,
    "jpeg_2000": uid.JPEG2000Lossless,
    "jpeg": uid.JPEGBaseline8Bit,
}


def write_dicom_files(folder: Path, *, drawn: Path) -> None:
    """Write DICOM files, with tables.

    Args:
        folder: Where `dicom` with drawn radiographs and `encoded` with pydicom's example files are made.
        drawn: Folder of drawn radiographs, `1.png` to `3.png`.
    """
    (folder / "dicom").mkdir()
    (folder / "encoded").mkdir()
    readings, encoded = ["id,boneage"], ["id,boneage,male"]
    for number, (name, syntax) in enumerate(SYNTAXES.items()):
        pixels = cv2.imread(str(drawn / f"{number % 3 + 1}.png"), cv2.IMREAD_GRAYSCALE)
        dataset = make_dicom(pixels if number % 2 else 255 - pixels, number=number, syntax=syntax)
        dataset.save_as(folder / "dicom" / f"{name}.dcm", enforce_file_format=True)
        readings.append(f"{name},{60 + 20 * number}")
    for number, name in enumerate(ENCODED):
        dataset = pydicom.dcmread(get_testdata_file(name, download=False))
        # Some are copies of one image, which a folder may hold but once.
        dataset.SOPInstanceUID, dataset.PatientSex = f"1.2.4.{number}", "M"
        dataset.save_as(folder / "encoded" / name, enforce_file_format=True)
        encoded.append(f"{Path(name).stem},100,True")
    for name, lines in (("readings.csv", readings), ("encoded.csv", encoded)):
        (folder / name).write_text("\n".join((*lines, "")), encoding="utf-8")


def make_dicom(pixels: np.ndarray, *, number: int, syntax: uid.UID) -> Dataset:
    """Make a DICOM file of a child of ten.

    Args:
        pixels: Shape `(rows, columns)`, uint8.
        number: Number of the file; odd ones are girls, even ones inverted.
        syntax: How the pixels are compressed.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{number}", f"1.2.3.{number}.1"
    dataset.SOPInstanceUID = f"1.2.3.{number}.1.1"
    dataset.PatientName, dataset.PatientID = "Golden^Run", f"G-{number // 2}"
    dataset.PatientSex, dataset.PatientAge = "F" if number % 2 else "M", "010Y"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "20100203", "20200303", "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "17", "A-815", ""
    dataset.ImageLaterality, dataset.BurnedInAnnotation, dataset.PixelSpacing = "L", "NO", [0.2, 0.2]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2" if number % 2 else "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    if syntax == uid.JPEGBaseline8Bit:
        _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        dataset.PixelData = encapsulate([jpeg.tobytes()])
        dataset["PixelData"].VR = "OB"
    elif syntax.is_compressed:
        dataset.compress(syntax, pixels, generate_instance_uid=False)
    else:
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OB"
    return dataset
