"""Agreement of simulated readers, whose errors are known."""

import math

import numpy as np
import pandas as pd
import pytest

from boneage.studies.agreement import AgreementError, measure_agreement
from boneage.studies.correlation import correlate, krippendorff_alpha
from boneage.studies.differences import find_degrees, measure_limits, measure_repeatability


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
    assert all(group.alpha.value > 0.9 for group in by["sex"].values())


def test_measure_agreement_counts_first_sessions_between_readers_and_all_within():
    first = simulate(200, seed=2)
    again = first[first["reader"] == "reader 0"].assign(session="2")
    again["months"] += 10.0
    agreement = measure_agreement(pd.concat([first, again]), num_resamples=20)
    assert agreement.pairs == measure_agreement(first, num_resamples=20).pairs
    assert list(agreement.repeatability) == ["reader 0"]
    assert agreement.repeatability["reader 0"].dahlberg_months.value == pytest.approx(10 / math.sqrt(2))


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


SD_OF_CHILDREN, SD_OF_HABITS, SD_OF_ERRORS = 50.0, 4.0, 7.0


def find_shares(intervals):
    """The share of simulations, by quantity, whose interval holds the truth; each gives `{name: (estimate, truth)}`."""
    held = {}
    for found in intervals:
        for name, (estimate, truth) in found.items():
            held.setdefault(name, []).append(estimate.low <= truth <= estimate.high)
    return {name: sum(hits) / len(hits) for name, hits in held.items()}


def simulate_limits(seed):
    sd = math.hypot(7, 8)
    found = measure_limits(np.random.default_rng(seed).normal(-4, sd, 60))
    return {"bias": (found.bias, -4), "low": (found.low, -4 - 1.96 * sd), "high": (found.high, -4 + 1.96 * sd)}


def simulate_correlations(seed, *, num_readers=10):
    rng = np.random.default_rng(seed)
    children, habits = rng.normal(120, SD_OF_CHILDREN, (60, 1)), rng.normal(0, SD_OF_HABITS, num_readers)
    readings = children + rng.normal(0, SD_OF_ERRORS, (60, num_readers))
    alike, apart = (correlate(pd.DataFrame(table)).values for table in (readings, readings + habits))
    variance, error = SD_OF_CHILDREN**2, SD_OF_ERRORS**2
    truth = {"1": variance / (variance + error), "3": variance / (variance + error)}
    truth["2"] = variance / (variance + error + SD_OF_HABITS**2)
    found = {}
    for form, value in truth.items():
        of_readers = alike if form == "1" else apart
        found[f"ICC({form},1)"] = (of_readers[f"ICC({form},1)"], value)
        means = num_readers * value / (1 + (num_readers - 1) * value)
        found[f"ICC({form},k)"] = (of_readers[f"ICC({form},k)"], means)
    return found


def simulate_alpha(seed):
    rng = np.random.default_rng(seed)
    wide = rng.normal(120, SD_OF_CHILDREN, (40, 1)) + rng.normal(0, SD_OF_ERRORS, (40, 3))
    wide[rng.random((40, 3)) < 0.15] = np.nan
    return {"alpha": (krippendorff_alpha(pd.DataFrame(wide)), 1 - SD_OF_ERRORS**2 / math.hypot(50, 7) ** 2)}


def simulate_repeatability(seed):
    """One reader in three sessions."""
    sessions = np.random.default_rng(seed).normal(0, SD_OF_ERRORS, (30, 3))
    found = measure_repeatability(np.diff(sessions).ravel(), degrees=find_degrees(np.full(30, 3.0)))
    coefficient = 1.96 * math.sqrt(2) * SD_OF_ERRORS
    return {
        "dahlberg": (found.dahlberg_months, SD_OF_ERRORS),
        "repeatability": (found.coefficient_months, coefficient),
    }


@pytest.mark.slow
@pytest.mark.parametrize("simulation", [simulate_limits, simulate_correlations, simulate_alpha, simulate_repeatability])
def test_intervals_hold_the_truth_in_95_of_100_simulations(simulation):
    shares = find_shares(map(simulation, range(1000)))
    assert all(abs(share - 0.95) <= 0.02 for share in shares.values()), shares


def test_find_degrees_by_hand():
    assert find_degrees(np.array([2.0, 2, 2])) == 3
    # Two differences whose squares are correlated by 1/4 tell as much as 2 * 2 / (2 + 2 / 4).
    assert find_degrees(np.array([3.0])) == pytest.approx(1.6)


def test_krippendorff_alpha_has_no_interval_of_two_radiographs():
    alpha = krippendorff_alpha(pd.DataFrame([[100, 103], [150, 148.0]]))
    assert (alpha.low, alpha.high) == (-1, 1) and 0.99 < alpha.value < 1
    alike = krippendorff_alpha(pd.DataFrame([[100, 100], [150, 150.0]]))
    assert (alike.low, alike.value, alike.high) == (1, 1, 1)
