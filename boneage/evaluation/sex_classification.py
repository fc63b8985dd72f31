"""Evaluation of sex classification: accuracy, confusion matrix, report per class."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.base.files import write_text
from boneage.base.spreadsheets import format_frame
from boneage.bundles.seen import Overlap
from boneage.evaluation.bootstrap import Estimate, bootstrap, find_groups
from boneage.evaluation.metrics import to_dict
from boneage.evaluation.plots import plot_sex, save_figure
from boneage.tfrecords.schema import SEXES, sex_from_male

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class SexReport:
    """Classification metrics of one sex.

    Attributes:
        num_images: Number of its radiographs.
        precision: Precision in [0, 1]; 0 if it was never predicted.
        recall: Recall in [0, 1].
        f1: Harmonic mean of precision and recall.
    """

    num_images: int
    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class SexEvaluation:
    """Evaluation of sex classification on one set of radiographs.

    Attributes:
        dataset: Name of the set.
        num_images: Number of radiographs.
        accuracy: Accuracy in [0, 1], with its 95% bootstrap interval.
        macro_f1: Mean F1 of both sexes.
        confusion: Counts, by recorded and then by predicted sex.
        by_sex: The metrics of each sex.
        predictions: The predictions, one row per radiograph, see `summarise_sex`.
        overlap: Radiographs among them that the model has already seen.
    """

    dataset: str | None
    num_images: int
    accuracy: Estimate
    macro_f1: float
    confusion: dict[str, dict[str, int]]
    by_sex: dict[str, SexReport]
    predictions: pd.DataFrame = dataclasses.field(repr=False, compare=False)
    overlap: list[Overlap] = dataclasses.field(default_factory=list)

    @property
    def error(self) -> float:
        """The share of misclassified radiographs, which ranks training runs."""
        return 1 - self.accuracy.value

    @property
    def headline(self) -> str:
        """The result as a short text."""
        return f"sex classification accuracy {100 * self.accuracy.value:.1f}%"

    def table(self) -> pd.DataFrame:
        """Return the metrics as a table: one row per recorded sex, with the columns of `SexReport`."""
        return pd.DataFrame.from_dict({sex: vars(report) for sex, report in self.by_sex.items()}, orient="index")

    def plot(self) -> "Figure":
        """Draw the confusion matrix, and the predicted probabilities by recorded sex.

        Returns:
            The figure; save it by `figure.savefig("evaluation.png")`.
        """
        return plot_sex(self.predictions, self.confusion)


def sex_evaluation_table(evaluation: SexEvaluation) -> Table:
    """Format an evaluation as a table for the terminal: one row per recorded sex."""
    accuracy = evaluation.accuracy
    result = Table(
        title=f"Sex on {evaluation.dataset}" if evaluation.dataset else "Sex",
        caption=f"Accuracy {accuracy.format('.1f', factor=100, unit='%')}, macro F1 {evaluation.macro_f1:.3f}."
        + ("" if accuracy.has_interval else " No interval: one patient tells nothing of others."),
        box=SIMPLE_HEAD,
    )
    for heading in ("Recorded", "Images", *(f"predicted {sex}" for sex in SEXES), "Precision", "Recall", "F1"):
        result.add_column(heading, justify="left" if heading == "Recorded" else "right", no_wrap=True)
    for sex, report in evaluation.by_sex.items():
        counts = (f"{evaluation.confusion[sex][other]:,}" for other in SEXES)
        metrics = (f"{value:.3f}" for value in (report.precision, report.recall, report.f1))
        result.add_row(sex, f"{report.num_images:,}", *counts, *metrics)
    return result


def classify_sex(male_probability: pd.Series) -> pd.Series:
    """Return the likelier sex, `"female"` or `"male"`, for probabilities in [0, 1]."""
    return male_probability.map(sex_from_male)


def summarise_sex(
    frame: pd.DataFrame, *, dataset: str | None = None, num_resamples: int = 2000, seed: int = 0
) -> SexEvaluation:
    """Evaluate sex classification.

    Args:
        frame: Columns `id`, `sex` and `male_probability`, the predicted probability that the child is male; one row
            per radiograph; optionally `group`, equal for radiographs of one patient.
        dataset: Name of the set.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling. The order of the rows does not matter.
    """
    # Imported here: it takes a second, and bone age does not need it.
    from sklearn.metrics import classification_report, confusion_matrix

    frame = frame.sort_values("id")
    predicted = classify_sex(frame["male_probability"])
    correct = (predicted == frame["sex"]).to_numpy(np.float64)
    counts = confusion_matrix(frame["sex"], predicted, labels=SEXES)
    report = classification_report(frame["sex"], predicted, labels=SEXES, output_dict=True, zero_division=0)
    estimates = bootstrap(
        lambda drawn: {"accuracy": drawn.mean(axis=-1)},
        correct,
        num_resamples=num_resamples,
        seed=seed,
        groups=find_groups(frame),
    )
    return SexEvaluation(
        dataset=dataset,
        num_images=len(frame),
        accuracy=estimates["accuracy"],
        macro_f1=float(report["macro avg"]["f1-score"]),
        confusion={
            true: {other: int(count) for other, count in zip(SEXES, row, strict=True)}
            for true, row in zip(SEXES, counts, strict=True)
        },
        by_sex={
            sex: SexReport(
                num_images=int(report[sex]["support"]),
                precision=float(report[sex]["precision"]),
                recall=float(report[sex]["recall"]),
                f1=float(report[sex]["f1-score"]),
            )
            for sex in SEXES
        },
        predictions=frame.reset_index(drop=True),
    )


def write_sex_evaluation(folder: Path, frame: pd.DataFrame, evaluation: SexEvaluation) -> None:
    """Write `predictions.csv` (most confident error first), `evaluation.png` and `evaluation.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong_by = np.where(frame["sex"] == "male", 1 - frame["male_probability"], frame["male_probability"])
    worst_first = np.argsort(-wrong_by, kind="stable")
    write_text(folder / "predictions.csv", format_frame(frame.iloc[worst_first]))
    save_figure(plot_sex(frame, evaluation.confusion), folder / "evaluation.png")
    write_text(folder / "evaluation.json", json.dumps(to_dict(evaluation), indent=2) + "\n")
