"""The effects of transformations on the answers of a model, each radiograph paired with itself."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from boneage.cohorts.cohort import Group, count_reasons, measure_group
from boneage.cohorts.labelled import CohortError, Labelled, format_counts
from boneage.cohorts.significance import (
    MAX_ERROR_MONTHS,
    McNemar,
    determine,
    find_significant,
    mcnemar,
    wilcoxon,
)
from boneage.cohorts.transformations import TRANSFORMATIONS
from boneage.evaluation.bootstrap import Estimate, bootstrap, find_groups
from boneage.inference.growth_reference import GrowthReference

AS_IT_COMES = "as it comes"
"""The name of the radiograph without a transformation."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of a transformation, on the radiographs that were answered with it and as they come.

    Attributes:
        family: Its family.
        source: Where it is from, see `boneage.cohorts.transformations.PUBLISHED`.
        num_paired: Radiographs answered with it and as they come; the rest is about them.
        num_refused: Radiographs answered without it that are refused with it.
        reasons: Their number by reason.
        mae_months: Mean absolute error with it; None without pairs, as what follows.
        change_months: Mean change of the absolute error; positive is worse.
        shift_months: Mean change of the answer.
        moved_months: Median change of the answer either way.
        largest_months: Largest change of the answer either way.
        wilcoxon_p: Probability of Wilcoxon's signed-rank test of the absolute errors; None where none changes.
        num_ruled: Pairs of which it can be said whether their errors are significant.
        significant_share: Share of them, in [0, 1], whose error is significant with it.
        baseline_significant_share: The same as they come.
        mcnemar: McNemar's test of the two.
    """

    family: str
    source: str
    num_paired: int
    num_refused: int
    reasons: dict[str, int]
    mae_months: Estimate | None
    change_months: Estimate | None
    shift_months: Estimate | None
    moved_months: float | None
    largest_months: float | None
    wilcoxon_p: float | None
    num_ruled: int
    significant_share: float | None
    baseline_significant_share: float | None
    mcnemar: McNemar


@dataclasses.dataclass(frozen=True)
class Stress:
    """A model under transformations.

    Attributes:
        system: The bundle.
        dataset: The folder of the radiographs.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resampling.
        rule: What counts as a clinically significant error.
        baseline: The radiographs as they come.
        effects: By transformation.
        left_out: Number of files and rows that are no labelled radiograph, by reason.
    """

    system: str
    dataset: str
    num_resamples: int
    seed: int
    rule: str
    baseline: Group
    effects: dict[str, Effect]
    left_out: dict[str, int]


def join_stressed(labelled: Labelled, answers: pd.DataFrame, growth: GrowthReference) -> pd.DataFrame:
    """Join answers to labels and to the answers as the radiographs come, by id.

    Args:
        labelled: The labelled radiographs.
        answers: Columns `id`, `transformation` (`AS_IT_COMES` among them), `predicted_months`, NaN where refused, and
            `reasons`.
        growth: The growth reference.

    Returns:
        The answers in the order of transformations and ids, with the labels; `baseline_months`, the answer as it comes;
        `label_class` and `answer_class`, the determinations, empty where there is none; `significant`, whether the
        error is clinically significant, missing where that cannot be said.
    """
    labels = labelled.frame
    labels["label_class"] = determine(labels, labels["bone_age_months"], reference=growth)
    frame = answers.merge(labels, on="id", validate="many_to_one")
    baseline = frame.loc[frame["transformation"] == AS_IT_COMES].set_index("id")["predicted_months"]
    frame["baseline_months"] = frame["id"].map(baseline)
    frame["answer_class"] = determine(frame, frame["predicted_months"], reference=growth)
    error = (frame["predicted_months"] - frame["bone_age_months"]).to_numpy(float)
    significant, known = find_significant(list(frame["label_class"]), list(frame["answer_class"]), error)
    frame["significant"] = pd.Series(significant).where(known).astype("boolean")
    order = {name: number for number, name in enumerate((AS_IT_COMES, *TRANSFORMATIONS))}
    frame["order"] = frame["transformation"].map(order)
    return frame.sort_values(["order", "id"], ignore_index=True).drop(columns="order")


def measure_stress(
    system: str,
    labelled: Labelled,
    frame: pd.DataFrame,
    growth: GrowthReference,
    *,
    num_resamples: int,
    seed: int,
) -> Stress:
    """Measure the effects of all transformations.

    Args:
        system: Name of the model.
        labelled: The labelled radiographs.
        frame: From `join_stressed`.
        growth: The growth reference.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resampling.

    Raises:
        CohortError: If no radiograph is answered as it comes.
    """
    parts = dict(list(frame.groupby("transformation", sort=False)))
    baseline = parts.pop(AS_IT_COMES)
    if baseline["predicted_months"].isna().all():
        raise CohortError(
            f"{system}: no answer for any of {len(baseline):,} labelled radiographs: "
            f"{format_counts(count_reasons(baseline))}."
        )
    has_ages = bool((frame["label_class"] != "").any())
    rule = (
        f"delayed, normal or advanced of the answer differs from that of the label, by {growth.label} at the "
        "chronological age"
        if has_ages
        else f"off by more than {MAX_ERROR_MONTHS:g} months, as no chronological age is known"
    )
    return Stress(
        system=system,
        dataset=labelled.name,
        num_resamples=num_resamples,
        seed=seed,
        rule=rule,
        baseline=measure_group(baseline, num_resamples=num_resamples, seed=seed),
        effects={
            name: _measure_effect(name, rows, baseline, num_resamples=num_resamples, seed=seed)
            for name, rows in parts.items()
        },
        left_out=labelled.left_out,
    )


def _measure_effect(name: str, rows: pd.DataFrame, baseline: pd.DataFrame, *, num_resamples: int, seed: int) -> Effect:
    """Measure a transformation; both tables have a row for each radiograph, in the order of the ids."""
    was_answered = rows["baseline_months"].notna()
    paired = rows[was_answered & rows["predicted_months"].notna()]
    refused = rows[was_answered & rows["predicted_months"].isna()]
    values: dict[str, Any] = dict.fromkeys(
        ("mae_months", "change_months", "shift_months", "moved_months", "largest_months", "wilcoxon_p")
    )
    if len(paired):
        label = paired["bone_age_months"].to_numpy(float)
        answer, before = (paired[column].to_numpy(float) for column in ("predicted_months", "baseline_months"))
        error, change = np.abs(answer - label), np.abs(answer - label) - np.abs(before - label)
        values |= bootstrap(
            lambda error, change, shift: {
                "mae_months": error.mean(axis=-1),
                "change_months": change.mean(axis=-1),
                "shift_months": shift.mean(axis=-1),
            },
            error,
            change,
            answer - before,
            num_resamples=num_resamples,
            seed=seed,
            groups=find_groups(paired),
        )
        moved = np.abs(answer - before)
        values |= {"moved_months": float(np.median(moved)), "largest_months": float(moved.max())}
        values["wilcoxon_p"] = wilcoxon(change)
    ruled = paired[["id", "significant"]].merge(baseline[["id", "significant"]], on="id", suffixes=("", "_before"))
    ruled = ruled.dropna()
    after, first = ruled["significant"].to_numpy(bool), ruled["significant_before"].to_numpy(bool)
    return Effect(
        family=TRANSFORMATIONS[name].family,
        source=TRANSFORMATIONS[name].source,
        num_paired=len(paired),
        num_refused=len(refused),
        reasons=count_reasons(refused),
        **values,
        num_ruled=len(ruled),
        significant_share=float(after.mean()) if len(ruled) else None,
        baseline_significant_share=float(first.mean()) if len(ruled) else None,
        mcnemar=mcnemar(int((after & ~first).sum()), int((first & ~after).sum())),
    )


def tabulate(result: Stress) -> pd.DataFrame:
    """Return the effects as a table: one row for each transformation, estimates with the ends of their intervals."""
    rows = []
    for name, effect in result.effects.items():
        row: dict[str, Any] = {"transformation": name}
        for key, value in dataclasses.asdict(effect).items():
            if key == "reasons":
                row[key] = ";".join(f"{reason} {count}" for reason, count in value.items())
            elif isinstance(value, dict) and "value" in value:
                row |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
            elif key == "mcnemar":
                row |= {f"mcnemar_{part}": number for part, number in value.items()}
            else:
                row[key] = value
        rows.append(row)
    return pd.DataFrame(rows)


def find_worst(frame: pd.DataFrame, *, number: int) -> pd.DataFrame:
    """Find the worst case of each transformation, and of these the worst.

    Args:
        frame: The table of `answers.csv`.
        number: The most cases.

    Returns:
        Rows of `frame`, those whose absolute error grew most first.
    """
    growth = (frame["predicted_months"] - frame["bone_age_months"]).abs()
    growth -= (frame["baseline_months"] - frame["bone_age_months"]).abs()
    changed = frame.assign(growth=growth)[(frame["transformation"] != AS_IT_COMES) & growth.notna()]
    ordered = changed.sort_values(["growth", "id"], ascending=[False, True], kind="stable")
    return ordered.drop_duplicates("transformation").head(number)
