"""Reports for other systems: what they say, that validators find no fault, and who learns of the patient."""

import dataclasses
import io
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from fhir.resources.R4B.observation import Observation
from PIL import Image
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ComprehensiveSRStorage, SecondaryCaptureImageStorage

from boneage.cli.main import main
from boneage.inference.comparison import compare_ages
from boneage.inference.messages import WARNINGS, explain_warning
from boneage.inference.predict import PredictionError, predict
from boneage.inference.reports import ReportError
from boneage.inference.reports.dicom import make_dicom_objects
from boneage.inference.reports.fhir import make_observation
from boneage.inference.reports.picture import draw_report
from boneage.preprocessing.io.read import read_radiograph

SECRETS = ("Müller", "Zoë", "PATIENT-4711", "20100203", "2010-02-03", "Arzt", "A-815")
IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def run_tool(*words):
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]} of Debian's dicom3tools and dcmtk")
    return subprocess.run([*map(str, words)], capture_output=True, text=True, errors="replace")


@pytest.fixture(scope="module")
def made(hand_reader, write_hand, tmp_path_factory):
    """The reports of one drawn hand: its table, and both folders."""
    folder = tmp_path_factory.mktemp("reports")
    bundle = hand_reader.age_bundle.folder
    frame = predict(write_hand(), bundle=bundle, dicom=folder / "dicom", fhir=folder / "fhir", out=folder / "out.csv")
    return frame.iloc[0], folder / "dicom", folder / "fhir"


def read_objects(folder):
    objects = [pydicom.dcmread(path) for path in folder.iterdir()]
    return {UID(dataset.SOPClassUID): dataset for dataset in objects}


def find(item, name):
    """All content items of that name, at any depth."""
    found = [item] if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == name else []
    return [*found, *(match for child in item.get("ContentSequence", ()) for match in find(child, name))]


def test_report_tells_the_bone_age_its_interval_its_source_and_who_measured(made, hand_reader):
    row, folder, _ = made
    report = read_objects(folder)[ComprehensiveSRStorage]
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (age,) = find(report, "37362-1")
    measured = age.MeasuredValueSequence[0]
    assert age.ConceptNameCodeSequence[0].CodingSchemeDesignator == "LN"
    assert float(measured.NumericValue) == pytest.approx(row["bone_age_months"], abs=0.051)
    unit = measured.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("mo", "UCUM")
    for name, reach in (
        (codes.SCT.RangeOfUpperMeasurementUncertainty, row["high_months"] - row["bone_age_months"]),
        (codes.SCT.RangeOfLowerMeasurementUncertainty, row["bone_age_months"] - row["low_months"]),
    ):
        (item,) = find(age, name.value)
        assert float(item.MeasuredValueSequence[0].NumericValue) == pytest.approx(reach, abs=0.051)
        assert item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mo"
    told = " ".join(item.TextValue for item in find(age, "111001") + find(age, "111002") + find(age, "111003"))
    metadata = hand_reader.age_bundle.metadata
    for value in ("boneage", "0.1.0", metadata["sha256"]["model.onnx"], metadata["fingerprint"]):
        assert value in told
    (source,) = find(age, "121112")
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.7"
    comments = [item.TextValue for item in find(report, codes.DCM.Comment.value)]
    assert f"{row['low_months']:.1f} to {row['high_months']:.1f} months" in comments[0]
    brush = "Brush Foundation (Greulich and Pyle 1959)"
    assert comments[1] == "Sex: female, as given" and comments[-1] == "Research use, not a medical device"
    assert f"Side: {row['side']}" in comments and row["side"].startswith("left by the header; ")
    assert f"Standard deviation score: {row['sds']:+.1f} by {brush}" in comments
    assert f"Determination: {row['determination']}" in comments
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.7"
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def read_number(item, name):
    (found,) = find(item, name.value)
    return float(found.MeasuredValueSequence[0].NumericValue)


