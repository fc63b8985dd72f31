import json

import numpy as np
import pandas as pd
import pytest

from boneage.base.errors import BoneAgeError
from boneage.cli.main import main
from boneage.cohorts.effects import AS_IT_COMES, find_worst
from boneage.cohorts.stress import stress
from boneage.cohorts.transformations import OWN, PUBLISHED, Transformation

LABELS = "id,bone_age_months,sex\n1,148,F\n2,160,M\n3,140,F\n4,150,F\n5,150,F\n"


def fill_from(column):
    """A change that makes a frame white from a column on, of 20: an answer of 15 months for each."""

    def change(pixels):
        changed = pixels.copy()
        changed[:, column:] = 255
        return changed

    return change


@pytest.fixture(autouse=True)
def few_transformations(monkeypatch):
    """Four in place of 46: of answers of 150 months, one changes nothing, two add 30 months, one makes 270, refused."""
    few = {
        "the same": Transformation("nothing", PUBLISHED, lambda pixels: pixels.copy()),
        "white from 8": Transformation("white", OWN, fill_from(8)),
        "again": Transformation("white", OWN, fill_from(8)),
        "white from 2": Transformation("white", OWN, fill_from(2)),
    }
    for name in ("effects", "stress", "stress_plot"):
        monkeypatch.setattr(f"boneage.cohorts.{name}.TRANSFORMATIONS", few)


@pytest.fixture
def measured(hospital, write_bundle):
    """Half white frames, one of them damaged, and a bundle that answers 150 months for a girl, 160 for a boy."""
    (hospital / "labels.csv").write_text(LABELS)
    write_bundle(hospital / "stressed", scale=300.0)
    return hospital


def run_stress(folder, **options):
    return stress(
        folder / "stressed",
        files=folder / "radiographs",
        table=folder / "labels.csv",
        out=folder / "out",
        num_resamples=20,
        workers=1,
        **options,
    )


def test_stress_pairs_each_radiograph_with_itself(measured):
    result = run_stress(measured)
    assert (result.baseline.num_images, result.baseline.num_refused) == (5, 1)
    assert result.baseline.answered.mae_months.value == pytest.approx((2 + 0 + 10 + 0) / 4, abs=0.5)
    same = result.effects["the same"]
    assert (same.num_paired, same.change_months.value, same.largest_months, same.wilcoxon_p) == (4, 0, 0, None)
    assert same.mae_months.value == result.baseline.answered.mae_months.value
    more = result.effects["white from 8"]
    assert more.shift_months.value == more.moved_months == pytest.approx(30, abs=0.5)
    assert more.change_months.value == pytest.approx(30, abs=0.5)
    assert more.wilcoxon_p == pytest.approx(2 / 2**4)


def test_stress_counts_refusals_apart(measured):
    effect = run_stress(measured).effects["white from 2"]
    # That which is refused as it comes is not refused once more.
    assert (effect.num_paired, effect.num_refused, effect.reasons) == (0, 4, {"impossible_answer": 4})
    assert effect.change_months is None and effect.significant_share is None


def test_without_ages_an_error_beyond_two_years_is_significant(measured):
    result = run_stress(measured)
    assert result.rule == "off by more than 24 months, as no chronological age is known"
    effect = result.effects["white from 8"]
    assert (effect.num_ruled, effect.significant_share, effect.baseline_significant_share) == (4, 1.0, 0.0)
    assert (effect.mcnemar.num_new, effect.mcnemar.num_gone, effect.mcnemar.statistic) == (4, 0, 4.0)


def test_with_ages_an_error_is_significant_if_it_changes_the_determination(measured):
    (measured / "labels.csv").write_text(
        "id,bone_age_months,sex,chronological_age_months\n1,148,F,148\n2,160,M,120\n3,140,F,\n4,150,F,150\n"
    )
    result = run_stress(measured)
    assert result.rule.startswith("delayed, normal or advanced of the answer differs")
    effect = result.effects["white from 8"]
    # The boy is advanced either way, and of the third child the age is not known.
    assert (effect.num_paired, effect.num_ruled, effect.mcnemar.num_new) == (4, 3, 2)


def test_stress_writes_what_it_measured(measured):
    result = run_stress(measured)
    out = measured / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "answers.csv",
        "stress.csv",
        "stress.json",
        "stress.png",
        "worst.png",
    ]
    answers = pd.read_csv(out / "answers.csv", dtype={"id": str})
    assert len(answers) == 5 * 5
    assert answers.loc[answers["transformation"] == AS_IT_COMES, "id"].tolist() == ["1", "2", "3", "4", "5"]
    table = pd.read_csv(out / "stress.csv").set_index("transformation")
    assert table.loc["white from 2", "reasons"] == "impossible_answer 4"
    assert table.loc["white from 8", "change_months_low"] == pytest.approx(30, abs=0.5)
    assert json.loads((out / "stress.json").read_text())["effects"]["the same"]["num_paired"] == 4
    assert result.effects.keys() == set(table.index)


def test_stress_resumes(measured):
    def stop(finished, _):
        if finished == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stress(measured, progress=stop)
    seen = []
    result = run_stress(measured, progress=lambda *counts: seen.append(counts))
    assert seen[0] == (2, 5)
    assert result.baseline.num_images == 5


def test_find_worst_takes_the_worst_case_of_each_transformation():
    frame = pd.DataFrame(
        [
            ("1", AS_IT_COMES, 100.0, 100.0, 100.0),
            ("1", "one", 103.0, 100.0, 100.0),
            ("2", "one", 90.0, 100.0, 100.0),
            ("1", "two", 120.0, 100.0, 100.0),
            ("2", "two", np.nan, 100.0, 100.0),
        ],
        columns=["id", "transformation", "predicted_months", "bone_age_months", "baseline_months"],
    )
    worst = find_worst(frame, number=5)
    assert list(zip(worst["transformation"], worst["id"], strict=True)) == [("two", "1"), ("one", "2")]


@pytest.mark.parametrize(
    ("labels", "out", "told"),
    [
        ("id,bone_age_months,sex\n5,150,F\n", "out", "no answer for any of 1 labelled radiographs"),
        (LABELS, "radiographs/out", "inside the folder of the radiographs"),
        ("id,sex\n1,F\n", "out", "bone_age"),
    ],
)
def test_stress_says_what_is_wrong(measured, monkeypatch, labels, out, told):
    monkeypatch.chdir(measured)
    (measured / "labels.csv").write_text(labels)
    with pytest.raises(BoneAgeError, match=told):
        stress("stressed", files="radiographs", table="labels.csv", out=out, workers=1)


def test_stress_command_prints_a_table_or_json(measured, monkeypatch, capsys):
    monkeypatch.chdir(measured)
    monkeypatch.setenv("COLUMNS", "100")
    words = ("stress", "stressed", "--files", "radiographs", "--table", "labels.csv", "--out", "out", "--workers", "1")
    for extra in ((), ("--json",)):
        monkeypatch.setattr("sys.argv", ["boneage", *words, *extra])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        told = capsys.readouterr()
        if extra:
            assert json.loads(told.out) == json.loads((measured / "out" / "stress.json").read_text())
            assert told.err == ""
        else:
            assert "white from 8" in told.out and "transformed: off by more than 24 months" in told.out
            assert "as they come: answered 4 of 5" in told.out
