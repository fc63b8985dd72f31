"""Error metrics in months, with confidence intervals by `boneage.evaluation.bootstrap`."""

import html
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.bundles.seen import Overlap
from boneage.evaluation.bootstrap import Estimate, Groups, Images, Metrics, bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Resamples = Float[np.ndarray, "*resamples images"]

AGE_BANDS_YEARS = {"0-5": (0, 5), "5-10": (5, 10), "10-13": (10, 13), "13-16": (13, 16), "16+": (16, np.inf)}
"""Bands of labelled bone age in years, lower end inclusive, upper end exclusive: narrower in puberty, where most
radiographs are taken."""


DETERMINATIONS = ("delayed", "normal", "advanced")
"""Determinations of a bone age at the chronological age (ACR/RSNA common data element set RDES14)."""

# What a notebook shows of `Evaluation.table`, with its headings.
_SHOWN = {
    "num_images": "images",
    "mae_months": "MAE (months)",
    "mae_months_low": "95% from",
    "mae_months_high": "to",
    "rmse_months": "RMSE",
    "bias_months": "bias",
    "share_within_6_months": "share within 6",
    "share_within_12_months": "12",
    "share_within_24_months": "24 months",
}


@dataclass(frozen=True)
class Summary:
    """The metrics of one group of images; an error is predicted minus labelled bone age, in months.

    Undefined metrics, such as the correlation of one image, are None.

    Attributes:
        num_images: Images in the group.
        mae_months: Mean absolute error, the usual headline metric.
        rmse_months: Root mean squared error, which weights large errors more.
        median_absolute_error_months: Median absolute error.
        bias_months: Mean error. Positive means overestimated bone ages.
        share_within_6_months: Share of images, in [0, 1], with an absolute error of at most 6 months.
        share_within_12_months: The same for 12 months.
        share_within_24_months: The same for 24 months.
        error_deviation_months: Standard deviation of the error (divisor `num_images - 1`). Bias plus and minus 1.96 of
            it are the limits of agreement of Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8.
        pearson: Correlation of predicted and labelled bone age.
        error_slope_months_per_year: Slope of the error over the labelled bone age, in months per year. Negative means
            that young ages are overestimated and old ones underestimated; label noise alone makes it slightly negative.
    """

    num_images: int
    mae_months: Estimate
    rmse_months: Estimate
    median_absolute_error_months: Estimate
    bias_months: Estimate
    share_within_6_months: Estimate
    share_within_12_months: Estimate
    share_within_24_months: Estimate
    error_deviation_months: Estimate | None = None
    pearson: Estimate | None = None
    error_slope_months_per_year: Estimate | None = None


