import json
import sys

import pandas as pd
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.studies.follow import follow

ROWS = [
    # child, sex, age, bone age, low, high
    ("=Ada", "F", 84, 90, 80, 100),
    ("=Ada", "F", 96, 128, 118, 138),
    ("=Ada", "F", 108, 136, 126, 146),
    ("$B$ ../..", "M", 168, 170, 160, 180),
    ("$B$ ../..", "M", 192, 206, 190, 240),
    ("C", "", 120, 118, "", ""),
    ("C", "", 132, "", "", ""),
]


@pytest.fixture
def predictions(tmp_path):
    names = ["child", "sex", "age_months", "bone_age_months", "low_months", "high_months"]
    pd.DataFrame(ROWS, columns=names).to_csv(tmp_path / "predictions.csv", index=False)
    return tmp_path / "predictions.csv"


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "follow", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_follow_writes_tables_and_a_figure_of_each_child(predictions, tmp_path):
    follow_up = follow(predictions, out=tmp_path / "out")
    assert [course.child for course in follow_up.courses] == ["$B$ ../..", "=Ada", "C"]
    assert follow_up.num_refused == 1
    children = pd.read_csv(tmp_path / "out" / "children.csv")
    # A name is no formula for a spreadsheet, and no name of a file.
    assert children["child"].tolist() == ["$B$ ../..", "'=Ada", "C"]
    assert children["figure"].tolist() == ["child-1.png", "child-2.png", "child-3.png"]
    assert children["num_visits"].tolist() == [2, 3, 1]
    changes = pd.read_csv(tmp_path / "out" / "changes.csv")
    assert changes["pace"].tolist()[1:] == ["accelerated", "within error"] and changes["pace"].isna()[0]
    assert changes["velocity"].tolist() == [18, 38, 8]
    assert len(pd.read_csv(tmp_path / "out" / "visits.csv")) == 6
    for name in children["figure"]:
        with Image.open(tmp_path / "out" / name) as figure:
            assert min(figure.size) > 500 and len(figure.convert("L").getcolors()) > 10


def test_follow_writes_what_the_command_prints(predictions, tmp_path, monkeypatch, capsys):
    status, told = run(monkeypatch, capsys, predictions, "--out", tmp_path / "out", "--error", "3", "--json")
    assert (status, told.err) == (0, "")
    report = json.loads(told.out)
    assert report == json.loads((tmp_path / "out" / "follow.json").read_text())
    assert report["error_months"] == 3 and len(report["courses"][1]["steps"]) == 2


def test_follow_command_tells_all_in_80_columns(predictions, tmp_path, monkeypatch, capsys):
    status, told = run(monkeypatch, capsys, predictions, "--out", tmp_path / "out")
    assert (status, told.err) == (0, "")
    table = told.out.partition("\n\n")[0]
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines())
    for words in (
        "=Ada",
        "one visit",
        "accelerated from 7.0 to 8.0 years: 38.0 [21.",
        "nobody can tell bone ages apart",
        "6 radiographs of 3 children; 1 without bone age left out",
    ):
        assert words in told.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("missing.csv",), "missing.csv: No such file"),
        (("predictions.csv", "--error", "0"), "must be positive"),
        (("predictions.csv", "--table", "predictions.csv"), "needs the columns id"),
        (
            ("predictions.csv", "--reference", "missing.csv"),
            "missing.csv: No such file or directory; check the path of the reference",
        ),
    ],
)
def test_follow_command_says_what_is_wrong_in_one_line(predictions, monkeypatch, capsys, words, told):
    monkeypatch.chdir(predictions.parent)
    status, printed = run(monkeypatch, capsys, *words, "--out", "out")
    assert (status, printed.out, printed.err.count("\n")) == (1, "", 1)
    assert told in printed.err
    assert not (predictions.parent / "out").exists()
