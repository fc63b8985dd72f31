"""Measures of error in months, and how sure they are.

Every measure comes with a 95% percentile bootstrap interval: images are drawn with replacement, as often as there are
images, and the measure is taken again on each draw (Efron 1979, doi:10.1214/aos/1176344552).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, " images"]
Draws = Float[np.ndarray, "*draws images"]
Measured = dict[str, Float[np.ndarray, "*draws"]]

AGE_BANDS_YEARS = {"0-5": (0, 5), "5-10": (5, 10), "10-13": (10, 13), "13-16": (13, 16), "16+": (16, np.inf)}
"""Bands of labelled bone age in years, lower end inclusive, upper end exclusive: narrower through puberty, where most
radiographs are taken."""

_INTERVAL_PERCENT = (2.5, 97.5)
_VALUES_AT_ONCE = 500_000  # Bounds the memory of the bootstrap to tens of megabytes, whatever the number of images.


@dataclass(frozen=True)
class Estimate:
    """A measure with the ends of its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """The measures of one group of images; an error is predicted minus labelled bone age, in months.

    Measures of spread are None where they are undefined, as the correlation of one image is.

    Attributes:
        num_images: Images in the group.
        mae_months: Mean absolute error, the field's headline figure.
        rmse_months: Root of the mean squared error, which weighs the worst cases more.
        median_absolute_error_months: Half of the images lie at most this far off.
        bias_months: Mean error. Positive means that bones are read as too old.
        share_within_6_months: Share of images, in [0, 1], with an absolute error of at most 6 months.
        share_within_12_months: The same for 12 months.
        share_within_24_months: The same for 24 months.
        error_deviation_months: Standard deviation of the error (divisor `num_images - 1`). Bias plus and minus 1.96 of
            it are the limits of agreement of Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8.
        pearson: Correlation of predicted and labelled bone age.
        error_slope_months_per_year: Slope of the error over the labelled bone age, in months per year. Negative means
            that the young are over-read and the old under-read; noise in the labels alone makes it slightly negative.
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
    """Summaries of a set of images and of those of its groups that hold any.

    Attributes:
        dataset: Name of the set.
        num_resamples: Bootstrap draws behind each interval.
        seed: Seed of the draws.
        overall: All images.
        by_sex: Keyed "female" and "male".
        by_age_years: Keyed as `AGE_BANDS_YEARS`.
    """

    dataset: str | None
    num_resamples: int
    seed: int
    overall: Summary
    by_sex: dict[str, Summary]
    by_age_years: dict[str, Summary]

    @property
    def error(self) -> float:
        """What a training run is judged by: the mean absolute error in months."""
        return self.overall.mae_months.value

    @property
    def headline(self) -> str:
        """The result in a few words."""
        return f"MAE {self.error:.2f} months"


def summarise_errors(label: Images, *, predicted: Images, num_resamples: int, seed: int) -> Summary:
    """Measure the predictions of one group of images.

    Args:
        label: Labelled bone age in months, shape `(images,)`, at least one.
        predicted: Predicted bone age in months, shape `(images,)`.
        num_resamples: Bootstrap draws.
        seed: Seed of the draws.

    Raises:
        ValueError: If `num_resamples` is not positive.
    """
    estimates = bootstrap(measures, label, predicted, num_resamples=num_resamples, seed=seed)
    return Summary(num_images=len(label), **estimates)


def bootstrap(measure: Callable[..., Measured], *values: Images, num_resamples: int, seed: int) -> dict[str, Estimate]:
    """Estimate measures of paired values, with 95% percentile intervals.

    Args:
        measure: Takes each of `values`, or draws of them of shape `(draws, images)`, and reduces the last axis. NaN
            marks a measure as undefined.
        *values: Arrays of shape `(images,)`; each draw takes the same images from all of them.
        num_resamples: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        An estimate of each measure that is defined. Draws that leave it undefined do not enter its interval.

    Raises:
        ValueError: If `num_resamples` is not positive.
    """
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` must be positive. Received: num_resamples={num_resamples}.")
    num_images = len(values[0])
    generator = np.random.default_rng(seed)
    draws_at_once = max(1, _VALUES_AT_ONCE // num_images)
    batches = []
    for start in range(0, num_resamples, draws_at_once):
        shape = (min(draws_at_once, num_resamples - start), num_images)
        drawn = generator.integers(num_images, size=shape)
        batches.append(measure(*(value[drawn] for value in values)))
    estimates = {}
    for name, value in measure(*values).items():
        resampled = np.concatenate([batch[name] for batch in batches])
        defined = resampled[np.isfinite(resampled)]
        if np.isfinite(value) and defined.size:
            low, high = np.percentile(defined, _INTERVAL_PERCENT)
            estimates[name] = Estimate(float(value), float(low), float(high))
    return estimates


def measures(label: Draws, predicted: Draws) -> Measured:
    """Take every measure of `Summary` over the last axis; NaN where one is undefined."""
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


def _centred(values: Draws) -> Draws:
    # The rounded mean of equal values can miss them, and their spread must be zero for a slope to be undefined.
    constant = np.ptp(values, axis=-1, keepdims=True) == 0
    return np.where(constant, 0.0, values - values.mean(axis=-1, keepdims=True))
