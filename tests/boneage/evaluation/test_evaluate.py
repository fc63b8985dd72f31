"""The evaluation card: exact values on frames worked out by hand, and properties that hold for any predictions."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from boneage.base.errors import BoneAgeError
from boneage.evaluation.bootstrap import Estimate, bootstrap
from boneage.evaluation.evaluate import evaluate_records, to_json, write_evaluation
from boneage.evaluation.frames import EvaluationError, join_labels
from boneage.evaluation.metrics import to_dict
from boneage.evaluation.summarise import compare, summarise
from boneage.evaluation.tables import evaluation_table

MEANS = (
    "mae_months",
    "rmse_months",
    "bias_months",
    "share_within_6_months",
    "share_within_12_months",
    "share_within_24_months",
)


def make_frame(labels, errors, *, sex=None, ids=None):
    labels = np.asarray(labels, dtype=float)
    return pd.DataFrame(
        {
            "id": ids if ids is not None else [f"hand-{index}" for index in range(len(labels))],
            "sex": sex if sex is not None else ["female", "male"] * (len(labels) // 2) + ["female"] * (len(labels) % 2),
            "bone_age_months": labels,
            "predicted_months": labels + np.asarray(errors, dtype=float),
        }
    )


@pytest.fixture
def frame():
    return make_frame([24, 72, 130, 170, 200], [10, -2, 4, -20, -30])


@st.composite
def frames(draw):
    months = st.integers(0, 228)
    error = st.integers(-500, 500).map(lambda tenths: tenths / 10)
    rows = draw(st.lists(st.tuples(months, error), min_size=1, max_size=30))
    return make_frame(*zip(*rows, strict=True))


def test_measures_equal_those_worked_out_by_hand(frame):
    overall = summarise(frame, num_resamples=50).overall
    assert overall.num_images == 5
    assert overall.mae_months.value == pytest.approx((10 + 2 + 4 + 20 + 30) / 5)
    assert overall.rmse_months.value == pytest.approx(np.sqrt((100 + 4 + 16 + 400 + 900) / 5))
    assert overall.median_absolute_error_months.value == pytest.approx(10)
    assert overall.bias_months.value == pytest.approx(-38 / 5)
    assert overall.share_within_6_months.value == pytest.approx(0.4)
    assert overall.share_within_12_months.value == pytest.approx(0.6)
    assert overall.share_within_24_months.value == pytest.approx(0.8)


def test_limits_of_shares_are_inclusive():
    overall = summarise(make_frame([100, 100, 100], [6, -12, 24]), num_resamples=10).overall
    shares = overall.share_within_6_months, overall.share_within_12_months, overall.share_within_24_months
    assert [share.value for share in shares] == pytest.approx([1 / 3, 2 / 3, 1])


def test_slope_shows_the_young_over_read_and_the_old_under_read():
    labels = np.array([12.0, 60, 120, 180, 228])
    overall = summarise(make_frame(labels, -0.1 * (labels - 120)), num_resamples=50).overall
    assert dataclasses.astuple(overall.error_slope_months_per_year) == pytest.approx((-1.2, -1.2, -1.2))
    assert overall.pearson.value == pytest.approx(1)


def test_correlation_and_deviation_agree_with_numpy(frame):
    overall = summarise(frame, num_resamples=10).overall
    error = frame["predicted_months"] - frame["bone_age_months"]
    assert overall.pearson.value == pytest.approx(
        np.corrcoef(frame["bone_age_months"], frame["predicted_months"])[0, 1]
    )
    assert overall.error_deviation_months.value == pytest.approx(error.std())
    slope = 12 * np.polyfit(frame["bone_age_months"], error, 1)[0]
    assert overall.error_slope_months_per_year.value == pytest.approx(slope)


def test_age_bands_include_their_lower_end_and_exclude_their_upper_end():
    labels = [0, 59.9, 60, 119, 120, 155, 156, 191, 192, 228]
    by_age = summarise(make_frame(labels, np.zeros(10)), num_resamples=10).by_age_years
    assert {name: group.num_images for name, group in by_age.items()} == {
        "0-5": 2,
        "5-10": 2,
        "10-13": 2,
        "13-16": 2,
        "16+": 2,
    }


def test_groups_hold_their_own_images_alone():
    evaluation = summarise(make_frame([24, 30, 200], [6, 1, -4], sex=["female", "male", None]), num_resamples=10)
    assert {name: group.mae_months.value for name, group in evaluation.by_sex.items()} == {"female": 6, "male": 1}
    assert {name: group.mae_months.value for name, group in evaluation.by_age_years.items()} == {"0-5": 3.5, "16+": 4}
    assert evaluation.overall.num_images == 3


def test_what_one_image_or_equal_labels_leave_undefined_is_none():
    one = summarise(make_frame([100], [3]), num_resamples=20).overall
    assert one.mae_months.value == 3 and not one.mae_months.has_interval
    assert one.error_deviation_months is one.pearson is one.error_slope_months_per_year is None
    equal = summarise(make_frame([100.1] * 3, [3, 4, 5]), num_resamples=20).overall
    assert equal.error_deviation_months.value == pytest.approx(1)
    assert equal.pearson is equal.error_slope_months_per_year is None


def test_interval_of_a_mean_agrees_with_theory():
    errors = np.random.default_rng(1).normal(0, 10, 400)
    bias = summarise(make_frame(np.full(400, 100.0), errors), num_resamples=2000).overall.bias_months
    half_width = 1.96 * errors.std() / np.sqrt(400)
    assert (bias.high - bias.low) / 2 == pytest.approx(half_width, rel=0.08)


def test_seed_decides_the_intervals(frame):
    assert summarise(frame, num_resamples=30, seed=4) == summarise(frame, num_resamples=30, seed=4)
    intervals = {summarise(frame, num_resamples=30, seed=seed).overall.mae_months for seed in range(4)}
    assert len(intervals) > 1


def test_bootstrap_in_batches_is_the_bootstrap_at_once(monkeypatch):
    values = np.arange(10.0)

    def mean(drawn):
        return {"mean": drawn.mean(axis=-1)}

    at_once = bootstrap(mean, values, num_resamples=25, seed=0)
    monkeypatch.setattr("boneage.evaluation.bootstrap._MAX_VALUES_IN_MEMORY", 40)
    assert bootstrap(mean, values, num_resamples=25, seed=0) == at_once


def test_bootstrap_needs_a_draw(frame):
    with pytest.raises(ValueError, match="num_resamples=0"):
        summarise(frame, num_resamples=0)


@settings(max_examples=40, deadline=None)
@given(frames(), st.randoms(use_true_random=False))
def test_properties_of_any_evaluation(frame, random):
    evaluation = summarise(frame, num_resamples=200)
    overall = evaluation.overall
    assert overall.mae_months.value >= abs(overall.bias_months.value) - 1e-9
    assert overall.rmse_months.value >= overall.mae_months.value - 1e-9
    for name in MEANS:
        estimate = getattr(overall, name)
        assert estimate.has_interval == (len(frame) > 1)
        if estimate.has_interval:
            assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9
    shares = overall.share_within_6_months, overall.share_within_12_months, overall.share_within_24_months
    assert 0 <= shares[0].value <= shares[1].value <= shares[2].value <= 1
    order = list(range(len(frame)))
    random.shuffle(order)
    assert summarise(frame.iloc[order], num_resamples=200) == evaluation
    assert sum(group.num_images for group in evaluation.by_sex.values()) == len(frame)
    assert sum(group.num_images for group in evaluation.by_age_years.values()) == len(frame)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"predicted_months": [1, np.nan, 3, 4, np.inf]},
            "`frame` has no finite `predicted_months` for hand-1, hand-4",
        ),
        ({"bone_age_months": [1, 2, np.nan, 4, 5]}, "`frame` has no finite `bone_age_months` for hand-2"),
        ({"bone_age_months": [1, 2, 3, -4, 5]}, "`frame` has a negative `bone_age_months` for hand-3"),
        (
            {"sex": ["male", "M", "female", None, "m"]},
            "`frame` has a `sex` other than female or male for hand-1, hand-4",
        ),
        ({"id": ["a", "b", "a", "c", "c"]}, "`frame` has more than one row for a, c"),
        ({"id": ["a", None, "b", "c", "d"]}, "`frame` has rows without an id"),
    ],
)
def test_invalid_frames_are_refused_by_name(frame, change, message):
    with pytest.raises(EvaluationError) as caught:
        summarise(frame.assign(**change))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_absent_columns_and_empty_frames_are_refused(frame):
    with pytest.raises(EvaluationError, match=r"needs the columns id, sex.*Received: id, bone_age_months, pred"):
        summarise(frame.drop(columns="sex"))
    with pytest.raises(EvaluationError, match="`frame` contains no images"):
        summarise(frame.iloc[:0])


def test_join_goes_by_id_and_not_by_position(frame):
    predictions = frame[["id", "predicted_months"]].iloc[::-1]
    labels = frame[["id", "sex", "bone_age_months"]].iloc[[2, 0, 4, 1, 3]]
    pd.testing.assert_frame_equal(join_labels(predictions, labels), frame)


def test_join_takes_numbers_read_from_a_file_for_the_ids_they_are():
    predictions = pd.DataFrame({"id": [1377, 1378], "predicted_months": [100.0, 110.0]})
    labels = pd.DataFrame({"id": ["1378", "1377"], "sex": ["male", "female"], "bone_age_months": [112.0, 90.0]})
    joined = join_labels(predictions, labels).set_index("id")
    assert joined.loc["1377"].to_list() == ["female", 90.0, 100.0]


def test_join_refuses_ids_that_one_side_lacks(frame):
    predictions, labels = frame[["id", "predicted_months"]], frame[["id", "sex", "bone_age_months"]]
    with pytest.raises(EvaluationError, match="`labels` lacks images of `predictions`: hand-0, hand-1"):
        join_labels(predictions, labels.iloc[2:])
    with pytest.raises(BoneAgeError, match="`predictions` lacks images of `labels`: hand-4"):
        join_labels(predictions.iloc[:4], labels)
    with pytest.raises(EvaluationError, match="`predictions` has more than one row for hand-3"):
        join_labels(predictions.iloc[[0, 1, 2, 3, 3, 4]], labels)


def test_long_lists_of_ids_are_cut_short():
    long = make_frame(np.arange(9), np.zeros(9))
    with pytest.raises(EvaluationError, match="hand-1, hand-2, hand-3, hand-4, hand-5 and 3 more"):
        join_labels(long.iloc[:1], long)


def test_comparison_of_equal_predictions_is_exactly_zero(frame):
    comparison = compare(frame, frame.iloc[::-1], num_resamples=100)
    assert comparison.difference_months == Estimate(0, 0, 0)
    assert comparison.mae_months == comparison.baseline_mae_months == pytest.approx(13.2)


def test_comparison_pairs_images_so_a_constant_gain_is_certain():
    labels, errors = np.linspace(10, 200, 40), np.linspace(5, 60, 40)
    comparison = compare(make_frame(labels, errors - 2), make_frame(labels, errors), num_resamples=200)
    assert comparison.num_images == 40
    assert dataclasses.astuple(comparison.difference_months) == pytest.approx((-2, -2, -2))
    assert comparison.mae_months - comparison.baseline_mae_months == pytest.approx(-2)


def test_comparison_refuses_other_images_and_other_labels(frame):
    with pytest.raises(EvaluationError, match="`baseline` lacks images of `frame`: hand-4"):
        compare(frame, frame.iloc[:4])
    with pytest.raises(EvaluationError, match="`frame` lacks images of `baseline`: hand-0"):
        compare(frame.iloc[1:], frame)
    relabelled = frame.assign(bone_age_months=frame["bone_age_months"] + [0, 0, 1, 0, 0])
    with pytest.raises(EvaluationError, match="differ in `bone_age_months` for hand-2"):
        compare(frame, relabelled)


def test_table_has_a_row_for_each_group(frame):
    evaluation = summarise(frame, num_resamples=20)
    table = evaluation.table()
    assert list(table.index)[:3] == ["all", "female", "male"]
    assert table.loc["all", "mae_months"] == evaluation.error
    several = table["num_images"] > 1
    assert (table["mae_months_low"] <= table["mae_months_high"])[several].all()
    assert table.loc[~several, "mae_months_low"].isna().all()
    assert table["num_images"].dtype == int
    assert f"<strong>{evaluation.headline}</strong>" in evaluation._repr_html_()


def test_predictions_stay_out_of_repr_and_json(frame):
    evaluation = summarise(frame, num_resamples=20)
    assert set(evaluation.predictions["id"]) == set(frame["id"])
    assert "predictions" not in repr(evaluation)
    assert "predictions" not in json.loads(to_json(evaluation))


def test_json_round_trips(frame):
    evaluation = summarise(frame, dataset="test split", num_resamples=20)
    assert json.loads(to_json(evaluation)) == to_dict(evaluation)
    assert json.loads(to_json(evaluation))["by_age_years"]["16+"]["pearson"] is None


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_the_terminal_and_shows_every_group(width):
    random = np.random.default_rng(0)
    frame = make_frame(random.integers(0, 228, 1425), random.normal(0, 9, 1425))
    console = Console(width=width)
    with console.capture() as captured:
        console.print(evaluation_table(summarise(frame, dataset="validation split", num_resamples=20)))
    text = captured.get()
    assert "Evaluation on validation split" in text
    assert "…" not in text
    lines = [line.split() for line in text.splitlines() if line.strip()]
    first_words = [words[0] for words in lines]
    for group in ("all", "female", "male", "0-5", "5-10", "10-13", "13-16", "16+"):
        assert group in first_words
    assert next(words for words in lines if words[0] == "all")[1] == "1,425"


def test_table_shows_whole_numbers_of_large_errors():
    evaluation = summarise(make_frame([100, 120, 150, 90], [-110, -115, -140, -101]), num_resamples=20)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(evaluation_table(evaluation))
    assert "…" not in captured.get()
    words = captured.get().split()
    for end in (evaluation.overall.bias_months.low, evaluation.overall.bias_months.high):
        assert any(f"{end:+.1f}" in word for word in words)


def test_one_patient_has_no_intervals_and_the_table_says_why(capsys, tmp_path):
    frame = make_frame([100, 110, 120], [3, 4, 5]).assign(group="one")
    evaluation = summarise(frame, num_resamples=20)
    Console(width=200).print(evaluation_table(evaluation))
    printed = " ".join(capsys.readouterr().out.split())
    assert "without intervals, as one patient tells nothing of others" in printed and "[" not in printed
    assert json.loads(to_json(evaluation))["overall"]["mae_months"] == {"value": 4.0, "low": None, "high": None}
    write_evaluation(tmp_path, frame, evaluation)
    two = summarise(frame.assign(group=["one", "one", "two"], sex=["male", "male", "female"]), num_resamples=20)
    Console(width=200).print(evaluation_table(two))
    printed = " ".join(capsys.readouterr().out.split())
    assert "over 2 patients; none where a group has one patient" in printed and "[" in printed


def test_table_shows_undefined_measures_as_a_dash():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(evaluation_table(summarise(make_frame([100], [3]), num_resamples=5)))
    assert next(line for line in captured.get().splitlines() if line.startswith("all")).rstrip().endswith("-")


def test_written_evaluation_lists_the_worst_case_first(tmp_path, frame):
    evaluation = summarise(frame, num_resamples=20)
    write_evaluation(tmp_path / "new" / "folder", frame, evaluation)
    files = {path.name: path for path in (tmp_path / "new" / "folder").iterdir()}
    assert set(files) == {"predictions.csv", "evaluation.png", "evaluation.json"}
    written = pd.read_csv(files["predictions.csv"])
    assert written["error_months"].to_list() == [-30, -20, 10, 4, -2]
    assert summarise(written, num_resamples=20) == evaluation
    assert files["evaluation.json"].read_text(encoding="utf-8") == to_json(evaluation)


@pytest.fixture
def bundle(monkeypatch, frame):
    """A bundle and records in name only, which note what they are asked for."""
    asked = SimpleNamespace(bundle=None, data=None, split=None, tta=None)

    def load_bundle(folder):
        asked.bundle = folder
        return SimpleNamespace(predict_records=predict_records, metadata={"task": "age"})

    def predict_records(data, *, split, tta):
        asked.data, asked.split, asked.tta = data, split, tta
        return frame

    monkeypatch.setattr("boneage.evaluation.evaluate.load_bundle", load_bundle)
    monkeypatch.setattr("boneage.evaluation.evaluate.read_info", lambda data: {"digest": "0123abcd"})
    return asked


def test_evaluate_predicts_the_split_and_writes_nothing_unasked(tmp_path, frame, bundle, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluation = evaluate_records("model", data="records", split="test", tta="ten", num_resamples=20, seed=3)
    assert bundle == SimpleNamespace(bundle=Path("model"), data="records", split="test", tta="ten")
    dataset = "test split of records 0123abcd"
    assert evaluation == summarise(frame, dataset=dataset, num_resamples=20, seed=3)
    assert not list(tmp_path.iterdir())


def test_evaluate_writes_into_out(tmp_path, bundle):
    evaluation = evaluate_records("model", data="records", out=tmp_path / "out", num_resamples=20)
    assert (tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8") == to_json(evaluation)
    assert "validation split" in evaluation.dataset


def test_evaluate_refuses_an_out_that_is_a_file_before_it_predicts(tmp_path, bundle):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(EvaluationError, match="out: cannot be created"):
        evaluate_records("model", data="records", out=tmp_path / "out")
    assert bundle.data is None
    assert (tmp_path / "out").read_text() == "mine"


def test_statistics_need_no_tensorflow():
    code = (
        "import sys, boneage.evaluation.evaluate; sys.exit(bool({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
