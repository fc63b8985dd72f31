"""What is told of a child beyond its radiograph, and what follows from it: the course of its bone age, its heights."""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from boneage.inference.growth_reference import GrowthReference
from boneage.serve.ages import parse_years_and_months
from boneage.serve.readings import Answer
from boneage.studies.child_height import BLANK, HeightTables, find_heights, state_heights
from boneage.studies.columns import MAX_HEIGHT_CM, MIN_HEIGHT_CM
from boneage.studies.progress import Course, find_courses
from boneage.studies.visits import Visits
from boneage.web.requests import RequestError, parse_number

MAX_EARLIER = 12
"""Earlier readings that the form takes."""
MAX_ERROR_MONTHS = 60.0
_HEIGHTS = {"height_cm": "height", "mother_cm": "height of the mother", "father_cm": "height of the father"}
FIELDS = (
    *(f"{what}_{n}_{unit}" for n in range(MAX_EARLIER) for what in ("age", "bone") for unit in ("years", "months")),
    "one_child",
    "error_months",
    *_HEIGHTS,
)
"""The fields of the form."""
_NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Child:
    """What the user tells of a child.

    Args:
        earlier: Earlier readings as pairs of chronological age and bone age, in months.
        is_one_child: Whether the other films of the same upload are of this child.
        error_months: Standard deviation of the error of one bone age; None for that of each prediction interval.
        height_cm: Its height on the day of the radiograph, in cm, or None.
        mother_cm: Height of its mother, or None.
        father_cm: Height of its father, or None.
    """

    earlier: tuple[tuple[float, float], ...] = ()
    is_one_child: bool = False
    error_months: float | None = None
    height_cm: float | None = None
    mother_cm: float | None = None
    father_cm: float | None = None


NOTHING_TOLD = Child()


@dataclasses.dataclass(frozen=True)
class ToldVisit:
    """A bone age at an age.

    Args:
        chronological_age_months: Chronological age in months.
        bone_age_months: Bone age in months.
        low_months: Lower end of its prediction interval; None without one.
        high_months: Upper end, 240 for an open one; None without an interval.
        sex: `"female"`, `"male"`, or None if unknown.
    """

    chronological_age_months: float
    bone_age_months: float
    low_months: float | None = None
    high_months: float | None = None
    sex: str | None = None


def parse_child(fields: Mapping[str, str]) -> Child:
    """Parse the form about a child.

    Args:
        fields: What was typed, by the names of `FIELDS`.

    Raises:
        RequestError: If a number is not understood, or an earlier reading lacks one of its two ages.
    """
    earlier = []
    for n in range(MAX_EARLIER):
        age, bone_age = (
            parse_years_and_months(
                fields.get(f"{what}_{n}_years", ""),
                fields.get(f"{what}_{n}_months", ""),
                name=f"earlier reading {n + 1}, {words}",
            )
            for what, words in (("age", "chronological age"), ("bone", "bone age"))
        )
        if (age is None) != (bone_age is None):
            raise RequestError(422, f"earlier reading {n + 1}: give both the chronological age and the bone age.")
        if age is not None and bone_age is not None:
            earlier.append((age, bone_age))
    return Child(
        earlier=tuple(earlier),
        is_one_child=bool(fields.get("one_child")),
        error_months=parse_number(
            fields.get("error_months", ""), name="error of one bone age:", low=0.1, high=MAX_ERROR_MONTHS
        ),
        **{
            name: parse_number(fields.get(name, ""), name=f"{words}:", low=MIN_HEIGHT_CM, high=MAX_HEIGHT_CM)
            for name, words in _HEIGHTS.items()
        },
    )


def follow_visits(visits: Sequence[ToldVisit], *, reference: GrowthReference, error_months: float | None) -> Course:
    """Follow the bone ages of one child, as `boneage.studies.follow.follow` does.

    Args:
        visits: One or more, in any order.
        reference: The growth reference.
        error_months: As in `Child`.
    """
    frame = pd.DataFrame(
        {
            "child": "",
            "sex": visit.sex or "",
            "chronological_age_months": visit.chronological_age_months,
            "bone_age_months": visit.bone_age_months,
            "low_months": _NAN if visit.low_months is None else visit.low_months,
            "high_months": _NAN if visit.high_months is None else visit.high_months,
        }
        for visit in visits
    )
    known = Visits(frame, num_refused=0, num_without_child=0, num_without_age=0)
    (course,) = find_courses(known, reference=reference, error_months=error_months)
    return course


def follow_answers(
    answer: Answer, child: Child, *, others: Sequence[Answer], reference: GrowthReference
) -> Course | None:
    """Follow the child of a radiograph.

    Args:
        answer: The answer of the radiograph.
        child: What is told of the child.
        others: The answers of the other films of the same upload, used if they are of this child.
        reference: The growth reference.

    Returns:
        The course, of one visit if nothing more is told; None without bone age or chronological age.
    """
    told = [_to_visit(one) for one in (answer, *(others if child.is_one_child else ()))]
    if told[0] is None:
        return None
    earlier = [ToldVisit(age, bone_age) for age, bone_age in child.earlier]
    visits = [*filter(None, told), *earlier]
    return follow_visits(visits, reference=reference, error_months=child.error_months)


def _to_visit(answer: Answer) -> ToldVisit | None:
    if answer.bone_age_months is None or answer.chronological_age_months is None:
        return None
    return ToldVisit(
        answer.chronological_age_months, answer.bone_age_months, answer.low_months, answer.high_months, answer.sex
    )


def state_child_heights(answer: Answer, child: Child, tables: HeightTables) -> list[tuple[str, str]]:
    """State the heights of the child of a radiograph, and why some are unknown, as pairs of a name and a text.

    Args:
        answer: The answer of the radiograph.
        child: What is told of the child.
        tables: The tables that heights are found by.

    Returns:
        Nothing if no height is told.
    """
    told = {name: value for name in _HEIGHTS if (value := getattr(child, name)) is not None}
    if not told:
        return []
    names = ("sex", "bone_age_months", "low_months", "high_months", "chronological_age_months")
    known = {name: value for name in names if (value := getattr(answer, name)) is not None}
    stated = [("height", f"{child.height_cm:.1f} cm")] if child.height_cm is not None else []
    stated += state_heights(find_heights({**BLANK, **known, **told}, tables))
    return [(f"{name[0].upper()}{name[1:]}", text) for name, text in stated]
