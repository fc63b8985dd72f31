"""The commands for studies with bone ages."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.options import Json, add_row, make_table, print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from boneage.evaluation.bootstrap import Estimate
    from boneage.studies.agreement import Agreement


def agree(
    readings: Annotated[
        Path,
        typer.Argument(help="CSV or spreadsheet with id, reader, and months or years; optionally session and factors."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the figure and the JSON file.", show_default=False)],
    model: Annotated[
        Path | None, typer.Option(help="Predictions of a model, such as `boneage predict --out` writes: a reader more.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="FACTOR", help="Also by this column, or by age; can be given several times."),
    ] = None,
    consensus: Annotated[
        str | None,
        typer.Option(help="Write one label for each radiograph to consensus.csv: mean, median or weighted."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how far readers agree, and a model with them: limits of agreement, correlation, repeatability."""
    from boneage.studies.agree import agree as run

    agreement = run(readings, out=out, model=model, by=by or (), consensus=consensus)
    if as_json:
        print_json(dataclasses.asdict(agreement))
        return
    for table in _make_tables(agreement):
        print_table(table)
        typer.echo()
    for line in _list_lines(agreement):
        typer.echo(line)
    typer.echo(f"written: {out}")


def _make_tables(agreement: "Agreement") -> "list[Table]":
    """Make the tables for the terminal: pairs, readers, and groups."""
    pairs = make_table("Two readers, first minus second, months", ("Pair", "n", "Bias", "Lower limit", "Upper limit"))
    for name, limits in agreement.pairs.items():
        cells = (_format(estimate, signed=True) for estimate in (limits.bias, limits.low, limits.high))
        add_row(pairs, name, f"{limits.num_radiographs:,}", *cells)
    readers = make_table("Each reader against the mean of the others, months", ("Reader", "n", "Bias", "MAE", "RMSE"))
    for name, found in agreement.against_others.items():
        errors = (_format(found.bias, signed=True), _format(found.mae), _format(found.rmse))
        add_row(readers, name, f"{found.num_radiographs:,}", *errors)
    tables = [pairs, readers]
    for factor, groups in agreement.by.items():
        table = make_table(f"By {factor}, months", (factor.capitalize(), "n", "Error of one reader", "Alpha"))
        for level, group in groups.items():
            add_row(table, level, f"{group.num_radiographs:,}", _number(group.reader_sd), _alpha(group.alpha))
        tables.append(table)
    return tables


def _list_lines(agreement: "Agreement") -> list[str]:
    """List the rest of an agreement, one line each."""
    lines = [
        f"{agreement.num_readings:,} readings of {agreement.num_radiographs:,} radiographs; error of one reader "
        f"{_number(agreement.reader_sd)} months; Krippendorff's alpha {_alpha(agreement.alpha)}"
    ]
    if agreement.correlations is not None:
        found = agreement.correlations
        cells = (f"{name} {_format(value, digits=3)}" for name, value in found.values.items())
        lines.append(f"intraclass correlation of {found.num_radiographs:,} radiographs: {', '.join(cells)}")
    if (components := agreement.components) is not None:
        differ = (
            f"{name.replace('_', ' ')} {months:.1f}"
            for name, months in dataclasses.asdict(components).items()
            if name != "num_radiographs" and months is not None
        )
        lines.append(f"standard deviation by what readings differ by, months: {', '.join(differ)}")
    for reader, repeated in agreement.repeatability.items():
        lines.append(
            f"{reader} repeated {repeated.num_pairs:,} readings: error of Dahlberg "
            f"{_format(repeated.dahlberg_months, digits=2)} months, repeatability coefficient "
            f"{_format(repeated.coefficient_months)}"
        )
    if (model := agreement.model) is not None:
        lines.append(
            f"model: SD {_number(model.observed_sd)} months from the mean of the readers, {_number(model.own_sd)} "
            f"of it its own; no answer for {model.num_refused:,} radiographs"
        )
    return lines


def _format(estimate: "Estimate", *, digits: int = 1, signed: bool = False) -> str:
    form = f"{'+' if signed else ''}.{digits}f"
    return estimate.format(form)


def _alpha(alpha: "Estimate | None") -> str:
    return "unknown" if alpha is None else _format(alpha, digits=3)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
