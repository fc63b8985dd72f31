"""An evaluation for the terminal: its table, and the remarks beside it."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.evaluation.conformal import format_coverage
from boneage.evaluation.metrics import Evaluation, Summary
from boneage.evaluation.sex_classification import SexEvaluation


def evaluation_table(evaluation: Evaluation) -> Table:
    """Format an evaluation as a table for the terminal: one row per group, in months."""
    result = Table(
        title=f"Evaluation on {evaluation.dataset}" if evaluation.dataset else "Evaluation",
        caption=f"Months, {_describe_intervals(evaluation)}. Slope: error per year of bone age.",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    result.add_column("Group", no_wrap=True)
    for heading in ("Images", "MAE", "RMSE", "Median", "Bias", "% within\n6/12/24", "Slope"):
        # An interval may be on two lines; a number that is cut off is another number.
        result.add_column(heading, justify="right", no_wrap=heading not in ("MAE", "Bias"))
    sections = (
        {"all": evaluation.overall},
        evaluation.by_sex,
        {f"{name} y": group for name, group in evaluation.by_age_years.items()},
        evaluation.by_determination,
    )
    for section in sections:
        for name, group in section.items():
            result.add_row(name, *_cells(group))
        result.add_section()
    return result


def _describe_intervals(evaluation: Evaluation) -> str:
    if evaluation.num_groups == 1:
        return "without intervals, as one patient tells nothing of others"
    text = f"with 95% bootstrap intervals over {evaluation.num_groups:,} patients"
    has_all = all(group.mae_months.has_interval for group in evaluation.groups.values())
    return text if has_all else f"{text}; none where a group has one patient"


def list_remarks(evaluation: Evaluation | SexEvaluation) -> list[str]:
    """Return what belongs beside the table: the measured coverage, and what the model has seen of the data."""
    remarks = []
    if isinstance(evaluation, Evaluation) and evaluation.coverage:
        remarks.append(format_coverage(evaluation.coverage))
    if isinstance(evaluation, Evaluation) and evaluation.by_determination:
        remarks.append(
            "delayed, normal, advanced: by the label at the chronological age, 2 standard deviations of the Brush "
            "Foundation table"
        )
    if isinstance(evaluation, Evaluation) and evaluation.num_without_age:
        number, total = evaluation.num_without_age, evaluation.overall.num_images
        remarks.append(f"{number:,} of {total:,} were answered without the chronological age, which the model uses")
    remarks += [f"seen before: {overlap}; the figures are better than on new ones" for overlap in evaluation.overlap]
    return remarks


def _cells(group: Summary) -> list[str]:
    shares = (group.share_within_6_months, group.share_within_12_months, group.share_within_24_months)
    slope = group.error_slope_months_per_year
    return [
        f"{group.num_images:,}",
        group.mae_months.format(".2f"),
        f"{group.rmse_months.value:.2f}",
        f"{group.median_absolute_error_months.value:.2f}",
        group.bias_months.format("+.1f"),
        "/".join(f"{100 * share.value:.0f}" for share in shares),
        f"{slope.value:+.2f}" if slope else "-",
    ]
