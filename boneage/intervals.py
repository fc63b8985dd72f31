"""Intervals with measured coverage: split-conformal, from the errors on radiographs that were not learnt from.

After Lei et al. 2018, doi:10.1080/01621459.2017.1307116: the interval of a new radiograph reaches as far as nine in ten
errors did on validation, among those of the same sex whose predicted age lies in the same band, so that it knows that
the young and the old are harder. The bands are of the predicted age, since no other is known.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from boneage.metrics import AGE_BANDS_YEARS
from tfrecords.schema import SEXES

COVERAGE_SHARE = 0.9
MIN_GROUP = 30
_NUM_FOLDS = 10


def measure_intervals(frame: pd.DataFrame, *, coverage_share: float = COVERAGE_SHARE, seed: int = 0) -> dict[str, Any]:
    """Measure how far an interval must reach, and whether it covers as many as it should.

    Args:
        frame: Columns `sex`, `bone_age_months` and `predicted_months`, of radiographs that were not learnt from.
        coverage_share: Share of radiographs whose reading the interval is to hold, in (0, 1).
        seed: Seed of the folds by which the coverage is measured.

    Returns:
        Plain values for a bundle's metadata: `coverage_share`; `half_width_months`, by sex and by band of predicted
        age; and `measured_coverage_share`, on tenths that did not take part in measuring their intervals.
    """
    covered = np.zeros(len(frame), bool)
    order = np.random.default_rng(seed).permutation(len(frame))
    for fold in range(_NUM_FOLDS):
        unseen = order[fold::_NUM_FOLDS]
        widths = _measure_widths(frame.drop(index=frame.index[unseen]), coverage_share=coverage_share)
        rows = frame.iloc[unseen]
        reach = [
            find_half_width(widths, sex=sex, predicted_months=months)
            for sex, months in zip(rows["sex"], rows["predicted_months"], strict=True)
        ]
        covered[unseen] = (rows["predicted_months"] - rows["bone_age_months"]).abs().to_numpy() <= np.array(reach)
    return {
        "coverage_share": coverage_share,
        "measured_coverage_share": round(float(covered.mean()), 4),
        "half_width_months": _measure_widths(frame, coverage_share=coverage_share),
    }


def _measure_widths(frame: pd.DataFrame, *, coverage_share: float) -> dict[str, dict[str, float]]:
    """Return the half width by sex and band; a group of few shares that of its sex, or of all."""
    errors = (frame["predicted_months"] - frame["bone_age_months"]).abs().to_numpy()
    bands = frame["predicted_months"].map(find_band).to_numpy()
    sexes = frame["sex"].to_numpy()
    widths: dict[str, dict[str, float]] = {}
    for sex in SEXES:
        widths[sex] = {}
        for band in AGE_BANDS_YEARS:
            groups = (sexes == sex) & (bands == band), sexes == sex, np.ones(len(frame), bool)
            group = next((each for each in groups if each.sum() >= MIN_GROUP), groups[-1])
            # The finite-sample correction: of n errors the ceil((n + 1) * share)-th smallest.
            rank = min(int(np.ceil((group.sum() + 1) * coverage_share)), int(group.sum())) - 1
            widths[sex][band] = round(float(np.sort(errors[group])[rank]), 2)
    return widths


def find_band(months: float) -> str:
    """Return the band of an age, a key of `boneage.metrics.AGE_BANDS_YEARS`; below zero it is the first."""
    return next(
        (name for name, (_, high) in AGE_BANDS_YEARS.items() if months / 12 < high), next(reversed(AGE_BANDS_YEARS))
    )


def find_half_width(widths: dict[str, dict[str, float]], *, sex: str | None, predicted_months: float) -> float:
    """Return how far the interval of a prediction reaches, in months; the wider one where the sex is not known."""
    band = find_band(predicted_months)
    return max(widths[each][band] for each in ([sex] if sex else SEXES))


def span_interval(widths: dict[str, dict[str, float]], answers: Mapping[str | None, float]) -> tuple[float, float]:
    """Return the interval that holds those of all sexes that a radiograph may be of.

    Args:
        widths: Half widths in months, by sex and by band of predicted age.
        answers: The bone age in months, for each of these sexes; None is a sex that is not known.

    Returns:
        Its ends in months, the lower one never below 0.
    """
    reaches = {sex: find_half_width(widths, sex=sex, predicted_months=months) for sex, months in answers.items()}
    low = min(months - reaches[sex] for sex, months in answers.items())
    return max(low, 0.0), max(months + reaches[sex] for sex, months in answers.items())
