"""Evaluation of predictions against labels: overall, by sex and by age band.

Predictions are joined to labels by id, never by position. Two models are compared on the same bootstrap resamples:
their errors are paired, so the interval of the difference is narrower than their own intervals suggest. Radiographs of
one patient are resampled together. What the model has already seen of the data is named.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.base.files import check_output, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.bundles.bundle import Bundle, load_bundle
from boneage.bundles.seen import Overlap, find_overlap, hash_radiographs, read_seen
from boneage.evaluation.bootstrap import Estimate, bootstrap, count_groups, find_groups
from boneage.evaluation.conformal import COVERAGE_SHARE, add_intervals, format_coverage, measure_coverage
from boneage.evaluation.frames import EvaluationError, check_frame, join_labels, raise_for_ids, require_same_ids
from boneage.evaluation.metrics import AGE_BANDS_YEARS, DETERMINATIONS, Evaluation, Summary, summarise_errors, to_dict
from boneage.evaluation.plots import plot_evaluation, save_figure
from boneage.evaluation.sex_classification import SexEvaluation, summarise_sex, write_sex_evaluation
from boneage.registry.resolve import resolve_bundle
from boneage.tfrecords.identities import read_identities
from boneage.tfrecords.info import read_info
from boneage.tfrecords.schema import SEXES

__all__ = [
    "Comparison",
    "EvaluationError",
    "compare",
    "evaluate_predictions",
    "evaluate_records",
    "evaluation_table",
    "find_seen_records",
    "join_labels",
    "list_remarks",
    "make_folder",
    "summarise",
    "to_json",
    "write_evaluation",
]


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


def to_json(evaluation: Evaluation | SexEvaluation) -> str:
    """Serialise an evaluation as indented JSON, without its predictions; undefined metrics become null."""
    return json.dumps(to_dict(evaluation), indent=2, allow_nan=False) + "\n"


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


def evaluate_records(
    bundle: Path | str,
    *,
    data: Path | str,
    split: str = "validation",
    tta: str | None = None,
    out: Path | str | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    describe: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> Evaluation | SexEvaluation:
    """Evaluate a trained model on one split of a record folder.

    Args:
        bundle: Folder of the trained model.
        data: Folder of records.
        split: "train", "validation" or "test".
        tta: Test-time augmentation: "none", "mirrored" or "ten" (default: as saved in the bundle).
        out: Folder for the files of `write_evaluation`, or None to write nothing.
        num_resamples: Bootstrap resamples per group.
        seed: Seed of the resampling.
        describe: Adds columns that `summarise` reads to the predictions of bone age (default: none).

    Raises:
        EvaluationError: If `out` cannot be created, or an image of the split has no label.
        OutputInUseError: If another process writes the folder `out`.
    """
    # Locked and checked first, because prediction can take minutes.
    with contextlib.nullcontext() if out is None else lock_folder(make_folder(out)):
        loaded = load_bundle(resolve_bundle(bundle))
        evaluation, _ = evaluate_bundle(
            loaded,
            data=data,
            split=split,
            tta=tta,
            out=out,
            num_resamples=num_resamples,
            seed=seed,
            describe=describe,
        )
        return evaluation


def evaluate_bundle(
    bundle: Bundle,
    *,
    data: Path | str,
    split: str,
    tta: str | None,
    out: Path | str | None,
    num_resamples: int,
    seed: int,
    describe: Callable[[pd.DataFrame], pd.DataFrame] | None,
) -> tuple[Evaluation | SexEvaluation, pd.DataFrame]:
    """Evaluate a loaded bundle on one split of a record folder; the arguments are those of `evaluate_records`.

    Returns:
        The evaluation, and the predictions in the order of the records, with their intervals if the bundle has any.
    """
    task, interval = bundle.metadata["task"], bundle.metadata.get("interval")
    frame = bundle.predict_records(data, split=split, tta=tta)
    if describe is not None and task == "age":
        frame = describe(frame)
    evaluation = evaluate_predictions(
        frame,
        task=task,
        interval=interval,
        data=data,
        split=split,
        out=out,
        overlap=find_seen_records(bundle, data=data, split=split),
        num_resamples=num_resamples,
        seed=seed,
    )
    return evaluation, evaluation.predictions if interval else frame


def find_seen_records(bundle: Bundle, *, data: Path | str, split: str) -> list[Overlap]:
    """Find the radiographs of a split that a bundle was trained on, or that chose its epoch or set its numbers.

    Args:
        bundle: The bundle.
        data: Folder of records.
        split: The split.
    """
    if not any(name in bundle.metadata for name in ("seen_data", "training_data", "calibration_data")):
        return []
    return find_overlap(
        bundle.metadata,
        read_seen(bundle.folder, bundle.metadata),
        digest=read_info(data)["digest"],
        split=split,
        hashes=hash_radiographs(read_identities(data, split=split)["pixel_sha256"]),
    )


def evaluate_predictions(
    frame: pd.DataFrame,
    *,
    task: str,
    data: Path | str,
    split: str,
    out: Path | str | None,
    interval: Mapping[str, Any] | None = None,
    overlap: Collection[Overlap] = (),
    num_resamples: int = 2000,
    seed: int = 0,
) -> Evaluation | SexEvaluation:
    """Evaluate the predictions of a bundle on one split.

    Args:
        frame: Predictions from `boneage.bundles.bundle.Bundle.predict_records`.
        task: Task of the bundle, `"age"` or `"sex"`.
        data: Folder of records.
        split: "train", "validation" or "test".
        out: Folder for the files of `write_evaluation`, or None to write nothing.
        interval: The prediction intervals of the bundle, of which the coverage is measured, or None.
        overlap: What the bundle has seen of the split, from `find_seen_records`.
        num_resamples: Bootstrap resamples per group.
        seed: Seed of the resampling.
    """
    dataset = f"{split} split of records {read_info(data)['digest']}"
    if task == "sex":
        sex_evaluation = summarise_sex(frame, dataset=dataset, num_resamples=num_resamples, seed=seed)
        sex_evaluation = replace(sex_evaluation, overlap=list(overlap))
        if out is not None:
            write_sex_evaluation(Path(out), frame, sex_evaluation)
        return sex_evaluation
    evaluation = summarise(frame, dataset=dataset, num_resamples=num_resamples, seed=seed)
    evaluation = replace(evaluation, overlap=list(overlap))
    if interval:
        frame = add_intervals(frame, interval)
        promised = interval.get("coverage_share", COVERAGE_SHARE)
        coverage = {"coverage_share": promised, **measure_coverage(frame)}
        evaluation = replace(evaluation, coverage=coverage, predictions=frame)
    if out is not None:
        write_evaluation(out, frame, evaluation)
    return evaluation


def write_evaluation(folder: Path | str, frame: pd.DataFrame, evaluation: Evaluation) -> None:
    """Write `predictions.csv` (worst case first), `evaluation.png` and `evaluation.json`.

    Args:
        folder: Output folder, created if missing. Existing files of these names are replaced.
        frame: The predictions that `evaluation` summarises, and possibly radiographs without one (NaN), which come
            last and are not in the figure.
        evaluation: Their evaluation.

    Raises:
        EvaluationError: If `folder` cannot be created.
    """
    folder = make_folder(folder)
    error = frame["predicted_months"] - frame["bone_age_months"]
    worst_first = np.argsort(-error.abs().to_numpy(), kind="stable")
    write_text(folder / "predictions.csv", format_frame(frame.assign(error_months=error).iloc[worst_first]))
    save_figure(plot_evaluation(frame[error.notna()], evaluation), folder / "evaluation.png")
    write_text(folder / "evaluation.json", to_json(evaluation))


def make_folder(folder: Path | str) -> Path:
    """Create an output folder if it is missing.

    Raises:
        EvaluationError: If it cannot be created.
    """
    folder = Path(folder)
    try:
        check_output(folder, is_folder=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder}: cannot be created ({error.strerror}); choose another folder.") from error
    return folder


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
