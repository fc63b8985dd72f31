"""The evaluation card: how far predictions lie from the labels, and for whom.

Predictions meet their labels by id, never by position. Two models are compared on the same bootstrap draws, because
they err on the same images and the interval of their difference is narrower than their own intervals suggest.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.bundle import load_bundle
from boneage.metrics import AGE_BANDS_YEARS, Estimate, Evaluation, Summary, bootstrap, summarise_errors
from boneage.plots import plot_evaluation
from boneage.sex import SexEvaluation, summarise_sex, write_sex_evaluation
from tfrecords.errors import BoneAgeError
from tfrecords.info import read_info
from tfrecords.schema import SEXES
from tfrecords.write import write_text

LABEL_COLUMNS = ("id", "sex", "bone_age_months")
PREDICTION_COLUMNS = ("id", "predicted_months")
COLUMNS = (*LABEL_COLUMNS, "predicted_months")


class EvaluationError(BoneAgeError):
    """Predictions and labels that cannot be evaluated or compared."""


@dataclass(frozen=True)
class Comparison:
    """Mean absolute error of a model against a baseline; a negative difference means that the model is better."""

    num_images: int
    mae_months: float
    baseline_mae_months: float
    difference_months: Estimate


def join(predictions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Join predictions to labels by id.

    Args:
        predictions: Columns `id` and `predicted_months`.
        labels: Columns `id`, `sex` ("female", "male" or missing) and `bone_age_months`.

    Returns:
        One row per id, sorted by id, with the columns that `summarise` reads.

    Raises:
        EvaluationError: If a column is missing, an id occurs twice, or an id stands on one side only.
    """
    predicted = _by_id(predictions, name="predictions", columns=PREDICTION_COLUMNS)
    labelled = _by_id(labels, name="labels", columns=LABEL_COLUMNS)
    _require_same_ids(predicted, labelled, names=("predictions", "labels"))
    return labelled.join(predicted).reset_index()[list(COLUMNS)]


def summarise(
    frame: pd.DataFrame, *, dataset: str | None = None, num_resamples: int = 2000, seed: int = 0
) -> Evaluation:
    """Measure predictions against labels: overall, by sex and by age band.

    Args:
        frame: One row per image: `id`, `sex` ("female", "male" or missing), `bone_age_months` (the label) and
            `predicted_months`. Images of unknown sex count in the overall summary and in their age band.
        dataset: Name of the set of images, shown in the table and the plots.
        num_resamples: Bootstrap draws per group.
        seed: Seed of the draws. The order of the rows does not matter.

    Returns:
        The evaluation. A group without images is absent.

    Raises:
        EvaluationError: If the frame is empty, lacks a column, or holds an id twice, a value that is not finite, a
            negative label or an unknown sex.
    """
    frame = _checked(frame, name="frame")

    def summarise_rows(rows: pd.DataFrame) -> Summary:
        label, predicted = rows["bone_age_months"].to_numpy(), rows["predicted_months"].to_numpy()
        return summarise_errors(label, predicted=predicted, num_resamples=num_resamples, seed=seed)

    age_years = frame["bone_age_months"] / 12
    by_sex = {sex: frame[frame["sex"] == sex] for sex in SEXES}
    by_age = {name: frame[(age_years >= low) & (age_years < high)] for name, (low, high) in AGE_BANDS_YEARS.items()}
    return Evaluation(
        dataset=dataset,
        num_resamples=num_resamples,
        seed=seed,
        overall=summarise_rows(frame),
        by_sex={name: summarise_rows(rows) for name, rows in by_sex.items() if len(rows)},
        by_age_years={name: summarise_rows(rows) for name, rows in by_age.items() if len(rows)},
    )


