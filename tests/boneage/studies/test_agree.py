import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.base.errors import BoneAgeError
from boneage.cli.main import main
from boneage.studies.agree import agree


@pytest.fixture
def study(tmp_path):
    """Readings of three readers, two sessions of one, and the predictions of a model that refuses some."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(24, 200, 40)
    rows = [
        (str(number), reader, session, round(months + rng.normal(bias, sd), 1), "FM"[number % 2])
        for reader, bias, sd, sessions in (("Ada", 0, 6, (1, 2)), ("Ben", 4, 7, (1,)), ("=Cem", -3, 6, (1,)))
        for session in sessions
        for number, months in enumerate(truth)
    ]
    pd.DataFrame(rows, columns=["id", "reader", "session", "months", "sex"]).to_csv(
        tmp_path / "readings.csv", index=False
    )
    answers = [round(months, 1) if number % 10 else "" for number, months in enumerate(truth + rng.normal(0, 5, 40))]
    pd.DataFrame({"id": range(40), "bone_age_months": answers}).to_csv(tmp_path / "model.csv", index=False)
    return tmp_path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "agree", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_agree_writes_tables_figure_and_labels(study):
    agreement = agree(
        study / "readings.csv", out=study / "out", model=study / "model.csv", by=["age", "sex"], consensus="median"
    )
    assert agreement.model.num_refused == 4
    report = json.loads((study / "out" / "agreement.json").read_text())
    assert report["readers"] == ["=Cem", "Ada", "Ben", "model"]
    assert set(report["by"]) == {"age", "sex"}
    # A name is no formula for a spreadsheet.
    assert "'=Cem" in pd.read_csv(study / "out" / "readers.csv")["reader"].tolist()
    assert len(pd.read_csv(study / "out" / "pairs.csv")) == 6
    labels = pd.read_csv(study / "out" / "consensus.csv")
    assert list(labels.columns) == ["id", "bone_age_months", "num_readers", "sd_months", "sex"]
    assert len(labels) == 40 and set(labels["num_readers"]) == {3}
    with Image.open(study / "out" / "agreement.png") as figure:
        assert min(figure.size) > 500 and len(figure.convert("L").getcolors()) > 10


def test_agree_command_tells_all_in_80_columns(study, monkeypatch, capsys):
    status, told = run(
        monkeypatch,
        capsys,
        study / "readings.csv",
        "--model",
        study / "model.csv",
        "--by",
        "age",
        "--out",
        study / "out",
    )
    assert (status, told.err) == (0, "")
    assert all(len(line) <= 80 for line in told.out.splitlines() if "│" not in line and " - " in line)
    for words in (
        "Ada - Ben",
        "Each reader against",
        "By age",
        "Ada repeated 40 readings",
        "no answer for 4 radiographs",
    ):
        assert words in told.out


def test_agree_command_prints_json(study, monkeypatch, capsys):
    status, told = run(monkeypatch, capsys, study / "readings.csv", "--out", study / "out", "--json")
    assert (status, told.err) == (0, "")
    assert json.loads(told.out) == json.loads((study / "out" / "agreement.json").read_text())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("missing.csv",), "missing.csv: No such file"),
        (("readings.csv", "--by", "atlas"), "no column 'atlas' to group by; there are age, sex"),
        (("readings.csv", "--consensus", "mode"), "mode"),
        (("readings.csv", "--model", "readings.csv"), "no answer has the id"),
    ],
)
def test_agree_command_says_what_is_wrong_in_one_line(study, monkeypatch, capsys, words, told):
    monkeypatch.chdir(study)
    (study / "readings.csv").write_text("id,reader,months,sex\n1,Ada,60,F\n1,Ben,62,F\n")
    if "--model" in words:
        (study / "other.csv").write_text("id,months\n5,60\n")
        words = (*words[:-1], "other.csv")
    status, printed = run(monkeypatch, capsys, *words, "--out", "out")
    assert (status, printed.out, printed.err.count("\n")) == (1, "", 1)
    assert told in printed.err
    assert not (study / "out").exists()


def test_agree_leaves_an_earlier_study_as_it_was_where_it_fails(study):
    agree(study / "readings.csv", out=study / "out")
    before = {path.name: path.read_bytes() for path in (study / "out").iterdir()}
    with pytest.raises(BoneAgeError):
        agree(study / "readings.csv", out=study / "out", by=["atlas"])
    assert {path.name: path.read_bytes() for path in (study / "out").iterdir()} == before
