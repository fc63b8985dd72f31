import json
import sys

import pandas as pd
import pytest
from PIL import Image

import boneage
from boneage.cli.main import main
from boneage.studies.height import height

TABLES = """sex,maturation,bone_age_months,percent_of_adult_height
male,average,156,87.6
male,average,159,89.0
male,average,162,90.2
male,accelerated,186,97.1
male,retarded,153,87.3
male,retarded,156,88.0
female,average,120,86.2
female,retarded,120,87.4
female,retarded,123,88.4
"""
CDC = "Sex,Agemos,L,M,S\n1,24,0.941523967,86.45220101,0.040321528\n1,240,1.167279219,176.8492322,0.040369574\n"
WHO = "sex\tage\tl\tm\ts\n1\t120\t1\t137.7795\t0.04626\n2\t228\t1\t163.1548\t0.04009\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name, text in (("tables.csv", TABLES), ("statage.csv", CDC), ("who.txt", WHO)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "height", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_height_of_a_table_gives_the_heights_of_the_paper(files):
    (files / "children.csv").write_text(
        "id,sex,height_in,bone age (months),age_years,maturation\n"
        "1,M,60,159,13,\n2,M,51.5,159,13.5,\n3,M,67.5,186,12,\n4,F,55,123,12,\n5,F,55,123,,retarded\n"
    )
    found = height("children.csv", tables="tables.csv")
    assert [round(cm / 2.54, 1) for cm in found["adult_height_cm"]] == [67.4, 57.9, 69.5, 62.2, 62.2]
    assert found["maturation"].tolist() == ["average", "average", "accelerated", "retarded", "retarded"]
    assert found["child"].tolist() == ["1", "2", "3", "4", "5"]
    assert (found["reasons"] == "").all()
    assert found["cdc_sds"].isna().all()


def test_height_of_one_child_gives_target_and_scores(files):
    found = boneage.height(
        {
            "sex": "M",
            "height_cm": 137.7795 * (1 - 2 * 0.04626),
            "chronological_age_months": 120,
            "mother_cm": 165,
            "father_cm": 180,
        },
        cdc="statage.csv",
        who=["who.txt"],
    ).iloc[0]
    assert found[["target_height_cm", "target_low_cm", "target_high_cm"]].tolist() == [179, 170.5, 187.5]
    assert found["who_sds"] == pytest.approx(-2)
    assert found["cdc_sds"] < 0
    assert found["reasons"] == ""


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        (
            {"sex": "M", "height_cm": 140, "bone_age_months": 162, "chronological_age_months": 180},
            "bone age 13-6 is outside the table: the table for retarded boys has bone ages from 12-9 to 13-0",
        ),
        (
            {"sex": "F", "height_cm": 140, "bone_age_months": 140, "maturation": "accelerated"},
            "bone age 11-8 is outside the table: there is no table for accelerated girls",
        ),
        ({"sex": "M", "height_cm": 140, "bone_age_months": 159}, "unknown: chronological age, or the maturation"),
        ({"sex": "O", "height_cm": 140, "bone_age_months": 159}, "unknown: sex"),
        ({"sex": "M"}, "unknown: height, bone age"),
    ],
)
def test_height_outside_the_tables_is_a_reason(files, child, reason):
    found = height(child, tables="tables.csv").iloc[0]
    assert found["reasons"] == f"adult height: {reason}"
    assert pd.isna(found["adult_height_cm"])


def test_height_says_which_reference_has_no_such_age(files):
    child = {"sex": "M", "height_cm": 140, "chronological_age_months": 250, "mother_cm": 160}
    assert height(child, cdc="statage.csv", who="who.txt").iloc[0]["reasons"] == (
        "target height: unknown: height of the father; "
        "CDC: 250 months is outside the table: the CDC table for boys has ages from 24 to 240 months; "
        "WHO: 250 months is outside the table: the WHO table for boys has ages from 120 to 120 months"
    )


