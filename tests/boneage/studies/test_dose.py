import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.studies.dose import dose, find_deviation_index

IMAGE = np.zeros((8, 8), np.uint8)
NAME, NUMBER, BORN, DAY = "Zwetschgenbaum^Ottilie", "PATIENT-4711", "20140203", "20240517"
FILES = [
    # Number of the patient, study, dose area product, exposure index, target, deviation index, model
    ("1", "1.1", "0.10", "500", "250", "3.0", "Ray 2"),
    ("1", "1.1", "0.30", "250", "250", "", "Ray 2"),
    ("1", "1.2", "", "125", "250", "1.0", "Ray 2"),
    ("2", "1.3", "0.20", "", "", "-1.5", "=Ray"),
    ("", "1.4", "0.40", "", "", "", ""),
]


@pytest.fixture
def files(tmp_path, write_dicom):
    folder = tmp_path / "files"
    folder.mkdir()
    for index, (patient, study, product, exposure, target, deviation, model) in enumerate(FILES):
        path = write_dicom(
            IMAGE,
            SOPInstanceUID=f"1.2.3.{index}",
            StudyInstanceUID=study,
            PatientName=NAME,
            PatientID=f"{NUMBER}-{patient}" if patient else "",
            PatientBirthDate=BORN,
            StudyDate=DAY if patient else "",
            ImageAndFluoroscopyAreaDoseProduct=product,
            ExposureIndex=exposure,
            TargetExposureIndex=target,
            DeviationIndex=deviation,
            ManufacturerModelName=model,
        )
        shutil.copy(path, folder / f"{NAME}-{index}.dcm")
    (folder / "notes.txt").write_text("no radiograph")
    (folder / "hand.png").write_bytes(b"no DICOM")
    return folder


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "dose", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_find_deviation_index_of_twice_the_target_is_3():
    found = find_deviation_index(pd.Series([500.0, 250.0, 125.0, np.nan]), target=pd.Series([250.0] * 4))
    assert found.round(2).tolist()[:3] == [3.01, 0, -3.01] and np.isnan(found[3])


def test_dose_sums_by_child_and_counts_repeats(files):
    found = dose(files)
    assert found.children["child"].tolist() == ["1", "2"]
    first = found.children.iloc[0]
    assert (first["num_radiographs"], first["num_studies"], first["num_repeats"], first["num_doses"]) == (3, 2, 1, 2)
    assert first["dose_area_product_dgy_cm2"] == pytest.approx(0.4)
    assert found.num_without_child == 1
    assert found.num_rejected == {"no DICOM": 1, "not_an_image": 1}


def test_dose_computes_missing_deviation_indices_and_counts_wrong_ones(files):
    found = dose(files)
    assert found.radiographs["deviation_index"].round(2).tolist()[:4] == [3.0, 0.0, 1.0, -1.5]
    # Of the third, half the target, the header says +1.
    assert (found.num_computed, found.num_contradictory) == (1, 1)


def test_dose_summarises_by_device_age_and_year_and_tells_what_is_missing(files):
    groups = dose(files).groups.set_index(["group", "level", "quantity"])
    product = "dose_area_product_dgy_cm2"
    whole = groups.loc[("all", "all", product)]
    assert (whole["num"], whole["num_missing"]) == (4, 1)
    assert whole["median"] == pytest.approx(0.25)
    assert groups.loc[("device", "Ray 2", product), "num_missing"] == 1
    assert groups.loc[("age", "10-13", product), "num"] == 3
    assert groups.loc[("age", "unknown", product), "num"] == 1
    assert groups.loc[("year", "2024", product), "num"] == 3
    assert groups.loc[("all", "all", "tube_voltage_kv"), "num"] == 0


def test_dose_lets_nothing_personal_out(files, tmp_path, monkeypatch, capsys):
    status, told = run(monkeypatch, capsys, files, "--out", tmp_path / "out", "--json")
    assert (status, told.err) == (0, "")
    assert json.loads(told.out) == json.loads((tmp_path / "out" / "dose.json").read_text())
    texts = [told.out, *(path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".csv", ".json"))]
    assert len(texts) == 5
    for secret in (*NAME.split("^"), NUMBER, BORN, DAY, "1.2.3", "2024-05"):
        assert not any(secret in text for text in texts)
    assert pd.read_csv(tmp_path / "out" / "radiographs.csv")["device"].tolist()[3:] == ["'=Ray", "unknown"]
    with Image.open(tmp_path / "out" / "dose.png") as figure:
        assert min(figure.size) > 500 and len(figure.convert("L").getcolors()) > 10


def test_dose_command_tells_all(files, monkeypatch, capsys):
    status, told = run(monkeypatch, capsys, files)
    assert (status, told.err) == (0, "")
    for words in (
        "dose area product",
        "=Ray",
        "exposure, mAs: in no header",
        "5 radiographs of 2 children; without a child: 1; repeats within a study: 1",
        "deviation index contradicts exposure index and target: 1",
        "not read: 1 no DICOM, 1 not_an_image",
    ):
        assert words in told.out


@pytest.mark.parametrize(("name", "told"), [("missing", "no such file or folder"), ("empty", "no readable DICOM file")])
def test_dose_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys, name, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("")
    status, printed = run(monkeypatch, capsys, tmp_path / name, "--out", tmp_path / "out")
    assert (status, printed.out, printed.err.count("\n")) == (1, "", 1)
    assert told in printed.err
    assert not (tmp_path / "out").exists()


def test_dose_with_areas_measures_field_and_hand(tmp_path, write_dicom):
    pixels = draw_radiograph(120, sex="female", seed=7).pixels
    height, width = pixels.shape
    for name, spacing in (("1", {"PixelSpacing": [0.5, 0.5]}), ("2", {})):
        shutil.copy(write_dicom(pixels, SOPInstanceUID=f"1.2.3.{name}", **spacing), tmp_path / f"{name}.dcm")
    found = dose([tmp_path / "1.dcm", tmp_path / "2.dcm"], areas=True)
    with_spacing, without = (row for _, row in found.radiographs.iterrows())
    assert 0.5 < with_spacing["field_area_mm2"] / (height * width / 4) <= 1
    assert with_spacing["hand_area_mm2"] / with_spacing["field_area_mm2"] == pytest.approx(with_spacing["hand_share"])
    assert 0.1 < with_spacing["hand_share"] < 0.6
    assert without["hand_share"] == with_spacing["hand_share"] and np.isnan(without["field_area_mm2"])
    groups = found.groups.set_index(["group", "quantity"]).loc["all"]
    assert groups.loc["hand_area_mm2", ["num", "num_missing"]].tolist() == [1, 1]


def test_dose_with_areas_of_what_is_no_hand(files):
    found = dose(files, areas=True)
    assert found.radiographs["hand_share"].isna().all()
