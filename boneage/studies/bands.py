"""The ages that a picture of a course shows, and the bands of the reference over them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from boneage.inference.growth_reference import GrowthReference
from boneage.studies.progress import Course

# Months of age that a picture shows at least, and beside the first and the last visit.
_MIN_MONTHS, _MARGIN_MONTHS = 48.0, 9.6
_NUM_AGES = 100
NUM_SDS = (2, 1)
"""Standard deviations of the reference, outer and inner band."""


@dataclass(frozen=True, eq=False)
class Bands:
    """The bone ages of healthy children over a range of ages, in months, float64.

    Args:
        ages_months: Chronological ages, shape `(ages,)`.
        medians_months: The median bone age at each.
        ends_months: By number of standard deviations, the bone ages that many below and above, shape `(ages, 2)`.
    """

    ages_months: Float[np.ndarray, " ages"]
    medians_months: Float[np.ndarray, " ages"]
    ends_months: dict[int, Float[np.ndarray, "ages 2"]]


def find_shown_ages(course: Course) -> tuple[float, float]:
    """Return the first and the last chronological age that a picture of a course shows, in months."""
    first, last = (course.visits[place].chronological_age_months for place in (0, -1))
    missing = max(0.0, _MIN_MONTHS - (last - first) - 2 * _MARGIN_MONTHS) / 2
    return max(0.0, first - _MARGIN_MONTHS - missing), last + _MARGIN_MONTHS + missing


def find_bands(course: Course, reference: GrowthReference, *, shown_months: tuple[float, float]) -> Bands | None:
    """Find the bands of the reference at those of the shown ages that it has.

    Args:
        course: The course, for the sex.
        reference: The growth reference.
        shown_months: The first and the last age shown, in months.

    Returns:
        The bands; None if the sex is unknown, or the reference has it not, or none of the ages.
    """
    sex = course.sex
    if sex is None or sex not in reference.rows:
        return None
    first, last = reference.rows[sex][[0, -1], 0]
    ages = np.linspace(max(shown_months[0], first), min(shown_months[1], last), _NUM_AGES)
    if ages[0] >= ages[-1]:
        return None
    healthy = [reference.at(age, sex=sex) for age in ages]
    return Bands(
        ages_months=ages,
        medians_months=np.array([of_age.median_months for of_age in healthy]),
        ends_months={
            number: np.array([(of_age.value(-number), of_age.value(number)) for of_age in healthy])
            for number in NUM_SDS
        },
    )
