"""The command for outcomes of children."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.options import Json, add_row, make_table, print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from boneage.evaluation.bootstrap import Estimate
    from boneage.studies.events import EventModel
    from boneage.studies.outcomes import Outcomes


def outcomes(
    cohort: Annotated[
        Path,
        typer.Argument(
            help="CSV or spreadsheet with sex, final_height_cm, and predicted_NAME_cm or method and predicted_cm; "
            "optionally child, age, height, menarche_age_years, growth_spurt_age_years, last_age_years."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the figure and the JSON file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Measure predicted adult heights by the heights reached, and bone age by menarche and growth spurt."""
    from boneage.studies.outcomes import outcomes as run
    from boneage.studies.outcomes import to_report

    found = run(cohort, out=out)
    if as_json:
        print_json(to_report(found))
        return
    if found.methods:
        print_table(_make_methods(found))
        typer.echo()
    if found.differences:
        print_table(_make_differences(found))
        typer.echo()
    for event in found.events:
        typer.echo(_describe_event(event))
    if any(row.num_children < 2 for row in found.methods):
        typer.echo("Radiographs of one child alone tell no interval.")
    if found.num_without_height:
        typer.echo(f"{found.num_without_height:,} radiographs without the height that was reached")
    typer.echo(f"written: {out}")


def _make_methods(found: "Outcomes") -> "Table":
    title = "Predicted less reached height"
    table = make_table(title, ("Method", "Sex", "n", "No answer", "Bias, cm", "RMSE, cm", "GPPE, %"))
    for row in found.methods:
        counts = (f"{row.num_radiographs:,}", f"{row.num_unanswered:,}")
        estimates = (_format(row.bias_cm, form="+.1f"), _format(row.rmse_cm), _format(row.gppe_percent, form=".2f"))
        add_row(table, row.method, row.group, *counts, *estimates)
    return table


def _make_differences(found: "Outcomes") -> "Table":
    table = make_table("The first less the second", ("First", "Second", "Sex", "RMSE, cm", "GPPE, %"))
    for row in found.differences:
        estimates = (_format(row.rmse_cm, form="+.2f"), _format(row.gppe_percent, form="+.2f"))
        add_row(table, row.first, row.second, row.group, *estimates)
    return table


def _describe_event(event: "EventModel") -> str:
    name = event.event.replace("_", " ")
    if event.hazard_ratio is None:
        return f"{name}: no model, {event.reason}"
    return (
        f"{name}: hazard ratio {_format(event.hazard_ratio, form='.2f')} for a year of bone age ahead, "
        f"{event.num_events:,} events among {event.num_children:,} children"
    )


def _format(estimate: "Estimate | None", *, form: str = ".1f") -> str:
    if estimate is None:
        return "unknown"
    return estimate.format(form)
