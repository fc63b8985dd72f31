"""The metrics of a system on a cohort: of all radiographs and by group, of those answered and with those refused."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from boneage.cohorts.answers import Answers
from boneage.cohorts.labelled import BLANK, CohortError, Labelled, format_counts
from boneage.cohorts.significance import add_determination
from boneage.evaluation.bootstrap import Estimate, Images, Metrics, bootstrap, find_groups
from boneage.evaluation.conformal import measure_coverage
from boneage.evaluation.metrics import Evaluation, Summary, flatten, summarise_errors
from boneage.evaluation.summarise import Comparison, compare, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LEVELS = 50
"""The most groups of a column: with more, none has enough radiographs."""


@dataclass(frozen=True)
class Group:
    """A group of labelled radiographs.

    Attributes:
        num_images: Radiographs with a label.
        num_refused: Those without an answer.
        reasons: Their number by reason.
        answered: The metrics of those answered; None where there are none.
        answered_share: Share of all with an answer, in [0, 1].
        share_within_6_months: Share of all, in [0, 1], with an answer that is off by at most 6 months: a refusal
            counts as a miss.
        share_within_12_months: The same for 12 months.
        share_within_24_months: The same for 24 months.
    """

    num_images: int
    num_refused: int
    reasons: dict[str, int]
    answered: Summary | None
    answered_share: Estimate
    share_within_6_months: Estimate
    share_within_12_months: Estimate
    share_within_24_months: Estimate


@dataclass(frozen=True)
class Beside:
    """Another system on the same radiographs.

    Attributes:
        overall: All radiographs.
        by: Its groups, by column and by cell.
        paired: The first system against this one on the radiographs that both answered; a negative difference means
            that the first is better. None where there are none.
        paired_by: The same by column and by cell.
    """

    overall: Group
    by: dict[str, dict[str, Group]]
    paired: Comparison | None
    paired_by: dict[str, dict[str, Comparison | None]]


@dataclass(frozen=True)
class Cohort:
    """A system on a cohort of labelled radiographs.

    Attributes:
        system: The bundle or the table of predictions.
        evaluation: The metrics of those answered, by sex and age too, with the measured coverage of the intervals.
        overall: All radiographs, the refused among them.
        by: The groups, by column and by cell.
        beside: Other systems, by name.
        left_out: Number of files and rows that are no labelled radiograph, by reason.
        whole_years_share: Share of labels that are whole years, in [0, 1].
        notes: What the figures say of the cohort, see `boneage.cohorts.notes`.
    """

    system: str
    evaluation: Evaluation
    overall: Group
    by: dict[str, dict[str, Group]]
    beside: dict[str, Beside]
    left_out: dict[str, int]
    whole_years_share: float
    notes: list[str] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """Return the metrics of all radiographs and of the groups as a table.

        Returns:
            One row per group, `all` first, with the index `by` (the column) and `group` (its cell). Columns: those of
            `Group`, and those of the metrics of the radiographs that were answered, each followed by its 95% interval.
        """
        groups = {("", "all"): self.overall}
        groups |= {(column, level): group for column, levels in self.by.items() for level, group in levels.items()}
        rows = []
        for group in groups.values():
            row = flatten(group)
            del row["reasons"], row["answered"]
            rows.append({**(flatten(group.answered) if group.answered else {}), **row})
        return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(groups, names=["by", "group"]))

    def plot(self) -> "Figure":
        """Draw the radiographs that were answered, see `boneage.evaluation.metrics.Evaluation.plot`."""
        return self.evaluation.plot()


def join_answers(labelled: Labelled, answers: Answers) -> pd.DataFrame:
    """Join the answers of a system to the labels by id: one row for each labelled radiograph."""
    labels = add_determination(labelled.frame)
    return labels.merge(answers.frame, on="id", how="left", validate="one_to_one")


def measure_answered(frame: pd.DataFrame, answers: Answers, *, name: str, num_resamples: int, seed: int) -> Evaluation:
    """Evaluate the radiographs that were answered.

    Args:
        frame: From `join_answers`.
        answers: The answers of the system.
        name: Name of the cohort.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        CohortError: If none was answered.
    """
    answered = frame[frame["predicted_months"].notna()]
    if answered.empty:
        raise CohortError(
            f"{answers.name}: no answer for any of {len(frame):,} labelled radiographs: "
            f"{format_counts(count_reasons(frame))}."
        )
    evaluation = summarise(answered, dataset=name, num_resamples=num_resamples, seed=seed)
    coverage = None
    if answered[["low_months", "high_months"]].notna().all(axis=None):
        coverage = {"coverage_share": answers.coverage_share, **measure_coverage(answered)}
    return replace(evaluation, coverage=coverage, overlap=list(answers.overlap))


def measure_group(frame: pd.DataFrame, *, num_resamples: int, seed: int) -> Group:
    """Measure a group of labelled radiographs, the refused among them.

    Args:
        frame: Rows of `join_answers`, at least one.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    frame = frame.sort_values("id")  # the order of the rows does not matter
    error = (frame["predicted_months"] - frame["bone_age_months"]).to_numpy(float)
    shares = bootstrap(_compute_shares, error, num_resamples=num_resamples, seed=seed, groups=find_groups(frame))
    answered = frame[frame["predicted_months"].notna()]
    summary = None
    if len(answered):
        summary = summarise_errors(
            answered["bone_age_months"].to_numpy(float),
            predicted=answered["predicted_months"].to_numpy(float),
            num_resamples=num_resamples,
            seed=seed,
            groups=find_groups(answered),
        )
    return Group(
        num_images=len(frame),
        num_refused=len(frame) - len(answered),
        reasons=count_reasons(frame),
        answered=summary,
        **shares,
    )


