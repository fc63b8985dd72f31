"""How fast the bone age of a child advances from radiograph to radiograph, and which changes are real.

The error of one bone age is given as that of repeated readings (Dahlberg's error, as `boneage agree` measures it), or
else taken from the prediction interval: half its width over the normal quantile of its coverage. The interval also
holds what all radiographs of a child have in common, such as a bias for that child, and the error of the readers:
changes judged by it are judged with caution.

Two bone ages with errors `s1` and `s2` differ by more than `1.96 * sqrt(s1**2 + s2**2)` in 5% of the children whose
bone age is the same: the smallest real difference (Beckerman et al. 2001, doi:10.1023/A:1013138911638), which for equal
errors is the repeatability coefficient of Bland and Altman 1999, doi:10.1177/096228029900800204.
"""

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import pandas as pd

from boneage.evaluation.conformal import COVERAGE_SHARE, MAX_BONE_AGE_MONTHS
from boneage.inference.growth_reference import GrowthReference
from boneage.studies.differences import NUM_SDS
from boneage.studies.visits import Visits

MONTHS_PER_YEAR = 12.0
ACCELERATED, SLOWED, AS_EXPECTED = "accelerated", "slowed", "within error"
"""Paces of a bone age against the calendar."""


@dataclass(frozen=True)
class Visit:
    """The bone age of a child at one age.

    Args:
        chronological_age_months: Age of the child, in months.
        bone_age_months: Bone age, the mean where several radiographs were taken at this age.
        low_months: Lower end of the prediction interval; None without one.
        high_months: Its upper end; None without one, and where it is open.
        error_months: Standard deviation of the error of the bone age; None where unknown.
        sds: Standard deviation score by the growth reference; None outside its ages, or of unknown sex.
        num_radiographs: Radiographs at this age.
    """

    chronological_age_months: float
    bone_age_months: float
    low_months: float | None
    high_months: float | None
    error_months: float | None
    sds: float | None
    num_radiographs: int


@dataclass(frozen=True)
class Step:
    """What changed from one visit to a later one.

    Args:
        from_age_months: Chronological age at the first visit, in months.
        to_age_months: Chronological age at the second.
        change_months: Change of the bone age.
        velocity: Months of bone age for each year that passed.
        velocity_error: Its standard deviation, in months per year; None where an error is unknown.
        velocity_low: Lower end of its 95% interval.
        velocity_high: Upper end.
        smallest_change_months: The smallest change of the bone age that is real.
        is_real: Whether the bone age changed by more than that.
        pace: `ACCELERATED` if the bone age advanced faster than the calendar by more than the error, so that the
            interval of the velocity lies above 12; `SLOWED` if it lies below 12; else `AS_EXPECTED`; None where an
            error is unknown.
    """

    from_age_months: float
    to_age_months: float
    change_months: float
    velocity: float
    velocity_error: float | None
    velocity_low: float | None
    velocity_high: float | None
    smallest_change_months: float | None
    is_real: bool | None
    pace: str | None


@dataclass(frozen=True)
class Course:
    """The course of the bone age of one child.

    Args:
        child: The child, as the table names it.
        sex: `"female"`, `"male"`, or None where unknown or contradictory.
        visits: In the order of age.
        steps: From each visit to the next.
        overall: From the first visit to the last; None with one visit.
        remarks: What the reader of the course has to know.
    """

    child: str
    sex: str | None
    visits: list[Visit]
    steps: list[Step]
    overall: Step | None
    remarks: list[str]


def find_courses(visits: Visits, *, reference: GrowthReference, error_months: float | None = None) -> list[Course]:
    """Compute the course of each child.

    Args:
        visits: From `boneage.studies.visits.read_visits`.
        reference: The growth reference of the standard deviation scores.
        error_months: Standard deviation of the error of one bone age (default: from each prediction interval).
    """
    return [
        _find_course(str(child), own, reference=reference, error_months=error_months)
        for child, own in visits.frame.groupby("child", sort=False)
    ]


