"""Agreement of simulated readers, whose errors are known."""

import math

import numpy as np
import pandas as pd
import pytest

from boneage.studies.agreement import AgreementError, measure_agreement
from boneage.studies.correlation import correlate
from boneage.studies.differences import measure_limits


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
