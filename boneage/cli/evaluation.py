"""The commands that measure a model on labelled radiographs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.base.progress import show_progress
from boneage.cli.options import AgeUnit, Json, Reference, Tta, Workers, add_row, make_table, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from boneage.cohorts.cohort import Beside, Cohort, Group
    from boneage.cohorts.effects import Stress
    from boneage.evaluation.summarise import Comparison

Files = Annotated[Path | None, typer.Option(help="Folder of radiographs as they come: PNG, JPEG, TIFF, DICOM.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="CSV or spreadsheet with id, bone_age_months, sex, and optionally patient (default: the tables of the "
        "RSNA download)."
    ),
]


def evaluate(
    bundle: Annotated[
        str, typer.Argument(help="Bundle, 'default' for the packaged model, or a CSV with the predictions of a system.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Record folder written by `boneage prepare`, instead of --files.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the records: train, validation or test.")] = "validation",
    files: Files = None,
    table: Labels = None,
    age_unit: AgeUnit = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Also by this column of the table; can be given several times."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM",
            help="Another bundle, or a CSV with the predictions of any system, on the same radiographs; can be given "
            "several times.",
        ),
    ] = None,
    tta: Tta = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for predictions.csv, evaluation.json and evaluation.png; an interrupted run on files resumes "
            "from it."
        ),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model on records, or on files and a table: MAE, RMSE, bias, coverage, with 95% intervals."""
    from boneage.cohorts.cohort import Cohort
    from boneage.cohorts.evaluate import evaluate as run
    from boneage.cohorts.evaluate import to_json as cohort_to_json
    from boneage.evaluation.evaluate import to_json
    from boneage.evaluation.sex_classification import SexEvaluation, sex_evaluation_table
    from boneage.evaluation.tables import evaluation_table, list_remarks

    with show_progress("Reading", quiet=as_json) as report:
        evaluation = run(
            bundle,
            data=data,
            split=split,
            files=files,
            table=table,
            age_unit=age_unit,
            by=by or (),
            beside=beside or (),
            tta=tta,
            out=out,
            workers=workers,
            progress=report,
        )
    if as_json:
        typer.echo(cohort_to_json(evaluation) if isinstance(evaluation, Cohort) else to_json(evaluation), nl=False)
        return
    if isinstance(evaluation, Cohort):
        _print_cohort(evaluation)
    else:
        print_table(
            sex_evaluation_table(evaluation) if isinstance(evaluation, SexEvaluation) else evaluation_table(evaluation)
        )
        for remark in list_remarks(evaluation):
            typer.echo(remark)
    if out is not None:
        typer.echo(f"written: {out}")


