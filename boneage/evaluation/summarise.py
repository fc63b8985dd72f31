"""Summarise errors of predictions: overall, by sex and by age band, and two models beside each other.

Predictions are joined to labels by id, never by position. Two models are compared on the same bootstrap resamples:
their errors are paired, so the interval of the difference is narrower than their own intervals suggest. Radiographs of
one patient are resampled together.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from boneage.evaluation.bootstrap import Estimate, bootstrap, count_groups, find_groups
from boneage.evaluation.frames import check_frame, raise_for_ids, require_same_ids
from boneage.evaluation.metrics import AGE_BANDS_YEARS, DETERMINATIONS, Evaluation, Summary, summarise_errors
from boneage.tfrecords.schema import SEXES


@dataclass(frozen=True)
class Comparison:
    """Mean absolute error of a model against a baseline; a negative difference means that the model is better."""

    num_images: int
    mae_months: float
    baseline_mae_months: float
    difference_months: Estimate


def summarise(
    frame: pd.DataFrame, *, dataset: str | None = None, num_resamples: int = 2000, seed: int = 0
) -> Evaluation:
    """Evaluate predictions against labels: overall, by sex and by age band.

    Args:
        frame: One row per image: `id`, `sex` ("female", "male" or missing), `bone_age_months` (the label) and
            `predicted_months`; optionally `group`, equal for images of one patient. Images of unknown sex count in the
            overall summary and in their age band. Optionally `determination` ("delayed", "normal", "advanced" or
            empty), whose groups are measured too, and `without_age`, whether a model that uses the chronological age
            answered without.
        dataset: Name of the set of images, shown in the table and the plots.
        num_resamples: Bootstrap resamples per group.
        seed: Seed of the resampling. The order of the rows does not matter.

    Returns:
        The evaluation. A group without images is absent.

    Raises:
        EvaluationError: If the frame is empty, lacks a column, or contains a duplicate id, a value that is not finite,
            a negative label or an unknown sex.
    """
    frame = check_frame(frame, name="frame")

    def summarise_rows(rows: pd.DataFrame) -> Summary:
        label, predicted = rows["bone_age_months"].to_numpy(), rows["predicted_months"].to_numpy()
        return summarise_errors(
            label, predicted=predicted, num_resamples=num_resamples, seed=seed, groups=find_groups(rows)
        )

    age_years = frame["bone_age_months"] / 12
    by_sex = {sex: frame[frame["sex"] == sex] for sex in SEXES}
    found = frame.get("determination", pd.Series("", index=frame.index))
    by_determination = {name: frame[found == name] for name in DETERMINATIONS}
    by_age = {name: frame[(age_years >= low) & (age_years < high)] for name, (low, high) in AGE_BANDS_YEARS.items()}
    return Evaluation(
        dataset=dataset,
        num_resamples=num_resamples,
        seed=seed,
        overall=summarise_rows(frame),
        by_sex={name: summarise_rows(rows) for name, rows in by_sex.items() if len(rows)},
        by_age_years={name: summarise_rows(rows) for name, rows in by_age.items() if len(rows)},
        by_determination={name: summarise_rows(rows) for name, rows in by_determination.items() if len(rows)},
        num_without_age=int(frame["without_age"].sum()) if "without_age" in frame else 0,
        num_groups=count_groups(frame),
        predictions=frame.reset_index(),
    )


def compare(frame: pd.DataFrame, baseline: pd.DataFrame, *, num_resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compare the mean absolute errors of two models on the same images.

    Args:
        frame: Predictions of the model, with the columns that `summarise` reads, the group among them.
        baseline: Predictions of the baseline model, on the same ids with the same labels, in any order.
        num_resamples: Bootstrap resamples; each takes the same images from both.
        seed: Seed of the resampling.

    Raises:
        EvaluationError: If either frame is invalid, or their ids or labels differ.
    """
    model, base = check_frame(frame, name="frame"), check_frame(baseline, name="baseline")
    require_same_ids(model, base, names=("frame", "baseline"))
    relabelled = model.index[model["bone_age_months"] != base["bone_age_months"]]
    raise_for_ids(
        relabelled, "`frame` and `baseline` differ in `bone_age_months` for", fix="Label both from one table."
    )
    label = model["bone_age_months"].to_numpy()
    absolute = np.abs(model["predicted_months"].to_numpy() - label)
    baseline_absolute = np.abs(base["predicted_months"].to_numpy() - label)
    estimates = bootstrap(
        lambda difference: {"difference": difference.mean(axis=-1)},
        absolute - baseline_absolute,
        num_resamples=num_resamples,
        seed=seed,
        groups=find_groups(model),
    )
    return Comparison(
        num_images=len(model),
        mae_months=float(absolute.mean()),
        baseline_mae_months=float(baseline_absolute.mean()),
        difference_months=estimates["difference"],
    )
