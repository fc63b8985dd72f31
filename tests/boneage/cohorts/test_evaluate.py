import json

import pandas as pd
import pytest

from boneage.base.errors import BoneAgeError
from boneage.bundles.seen import hash_radiographs
from boneage.cli.main import main
from boneage.cohorts.evaluate import evaluate
from boneage.preprocessing.io.radiograph import hash_pixels
from boneage.preprocessing.io.read import read_radiograph


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["boneage", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_evaluate_of_files_tells_errors_and_refusals(hospital):
    cohort = evaluate(
        hospital / "bundle",
        files=hospital / "radiographs",
        table=hospital / "labels.csv",
        by=("device",),
        out=hospital / "out",
        num_resamples=20,
    )
    # Answers 50, 60, 50, 50 for labels 48, 60, 40, 50; one is damaged.
    assert cohort.evaluation.overall.mae_months.value == pytest.approx(3, abs=0.1)
    assert cohort.evaluation.num_groups == 3
    assert (cohort.overall.num_images, cohort.overall.reasons) == (5, {"damaged_image": 1})
    assert {name: group.num_images for name, group in cohort.by["device"].items()} == {
        "Agfa": 2,
        "Canon": 2,
        "(blank)": 1,
    }
    predictions = pd.read_csv(hospital / "out" / "predictions.csv", dtype={"id": str})
    assert predictions["id"].tolist()[0::4] == ["3", "5"]  # the largest error first, what is refused last
    assert predictions["device"].isna().sum() == 0
    assert json.loads((hospital / "out" / "evaluation.json").read_text())["overall"]["num_refused"] == 1
    assert sorted(path.name for path in (hospital / "out").iterdir()) == [
        "evaluation.json",
        "evaluation.png",
        "predictions.csv",
    ]


def test_evaluate_names_the_commit_of_a_branch_on_the_hub(hub, hospital):
    hub.create("ward/bones")
    commit = hub.commit("ward/bones", {path.name: path.read_bytes() for path in (hospital / "bundle").iterdir()})
    cohort = evaluate(
        hospital / "bundle",
        beside=["hf://ward/bones"],
        files=hospital / "radiographs",
        table=hospital / "labels.csv",
        num_resamples=20,
    )
    assert list(cohort.beside) == [f"hf://ward/bones@{commit}"]


def test_evaluate_of_tables_needs_no_files(hospital):
    evaluate(hospital / "bundle", files=hospital / "radiographs", table=hospital / "labels.csv", out=hospital / "out")
    (hospital / "other.csv").write_text("id,bone_age_months\n1,58\n2,70\n3,50\n")
    cohort = evaluate(
        hospital / "out" / "predictions.csv",
        table=hospital / "labels.csv",
        beside=[hospital / "other.csv"],
        num_resamples=20,
    )
    (beside,) = cohort.beside.values()
    assert (beside.paired.num_images, beside.overall.num_refused) == (3, 3)
    assert beside.paired.difference_months.value == pytest.approx(4 - 10, abs=0.1)
    assert cohort.evaluation.coverage["coverage_share"] is None


def test_evaluate_names_what_the_bundle_has_seen(hospital, monkeypatch):
    pixels = read_radiograph(hospital / "radiographs" / "1.png").pixels
    monkeypatch.setattr(
        "boneage.cohorts.answers.read_seen", lambda *_: {"training": hash_radiographs([hash_pixels(pixels)])}
    )
    cohort = evaluate(hospital / "bundle", files=hospital / "radiographs", table=hospital / "labels.csv")
    assert list(map(str, cohort.evaluation.overlap)) == ["1 radiographs trained the network"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, "`data`, `files` and `table` are missing"),
        ({"data": "records", "files": "radiographs"}, "`data` excludes"),
        ({"data": "records", "by": ["device"]}, "`table` and `by` go together"),
        ({"data": "records", "table": "labels.csv"}, "`table` and `by` go together"),
        ({"data": "records", "table": "labels.csv", "by": ["group"]}, "must not be called 'group'"),
        ({"table": "labels.csv"}, "bundle is a bundle, which needs radiographs"),
        ({"files": "radiographs", "table": "labels.csv", "beside": ["bundle"]}, "name a system twice"),
        ({"files": "radiographs", "table": "labels.csv", "out": "radiographs/out"}, "inside the folder"),
        ({"files": "radiographs"}, "no radiograph has a bone age"),
    ],
)
def test_evaluate_says_what_is_wrong(hospital, monkeypatch, words, told):
    monkeypatch.chdir(hospital)
    with pytest.raises((BoneAgeError, ValueError), match=told):
        evaluate("bundle", **words)


def test_evaluate_command_prints_tables(hospital, monkeypatch, capsys):
    monkeypatch.chdir(hospital)
    monkeypatch.setenv("COLUMNS", "100")
    (hospital / "other.csv").write_text("id,bone_age_months\n1,58\n2,70\n3,50\n")
    words = ("evaluate", "bundle", "--files", "radiographs", "--table", "labels.csv", "--by", "device")
    status, told = run(monkeypatch, capsys, *words, "--beside", "other.csv")
    assert status == 0
    for words in (
        "answered 4 of 5 labelled radiographs, MAE 3.0",
        "refused 1 (damaged_image 1)",
        "left out, as they are no labelled radiographs: missing_file 1, no_row 1",
        "measured coverage: 100.0%",
        "By device",
        "Beside each other",
        "Difference by device",
    ):
        assert words in told.out
    assert "…" not in told.out.partition("By device")[2]


def test_evaluate_command_prints_json(hospital, monkeypatch, capsys):
    monkeypatch.chdir(hospital)
    words = ("evaluate", "bundle", "--files", "radiographs", "--table", "labels.csv", "--json", "--out", "out")
    status, told = run(monkeypatch, capsys, *words)
    assert (status, told.err) == (0, "")
    assert json.loads(told.out) == json.loads((hospital / "out" / "evaluation.json").read_text())
