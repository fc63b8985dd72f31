"""Compare a bone age with the chronological age: score, centile, determination, and whether both can be right."""

import dataclasses
import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from boneage.inference.growth_reference import GrowthReference

NORMAL_SDS = 2.0
"""Largest standard deviation score of a normal bone age (ACR/RSNA common data element set RDES14)."""
MAX_SURE_SDS = 4.0
"""Standard deviation score beyond which an age without a stated unit is asked about instead of used."""
# One in a thousand healthy children lies beyond: 303 radiographs of the RSNA validation split, read by the included
# model, each with chronological ages drawn from the Brush Foundation's table, as RSNA has none.
_MAX_PLAUSIBLE_SCORE = 4.3
# Half the width of a 90% interval, in standard deviations of a normal distribution.
_INTERVAL_SDS = 1.645

NO_AGE, UNUSED_AGE, NO_SEX, OUTSIDE = "no_age", "age_not_used", "no_sex", "age_outside_table"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A bone age beside the chronological age.

    Args:
        reference: Name of the growth reference.
        chronological_age_months: The chronological age in months; None if it is unknown or was not used.
        sds: Standard deviation score of the bone age; NaN if `missing` says why there is none.
        missing: Why there is no score: `no_age`, `age_not_used` (its unit is doubtful), `no_sex` or
            `age_outside_table`; empty if there is one.
        determination: `delayed`, `normal` or `advanced`: more than two standard deviations below the mean, within, or
            more than two above. `indeterminate` if there is no score, or if the sex is not known and the determination
            depends on it. Empty without a chronological age.
        normal_months: The bone ages of the scores -2 and +2 at that age, in months; None without a score.
        is_far: Whether the two ages are too far apart for healthy children, the error of the model included.
    """

    reference: str
    chronological_age_months: float | None
    sds: float
    missing: str
    determination: str
    normal_months: tuple[float, float] | None
    is_far: bool

    @property
    def centile(self) -> float:
        """Share of healthy children with a lower bone age, in percent, by the score to a tenth; NaN without one."""
        if math.isnan(self.sds):
            return math.nan
        return round(100 * NormalDist().cdf(round(self.sds, 1)), 1)


def compare_ages(
    reference: GrowthReference,
    predictions: Mapping[str, float],
    *,
    bone_age_months: float,
    interval_months: tuple[float, float],
    sex: str | None,
    chronological_age_months: float | None,
    is_unit_stated: bool = True,
) -> Comparison:
    """Compare a bone age with the chronological age.

    Args:
        reference: The growth reference.
        predictions: The bone age in months by plausible sex: one if the sex is recorded.
        bone_age_months: The bone age in months.
        interval_months: Its prediction interval in months; NaN without one.
        sex: The sex assumed, or None.
        chronological_age_months: Chronological age in months, or None.
        is_unit_stated: Whether the unit of the chronological age is certain.
    """
    age = chronological_age_months
    nothing = Comparison(reference.label, age, math.nan, NO_AGE, "", None, is_far=False)
    if age is None:
        return nothing
    scores = [reference.sd_score(months, chronological_age_months=age, sex=key) for key, months in predictions.items()]
    sds = reference.sd_score(bone_age_months, chronological_age_months=age, sex=sex)
    if not is_unit_stated and abs(sds) > MAX_SURE_SDS:
        return dataclasses.replace(
            nothing, chronological_age_months=None, missing=UNUSED_AGE, determination="indeterminate"
        )
    is_far = all(
        _is_far(reference, months, interval_months=interval_months, age_months=age, sex=key)
        for key, months in predictions.items()
    )
    if math.isnan(sds):
        missing = NO_SEX if sex is None else OUTSIDE
        return dataclasses.replace(nothing, missing=missing, determination="indeterminate", is_far=is_far)
    healthy = reference.at(age, sex=sex or "")
    determinations = {determine(score) for score in scores if not math.isnan(score)}
    return Comparison(
        reference=reference.label,
        chronological_age_months=age,
        sds=sds,
        missing="",
        determination=determine(sds) if len(determinations) == 1 else "indeterminate",
        normal_months=(healthy.value(-NORMAL_SDS), healthy.value(NORMAL_SDS)),
        is_far=is_far,
    )


def determine(sds: float) -> str:
    """Return the determination of a standard deviation score: `delayed`, `normal` or `advanced`."""
    if round(abs(sds), 6) <= NORMAL_SDS:
        return "normal"
    return "delayed" if sds < 0 else "advanced"


def _is_far(
    reference: GrowthReference, months: float, *, interval_months: tuple[float, float], age_months: float, sex: str
) -> bool:
    """Whether bone age and age are far apart, by the standard deviations of the reference and of the model's error."""
    rows = reference.rows.get(sex)
    if rows is None:
        return False
    # Beyond the ages of the table, its first or last row: a grown-up's hand is that of the oldest.
    healthy = reference.at(float(np.clip(age_months, rows[0, 0], rows[-1, 0])), sex=sex)
    low, high = interval_months
    is_above = months > healthy.median_months
    reach = months - low if is_above else high - months
    error = 0.0 if math.isnan(reach) else max(reach, 0.0) / _INTERVAL_SDS
    # The standard deviation on that side; a skewed distribution has two.
    limit = healthy.value(_MAX_PLAUSIBLE_SCORE if is_above else -_MAX_PLAUSIBLE_SCORE) - healthy.median_months
    return abs(months - healthy.median_months) > math.hypot(limit, _MAX_PLAUSIBLE_SCORE * error)