@pytest.mark.parametrize(
    ("months", "determination", "normality", "interpretation"),
    [
        (90.0, "delayed", codes.SCT.AbnormallyLow, "L"),
        (124.0, "normal", codes.SCT.Normal, "N"),
        (160.0, "advanced", codes.SCT.AbnormallyHigh, "H"),
    ],
)
def test_reports_carry_score_centile_and_determination_with_their_reference(
    hand_reader, write_hand, months, determination, normality, interpretation
):
    path = write_hand()
    radiograph = read_radiograph(path)
    comparison = compare_ages(
        hand_reader.reference,
        {"female": months},
        bone_age_months=months,
        interval_months=(months - 9, months + 9),
        sex="female",
        chronological_age_months=120,
    )
    reading = hand_reader.read(radiograph, path=path, sex="female")
    reading = dataclasses.replace(reading, bone_age_months=months, comparison=comparison)
    made = make_dicom_objects(radiograph.header, radiograph, reading, reader=hand_reader, path=path)
    report = next(one for one in map(pydicom.dcmread, map(io.BytesIO, made.values())) if "ContentSequence" in one)
    (age,) = find(report, "37362-1")
    assert find(age, "121402")[0].ConceptCodeSequence[0].CodeValue == normality.value
    assert read_number(age, codes.DCM.ZScoreOfMeasurement) == pytest.approx((months - 125.66) / 11.73, abs=0.051)
    assert read_number(age, codes.DCM.PercentileRankingOfMeasurement) == comparison.centile
    assert read_number(age, codes.SCT.NormalRangeLowerLimit) == round(125.66 - 2 * 11.73)
    assert "Brush Foundation" in find(age, codes.DCM.PopulationDescription.value)[0].TextValue
    told = make_observation(reading, reader=hand_reader, id="1", study=radiograph.header)
    Observation.model_validate(told)
    check_r4(told)
    assert told["effectiveDateTime"] == "2020-03-03"
    assert told["interpretation"][0]["coding"][0]["code"] == interpretation
    assert told["interpretation"][0]["text"] == determination
    (normal,) = told["referenceRange"]
    assert (normal["low"]["value"], normal["high"]["value"]) == (102, 149)
    values = {
        part["code"]["text"]: part["valueQuantity"]["value"] for part in told["component"] if "valueQuantity" in part
    }
    brush = "Brush Foundation (Greulich and Pyle 1959)"
    assert values == {
        f"Standard deviation score by {brush}": round(comparison.sds, 1),
        f"Centile by {brush}": comparison.centile,
    }


def test_reports_of_unknown_age_determine_nothing_and_say_why(hand_reader, write_hand):
    path = write_hand(remove=["PatientBirthDate"])
    radiograph = read_radiograph(path)
    reading = hand_reader.read(radiograph, path=path, sex="female")
    told = make_observation(reading, reader=hand_reader, id="1", study=radiograph.header)
    Observation.model_validate(told)
    assert not {"interpretation", "referenceRange"} & set(told)
    notes = [note["text"] for note in told["note"]]
    assert "Standard deviation score: none: the chronological age is not known" in notes
    assert not any("normal" in note for note in notes)


def test_a_warning_has_the_same_words_in_every_report(hand_reader, write_hand, tmp_path):
    # The header says 17 years, by its birth date.
    path = write_hand(PatientBirthDate="20030203", ImageLaterality="R")
    bundle = hand_reader.age_bundle.folder
    row = predict(path, bundle=bundle, dicom=tmp_path / "dicom", fhir=tmp_path / "fhir").iloc[0]
    texts = [explain_warning("age_looks_wrong"), explain_warning("side_looks_wrong")]
    assert row["warnings"] == "age_looks_wrong;side_looks_wrong"
    assert row["remarks"] == " ".join(texts)
    report = read_objects(tmp_path / "dicom")[ComprehensiveSRStorage]
    comments = [item.TextValue for item in find(report, codes.DCM.Comment.value)]
    (observation,) = (json.loads(path.read_text()) for path in (tmp_path / "fhir").iterdir())
    for text in texts:
        assert text in comments and {"text": text} in observation["note"]
    for path in (tmp_path / "dicom").iterdir():
        checked = run_tool("dciodvfy", path)
        assert "Error" not in checked.stderr + checked.stdout, checked.stderr


