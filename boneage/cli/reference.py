"""The commands for growth references."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.options import Json, print_json

if TYPE_CHECKING:
    from boneage.studies.reference import ReferenceFit

app = typer.Typer(name="reference", no_args_is_help=True)


@app.callback()
def reference() -> None:
    """Make a growth reference from healthy children, and compare it with another."""


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