def measure_groups(
    frame: pd.DataFrame, columns: tuple[str, ...], *, num_resamples: int, seed: int
) -> dict[str, dict[str, Group]]:
    """Measure the groups of columns of `join_answers`, by column and by cell."""
    return {
        column: {
            level: measure_group(rows, num_resamples=num_resamples, seed=seed)
            for level, rows in split_groups(frame, column).items()
        }
        for column in columns
    }


def compare_answered(frame: pd.DataFrame, other: pd.DataFrame, *, num_resamples: int, seed: int) -> Comparison | None:
    """Compare two systems on the radiographs that both answered; None where there are none.

    Args:
        frame: Rows of `join_answers` of one system.
        other: Rows of the same radiographs of the other.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    both = set(frame.loc[frame["predicted_months"].notna(), "id"])
    both &= set(other.loc[other["predicted_months"].notna(), "id"])
    if not both:
        return None
    one, two = (rows[rows["id"].isin(both)] for rows in (frame, other))
    return compare(one, two, num_resamples=num_resamples, seed=seed)


def measure_beside(
    frame: pd.DataFrame, other: pd.DataFrame, columns: tuple[str, ...], *, num_resamples: int, seed: int
) -> Beside:
    """Measure another system on the same radiographs, and the difference from the first.

    Args:
        frame: From `join_answers`, of the first system.
        other: The same of the other.
        columns: The columns to group by.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    paired_by = {
        column: {
            level: compare_answered(rows, other[other["id"].isin(rows["id"])], num_resamples=num_resamples, seed=seed)
            for level, rows in split_groups(frame, column).items()
        }
        for column in columns
    }
    return Beside(
        overall=measure_group(other, num_resamples=num_resamples, seed=seed),
        by=measure_groups(other, columns, num_resamples=num_resamples, seed=seed),
        paired=compare_answered(frame, other, num_resamples=num_resamples, seed=seed),
        paired_by=paired_by,
    )


def split_groups(frame: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Divide rows by the cells of a column, in the order of the cells, blank ones last.

    Raises:
        CohortError: If the column has more than `MAX_LEVELS` different cells.
    """
    cells = frame[column].fillna(BLANK)
    levels = sorted(cells.unique(), key=lambda level: (level == BLANK, level))
    if len(levels) > MAX_LEVELS:
        raise CohortError(
            f"column {column!r} has {len(levels):,} different cells; group by one of at most {MAX_LEVELS}, such as a "
            "band of it."
        )
    return {str(level): frame[cells == level] for level in levels}


def count_reasons(frame: pd.DataFrame) -> dict[str, int]:
    """Count the reasons of the refusals, by the first of each."""
    refused = frame.loc[frame["predicted_months"].isna(), "reasons"]
    return dict(sorted(Counter(text.split(";")[0] for text in refused).items()))


def _compute_shares(error: Images) -> Metrics:
    absolute = np.abs(error)  # NaN, a refusal, is within nothing
    return {
        "answered_share": np.isfinite(error).mean(axis=-1),
        **{f"share_within_{months}_months": (absolute <= months).mean(axis=-1) for months in (6, 12, 24)},
    }
