"""The commands for growth clinics."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.options import Json, Reference, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from boneage.studies.follow import FollowUp
    from boneage.studies.progress import Step


def follow(
    predictions: Annotated[
        Path, typer.Argument(help="Predictions, such as `boneage predict --out` writes, or any table with bone ages.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the tables, a figure of each child and the JSON file.", show_default=False)
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV or spreadsheet with id, child, and chronological_age_months or date and birth_date "
            "(default: these columns of the predictions)."
        ),
    ] = None,
    radiographs: Annotated[
        Path | None,
        typer.Option(help="Folder of the DICOM files, whose headers tell child and age; children get running numbers."),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            metavar="MONTHS",
            help="Error of one bone age, such as Dahlberg's error of `boneage agree` (default: from each prediction "
            "interval).",
        ),
    ] = None,
    reference: Reference = None,
    as_json: Json = False,
) -> None:
    """Follow children over time: bone age velocity, the smallest change that is real, acceleration."""
    import rich

    from boneage.studies.follow import follow as run

    follow_up = run(predictions, out=out, table=table, radiographs=radiographs, error_months=error, reference=reference)
    if as_json:
        print_json(dataclasses.asdict(follow_up))
        return
    rich.print(_make_table(follow_up))
    typer.echo()
    for line in _list_lines(follow_up):
        typer.echo(line)
    typer.echo(f"written: {out}")


def _make_table(follow_up: "FollowUp") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="From the first to the last radiograph of each child",
        box=SIMPLE_HEAD,
        show_edge=False,
        title_justify="left",
        padding=0,
        pad_edge=False,
    )
    table.add_column("Child", no_wrap=True)
    for heading in ("Years", "n", "Months a year, 95%", "Change", "Real from", "Pace"):
        table.add_column(heading, justify="left" if heading == "Pace" else "right", no_wrap=True)
    for course in follow_up.courses:
        ages = [visit.chronological_age_months / 12 for visit in course.visits]
        count = str(sum(visit.num_radiographs for visit in course.visits))
        if course.overall is None:
            table.add_row(Text(course.child), f"{ages[0]:.1f}", count, "", "", "", "one visit")
            continue
        step = course.overall
        smallest = "unknown" if step.smallest_change_months is None else f"{step.smallest_change_months:.1f}"
        table.add_row(
            Text(course.child),
            f"{ages[0]:.1f}-{ages[-1]:.1f}",
            count,
            _format_velocity(step),
            f"{step.change_months:+.1f}",
            smallest,
            step.pace or "unknown",
        )
    return table


def _list_lines(follow_up: "FollowUp") -> list[str]:
    """List what the table leaves out, one line each."""
    lines = []
    for course in follow_up.courses:
        told = list(course.remarks)
        # The table has the first and the last visit; what happened in between counts as well.
        if len(course.steps) > 1:
            told += [
                f"{step.pace} from {step.from_age_months / 12:.1f} to {step.to_age_months / 12:.1f} years: "
                f"{_format_velocity(step)} months a year"
                for step in course.steps
                if step.pace in ("accelerated", "slowed")
            ]
        lines += [f"{course.child}: {text}" for text in told if not text.startswith("one visit")]
    counts = [f"{follow_up.num_radiographs:,} radiographs of {len(follow_up.courses):,} children"]
    for number, text in (
        (follow_up.num_refused, "without bone age"),
        (follow_up.num_without_child, "without a child"),
        (follow_up.num_without_age, "without chronological age"),
    ):
        if number:
            counts.append(f"{number:,} {text} left out")
    return [*lines, "; ".join(counts)]


def _format_velocity(step: "Step") -> str:
    if step.velocity_low is None:
        return f"{step.velocity:.1f}"
    return f"{step.velocity:.1f} [{step.velocity_low:.1f}, {step.velocity_high:.1f}]"
