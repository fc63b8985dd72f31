"""A physicist has the DICOM files of a hospital's archive, in nested folders, under names without an ending."""

import csv

import pydicom
import pytest

pytestmark = pytest.mark.slow

# Five drawn hands and one of raw detector values, each of a child with a name, and a note. The pages give three names
# to a folder of files.
DRAW = """
from pathlib import Path
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from boneage.preprocessing.synthetic import draw_radiographs

rows = ["sop_instance_uid,boneage"]
for number, hand in enumerate(draw_radiographs(6, seed=3, size_px=(640, 512))):
    is_raw = number == 5
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    for_display, raw = uid.DigitalXRayImageStorageForPresentation, uid.DigitalXRayImageStorageForProcessing
    header.SOPClassUID = raw if is_raw else for_display
    header.PresentationIntentType = "FOR PROCESSING" if is_raw else "FOR PRESENTATION"
    header.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.{number}"
    header.SeriesInstanceUID, header.SOPInstanceUID = f"{header.StudyInstanceUID}.1", f"{header.StudyInstanceUID}.2"
    header.Modality, header.StudyDate, header.KVP, header.ExposureInuAs = "DX", "20200101", "50", "2000"
    header.PatientName, header.PatientID = f"Doe^Jane{number}", f"HOSPITAL-{number}"
    header.PatientSex, header.PatientAge = hand.sex[0].upper(), f"{round(hand.bone_age_months):03}M"
    header.Rows, header.Columns = hand.pixels.shape
    header.SamplesPerPixel, header.PixelRepresentation, header.PhotometricInterpretation = 1, 0, "MONOCHROME1"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.ImagerPixelSpacing = [0.4, 0.4]
    header.PixelData = (4095 - 16 * hand.pixels.astype(np.uint16)).tobytes()
    path = Path("dicom") / f"PAT{number}" / "IM000000"
    path.parent.mkdir(parents=True)
    header.save_as(path, enforce_file_format=True)
    rows.append(f"{header.SOPInstanceUID},{round(hand.bone_age_months)}")
Path("dicom/notes.txt").write_text("called the ward")
Path("labels.csv").write_text("\\n".join(rows))
for name in ("dicom-new", "hospital"):
    Path(name).symlink_to("dicom")
"""
NUM_HANDS = 5
TOLERANCE_MONTHS = 40


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_labels(user):
    return {row["sop_instance_uid"]: float(row["boneage"]) for row in read_csv(user.folder / "labels.csv")}


@pytest.fixture
def archive(user):
    user.runs(DRAW)
    return user


def test_predict_with_reports(archive):
    line = "boneage predict dicom-new/ --dicom reports --fhir observations --out predictions.csv"
    archive.types(line, page="docs/reports.md")
    labels = read_labels(archive)
    rows = read_csv(archive.folder / "predictions.csv")
    accepted = [row for row in rows if row["accepted"] == "True"]
    assert len(accepted) == NUM_HANDS
    for row in accepted:
        assert float(row["bone_age_months"]) == pytest.approx(labels[row["id"]], abs=TOLERANCE_MONTHS)
        # Sex and age are those of the header.
        assert row["sex"] in ("female", "male")
        assert row["sds"]
        report, capture, observation = row["reports"].split(";")
        assert pydicom.dcmread(archive.folder / "reports" / report).PatientName.family_name == "Doe"
        assert pydicom.dcmread(archive.folder / "reports" / capture).pixel_array.any()
        assert (archive.folder / "observations" / observation).is_file()
    refused = {row["file"]: (row["reasons"], row["detail"]) for row in rows if row["accepted"] == "False"}
    assert {file: reasons for file, (reasons, _) in refused.items()} == {
        "PAT5/IM000000": "for_processing",
        "notes.txt": "not_an_image",
    }
    assert "export the image FOR PRESENTATION" in refused["PAT5/IM000000"][1]
    for path in (archive.folder / "predictions.csv", *(archive.folder / "observations").iterdir()):
        assert not any(word in path.read_text(encoding="utf-8") for word in ("Doe", "HOSPITAL"))


def test_prepare_with_a_table_of_labels(archive):
    line = "boneage prepare dicom/ --table labels.csv --split random --out records/ours"
    archive.types(line, page="docs/hospital.md")
    told = archive.types("boneage records records/ours --verify", page="docs/hospital.md").stdout
    assert "verified" in told
    rejected = read_csv(archive.folder / "records" / "ours" / "rejected.csv")
    assert sorted(row["reason"] for row in rejected) == ["for_processing", "not_an_image"]
    assert (archive.folder / "records" / "ours" / "review" / "index.html").is_file()


def test_dose(archive):
    told = archive.types("boneage dose hospital/ --out exposure", page="docs/studies.md").stdout
    assert "6 radiographs of 6 children" in told
    (row,) = [
        row
        for row in read_csv(archive.folder / "exposure" / "groups.csv")
        if (row["group"], row["quantity"]) == ("all", "exposure_mas")
    ]
    assert (row["num"], float(row["median"])) == ("6", 2.0)
    assert not any(
        "Doe" in path.read_text(encoding="utf-8")
        for path in (archive.folder / "exposure").iterdir()
        if path.suffix == ".csv"
    )
