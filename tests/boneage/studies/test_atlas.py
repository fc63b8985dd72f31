import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.studies.atlas import reference_atlas

READINGS = """id,reader,months,sex
1,A,120,M
1,B,120,M
2,A,125,M
2,B,125,M
3,A,117,M
3,B,133,M
4,A,131,M
4,B,131,M
5,A,125,F
5,B,127,F
6,A,125,F
7,A,125,
7,B,125,
8,A,124,F
8,B,124,F
9,A,60,M
9,B,62,M
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "readings.csv").write_text(READINGS)
    (tmp_path / "films").mkdir()
    for number in range(1, 8):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "films" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "reference", "atlas", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_reference_atlas_chooses_agreement_on_the_median(files):
    atlas = reference_atlas("readings.csv", "films", out="out")
    plates = atlas.plates.set_index(["sex", "age_years"])
    # The median of 120, 125, 125 and 131: the readers of 3 are right on average, those of 2 each.
    assert plates.loc[("male", 10), "id"] == "2"
    assert plates.loc[("male", 10), ["bone_age_months", "median_months", "distance_months"]].tolist() == [125, 125, 0]
    assert plates.loc[("male", 10), "num_radiographs"] == 4
    assert plates.loc[("female", 10), "id"] == "5"
    assert plates.loc[("female", 10), "distance_months"] == pytest.approx(1)
    # 6 has one reader, 7 no sex, 8 and 9 no file.
    assert (len(plates), atlas.num_left_out) == (2, 4)
    assert pd.read_csv("out/atlas.csv")["id"].tolist() == [5, 2]
    for sex in ("female", "male"):
        with Image.open(f"out/atlas-{sex}.png") as sheet:
            assert min(sheet.size) > 300 and len(sheet.convert("L").getcolors()) > 50


def test_reference_atlas_takes_the_sex_from_any_reading(files):
    (files / "readings.csv").write_text("id,reader,months,sex\n1,A,120,M\n1,B,122,\n2,A,130,\n2,B,130,F\n")
    plates = reference_atlas("readings.csv", "films", out="out").plates
    assert plates[["sex", "id", "num_readers"]].to_numpy().tolist() == [["female", "2", 2], ["male", "1", 2]]


def test_reference_atlas_takes_the_next_where_a_file_cannot_be_read(files):
    data = (files / "films" / "2.png").read_bytes()
    (files / "films" / "2.png").write_bytes(data[: len(data) // 2])
    atlas = reference_atlas("readings.csv", "films", out="out")
    assert atlas.plates.set_index("sex").loc["male", "id"] in ("1", "4")
    assert atlas.num_left_out == 5


def test_reference_atlas_prints_the_plates(files, monkeypatch, capsys):
    status, told = run(monkeypatch, capsys, "readings.csv", "films", "--out", "out", "--json")
    assert (status, told.err) == (0, "")
    assert [plate["id"] for plate in json.loads(told.out)["plates"]] == ["5", "2"]
    status, told = run(monkeypatch, capsys, "readings.csv", "films", "--out", "out")
    assert status == 0 and "4 radiographs left out" in told.out and "125.0" in told.out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,reader,months\n1,A,120\n", "needs a column sex"),
        ("id,reader,months,sex\n99,A,120,M\n", "no file has the id of a reading"),
        ("id,reader,months,sex\n1,A,120,M\n", "no radiograph was read by 2 readers"),
        ("id,reader,months,sex\n1,A,120,?!\n", "a reading of 1: sex '?!' is not understood"),
        ("id,reader,months,sex\n1,A,120,M\n1,B,120,F\n", "readings of 1 state both sexes"),
    ],
)
def test_reference_atlas_says_what_is_wrong(files, text, told, monkeypatch, capsys):
    (files / "readings.csv").write_text(text)
    status, printed = run(monkeypatch, capsys, "readings.csv", "films", "--out", "out")
    assert status == 1 and printed.err.count("\n") == 1 and told in printed.err
