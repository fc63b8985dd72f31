"""Intervals: they hold as many as they say, wider where the errors are, and no group of few decides."""

import numpy as np
import pandas as pd
import pytest

from boneage.intervals import find_band, find_half_width, measure_intervals


def table(num_images, *, seed=0):
    """Predictions that err twice as much for boys, and four times as much for the young."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(10, 220, num_images)
    sex = rng.choice(["female", "male"], num_images)
    spread = np.where(sex == "male", 8.0, 4.0) * np.where(predicted < 60, 4, 1)
    read = predicted + rng.normal(0, spread)
    return pd.DataFrame({"sex": sex, "bone_age_months": read, "predicted_months": predicted})


def test_new_radiographs_are_covered_as_often_as_is_said():
    measured = measure_intervals(table(3000))
    assert measured["measured_coverage_share"] == pytest.approx(0.9, abs=0.02)
    new = table(3000, seed=1)
    reach = [
        find_half_width(measured["half_width_months"], sex=sex, predicted_months=months)
        for sex, months in zip(new["sex"], new["predicted_months"], strict=True)
    ]
    covered = (new["predicted_months"] - new["bone_age_months"]).abs() <= reach
    assert covered.mean() == pytest.approx(0.9, abs=0.02)
    for group in (new["sex"] == "male", new["predicted_months"] < 60):
        assert covered[group].mean() == pytest.approx(0.9, abs=0.04)


def test_intervals_are_wide_where_the_errors_are():
    widths = measure_intervals(table(3000))["half_width_months"]
    assert widths["male"]["10-13"] == pytest.approx(1.645 * 8, rel=0.15)
    assert widths["female"]["10-13"] == pytest.approx(1.645 * 4, rel=0.15)
    assert widths["female"]["0-5"] > 3 * widths["female"]["10-13"]
    assert find_half_width(widths, sex=None, predicted_months=140) == widths["male"]["10-13"]


def test_a_group_of_few_shares_the_interval_of_more():
    few = table(40)
    widths = measure_intervals(few)["half_width_months"]
    assert len({value for bands in widths.values() for value in bands.values()}) == 1
    errors = (few["predicted_months"] - few["bone_age_months"]).abs().sort_values()
    assert widths["female"]["0-5"] == pytest.approx(errors.iloc[36], abs=0.01)  # the 37th of 40: ceil(41 * 0.9)


@pytest.mark.parametrize(("months", "band"), [(-3, "0-5"), (0, "0-5"), (59.9, "0-5"), (60, "5-10"), (500, "16+")])
def test_bands_hold_every_age(months, band):
    assert find_band(months) == band
