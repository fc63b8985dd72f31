"""The commands for growth references."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.options import Json, add_row, make_table, print_json, print_table

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from boneage.studies.reference import ReferenceFit
    from boneage.studies.reference_compare import ReferenceComparison

app = typer.Typer(name="reference", no_args_is_help=True)


@app.callback()
def reference() -> None:
    """Make a growth reference from healthy children, compare it with another, and make an atlas."""


@app.command()
def fit(
    cohort: Annotated[
        Path,
        typer.Argument(
            help="CSV or spreadsheet of healthy children with sex, chronological_age_months and bone_age_months; "
            "optionally child and sampling_weight."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="CSV to write, which --reference takes; two figures are written beside it.", show_default=False
        ),
    ],
    min_children: Annotated[
        int, typer.Option(help="Effective number of children around an age that the table needs.", min=2)
    ] = 50,
    as_json: Json = False,
) -> None:
    """Fit a growth reference by the LMS method: centiles of bone age for chronological age, with 95% bands."""
    from boneage.studies.reference import reference_fit, to_report

    found = reference_fit(cohort, out=out, min_children=min_children)
    if as_json:
        print_json(to_report(found))
        return
    for line in _describe_fit(found):
        typer.echo(line)
    typer.echo(f"written: {out}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="CSV with a growth reference, or brush_foundation.")],
    second: Annotated[Path, typer.Argument(help="Another, or brush_foundation.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the figure and the JSON file.", show_default=False)],
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="Table with sex, chronological_age_months and bone_age_months: how many of these children change "
            "class (default: not counted)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two growth references: shift of the score by age and sex, and children who change their class."""
    from boneage.studies.reference_compare import reference_compare, to_report

    comparison = reference_compare(first, second, out=out, cohort=cohort)
    if as_json:
        print_json(to_report(comparison))
        return
    typer.echo(f"Score by {comparison.second} less score by {comparison.first}, by the latter and the age in years")
    print_table(_make_shift_table(comparison))
    if comparison.classes is not None:
        typer.echo()
        if comparison.num_children:
            print_table(_make_class_table(comparison.classes))
            typer.echo()
        typer.echo(_describe_classes(comparison))
    typer.echo(f"written: {out}")


@app.command()
def atlas(
    readings: Annotated[
        Path,
        typer.Argument(help="CSV or spreadsheet with id, reader, months or years, and sex, as `boneage agree` takes."),
    ],
    radiographs: Annotated[Path, typer.Argument(help="Folder of the radiographs.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and a sheet for each sex.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Make an atlas of your radiographs: by sex and year, the one whose readings lie nearest the median."""
    from boneage.studies.atlas import reference_atlas, to_report

    found = reference_atlas(readings, radiographs, out=out)
    if as_json:
        print_json(to_report(found))
        return
    table = make_table("Plates, months", ("Sex", "Year", "Plate", "Bone age", "Median", "Distance", "Of"))
    for row in found.plates.to_dict("records"):
        months = (f"{row[name]:.1f}" for name in ("bone_age_months", "median_months", "distance_months"))
        add_row(table, row["sex"], f"{row['age_years']}", row["id"], *months, f"{row['num_radiographs']:,}")
    print_table(table)
    if found.num_left_out:
        typer.echo(f"{found.num_left_out:,} radiographs left out: one reader, no sex, or no file that can be read")
    typer.echo(f"written: {out}")


def _make_shift_table(comparison: "ReferenceComparison") -> "Table":
    table = make_table("", ("Sex", "Age", "at -2", "at 0", "at +2"))
    # The file has all ages.
    for row in comparison.shifts.to_dict("records"):
        if row["chronological_age_months"] % 12 == 0:
            shifts = (f"{round(row[f'shift_at_{name}'], 2) + 0.0:+.2f}" for name in ("minus_2", "median", "plus_2"))
            add_row(table, row["sex"], f"{row['chronological_age_months'] // 12}", *shifts)
    return table


def _make_class_table(classes: "pd.DataFrame") -> "Table":
    table = make_table("Radiographs by class", ("Sex", "First", "Second", "n"))
    for row in classes.to_dict("records"):
        if row["num_radiographs"]:
            add_row(table, row["sex"], row["first"], row["second"], f"{row['num_radiographs']:,}")
    return table


def _describe_classes(comparison: "ReferenceComparison") -> str:
    texts = [f"{comparison.num_changed:,} of {comparison.num_children:,} children change their class"]
    for number, words in (
        (comparison.num_outside, "radiographs outside the ages of one of the references"),
        (comparison.num_incomplete, "radiographs without sex, age or bone age"),
    ):
        if number:
            texts.append(f"{number:,} {words}")
    return "; ".join(texts)


def _describe_fit(found: "ReferenceFit") -> list[str]:
    """Describe a growth reference that was fitted, one line each."""
    lines = []
    for sex, part in found.by_sex.items():
        degrees = ", ".join(f"{name} {number:.1f}" for name, number in part.degrees.items())
        lines.append(
            f"{sex}: {part.num_radiographs:,} radiographs of {part.num_children:,} children, {part.from_age_months} to "
            f"{part.to_age_months} months; degrees of freedom {degrees}; {part.outside_share:.0%} of the worm plot "
            "outside its bands"
        )
    lines += [f"{sex}: none ({reason})" for sex, reason in found.refused.items()]
    counts = (
        (found.num_incomplete, "radiographs left out: no sex, age or bone age"),
        (found.num_thin, "radiographs left out: too few children of that age"),
        (found.num_failed, "resamples could not be fitted"),
    )
    return [*lines, *(f"{number:,} {words}" for number, words in counts if number)]