def stress(
    bundle: Annotated[str, typer.Argument(help="Bundle, or 'default' for the packaged model.")],
    files: Annotated[
        Path, typer.Option(help="Folder of radiographs as they come: PNG, JPEG, TIFF, DICOM.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the tables, the figures and the JSON file; an interrupted run resumes from it.",
            show_default=False,
        ),
    ],
    table: Labels = None,
    age_unit: AgeUnit = None,
    tta: Tta = None,
    reference: Reference = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Stress a bundle: 46 transformations of radiographs, change of the error, significant errors, refusals."""
    from boneage.cohorts.labelled import format_counts
    from boneage.cohorts.stress import stress as run
    from boneage.cohorts.stress import to_json

    with show_progress("Reading", quiet=as_json) as report:
        result = run(
            bundle,
            files=files,
            table=table,
            age_unit=age_unit,
            tta=tta,
            reference=reference,
            out=out,
            workers=workers,
            progress=report,
        )
    if as_json:
        typer.echo(to_json(result), nl=False)
        return
    print_table(_stress_table(result))
    typer.echo(f"as they come: {describe_group(result.baseline)}")
    typer.echo(f"significant errors in %, as they come and transformed: {result.rule}")
    typer.echo("p: Wilcoxon's test of the change, McNemar's of the significant errors; not corrected for their number")
    if result.left_out:
        typer.echo(f"left out, as they are no labelled radiographs: {format_counts(result.left_out)}")
    typer.echo(f"written: {out}")


def _stress_table(result: "Stress") -> "Table":
    # 80 columns wide with its longest names.
    headings = ("Transformation", "Refused", "MAE", "Change", "p", "Signif.\n%", "p")
    table = make_table(f"Stress of {result.system}, months", headings)
    family = ""
    for name, effect in result.effects.items():
        if family and effect.family != family:
            table.add_section()
        family = effect.family
        refused = f"{effect.num_refused:,} of {effect.num_paired + effect.num_refused:,}"
        if effect.mae_months is None or effect.change_months is None:
            add_row(table, name, refused, *["-"] * 5)
            continue
        shares = (effect.baseline_significant_share, effect.significant_share)
        add_row(
            table,
            name,
            refused,
            f"{effect.mae_months.value:.2f}",
            effect.change_months.format("+.1f"),
            _format_p(effect.wilcoxon_p),
            ", ".join("-" if share is None else f"{100 * share:.0f}" for share in shares),
            _format_p(effect.mcnemar.p_value),
        )
    return table


def _format_p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def describe_group(group: "Group") -> str:
    """Describe the error of labelled radiographs in one line, with how many were refused."""
    from boneage.cohorts.labelled import format_counts

    reasons = f" ({format_counts(group.reasons)})" if group.reasons else ""
    answered = f"answered {group.num_images - group.num_refused:,} of {group.num_images:,} labelled radiographs"
    mae = "" if group.answered is None else f", MAE {group.answered.mae_months.format('.2f')} months"
    has_intervals = group.share_within_12_months.has_interval
    alone = "" if has_intervals else "; no intervals, as one patient tells nothing of others"
    return (
        f"{answered}{mae}; refused {group.num_refused:,}{reasons}; within 12 months, of all "
        f"{group.share_within_12_months.format('.0f', factor=100, unit='%')}{alone}"
    )


def _print_cohort(cohort: "Cohort") -> None:
    from boneage.cohorts.labelled import format_counts
    from boneage.evaluation.tables import evaluation_table, list_remarks

    print_table(evaluation_table(cohort.evaluation))
    typer.echo(describe_group(cohort.overall))
    if cohort.left_out:
        typer.echo(f"left out, as they are no labelled radiographs: {format_counts(cohort.left_out)}")
    for remark in list_remarks(cohort.evaluation):
        typer.echo(remark)
    for column, groups in cohort.by.items():
        print_table(_group_table(f"By {column}", groups))
    if cohort.beside:
        print_table(_beside_table(cohort.system, cohort.overall, cohort.beside))
    for column in cohort.by if cohort.beside else ():
        print_table(_paired_table(column, cohort.beside))
    for note in cohort.notes:
        typer.echo(f"note: {note}")


def _group_table(title: str, groups: "Mapping[str, Group]") -> "Table":
    table = make_table(title, ("Group", "Refused", "MAE", "RMSE", "Bias", "% of all\nwithin 12"))
    for name, group in groups.items():
        add_row(table, name, *_list_cells(group))
    return table


def _list_cells(group: "Group") -> list[str]:
    answered = group.answered
    errors = ["-", "-", "-"]
    if answered is not None:
        errors = [
            answered.mae_months.format(".2f"),
            f"{answered.rmse_months.value:.2f}",
            answered.bias_months.format("+.1f"),
        ]
    refused = f"{group.num_refused:,} of {group.num_images:,}"
    return [refused, *errors, group.share_within_12_months.format(".0f", factor=100, unit="%")]


def _beside_table(system: str, overall: "Group", beside: "Mapping[str, Beside]") -> "Table":
    from rich.text import Text

    table = make_table("Beside each other", ("System", "Refused", "MAE", "Bias", "Difference", "n"))
    table.caption = Text(
        f"Difference: MAE of {system} minus that of the other, of the n radiographs that both answered; "
        "negative is better."
    )
    groups = {system: overall, **{name: other.overall for name, other in beside.items()}}
    for name, group in groups.items():
        errors = ["-", "-"]
        if group.answered is not None:
            errors = [group.answered.mae_months.format(".1f"), group.answered.bias_months.format("+.1f")]
        difference = _list_difference(beside[name].paired) if name in beside else ["", ""]
        add_row(table, name, f"{group.num_refused:,} of {group.num_images:,}", *errors, *difference)
    return table


def _paired_table(column: str, beside: "Mapping[str, Beside]") -> "Table":
    table = make_table(f"Difference by {column}", ("Group", "System", "MAE", "Difference", "n"))
    for name, other in beside.items():
        for level, comparison in other.paired_by[column].items():
            answered = other.by[column][level].answered
            mae = "-" if answered is None else answered.mae_months.format(".2f")
            add_row(table, level, name, mae, *_list_difference(comparison))
    return table


def _list_difference(comparison: "Comparison | None") -> list[str]:
    if comparison is None:
        return ["-", "0"]
    return [comparison.difference_months.format("+.1f"), f"{comparison.num_images:,}"]
