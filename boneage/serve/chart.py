"""The picture of bone age against chronological age on the page, as the shapes of an SVG."""

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Float

from boneage.inference.growth_reference import GrowthReference
from boneage.inference.messages import format_age
from boneage.studies.bands import NUM_SDS, find_bands, find_shown_ages
from boneage.studies.progress import ACCELERATED, Course, Visit

WIDTH, HEIGHT = 420, 330
"""Size of the picture, in units of the SVG."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 8, 42
_MARGIN_MONTHS, _MAX_TICKS = 7.2, 9


@dataclasses.dataclass(frozen=True)
class Dot:
    """A visit.

    Args:
        x: Its place, in units of the SVG.
        y: Likewise.
        low: Place of the lower end of its interval; None without one.
        high: Place of the upper end.
        is_open: Whether the interval has no upper end; `high` is then the end of an arrow.
        is_this: Whether it is the radiograph of the card.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    is_open: bool
    is_this: bool


@dataclasses.dataclass(frozen=True)
class Chart:
    """The shapes of the picture, in units of the SVG.

    Args:
        bands: By number of standard deviations the points of a polygon, the outer band first; empty without bands.
        median: Points of the median line; empty without bands.
        identity: Ends of the line on which bone age is chronological age.
        steps: Points of the line from each visit to the next, and whether the bone age accelerated.
        dots: The visits.
        x_ticks: Places and years.
        y_ticks: Places and years.
        summary: What the picture shows, in words.
        reference: Name of the growth reference; empty without bands.
    """

    bands: dict[int, str]
    median: str
    identity: str
    steps: list[tuple[str, bool]]
    dots: list[Dot]
    x_ticks: list[tuple[float, int]]
    y_ticks: list[tuple[float, int]]
    summary: str
    reference: str


def draw_chart(course: Course, reference: GrowthReference, *, this_age_months: float) -> Chart:
    """Draw the course of a child.

    Args:
        course: The course.
        reference: The growth reference; without its bands where it has not the sex or the ages.
        this_age_months: Chronological age at the radiograph of the card.
    """
    shown = find_shown_ages(course)
    bands = find_bands(course, reference, shown_months=shown)
    reach = [*shown, *itertools.chain.from_iterable(map(_list_ends, course.visits))]
    if bands is not None:
        reach += [bands.ends_months[NUM_SDS[0]].min(), bands.ends_months[NUM_SDS[0]].max()]
    scale = _Scale(shown, (max(0.0, min(reach) - _MARGIN_MONTHS), max(reach) + _MARGIN_MONTHS))
    places = [(scale.x(visit.chronological_age_months), scale.y(visit.bone_age_months)) for visit in course.visits]
    polygons = {}
    if bands is not None:
        for number, ends in bands.ends_months.items():
            low, high = (scale.join(bands.ages_months, ends[:, side]) for side in (0, 1))
            polygons[number] = f"{low} {' '.join(reversed(high.split(' ')))}"
    return Chart(
        bands=polygons,
        median="" if bands is None else scale.join(bands.ages_months, bands.medians_months),
        identity=scale.join(np.array(shown), np.array(shown)),
        steps=[
            (f"{one[0]},{one[1]} {two[0]},{two[1]}", step.pace == ACCELERATED)
            for step, (one, two) in zip(course.steps, itertools.pairwise(places), strict=True)
        ],
        dots=[_make_dot(visit, scale, this_age_months=this_age_months) for visit in course.visits],
        x_ticks=[(scale.x(12 * year), year) for year in _list_years(*shown)],
        y_ticks=[(scale.y(12 * year), year) for year in _list_years(*scale.bone_ages)],
        summary=_summarise(course, reference, has_bands=bands is not None),
        reference="" if bands is None else reference.label,
    )


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Ages in months to places in the SVG."""

    ages: tuple[float, float]
    bone_ages: tuple[float, float]

    def x(self, months: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * _share(months, *self.ages), 1)

    def y(self, months: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * _share(months, *self.bone_ages), 1)

    def join(self, ages: Float[np.ndarray, " points"], bone_ages: Float[np.ndarray, " points"]) -> str:
        return " ".join(f"{self.x(age)},{self.y(bone)}" for age, bone in zip(ages, bone_ages, strict=True))


def _share(months: float, low: float, high: float) -> float:
    return float((months - low) / (high - low))


def _list_ends(visit: Visit) -> list[float]:
    """List the bone ages of a visit that must be seen; an open interval is an arrow of a year."""
    top = visit.bone_age_months + 12 if _is_open(visit) else visit.high_months
    return [end for end in (visit.bone_age_months, visit.low_months, top) if end is not None]


def _is_open(visit: Visit) -> bool:
    return visit.low_months is not None and visit.high_months is None


def _make_dot(visit: Visit, scale: _Scale, *, this_age_months: float) -> Dot:
    top = visit.bone_age_months + 12 if _is_open(visit) else visit.high_months
    return Dot(
        x=scale.x(visit.chronological_age_months),
        y=scale.y(visit.bone_age_months),
        low=None if visit.low_months is None else scale.y(visit.low_months),
        high=None if top is None else scale.y(top),
        is_open=_is_open(visit),
        is_this=visit.chronological_age_months == this_age_months,
    )


def _list_years(low_months: float, high_months: float) -> list[int]:
    years = range(math.ceil(low_months / 12), math.floor(high_months / 12) + 1)
    return list(years[:: math.ceil(len(years) / _MAX_TICKS)]) if len(years) else []


def _summarise(course: Course, reference: GrowthReference, *, has_bands: bool) -> str:
    told = [
        f"{format_age(visit.bone_age_months)} at {format_age(visit.chronological_age_months)}"
        for visit in course.visits
    ]
    bands = f" over the bands of {reference.label}" if has_bands else ""
    return f"Bone age against chronological age{bands}: {', '.join(told)}. The numbers are in the table."