def find_error(low_months: float, high_months: float, *, coverage_share: float = COVERAGE_SHARE) -> float | None:
    """Return the standard deviation of an error from the prediction interval, as if it were normal.

    Args:
        low_months: Lower end, NaN without an interval.
        high_months: Upper end, NaN without an interval; an interval that reaches `MAX_BONE_AGE_MONTHS` is open.
        coverage_share: Share of the children whose bone age lies in the interval.

    Returns:
        Half the width over the quantile of the normal distribution; None without an interval or with an open one.
    """
    if math.isnan(low_months) or math.isnan(high_months) or high_months >= MAX_BONE_AGE_MONTHS:
        return None
    return (high_months - low_months) / 2 / NormalDist().inv_cdf((1 + coverage_share) / 2)


def measure_step(first: Visit, second: Visit) -> Step:
    """Measure what changed between two visits of a child.

    Args:
        first: The earlier visit.
        second: The later one.

    Raises:
        ValueError: If no time passed between them.
    """
    elapsed = second.chronological_age_months - first.chronological_age_months
    if elapsed <= 0:
        raise ValueError(f"The second visit must be later than the first. Received: {elapsed} months.")
    change = second.bone_age_months - first.bone_age_months
    velocity = MONTHS_PER_YEAR * change / elapsed
    error = low = high = smallest = is_real = pace = None
    if first.error_months is not None and second.error_months is not None:
        of_change = math.hypot(first.error_months, second.error_months)
        smallest = NUM_SDS * of_change
        error = MONTHS_PER_YEAR * of_change / elapsed
        low, high = velocity - NUM_SDS * error, velocity + NUM_SDS * error
        is_real = abs(change) > smallest
        pace = ACCELERATED if low > MONTHS_PER_YEAR else SLOWED if high < MONTHS_PER_YEAR else AS_EXPECTED
    return Step(
        from_age_months=first.chronological_age_months,
        to_age_months=second.chronological_age_months,
        change_months=change,
        velocity=velocity,
        velocity_error=error,
        velocity_low=low,
        velocity_high=high,
        smallest_change_months=smallest,
        is_real=is_real,
        pace=pace,
    )


def _find_course(child: str, own: pd.DataFrame, *, reference: GrowthReference, error_months: float | None) -> Course:
    remarks = []
    sexes = sorted(set(own["sex"]) - {""})
    sex = sexes[0] if len(sexes) == 1 else None
    if len(sexes) > 1:
        remarks.append("radiographs of both sexes: is this one child? no reference is shown")
    elif sex is None:
        remarks.append("sex unknown: no reference is shown")
    visits = [
        _make_visit(float(age), same, sex=sex, reference=reference, error_months=error_months)
        for age, same in own.groupby("chronological_age_months", sort=True)
    ]
    if len(visits) == 1:
        remarks.append("one visit: nothing to compare")
    if (own["high_months"] >= MAX_BONE_AGE_MONTHS).any():
        remarks.append("near the end of growth nobody can tell bone ages apart: no error of a change there")
    elif any(visit.error_months is None for visit in visits):
        remarks.append("no interval: the error of a change is unknown; give the error of one bone age")
    pairs = list(itertools.pairwise(visits))
    return Course(
        child=child,
        sex=sex,
        visits=visits,
        steps=[measure_step(first, second) for first, second in pairs],
        overall=measure_step(visits[0], visits[-1]) if pairs else None,
        remarks=remarks,
    )


def _make_visit(
    age: float, same: pd.DataFrame, *, sex: str | None, reference: GrowthReference, error_months: float | None
) -> Visit:
    """Make the visit at one age. The mean of its radiographs keeps the error of one: they err alike."""
    bone_age, low, high = (float(same[name].mean(skipna=False)) for name in _MONTHS)
    is_open = bool((same["high_months"] >= MAX_BONE_AGE_MONTHS).any())
    sds = reference.sd_score(bone_age, chronological_age_months=age, sex=sex)
    error = find_error(low, high) if error_months is None else error_months
    return Visit(
        chronological_age_months=age,
        bone_age_months=bone_age,
        low_months=None if math.isnan(low) else low,
        high_months=None if is_open or math.isnan(high) else high,
        error_months=None if is_open else error,
        sds=None if math.isnan(sds) else sds,
        num_radiographs=len(same),
    )


_MONTHS = ("bone_age_months", "low_months", "high_months")