def test_height_takes_predictions_and_their_intervals(files):
    (files / "children.csv").write_text(
        "id,sex,height_cm,bone_age_months,low_months,high_months,age_months\n"
        "closed,male,152.4,159,156,162,160\nwide,male,152.4,159,140,240,160\nrefused,male,152.4,,,,160\n"
    )
    found = height("children.csv", tables="tables.csv").set_index("child")
    # The older the bones, the less is left to grow.
    assert found.loc["closed", "adult_height_low_cm"] == pytest.approx(152.4 / 0.902)
    assert found.loc["closed", "adult_height_high_cm"] == pytest.approx(152.4 / 0.876)
    assert found.loc["wide", "adult_height_cm"] == pytest.approx(152.4 / 0.89)
    assert found.loc["wide", ["adult_height_low_cm", "adult_height_high_cm"]].isna().all()
    assert found.loc["refused", "reasons"] == "adult height: unknown: bone age"


def test_height_writes_table_figures_and_json(files, monkeypatch, capsys):
    rows = "".join(f"=c{number},male,{140 + number},159,160,165,180\n" for number in range(31))
    (files / "children.csv").write_text(f"child,sex,height_cm,bone_age_months,age_months,mother_cm,father_cm\n{rows}")
    words = ("children.csv", "--tables", "tables.csv", "--who", "who.txt", "--out", "out")
    status, told = run(monkeypatch, capsys, *words, "--json")
    assert (status, told.err) == (0, "")
    assert json.loads(told.out) == json.loads((files / "out" / "height.json").read_text())
    assert pd.read_csv(files / "out" / "height.csv")["child"][0] == "'=c0"
    for name in ("height-1.png", "height-2.png"):
        with Image.open(files / "out" / name) as figure:
            assert figure.size[0] > 500 and len(figure.convert("L").getcolors()) > 10
    status, told = run(monkeypatch, capsys, *words)
    assert (status, told.err) == (0, "")
    assert "=c0: WHO: 160 months is outside the table" in told.out
    assert all(len(line.rstrip()) <= 80 for line in told.out.splitlines() if line.startswith("=c") and ":" not in line)


def test_height_command_describes_one_child(files, monkeypatch, capsys):
    child = ("--sex", "M", "--height", "152.4", "--bone-age", "159", "--age", "160")
    status, told = run(monkeypatch, capsys, *child, "--mother", "165", "--father", "180", "--tables", "tables.csv")
    assert (status, told.err) == (0, "")
    assert told.out.splitlines() == [
        "predicted adult height: 171.2 cm (89.0% of it reached; maturation average)",
        "target height: 179.0 cm, 170.5 to 187.5",
    ]
    assert round(171.2 / 2.54, 1) == 67.4


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "give a table of children, or --sex"),
        (("children.csv", "--sex", "M"), 2, "give a table of children, or --sex"),
        (("--sex", "M", "--height", "1.52"), 1, "--height must lie in 20 to 280"),
        (("--sex", "M", "--maturation", "retard"), 1, "Did you mean 'retarded'?"),
        (("--sex", "boy"), 1, "'boy' is not understood"),
        (("children.csv",), 1, "column 'height' states no unit; name it height_cm or height_in"),
        (("metres.csv",), 1, "row 2: height_cm is '1.52'; write a number of cm from 20 to 280"),
        (("word.csv",), 1, "row 2: maturation is 'late'"),
        (("--sex", "M", "--tables", "missing.csv"), 1, "missing.csv: No such file"),
    ],
)
def test_height_command_says_what_is_wrong(files, monkeypatch, capsys, words, status, told):
    (files / "children.csv").write_text("id,sex,height\n1,M,152\n")
    (files / "metres.csv").write_text("id,sex,height_cm\n1,M,1.52\n")
    (files / "word.csv").write_text("id,sex,maturation\n1,M,late\n")
    code, printed = run(monkeypatch, capsys, *words, "--out", "out")
    assert (code, printed.out) == (status, "")
    assert told in " ".join(printed.err.replace("│", " ").split())
    assert not (files / "out").exists()
