"""The evaluation of networks that tell the sex from a radiograph: accuracy, confusion matrix, report by class name."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.metrics import Estimate, bootstrap
from boneage.plots import plot_sex
from tfrecords.schema import SEXES, sex_from_male
from tfrecords.write import write_text


@dataclasses.dataclass(frozen=True)
class SexReport:
    """How well one sex is told.

    Attributes:
        num_images: Radiographs of it.
        precision: Share of those called so that are, in [0, 1]; 0 if none was.
        recall: Share of those that are so that are called so.
        f1: Harmonic mean of the two.
    """

    num_images: int
    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class SexEvaluation:
    """How well the sex is told.

    Attributes:
        dataset: Name of the set.
        num_images: Its size.
        accuracy: Share that is told right, with its 95% bootstrap interval.
        macro_f1: Mean F1 of both sexes.
        confusion: Counts, by the true sex and then by the told one.
        by_sex: The report of each.
    """

    dataset: str | None
    num_images: int
    accuracy: Estimate
    macro_f1: float
    confusion: dict[str, dict[str, int]]
    by_sex: dict[str, SexReport]

    @property
    def error(self) -> float:
        """What a training run is judged by: the share that is told wrong."""
        return 1 - self.accuracy.value

    @property
    def headline(self) -> str:
        """The result in a few words."""
        return f"sex told right in {100 * self.accuracy.value:.1f}%"


def table_of_sex(evaluation: SexEvaluation) -> Table:
    """Lay out an evaluation for the terminal: a row for each recorded sex."""
    accuracy = evaluation.accuracy
    result = Table(
        title=f"Sex on {evaluation.dataset}" if evaluation.dataset else "Sex",
        caption=f"Right in {100 * accuracy.value:.1f}% [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}], "
        f"macro F1 {evaluation.macro_f1:.3f}.",
        box=SIMPLE_HEAD,
    )
    for heading in ("Recorded", "Images", *(f"told {sex}" for sex in SEXES), "Precision", "Recall", "F1"):
        result.add_column(heading, justify="left" if heading == "Recorded" else "right", no_wrap=True)
    for sex, report in evaluation.by_sex.items():
        told = (f"{evaluation.confusion[sex][other]:,}" for other in SEXES)
        measures = (f"{value:.3f}" for value in (report.precision, report.recall, report.f1))
        result.add_row(sex, f"{report.num_images:,}", *told, *measures)
    return result


def tell_sex(male_share: pd.Series) -> pd.Series:
    """Return the likelier sex, `"female"` or `"male"`, of each share in [0, 1]."""
    return male_share.map(sex_from_male)


def summarise_sex(
    frame: pd.DataFrame, *, dataset: str | None = None, num_resamples: int = 2000, seed: int = 0
) -> SexEvaluation:
    """Measure how well the sex is told.

    Args:
        frame: Columns `id`, `sex` and `male_share`, the network's probability of a boy; one row for each radiograph.
        dataset: Name of the set.
        num_resamples: Bootstrap draws.
        seed: Seed of the draws. The order of the rows does not matter.
    """
    # Loaded on use: it takes a second, and the age needs none of it.
    from sklearn.metrics import classification_report, confusion_matrix

    frame = frame.sort_values("id")
    told = tell_sex(frame["male_share"])
    right = (told == frame["sex"]).to_numpy(np.float64)
    counts = confusion_matrix(frame["sex"], told, labels=SEXES)
    report = classification_report(frame["sex"], told, labels=SEXES, output_dict=True, zero_division=0)
    estimates = bootstrap(
        lambda drawn: {"accuracy": drawn.mean(axis=-1)}, right, num_resamples=num_resamples, seed=seed
    )
    return SexEvaluation(
        dataset=dataset,
        num_images=len(frame),
        accuracy=estimates["accuracy"],
        macro_f1=float(report["macro avg"]["f1-score"]),
        confusion={
            true: {called: int(count) for called, count in zip(SEXES, row, strict=True)}
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
    )


def write_sex_evaluation(folder: Path, frame: pd.DataFrame, evaluation: SexEvaluation) -> None:
    """Write `predictions.csv` (surest mistake first), `evaluation.png` and `evaluation.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong_by = np.where(frame["sex"] == "male", 1 - frame["male_share"], frame["male_share"])
    worst_first = np.argsort(-wrong_by, kind="stable")
    write_text(folder / "predictions.csv", frame.iloc[worst_first].to_csv(index=False))
    plot_sex(frame, evaluation.confusion, folder / "evaluation.png")
    write_text(folder / "evaluation.json", json.dumps(dataclasses.asdict(evaluation), indent=2) + "\n")
