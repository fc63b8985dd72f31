"""Intervals: they cover as many as they promise, at the ends of the range too, or there are none."""

import numpy as np
import pandas as pd
import pytest

from boneage.bundles.metadata import BANDS
from boneage.evaluation.conformal import (
    MAX_BONE_AGE_MONTHS,
    add_intervals,
    age_band,
    fit_conformal_intervals,
    format_coverage,
    least_groups,
    measure_coverage,
    prediction_interval,
)
from boneage.evaluation.metrics import AGE_BANDS_YEARS


def table(num_images, *, seed=0):
    """Predictions that err twice as much for boys, and four times as much for the young."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(10, 150, num_images)
    sex = rng.choice(["female", "male"], num_images)
    spread = np.where(sex == "male", 4.0, 2.0) * np.where(predicted < 60, 4, 1)
    read = np.maximum(predicted + rng.normal(0, spread), 0)
    return pd.DataFrame({"sex": sex, "bone_age_months": read, "predicted_months": predicted})


def saturated_table(num_images, *, seed=0):
    """Predictions that shrink towards the mean and never exceed 15.5 years for girls."""
    rng = np.random.default_rng(seed)
    read = rng.triangular(6, 130, 220, num_images)
    sex = rng.choice(["female", "male"], num_images)
    predicted = 127 + 0.9 * (read - 127) + rng.normal(0, 9, num_images)
    predicted = np.where(sex == "female", np.minimum(predicted, 186), predicted)
    return pd.DataFrame({"sex": sex, "bone_age_months": read, "predicted_months": predicted})


@pytest.mark.parametrize(("coverage_share", "least"), [(0.5, 3), (0.8, 9), (0.9, 19), (0.95, 39)])
def test_least_groups_leaves_room_for_both_tails(coverage_share, least):
    assert least_groups(coverage_share) == least


@pytest.mark.parametrize("num_images", [1, 3, 18])
def test_fit_conformal_intervals_promises_nothing_from_too_few(num_images):
    assert fit_conformal_intervals(table(num_images)) is None
    assert "at least 19" in format_coverage(None)


def test_fit_conformal_intervals_from_19_spans_all_errors():
    few = table(19)
    interval = fit_conformal_intervals(few)
    covered = measure_coverage(add_intervals(few, interval))
    assert interval["num_groups"] == 19 and covered["measured_coverage_share"] == 1
    assert len({tuple(ends) for bands in interval["offsets_months"].values() for ends in bands.values()}) == 1


def test_fit_conformal_intervals_counts_patients_and_not_radiographs():
    frame = pd.concat([table(10)] * 4).assign(group=list(range(10)) * 4)
    assert fit_conformal_intervals(frame) is None
    assert fit_conformal_intervals(frame.drop(columns="group")) is not None


def test_a_patient_with_many_radiographs_counts_as_one():
    frame = table(200).assign(group=range(200))
    wild = frame[frame["sex"] == "male"].iloc[[0] * 300].assign(group=-1)
    wild["bone_age_months"] = wild["predicted_months"] + 50
    offsets = fit_conformal_intervals(pd.concat([frame, wild]))["offsets_months"]["male"]
    assert all(above < 50 for _, above in offsets.values())


def test_new_radiographs_are_covered_as_often_as_is_said():
    interval = fit_conformal_intervals(table(3000))
    assert 0.89 < interval["measured_coverage_share"] < 0.93
    new = add_intervals(table(3000, seed=1), interval)
    covered = new["bone_age_months"].between(new["low_months"], new["high_months"])
    assert 0.89 < covered.mean() < 0.93
    for group in (new["sex"] == "male", new["predicted_months"] < 60):
        assert covered[group].mean() == pytest.approx(0.91, abs=0.04)


@pytest.mark.parametrize("num_images", [400, 2000])
def test_the_youngest_and_the_oldest_are_covered_where_answers_saturate(num_images):
    interval = fit_conformal_intervals(saturated_table(num_images))
    new = add_intervals(saturated_table(20_000, seed=1), interval)
    for sex, by_band in measure_coverage(new)["measured"].items():
        assert min(cell["covered_share"] for cell in by_band.values()) > 0.85, (sex, by_band)
    is_open = new["high_months"] == MAX_BONE_AGE_MONTHS
    assert 0.001 < is_open.mean() < 0.1
    assert (new["low_months"] > 140)[is_open].all()
    assert not is_open[new["predicted_months"] < 180].any()


def test_intervals_are_wide_where_the_errors_are():
    offsets = fit_conformal_intervals(table(3000))["offsets_months"]
    assert offsets["male"]["10-13"] == pytest.approx([-1.645 * 4, 1.645 * 4], rel=0.15)
    assert offsets["female"]["10-13"] == pytest.approx([-1.645 * 2, 1.645 * 2], rel=0.15)
    assert offsets["female"]["0-5"][1] > 3 * offsets["female"]["10-13"][1]


def test_a_band_of_few_shares_the_interval_of_its_neighbour():
    frame = table(400)
    few = frame[(frame["predicted_months"] >= 60) | (frame.index % 10 == 0)]
    offsets = fit_conformal_intervals(few)["offsets_months"]
    for sex in ("female", "male"):
        assert offsets[sex]["0-5"] == offsets[sex]["5-10"] != offsets[sex]["10-13"]


def test_prediction_interval_of_both_sexes_spans_both():
    interval = fit_conformal_intervals(table(3000))
    girl, boy = (prediction_interval(interval, {sex: 140.0}) for sex in ("female", "male"))
    both = prediction_interval(interval, {"female": 140.0, "male": 140.0})
    assert both == (min(girl[0], boy[0]), max(girl[1], boy[1]))
    low, high = prediction_interval(interval, {"female": 100.0, "male": 140.0})
    assert low < 100 and high == boy[1]


def test_prediction_interval_of_equal_half_widths_within_the_range():
    widths = {sex: dict.fromkeys(("0-5", "5-10", "10-13", "13-16", "16+"), 12.0) for sex in ("female", "male")}
    interval = {"half_width_months": widths}
    assert prediction_interval(interval, {"female": 100.0}) == (88.0, 112.0)
    assert prediction_interval(interval, {"female": 5.0}) == (0.0, 17.0)
    assert prediction_interval(interval, {"female": 235.0}) == (223.0, MAX_BONE_AGE_MONTHS)


def test_format_coverage_names_promise_and_measurement_by_sex_and_band():
    text = format_coverage(fit_conformal_intervals(saturated_table(1000)))
    first, girls, boys = text.splitlines()
    assert first.startswith("90% interval, measured coverage: ")
    assert "female" in girls and "at 16+ y" in girls and " male" in boys


def test_format_coverage_names_no_sex_without_radiographs():
    frame = saturated_table(200)
    girls = add_intervals(frame[frame["sex"] == "female"], fit_conformal_intervals(frame))
    text = format_coverage({"coverage_share": 0.9, **measure_coverage(girls)})
    assert "  female: " in text and "male:" not in text.replace("female:", "")


def test_bands_of_the_metadata_are_those_of_the_metrics():
    assert tuple(AGE_BANDS_YEARS) == BANDS


@pytest.mark.parametrize(("months", "band"), [(-3, "0-5"), (0, "0-5"), (59.9, "0-5"), (60, "5-10"), (500, "16+")])
def test_bands_hold_every_age(months, band):
    assert age_band(months) == band
