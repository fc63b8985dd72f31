"""Evaluate a bundle on a split of records, and write what was found.

What the bundle has already seen of the data is named.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boneage.base.files import check_output, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.bundles.bundle import Bundle, load_bundle
from boneage.bundles.seen import Overlap, find_overlap, hash_radiographs, read_seen
from boneage.evaluation.conformal import COVERAGE_SHARE, add_intervals, measure_coverage
from boneage.evaluation.frames import EvaluationError
from boneage.evaluation.metrics import Evaluation, to_dict
from boneage.evaluation.plots import plot_evaluation, save_figure
from boneage.evaluation.sex_classification import SexEvaluation, summarise_sex, write_sex_evaluation
from boneage.evaluation.summarise import summarise
from boneage.registry.resolve import resolve_bundle
from boneage.tfrecords.identities import read_identities
from boneage.tfrecords.info import read_info


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


def to_json(evaluation: Evaluation | SexEvaluation) -> str:
    """Serialise an evaluation as indented JSON, without its predictions; undefined metrics become null."""
    return json.dumps(to_dict(evaluation), indent=2, allow_nan=False) + "\n"