def test_both_objects_belong_to_the_patient_and_study_of_the_source(made, write_hand):
    row, folder, _ = made
    source, objects = pydicom.dcmread(write_hand()), read_objects(folder)
    assert set(objects) == {ComprehensiveSRStorage, SecondaryCaptureImageStorage}
    for dataset in objects.values():
        assert {keyword: dataset[keyword].value for keyword in IDENTITY} == {
            keyword: source[keyword].value for keyword in IDENTITY
        }
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
        assert f"{dataset.SOPInstanceUID}.dcm" in row["reports"].split(";")
    assert len({dataset.SeriesInstanceUID for dataset in objects.values()}) == 2
    capture = objects[SecondaryCaptureImageStorage]
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.Laterality == "L"


@pytest.mark.parametrize(("said", "expected"), [("NO", "NO"), ("YES", "YES"), ("", None), ("maybe", None)])
def test_capture_says_of_burnt_in_identity_what_its_source_does(hand_reader, write_hand, tmp_path, said, expected):
    path = write_hand(BurnedInAnnotation=said)
    predict(path, bundle=hand_reader.age_bundle.folder, dicom=tmp_path)
    for dataset in read_objects(tmp_path).values():
        assert dataset.get("BurnedInAnnotation") == (expected if "PixelData" in dataset else None)


def test_capture_shows_the_outline_the_crop_and_the_words(made):
    pixels = read_objects(made[1])[SecondaryCaptureImageStorage].pixel_array
    assert pixels.shape[2] == 3 and pixels.shape[0] == 1024
    left, right = pixels[:, :-560], pixels[:, -536:]
    green = (left[..., 1] > 180) & (left[..., 0] < 120)
    assert green.sum() > 1000
    assert (right[24:536].max(axis=2) > 100).mean() > 0.1  # the crop
    amber = (right[560:] == (255, 190, 60)).all(axis=2)
    assert amber.sum() > 100  # the notice


def test_picture_tells_of_a_right_hand_and_of_warnings(hand_reader, write_hand):
    radiograph = read_radiograph(write_hand())
    reading = hand_reader.read(radiograph, path=write_hand(), sex="female")
    plain = draw_report(radiograph, reading, reader=hand_reader)
    warned = dataclasses.replace(reading, warnings=("sex_looks_wrong",))
    right = dataclasses.replace(reading, side="right")
    whole = dataclasses.replace(reading, hand=None, low_months=float("nan"), high_months=float("nan"), sex=None)
    for changed in (warned, right, whole):
        drawn = draw_report(radiograph, changed, reader=hand_reader)
        assert drawn.shape == plain.shape and not np.array_equal(drawn, plain)


def test_picture_cuts_off_no_text(hand_reader, write_hand):
    radiograph = read_radiograph(write_hand())
    reading = hand_reader.read(radiograph, path=write_hand(), sex="female", chronological_age_months=120)
    for warnings in (("age_looks_wrong",), (*WARNINGS, *WARNINGS)):
        drawn = draw_report(radiograph, dataclasses.replace(reading, warnings=warnings), reader=hand_reader)
        assert not drawn[-12:, -536:].any() and drawn[-120:, -536:].any()
    assert len(drawn) > 1024


@pytest.mark.parametrize("number", [0, 1])
def test_dciodvfy_finds_no_error(made, number):
    path = sorted(made[1].iterdir())[number]
    told = run_tool("dciodvfy", path)
    assert "Error" not in told.stderr + told.stdout, told.stderr
    assert any(name in told.stderr for name in ("ComprehensiveSR", "SCImage"))


