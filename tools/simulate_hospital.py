"""Write a simulated hospital: radiographs of a validation split as DICOM files of another device and another reader.

    python tools/simulate_hospital.py rsna100 --split rsna100/split.csv --out hospital

The device has inverted grey values (MONOCHROME1), 12 bits, another contrast and a bright frame; the reader reads 0.95
times the label plus 6 months. A tenth of the patients have two radiographs, the second one rotated and darker. Sex and
a synthetic patient number are in the header, the reading is in `labels.csv`; the files contain no patient data.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.sources.sources import find_cases
from boneage.preprocessing.sources.splits import read_split_file

SLOPE, OFFSET_MONTHS = 0.95, 6.0
SECOND_SHARE = 0.1


def render(pixels: np.ndarray, *, rng: np.random.Generator, second: bool) -> np.ndarray:
    """Return 12-bit pixels as the device stores them, shape `(height + frame, width + frame)`, uint16, black bone."""
    grey = pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
    if second:
        middle = ((grey.shape[1] - 1) / 2, (grey.shape[0] - 1) / 2)
        grey = 0.8 * cv2.warpAffine(
            grey, cv2.getRotationMatrix2D(middle, float(rng.uniform(-8, 8)), 1.0), grey.shape[::-1]
        )
    exposed = 0.15 + 0.7 * grey ** rng.uniform(0.65, 0.85)
    thickness = max(1, round(0.03 * max(grey.shape)))
    framed = np.pad(exposed, thickness, constant_values=0.95)
    return np.rint((1 - framed) * 4095).astype(np.uint16)


def write_dicom(path: Path, pixels: np.ndarray, *, sex: str, patient: str, number: int) -> None:
    """Write one radiograph."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.10.1338.{number}"
    dataset.Modality, dataset.BodyPartExamined, dataset.PatientID = "DX", "HAND", patient
    dataset.PatientSex = "M" if sex == "male" else "F"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def main() -> None:
    """Read the arguments and write the hospital."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="radiographs with labels")
    parser.add_argument("--split", type=Path, required=True, help="CSV with id,split; the validation split is used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-patients", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    splits = read_split_file(options.split)
    cases = [
        case
        for case in find_cases(options.source)[0]
        if splits.get(case.id) == "validation" and case.bone_age_months is not None and case.sex is not None
    ]
    rng = np.random.default_rng(options.seed)
    options.out.mkdir(parents=True)
    rows = []
    for number, index in enumerate(rng.permutation(len(cases))[: options.num_patients]):
        case = cases[index]
        pixels = read_radiograph(case.path).pixels
        for second in (False, True)[: 2 if rng.random() < SECOND_SHARE else 1]:
            name = f"{number:04d}{'b' if second else 'a'}"
            shown = render(pixels, rng=rng, second=second)
            write_dicom(
                options.out / f"{name}.dcm", shown, sex=case.sex, patient=f"P{number:04d}", number=2 * number + second
            )
            rows.append((name, round(SLOPE * case.bone_age_months + OFFSET_MONTHS, 1)))
    with (options.out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "boneage"), *rows])


if __name__ == "__main__":
    main()
