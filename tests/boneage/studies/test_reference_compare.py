import json
import sys

import pandas as pd
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.studies.reference_compare import ReferencesError, reference_compare

# Boys of the second have the same median until ten years, and half the deviation.
FIRST = """sex,chronological_age_months,mean_months,sd_months
male,96,96,10
male,132,132,10
female,96,96,8
female,120,120,8
"""
SECOND = "sex,chronological_age_months,L,M,S\nmale,100,1,100,0.05\nmale,120,1,120,0.041666667\nmale,144,1,139,0.05\n"
COHORT = """child,sex,age_months,bone_age_months
1,M,108,97
1,M,110,111
2,M,120,131
3,M,120,90
4,M,108,108
5,M,108,
6,M,140,140
7,F,100,100
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name, text in (("first.csv", FIRST), ("second.csv", SECOND), ("cohort.csv", COHORT)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "reference", "compare", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_reference_compare_finds_the_shift_at_the_ages_of_both(files):
    comparison = reference_compare("first.csv", "second.csv", out="out")
    shifts = comparison.shifts
    assert shifts["sex"].unique().tolist() == ["male"]
    assert shifts["chronological_age_months"].tolist() == [102, 108, 114, 120, 126, 132]
    at_120 = shifts[shifts["chronological_age_months"] == 120].iloc[0]
    assert at_120[["shift_at_minus_2", "shift_at_median", "shift_at_plus_2"]].tolist() == pytest.approx([-2, 0, 2])
    assert pd.read_csv("out/shifts.csv").shape == shifts.shape
    assert comparison.classes is None and not (files / "out/classes.csv").exists()
    with Image.open("out/comparison.png") as figure:
        assert min(figure.size) > 500 and len(figure.convert("L").getcolors()) > 10


def test_reference_compare_counts_children_who_change_their_class(files):
    comparison = reference_compare("first.csv", "second.csv", out="out", cohort="cohort.csv")
    counted = comparison.classes.set_index(["sex", "first", "second"])["num_radiographs"]
    assert counted["male", "normal", "delayed"] == 1
    assert counted["male", "normal", "advanced"] == 1
    assert counted["male", "delayed", "delayed"] == 1
    assert counted["male", "normal", "normal"] == 2
    assert counted.sum() == 5
    assert (comparison.num_children, comparison.num_changed) == (4, 2)
    assert (comparison.num_outside, comparison.num_incomplete) == (2, 1)


def test_reference_compare_of_one_reference_with_itself_changes_nothing(files):
    comparison = reference_compare("brush_foundation", "brush_foundation", out="out", cohort="cohort.csv")
    assert comparison.shifts.iloc[:, 2:].abs().max(axis=None) < 1e-9
    assert (comparison.num_changed, comparison.num_children) == (0, 6)


def test_reference_compare_writes_what_the_command_prints(files, monkeypatch, capsys):
    words = ("first.csv", "second.csv", "--cohort", "cohort.csv", "--out", "out")
    status, told = run(monkeypatch, capsys, *words, "--json")
    assert (status, told.err) == (0, "")
    assert json.loads(told.out) == json.loads((files / "out" / "comparison.json").read_text())
    status, told = run(monkeypatch, capsys, *words)
    assert (status, told.err) == (0, "")
    for words in ("Score by second less score by first", "male  10 -2.00", "2 of 4 children change"):
        assert words in told.out


def test_reference_compare_needs_an_age_in_common(files, monkeypatch, capsys):
    (files / "girls.csv").write_text(
        "sex,chronological_age_months,L,M,S\nfemale,121,1,100,0.05\nfemale,200,1,100,0.05\n"
    )
    with pytest.raises(ReferencesError, match=r"first\.csv and girls\.csv have no age of one sex in common"):
        reference_compare("first.csv", "girls.csv", out="out")
    status, told = run(monkeypatch, capsys, "first.csv", "brush", "--out", "out")
    assert status == 1
    assert told.err.startswith("boneage: brush: No such file or directory; check the path of the reference")
