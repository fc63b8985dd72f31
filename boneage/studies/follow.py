"""The radiographs of children over time: tables, and a figure of each child."""

import dataclasses
from pathlib import Path

import pandas as pd

from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.inference.growth_reference import load_growth_reference
from boneage.studies.follow_plot import plot_course
from boneage.studies.progress import Course, Step, find_courses
from boneage.studies.visits import read_visits

REPORT_FILE, VISITS_FILE, CHANGES_FILE, CHILDREN_FILE = "follow.json", "visits.csv", "changes.csv", "children.csv"


@dataclasses.dataclass(frozen=True)
class FollowUp:
    """The courses of children, and the radiographs that are in none.

    Args:
        courses: One for each child.
        num_radiographs: Radiographs of the courses.
        num_refused: Radiographs without bone age.
        num_without_child: Radiographs of which nobody says whose they are.
        num_without_age: Radiographs without chronological age.
        error_months: The error of one bone age that was given, in months; None where the intervals tell it.
        reference: Name of the growth reference.
        figures: Name of the figure of each child.
    """

    courses: list[Course]
    num_radiographs: int
    num_refused: int
    num_without_child: int
    num_without_age: int
    error_months: float | None
    reference: str
    figures: dict[str, str]


def follow(
    predictions: str | Path,
    *,
    out: str | Path,
    table: str | Path | None = None,
    radiographs: str | Path | None = None,
    error_months: float | None = None,
    reference: str | Path | None = None,
) -> FollowUp:
    """Follow the bone age of children over time: velocity, the smallest change that is real, and acceleration.

    Args:
        predictions: The table that `boneage predict --out` wrote, or any with the bone age, see
            `boneage.studies.visits.read_visits`.
        out: Folder for `visits.csv`, `changes.csv`, `children.csv`, `follow.json`, and a figure of each child,
            `child-1.png`.
        table: Table that tells whose radiographs they are, and the age of the child at each; `id` joins it with
            `predictions`.
        radiographs: Folder of DICOM files whose headers tell it instead. The children get running numbers.
        error_months: Error of one bone age of a child in months, such as Dahlberg's error of `boneage agree`
            (default: from each prediction interval, which judges with more caution).
        reference: CSV with a growth reference, see `boneage.inference.growth_reference` (default: Brush Foundation
            table).

    Returns:
        The courses of the children.

    Raises:
        BoneAgeError: If a table or the folder cannot be used, or another process writes `out`.
        ValueError: If `error_months` is not positive, or `table` and `radiographs` are both given.
    """
    if error_months is not None and not error_months > 0:
        raise ValueError(f"`error_months` must be positive. Received: {error_months}.")
    check_output(Path(out), is_folder=True)
    growth = load_growth_reference(reference)
    visits = read_visits(predictions, table=table, radiographs=radiographs)
    courses = find_courses(visits, reference=growth, error_months=error_months)
    follow_up = FollowUp(
        courses=courses,
        num_radiographs=len(visits.frame),
        num_refused=visits.num_refused,
        num_without_child=visits.num_without_child,
        num_without_age=visits.num_without_age,
        error_months=error_months,
        reference=growth.name,
        # The name of a child may be anything, and is no name of a file.
        figures={course.child: f"child-{number}.png" for number, course in enumerate(courses, start=1)},
    )
    out = Path(out)
    with lock_folder(out):
        write_text(out / VISITS_FILE, format_frame(_tabulate_visits(courses), float_format="%.2f"))
        write_text(out / CHANGES_FILE, format_frame(_tabulate_changes(courses), float_format="%.2f"))
        write_text(out / CHILDREN_FILE, format_frame(_tabulate_children(follow_up), float_format="%.2f"))
        for course in courses:
            plot_course(course, growth, out / follow_up.figures[course.child])
        write_json(out / REPORT_FILE, dataclasses.asdict(follow_up))
    return follow_up


def _tabulate_visits(courses: list[Course]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"child": course.child, "sex": course.sex or "", **dataclasses.asdict(visit)}
            for course in courses
            for visit in course.visits
        ]
    )


def _tabulate_changes(courses: list[Course]) -> pd.DataFrame:
    rows = [{"child": course.child, **dataclasses.asdict(step)} for course in courses for step in course.steps]
    return pd.DataFrame(rows, columns=["child", *(field.name for field in dataclasses.fields(Step))])


def _tabulate_children(follow_up: FollowUp) -> pd.DataFrame:
    rows = []
    for course in follow_up.courses:
        row: dict[str, object] = {
            "child": course.child,
            "sex": course.sex or "",
            "num_radiographs": sum(visit.num_radiographs for visit in course.visits),
            "num_visits": len(course.visits),
        }
        overall = dict.fromkeys(field.name for field in dataclasses.fields(Step))
        row |= overall if course.overall is None else dataclasses.asdict(course.overall)
        figure = follow_up.figures[course.child]
        rows.append({**row, "figure": figure, "remarks": "; ".join(course.remarks)})
    return pd.DataFrame(rows)