def compare(frame: pd.DataFrame, baseline: pd.DataFrame, *, num_resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compare the mean absolute errors of two models on the same images.

    Args:
        frame: Predictions of the model, with the columns that `summarise` reads.
        baseline: Predictions of the model to beat, on the same ids with the same labels, in any order.
        num_resamples: Bootstrap draws; each takes the same images from both.
        seed: Seed of the draws.

    Raises:
        EvaluationError: If either frame is invalid, or their ids or labels differ.
    """
    model, base = _checked(frame, name="frame"), _checked(baseline, name="baseline")
    _require_same_ids(model, base, names=("frame", "baseline"))
    relabelled = model.index[model["bone_age_months"] != base["bone_age_months"]]
    _refuse(relabelled, "`frame` and `baseline` differ in `bone_age_months` for", fix="Label both from one table.")
    label = model["bone_age_months"].to_numpy()
    absolute = np.abs(model["predicted_months"].to_numpy() - label)
    baseline_absolute = np.abs(base["predicted_months"].to_numpy() - label)
    estimates = bootstrap(
        lambda difference: {"difference": difference.mean(axis=-1)},
        absolute - baseline_absolute,
        num_resamples=num_resamples,
        seed=seed,
    )
    return Comparison(
        num_images=len(model),
        mae_months=float(absolute.mean()),
        baseline_mae_months=float(baseline_absolute.mean()),
        difference_months=estimates["difference"],
    )


def to_json(evaluation: Evaluation | SexEvaluation) -> str:
    """Write an evaluation as indented JSON; undefined measures become null."""
    return json.dumps(asdict(evaluation), indent=2, allow_nan=False) + "\n"


def table(evaluation: Evaluation) -> Table:
    """Lay out an evaluation for the terminal: one row per group, in months."""
    result = Table(
        title=f"Evaluation on {evaluation.dataset}" if evaluation.dataset else "Evaluation",
        caption="Months, with 95% bootstrap intervals. Slope: error per year of bone age.",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    result.add_column("Group", no_wrap=True)
    for heading in ("Images", "MAE", "RMSE", "Median", "Bias", "% within\n6/12/24", "Slope"):
        result.add_column(heading, justify="right", no_wrap=True)
    sections = (
        {"all": evaluation.overall},
        evaluation.by_sex,
        {f"{name} y": group for name, group in evaluation.by_age_years.items()},
    )
    for section in sections:
        for name, group in section.items():
            result.add_row(name, *_cells(group))
        result.add_section()
    return result


def evaluate(
    bundle: Path | str,
    *,
    data: Path | str,
    split: str = "validation",
    views: str | None = None,
    out: Path | str | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Evaluation | SexEvaluation:
    """Evaluate a trained model on one split of a record folder.

    Args:
        bundle: Folder of the trained model.
        data: Folder of records.
        split: "train", "validation" or "test".
        views: "one", "mirrored" or "ten" looks at each radiograph; what the bundle names without it.
        out: Folder for what `write_evaluation` writes. None writes nothing: a bundle is never written to.
        num_resamples: Bootstrap draws per group.
        seed: Seed of the draws.

    Raises:
        EvaluationError: If `out` cannot be made, or the split holds no label for some image.
    """
    if out is not None:
        _make_folder(out)  # First, because predicting can take minutes.
    loaded = load_bundle(bundle)
    frame = loaded.predict_records(data, split=split, views=views)
    return conclude(
        frame, task=loaded.metadata["task"], data=data, split=split, out=out, num_resamples=num_resamples, seed=seed
    )


def conclude(
    frame: pd.DataFrame,
    *,
    task: str,
    data: Path | str,
    split: str,
    out: Path | str | None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Evaluation | SexEvaluation:
    """Measure what a bundle predicted of one split; see `evaluate` for the arguments.

    Args:
        frame: What `boneage.bundle.Bundle.predict_records` returned.
        task: What the bundle tells, `"age"` or `"sex"`.
        data: Folder of records.
        split: "train", "validation" or "test".
        out: Folder for what `write_evaluation` writes, or None.
        num_resamples: Bootstrap draws per group.
        seed: Seed of the draws.
    """
    dataset = f"{split} split of records {read_info(data)['digest']}"
    if task == "sex":
        told = summarise_sex(frame, dataset=dataset, num_resamples=num_resamples, seed=seed)
        if out is not None:
            write_sex_evaluation(Path(out), frame, told)
        return told
    evaluation = summarise(frame, dataset=dataset, num_resamples=num_resamples, seed=seed)
    if out is not None:
        write_evaluation(out, frame, evaluation)
    return evaluation


def write_evaluation(folder: Path | str, frame: pd.DataFrame, evaluation: Evaluation) -> None:
    """Write `predictions.csv` (worst case first), `evaluation.png` and `evaluation.json`.

    Args:
        folder: Where they go; made if missing. Files of these names in it are replaced.
        frame: The predictions that `evaluation` summarises.
        evaluation: Their evaluation.

    Raises:
        EvaluationError: If `folder` cannot be made.
    """
    folder = _make_folder(folder)
    error = frame["predicted_months"] - frame["bone_age_months"]
    worst_first = np.argsort(-error.abs().to_numpy(), kind="stable")
    write_text(folder / "predictions.csv", frame.assign(error_months=error).iloc[worst_first].to_csv(index=False))
    plot_evaluation(frame, evaluation, folder / "evaluation.png")
    write_text(folder / "evaluation.json", to_json(evaluation))


def _make_folder(folder: Path | str) -> Path:
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder}: no such folder can be made ({error.strerror}). Choose another.") from error
    return folder


def _checked(frame: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Index a frame by id, sorted so that the order of its rows moves no bootstrap draw, and check its values."""
    frame = _by_id(frame, name=name, columns=COLUMNS)
    if frame.empty:
        raise EvaluationError(f"`{name}` holds no images. Give at least one row.")
    for column in ("bone_age_months", "predicted_months"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce").astype(float)
        not_finite = frame.index[~np.isfinite(frame[column])]
        _refuse(not_finite, f"`{name}` has no finite `{column}` for", fix="Correct or drop these rows.")
    negative = frame.index[frame["bone_age_months"] < 0]
    _refuse(negative, f"`{name}` has a negative `bone_age_months` for", fix="Labels are months from 0.")
    other_sex = frame.index[frame["sex"].notna() & ~frame["sex"].isin(SEXES)]
    _refuse(other_sex, f"`{name}` has a `sex` other than {' or '.join(SEXES)} for", fix="Leave an unknown sex empty.")
    return frame


def _by_id(frame: pd.DataFrame, *, name: str, columns: Collection[str]) -> pd.DataFrame:
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        received = ", ".join(map(str, frame.columns))
        raise EvaluationError(f"`{name}` needs the columns {', '.join(columns)}. Received: {received}.")
    if frame["id"].isna().any():
        raise EvaluationError(f"`{name}` has rows without an id. Give every image its id.")
    # A table read from a file turns "1377" into a number: ids are text on both sides of every join.
    frame = frame[list(columns)].assign(id=frame["id"].astype(str)).set_index("id").sort_index()
    repeated = frame.index[frame.index.duplicated()].unique()
    _refuse(repeated, f"`{name}` has more than one row for", fix="Keep one row per image.")
    return frame


def _require_same_ids(a: pd.DataFrame, b: pd.DataFrame, *, names: tuple[str, str]) -> None:
    for held, lacking, (holder, lacker) in ((a, b, names), (b, a, names[::-1])):
        missing = held.index.difference(lacking.index)
        _refuse(missing, f"`{lacker}` lacks images of `{holder}`:", fix="Both must hold the same images.")


def _refuse(ids: pd.Index, problem: str, *, fix: str) -> None:
    """Raise if there are any ids, naming the first of them."""
    if len(ids):
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        raise EvaluationError(f"{problem} {', '.join(ids[:5])}{more}. {fix}")


def _cells(group: Summary) -> list[str]:
    def interval(estimate: Estimate, form: str) -> str:
        return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"

    shares = (group.share_within_6_months, group.share_within_12_months, group.share_within_24_months)
    slope = group.error_slope_months_per_year
    return [
        f"{group.num_images:,}",
        interval(group.mae_months, ".2f"),
        f"{group.rmse_months.value:.2f}",
        f"{group.median_absolute_error_months.value:.2f}",
        interval(group.bias_months, "+.1f"),
        "/".join(f"{100 * share.value:.0f}" for share in shares),
        f"{slope.value:+.2f}" if slope else "-",
    ]