@dataclass(frozen=True)
class Evaluation:
    """Summaries of a set of images and of its non-empty groups.

    Attributes:
        dataset: Name of the set.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resampling.
        overall: All images.
        by_sex: Keyed "female" and "male".
        by_age_years: Keyed as `AGE_BANDS_YEARS`.
        num_groups: Number of patients.
        predictions: The predictions, one row per image, see `boneage.evaluation.summarise.summarise`.
        by_determination: Keyed as `DETERMINATIONS`, by the label; empty where no chronological age is known.
        num_without_age: Images that a model which uses the chronological age answered without knowing it.
        coverage: Measured coverage of the prediction intervals, see `boneage.evaluation.conformal.measure_coverage`;
            None without intervals.
        overlap: Radiographs among them that the model has already seen.
    """

    dataset: str | None
    num_resamples: int
    seed: int
    overall: Summary
    by_sex: dict[str, Summary]
    by_age_years: dict[str, Summary]
    num_groups: int
    predictions: pd.DataFrame = field(repr=False, compare=False)
    by_determination: dict[str, Summary] = field(default_factory=dict)
    num_without_age: int = 0
    coverage: dict[str, Any] | None = None
    overlap: list[Overlap] = field(default_factory=list)

    @property
    def error(self) -> float:
        """The mean absolute error in months, which ranks training runs."""
        return self.overall.mae_months.value

    @property
    def headline(self) -> str:
        """The result as a short text."""
        return f"MAE {self.error:.2f} months"

    @property
    def groups(self) -> dict[str, Summary]:
        """The summaries by name: `all`, `female`, `male`, age bands such as `0-5 y`, and the determinations."""
        by_age = {f"{name} y": summary for name, summary in self.by_age_years.items()}
        return {"all": self.overall, **self.by_sex, **by_age, **self.by_determination}

    def table(self) -> pd.DataFrame:
        """Return the metrics as a table.

        Returns:
            One row per group, as in `groups`, with the columns of `Summary`. The ends of the 95% interval of a metric
            follow it, such as `mae_months_low` and `mae_months_high`.
        """
        return pd.DataFrame.from_dict({name: flatten(group) for name, group in self.groups.items()}, orient="index")

    def plot(self) -> "Figure":
        """Draw predicted against labelled age, the agreement (Bland-Altman), and the error by age band.

        Returns:
            The figure; save it by `figure.savefig("evaluation.png")`.
        """
        from boneage.evaluation.plots import plot_evaluation

        return plot_evaluation(self.predictions, self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the most important metrics of each group."""
        shown = self.table()[list(_SHOWN)].rename(columns=_SHOWN)
        title = f"{self.headline}, {self.dataset}" if self.dataset else self.headline
        return f"<strong>{html.escape(title)}</strong>{shown.to_html(float_format='{:.2f}'.format)}"


def flatten(summary: Any) -> dict[str, Any]:
    """Return the fields of a dataclass of metrics as the cells of a row, each estimate followed by its interval.

    Args:
        summary: A dataclass such as `Summary`, whose undefined metrics are None.
    """
    row: dict[str, Any] = {}
    for name, value in vars(summary).items():
        if isinstance(value, Estimate):
            row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            row[name] = float("nan") if value is None else value
    return row


def to_dict(evaluation: Any) -> dict[str, Any]:
    """Return an evaluation, or what contains one, as dictionaries and lists without the predictions; NaN is None."""

    def leave_out(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in pairs
            if not isinstance(value, pd.DataFrame) and name != "predictions"
        }

    return asdict(evaluation, dict_factory=leave_out)


def summarise_errors(
    label: Images, *, predicted: Images, num_resamples: int, seed: int, groups: Groups | None = None
) -> Summary:
    """Compute the metrics of one group of images.

    Args:
        label: Labelled bone age in months, shape `(images,)`, at least one.
        predicted: Predicted bone age in months, shape `(images,)`.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.
        groups: The group of each image, shape `(images,)` (default: each image is its own group).

    Raises:
        ValueError: If `num_resamples` is not positive.
    """
    estimates = bootstrap(compute_metrics, label, predicted, num_resamples=num_resamples, seed=seed, groups=groups)
    return Summary(num_images=len(label), **estimates)


def compute_metrics(label: Resamples, predicted: Resamples) -> Metrics:
    """Compute every metric of `Summary` over the last axis; NaN if undefined."""
    error = predicted - label
    absolute = np.abs(error)
    centred_label, centred_predicted, centred_error = (_centred(values) for values in (label, predicted, error))
    label_square, predicted_square, error_square = (
        np.square(values).sum(axis=-1) for values in (centred_label, centred_predicted, centred_error)
    )
    # 0 / 0 is NaN: one image has no spread, and equal labels have no slope.
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(error_square / (error.shape[-1] - 1))
        pearson = (centred_label * centred_predicted).sum(axis=-1) / np.sqrt(label_square * predicted_square)
        slope = (centred_label * centred_error).sum(axis=-1) / label_square
    return {
        "mae_months": absolute.mean(axis=-1),
        "rmse_months": np.sqrt(np.square(error).mean(axis=-1)),
        "median_absolute_error_months": np.median(absolute, axis=-1),
        "bias_months": error.mean(axis=-1),
        "error_deviation_months": deviation,
        "share_within_6_months": (absolute <= 6).mean(axis=-1),
        "share_within_12_months": (absolute <= 12).mean(axis=-1),
        "share_within_24_months": (absolute <= 24).mean(axis=-1),
        "pearson": np.clip(pearson, -1, 1),
        "error_slope_months_per_year": 12 * slope,
    }


def _centred(values: Resamples) -> Resamples:
    # The rounded mean of equal values can miss them, and their spread must be zero for a slope to be undefined.
    constant = np.ptp(values, axis=-1, keepdims=True) == 0
    return np.where(constant, 0.0, values - values.mean(axis=-1, keepdims=True))
