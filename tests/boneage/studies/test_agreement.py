"""Agreement: the worked examples of the papers, to the last digit that they give, and simulated readers."""

import math

import numpy as np
import pandas as pd
import pytest

from boneage.studies.agreement import (
    AgreementError,
    correlate,
    find_reader_sd,
    krippendorff_alpha,
    measure_agreement,
    measure_limits,
    measure_repeatability,
    subtract_readers,
)

NAN = math.nan
# Shrout and Fleiss 1979, table 2: six targets, four judges.
TARGETS = pd.DataFrame(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
# Bland and Altman 1986, peak expiratory flow in l/min: Wright meter twice, mini meter.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], float)
WRIGHT_AGAIN = np.array([490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421], float)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], float)
# Krippendorff 2011: four observers, twelve units, gaps.
UNITS = pd.DataFrame(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def simulate(num_radiographs, *, seed, biases=(0.0, 4.0, -3.0), sds=(7.0, 8.0, 6.0), model_sd=None):
    """Readings in months by readers of known bias and error, and by a model of known error."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(24, 200, num_radiographs)
    readers = {
        f"reader {n}": truth + bias + rng.normal(0, sd, num_radiographs)
        for n, (bias, sd) in enumerate(zip(biases, sds, strict=True))
    }
    if model_sd is not None:
        readers["model"] = truth + rng.normal(0, model_sd, num_radiographs)
    frames = [
        pd.DataFrame({"id": np.arange(num_radiographs).astype(str), "reader": name, "session": "1", "months": months})
        for name, months in readers.items()
    ]
    return pd.concat(frames, ignore_index=True)


def test_correlate_gives_the_example_of_shrout_and_fleiss():
    found = correlate(TARGETS)
    assert found.num_radiographs == 6
    rounded = {name: f"{estimate.value:.2f}" for name, estimate in found.values.items()}
    assert rounded == {
        "ICC(1,1)": "0.17",
        "ICC(2,1)": "0.29",
        "ICC(3,1)": "0.71",
        "ICC(1,k)": "0.44",
        "ICC(2,k)": "0.62",
        "ICC(3,k)": "0.91",
    }
    # Of unrounded ends, the value lies between.
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.values.values())
    assert found.values["ICC(2,1)"].low == pytest.approx(0.0188, abs=1e-4)


def test_correlate_leaves_out_what_not_all_have_read():
    gaps = pd.concat([TARGETS, pd.DataFrame([[9, NAN, 5, 8]])])
    assert correlate(gaps) == correlate(TARGETS)
    assert correlate(TARGETS.iloc[:2]) is None
    assert correlate(TARGETS[[0]]) is None


def test_measure_limits_gives_the_example_of_bland_and_altman():
    limits = measure_limits(WRIGHT - MINI, num_sds=2.0)
    assert (limits.num_radiographs, round(limits.bias.value, 2), round(limits.sd, 2)) == (17, -2.12, 38.77)
    # The paper computes them from the rounded mean and standard deviation.
    assert (limits.low.value, limits.high.value) == pytest.approx((-79.6, 75.4), abs=0.06)
    # Its intervals: -22.0 to 17.8 of the bias, -114.3 to -45.1 of the lower limit.
    assert (limits.bias.low, limits.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert (limits.low.low, limits.low.high) == pytest.approx((-114.3, -45.1), abs=0.7)


def test_measure_repeatability_gives_the_example_of_bland_and_altman():
    repeated = measure_repeatability(WRIGHT_AGAIN - WRIGHT, num_sds=2.0)
    assert (repeated.num_pairs, round(repeated.dahlberg_months, 2)) == (17, 15.31)
    assert round(repeated.coefficient_months, 1) == 43.3


def test_krippendorff_alpha_gives_the_example_with_gaps():
    assert round(krippendorff_alpha(UNITS), 3) == 0.849


@pytest.mark.parametrize("wide", [UNITS[[0]], pd.DataFrame([[3.0, 3.0], [3.0, 3.0]]), UNITS.iloc[:0]])
def test_krippendorff_alpha_of_nothing_to_compare_is_unknown(wide):
    assert krippendorff_alpha(wide) is None


def test_subtract_readers_gives_the_example_of_thodberg():
    reader_sd = 0.63 / math.sqrt(2)
    assert round(reader_sd, 3) == 0.445
    assert round(subtract_readers(0.61, reader_sd=reader_sd, num_readers=2), 3) == 0.522
    assert subtract_readers(0.1, reader_sd=reader_sd, num_readers=2) == 0


def test_find_reader_sd_of_readers_who_never_met_is_unknown():
    assert find_reader_sd(pd.DataFrame([[1.0, NAN], [NAN, 2.0], [3.0, NAN]])) is None


def test_measure_agreement_finds_simulated_readers_and_model():
    agreement = measure_agreement(simulate(3000, seed=0, model_sd=5.0), num_refused=2, num_resamples=50)
    assert agreement.readers == ["reader 0", "reader 1", "reader 2", "model"]
    assert agreement.reader_sd == pytest.approx(math.sqrt((49 + 64 + 36) / 3), rel=0.03)
    assert agreement.model.own_sd == pytest.approx(5, rel=0.08)
    assert (agreement.model.num_radiographs, agreement.model.num_refused) == (3000, 2)
    assert agreement.pairs["reader 0 - reader 1"].bias.value == pytest.approx(-4, abs=0.6)
    assert agreement.against_others["reader 1"].bias.value == pytest.approx(5.5, abs=0.5)
    assert agreement.correlations.num_radiographs == 3000


def test_measure_agreement_by_age_and_by_column():
    readings = simulate(400, seed=1)
    readings["sex"] = np.where(
        readings["id"].astype(int) % 4 == 0, "", np.where(readings["id"].astype(int) % 2, "F", "M")
    )
    by = measure_agreement(readings, by=("age", "sex"), num_resamples=20).by
    assert list(by["age"]) == ["0-5", "5-10", "10-13", "13-16", "16+"]
    assert {level: group.num_radiographs for level, group in by["sex"].items()} == {"F": 200, "M": 100, "unknown": 100}
    assert all(group.alpha > 0.9 for group in by["sex"].values())


def test_measure_agreement_counts_first_sessions_between_readers_and_all_within():
    first = simulate(200, seed=2)
    again = first[first["reader"] == "reader 0"].assign(session="2")
    again["months"] += 10.0
    agreement = measure_agreement(pd.concat([first, again]), num_resamples=20)
    assert agreement.pairs == measure_agreement(first, num_resamples=20).pairs
    assert list(agreement.repeatability) == ["reader 0"]
    assert agreement.repeatability["reader 0"].dahlberg_months == pytest.approx(10 / math.sqrt(2))


@pytest.mark.parametrize(
    ("readings", "by", "told"),
    [
        (simulate(5, seed=0, biases=(0.0,), sds=(1.0,)), (), "no two readers read 3 radiographs in common"),
        (simulate(2, seed=0), (), "no two readers"),
        (simulate(5, seed=0), ("atlas",), "no column 'atlas' to group by; there are age"),
        (simulate(5, seed=0), ("months",), "no column 'months'"),
    ],
)
def test_measure_agreement_says_what_it_lacks(readings, by, told):
    with pytest.raises(AgreementError, match=told):
        measure_agreement(readings, by=by)


@pytest.mark.slow
def test_intervals_hold_in_95_of_100_simulations():
    truth = {"bias": -4.0, "low": -4.0 - 1.96 * math.sqrt(113), "high": -4.0 + 1.96 * math.sqrt(113)}
    held = dict.fromkeys((*truth, "icc"), 0)
    variance = (200 - 24) ** 2 / 12
    for seed in range(1000):
        wide = simulate(60, seed=seed).pivot(index="id", columns="reader", values="months")
        limits = measure_limits((wide["reader 0"] - wide["reader 1"]).to_numpy())
        for name, value in truth.items():
            estimate = getattr(limits, name)
            held[name] += estimate.low <= value <= estimate.high
        # Truth is drawn from a normal distribution here, as the interval assumes.
        rng = np.random.default_rng(seed)
        children = rng.normal(120, math.sqrt(variance), 60)[:, None]
        consistency = correlate(pd.DataFrame(children + rng.normal(0, 7, (60, 3)))).values["ICC(3,1)"]
        held["icc"] += consistency.low <= variance / (variance + 49) <= consistency.high
    assert all(0.93 <= number / 1000 <= 0.97 for number in held.values()), held