def test_dcmtk_reads_both(made):
    told = ""
    for path in made[1].iterdir():
        assert run_tool("dcmdump", path).returncode == 0
        told += run_tool("dsrdump", path).stdout
    assert '"Bone age")=' in told and "(mo,UCUM" in told


def check_r4(observation):
    """What R4 asks for beyond R4B's schema (https://hl7.org/fhir/R4/observation.html)."""
    assert set(observation) <= {
        "resourceType", "id", "status", "category", "code", "issued", "valueQuantity", "method", "contained", "device",
        "note", "component", "derivedFrom", "effectiveDateTime", "interpretation", "referenceRange",
    }  # fmt: skip
    assert observation["device"]["reference"] == f"#{observation['contained'][0]['id']}"


def test_observation_is_fhir_and_tells_the_months_the_interval_and_the_study(made):
    row, _, folder = made
    (path,) = folder.iterdir()
    told = json.loads(path.read_text())
    Observation.model_validate(told)
    check_r4(told)
    assert path.name == f"{told['id']}.json" and path.name in row["reports"]
    assert told["status"] == "preliminary"
    assert told["code"]["coding"][0] == {"system": "http://loinc.org", "code": "37362-1"}
    months = {"unit": "months", "system": "http://unitsofmeasure.org", "code": "mo"}
    assert told["valueQuantity"] == {"value": round(row["bone_age_months"], 1), **months}
    assert told["component"][0]["valueRange"] == {
        "low": {"value": round(row["low_months"], 1), **months},
        "high": {"value": round(row["high_months"], 1), **months},
    }
    assert told["derivedFrom"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.4"}
    assert "subject" not in told


@pytest.fixture
def png(tmp_path):
    """A PNG, half black and half white."""
    pixels = np.zeros((20, 20), np.uint8)
    pixels[:, 10:] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    return tmp_path / "half.png"


def test_observation_of_a_png_names_no_study_and_no_interval_that_is_not_known(reader, png):
    reading = reader.read(read_radiograph(png), path=png, sex="male")
    unknown = dataclasses.replace(reading, low_months=float("nan"), high_months=float("nan"))
    told = make_observation(unknown, reader=reader, id="1", study=None)
    Observation.model_validate(told)
    check_r4(told)
    assert "component" not in told and "derivedFrom" not in told


def test_interval_without_an_upper_end_is_named_in_all_reports(hand_reader, write_hand):
    path = write_hand()
    radiograph = read_radiograph(path)
    reading = hand_reader.read(radiograph, path=path, sex="female")
    opened = dataclasses.replace(reading, low_months=165.4, high_months=240.0)
    told = make_observation(opened, reader=hand_reader, id="1", study=None)
    Observation.model_validate(told)
    assert set(told["component"][0]["valueRange"]) == {"low"}
    assert "165.4 months or more" in told["note"][0]["text"]
    made = make_dicom_objects(pydicom.dcmread(path), radiograph, opened, reader=hand_reader, path=path)
    report = next(one for one in map(pydicom.dcmread, map(io.BytesIO, made.values())) if "ContentSequence" in one)
    comments = [item.TextValue for item in find(report, "121106")]
    assert any("165.4 months or more" in comment for comment in comments)
    assert find(report, codes.SCT.RangeOfLowerMeasurementUncertainty.value)
    assert not find(report, codes.SCT.RangeOfUpperMeasurementUncertainty.value)


def test_only_the_objects_tell_who_the_patient_is(hand_reader, write_hand, tmp_path, caplog, capfd, monkeypatch):
    caplog.set_level(logging.DEBUG)
    path = write_hand(PatientName="Müller", PatientBirthDate="03.02.2010", StudyTime="10:11:12")
    caplog.clear()
    words = ["--dicom", tmp_path / "dicom", "--fhir", tmp_path / "fhir", "--out", tmp_path / "out.csv"]
    run_main(monkeypatch, path, "--bundle", hand_reader.age_bundle.folder, *words)
    told = [caplog.text, *capfd.readouterr(), (tmp_path / "out.csv").read_text()]
    told += [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    told += [path.read_text() for path in (tmp_path / "fhir").iterdir()]
    assert len(list((tmp_path / "dicom").iterdir())) == 2
    for secret in (*SECRETS, "03.02.2010"):
        assert not any(secret in text for text in told), secret
    assert {str(dataset.PatientName) for dataset in read_objects(tmp_path / "dicom").values()} == {"Müller"}


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["boneage", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_one_line_tells_of_files_that_are_no_dicom(reader, png, write_hand, tmp_path, capsys, monkeypatch):
    words = ["--bundle", reader.age_bundle.folder, "--sex", "female", "--dicom", tmp_path / "dicom"]
    assert run_main(monkeypatch, png, write_hand(), *words) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"{tmp_path / 'dicom'}: no DICOM report for 1 predictions: their files are not DICOM"
    assert len(list((tmp_path / "dicom").iterdir())) == 2


@pytest.mark.parametrize(
    ("keyword", "value"), [("StudyInstanceUID", ""), ("SeriesInstanceUID", ""), ("SOPInstanceUID", "1.02.3")]
)
def test_a_header_without_a_study_is_answered_and_told(reader, write_hand, tmp_path, keyword, value):
    row = predict(
        write_hand(**{keyword: value}),
        bundle=reader.age_bundle.folder,
        dicom=tmp_path / "dicom",
        fhir=tmp_path / "fhir",
    ).iloc[0]
    assert row["accepted"] and row["bone_age_months"] > 0
    assert keyword in row["detail"] and row["detail"].count("\n") == 0
    assert list((tmp_path / "dicom").iterdir()) == []
    (observation,) = (tmp_path / "fhir").iterdir()
    assert row["reports"] == observation.name
    assert ("derivedFrom" in json.loads(observation.read_text())) == (keyword != "StudyInstanceUID")


def test_a_header_that_lacks_what_may_be_empty_is_reported(reader, write_hand, tmp_path):
    empty = dict.fromkeys((keyword for keyword in IDENTITY if keyword not in ("StudyInstanceUID", "PatientSex")), "")
    path = write_hand(**empty, remove=["StudyID", "AccessionNumber", "ReferringPhysicianName", "ImageLaterality"])
    predict(path, bundle=reader.age_bundle.folder, dicom=tmp_path)
    for path in tmp_path.iterdir():
        told = run_tool("dciodvfy", path)
        assert "Error" not in told.stderr + told.stdout, told.stderr


def test_folders_that_cannot_be_made_are_told_before_anything_is_read(reader, png, tmp_path):
    (tmp_path / "taken").write_text("a file")
    for option in ("dicom", "fhir"):
        with pytest.raises(ReportError, match=f"--{option}"):
            predict(png, bundle=reader.age_bundle.folder, sex="male", **{option: tmp_path / "taken"})


def test_a_full_disk_is_one_line(reader, png, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "reports")

    monkeypatch.setattr("boneage.inference.reports.writer.write_json", fail)
    with pytest.raises(PredictionError, match="No space left"):
        predict(png, bundle=reader.age_bundle.folder, sex="male", fhir=tmp_path / "fhir")


def test_the_extra_is_named_and_nothing_of_it_is_loaded_without_need(reader, png, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert (
        run_main(monkeypatch, png, "--sex", "male", "--bundle", reader.age_bundle.folder, "--dicom", tmp_path / "dicom")
        == 1
    )
    assert (
        capsys.readouterr().err.strip() == "boneage: requires highdicom; install it with: pip install 'boneage[serve]'"
    )
    script = (
        "import sys; from boneage.inference.predict import predict; "
        "predict(sys.argv[1], bundle=sys.argv[2], sex='male', "
        "fhir=sys.argv[3]); print({'highdicom', 'pynetdicom', 'fastapi', 'tensorflow', 'torch'} & set(sys.modules))"
    )
    words = [sys.executable, "-c", script, str(png), str(reader.age_bundle.folder), str(tmp_path / "fhir")]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "set()\n"
