import numpy as np
import pytest
from scipy import stats

from boneage.inference.lms import find_lms_score, find_lms_value
from boneage.studies.lms_fit import LmsFitError, fit_lms

SCORES = np.array([-1.881, -1.282, -0.674, 0, 0.674, 1.282, 1.881])[:, None]


def make_table(ages):
    """L, M and S that bend as those of bone ages do."""
    return 1.5 - ages / 150, ages * (1 + 0.03 * np.sin(ages / 40)), 0.065 + 0.12 * np.exp(-ages / 60)


def simulate(num_children, *, seed, table=make_table):
    generator = np.random.default_rng(seed)
    ages = generator.uniform(24, 204, num_children)
    power, median, deviation = table(ages)
    scores = generator.standard_normal(num_children)
    return ages, find_lms_value(scores, power=power, median=median, deviation=deviation)


def find_centiles(curves, scores=SCORES):
    power, median, deviation = curves
    return find_lms_value(scores, power=power, median=median, deviation=deviation)


def test_fit_lms_finds_the_table_that_children_were_simulated_from():
    within, errors = [], []
    inner = np.arange(30.0, 199)
    power, median, deviation = make_table(inner)
    for seed in range(4):
        fitted = find_centiles(fit_lms(*simulate(5000, seed=seed)).at(inner))
        error = find_lms_score(fitted, power=power, median=median, deviation=deviation) - SCORES
        within.append(np.abs(error) < 0.1)
        errors.append(error)
    assert np.mean(within) > 0.95
    assert np.sqrt(np.mean(np.square(errors))) < 0.05
    # A centile as a whole, from the 3rd to the 97th, in each simulation.
    assert np.abs(np.mean(errors, axis=2)).max() < 0.1


def test_fit_lms_smooths_away_what_is_not_there():
    def table(ages):
        return np.full_like(ages, 0.3), 0.97 * ages, np.full_like(ages, 0.1)

    curves = fit_lms(*simulate(5000, seed=0, table=table))
    assert (curves.degrees < (3, 5, 4)).all()
    ages = np.arange(24.0, 205)
    power, median, deviation = curves.at(ages)
    assert median / ages == pytest.approx(0.97, abs=0.01)
    assert deviation == pytest.approx(0.1, abs=0.01)
    assert power == pytest.approx(0.3, abs=1)


def test_fit_lms_counts_a_weight_as_so_many_children():
    ages, values = simulate(400, seed=1)
    counts = np.random.default_rng(2).integers(0, 3, 400)
    weighted = fit_lms(ages, values, weights=counts.astype(float))
    repeated = fit_lms(np.repeat(ages, counts), np.repeat(values, counts))
    inner = np.arange(30.0, 199)
    difference = find_centiles(weighted.at(inner)) / find_centiles(repeated.at(inner)) - 1
    assert np.abs(difference).max() < 0.01


def test_fit_lms_does_not_depend_on_the_unit():
    ages, values = simulate(1000, seed=3)
    months, twice = fit_lms(ages, values), fit_lms(ages, 2 * values)
    inner = np.arange(30.0, 199)
    assert find_centiles(twice.at(inner)) == pytest.approx(2 * find_centiles(months.at(inner)), rel=2e-3)


@pytest.mark.parametrize(
    ("num_runs", "tolerance"),
    [pytest.param(60, 0.03, marks=pytest.mark.slow), pytest.param(1000, 0.02, marks=pytest.mark.release)],
)
def test_bands_by_resamples_cover_the_table_in_95_percent(num_runs, tolerance):
    """The share of ages, centiles and runs in which the estimate lies within its band.

    Of few resamples the standard deviation is uncertain itself, so that Student's t stands for 1.96.
    """
    shown = np.arange(27.0, 202, 5)
    truth = find_centiles(make_table(shown))
    covered = []
    for seed in range(num_runs):
        ages, values = simulate(500, seed=100 + seed)
        generator = np.random.default_rng(seed)
        fitted = fit_lms(ages, values)
        resampled = []
        for _ in range(10):
            weights = generator.multinomial(500, np.full(500, 1 / 500)).astype(float)
            try:
                curves = fit_lms(ages, values, weights=weights, start=fitted)
            except LmsFitError:
                continue
            resampled.append(find_centiles(curves.at(shown)))
        assert len(resampled) >= 8
        reach = stats.t.ppf(0.975, len(resampled) - 1) * np.std(resampled, axis=0, ddof=1)
        covered.append(np.abs(find_centiles(fitted.at(shown)) - truth) < reach)
    assert np.mean(covered) == pytest.approx(0.95, abs=tolerance)
