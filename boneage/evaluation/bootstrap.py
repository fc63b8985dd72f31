"""Resamples and folds by group: radiographs of one patient are not independent.

An interval is the 95% percentile interval of the cluster bootstrap: groups are resampled with replacement, as many as
there are, and the metric is computed on the images of the drawn groups (Efron 1979, doi:10.1214/aos/1176344552; Field
and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). Where every image is a group of its own, this is the ordinary
bootstrap over images. One group tells nothing of others: every resample of it is the same, and there is no interval.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

Images = Float[np.ndarray, " images"]
Groups = Shaped[np.ndarray, " images"]
Metrics = dict[str, Float[np.ndarray, "*resamples"]]

_INTERVAL_PERCENT = (2.5, 97.5)
_MAX_VALUES_IN_MEMORY = (
    500_000  # Bounds the memory of the bootstrap to tens of megabytes, whatever the number of images.
)


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95% bootstrap interval.

    Args:
        value: The metric.
        low: Lower end of the interval; NaN where there is none.
        high: Upper end of the interval; NaN where there is none.
    """

    value: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    def format(self, form: str, *, factor: float = 1.0, unit: str = "") -> str:
        """Format it as text, without brackets where there is no interval.

        Args:
            form: Format of each number, such as `".2f"`.
            factor: Factor of each number, such as 100 for percent.
            unit: Written behind the metric, such as `"%"`.

        Example:
            >>> Estimate(0.8, 0.75, 0.9).format(".0f", factor=100, unit="%")
            '80% [75, 90]'
        """
        text = f"{factor * self.value:{form}}{unit}"
        return f"{text} [{factor * self.low:{form}}, {factor * self.high:{form}}]" if self.has_interval else text


def bootstrap(
    compute: Callable[..., Metrics],
    *values: Images,
    num_resamples: int,
    seed: int,
    groups: Groups | None = None,
) -> dict[str, Estimate]:
    """Estimate metrics of paired values, with 95% percentile intervals.

    Args:
        compute: Function of all `values`, or of resamples `(resamples, images)`, that reduces the last axis. NaN
            marks a metric as undefined.
        *values: Arrays of shape `(images,)`; each resample takes the same images from all of them.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.
        groups: The group of each image, shape `(images,)`, drawn as a whole (default: each image is its own group).

    Returns:
        An estimate of each defined metric. Resamples on which it is undefined do not enter its interval; there is none
        of a single group.

    Raises:
        ValueError: If `num_resamples` is not positive.
    """
    resampled = resample(compute, *values, num_resamples=num_resamples, seed=seed, groups=groups)
    is_single = len(values[0]) == 1 if groups is None else (groups == groups[0]).all()
    estimates = {}
    for name, value in compute(*values).items():
        defined = resampled[name][np.isfinite(resampled[name])]
        if np.isfinite(value) and defined.size:
            low, high = np.percentile(defined, _INTERVAL_PERCENT).tolist()
            estimates[name] = Estimate(float(value), *((math.nan, math.nan) if is_single else (low, high)))
    return estimates


def resample(
    compute: Callable[..., Metrics],
    *values: Images,
    num_resamples: int,
    seed: int,
    groups: Groups | None = None,
) -> Metrics:
    """Compute metrics on resamples, each of shape `(resamples,)`; the arguments are those of `bootstrap`.

    Raises:
        ValueError: If `num_resamples` is not positive.
    """
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` must be positive. Received: num_resamples={num_resamples}.")
    num_images = len(values[0])
    codes = np.arange(num_images) if groups is None else number_groups(groups)
    num_groups = int(codes.max()) + 1
    # Images sorted by group, and where each group begins.
    order, sizes = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    generator = np.random.default_rng(seed)
    resamples_at_once = max(1, _MAX_VALUES_IN_MEMORY // num_images)
    batches = []
    for start in range(0, num_resamples, resamples_at_once):
        shape = (min(resamples_at_once, num_resamples - start), num_groups)
        drawn = generator.integers(num_groups, size=shape)
        if (sizes == sizes[0]).all():
            rows = order[(starts[drawn][..., None] + np.arange(sizes[0])).reshape(len(drawn), -1)]
            batches.append(compute(*(value[rows] for value in values)))
            continue
        for groups_of_resample in drawn:
            counts = sizes[groups_of_resample]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            rows = order[np.repeat(starts[groups_of_resample], counts) + within]
            batches.append({name: np.reshape(value, 1) for name, value in compute(*(v[rows] for v in values)).items()})
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def average_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Average estimates of trainings that differ by their seed alone, at least two.

    Returns:
        The mean, with a 95% interval that holds for other radiographs (the mean half-width of theirs) and for other
        seeds (Student's t).
    """
    # Imported here: it takes long, and only comparisons of trainings need it.
    from scipy.stats import t

    values = np.array([estimate.value for estimate in estimates])
    of_seeds = t.ppf(_INTERVAL_PERCENT[1] / 100, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    of_radiographs = np.mean([(estimate.high - estimate.low) / 2 for estimate in estimates])
    mean, reach = float(values.mean()), float(np.hypot(of_seeds, of_radiographs))
    return Estimate(mean, mean - reach, mean + reach)


def find_groups(frame: pd.DataFrame) -> Groups:
    """Return the group of each row: its column `group`, or every row a group of its own where there is none."""
    return frame["group"].to_numpy() if "group" in frame.columns else np.arange(len(frame))


def count_groups(frame: pd.DataFrame) -> int:
    """Return the number of groups of a table."""
    return int(pd.Series(find_groups(frame)).nunique())


def number_groups(groups: Groups) -> Int[np.ndarray, " images"]:
    """Number groups from 0 in the order of their first image; returns the number of each image's group."""
    return np.asarray(pd.factorize(groups)[0])


def split_by_group(groups: Groups, *, num_folds: int, seed: int) -> Int[np.ndarray, " images"]:
    """Divide images into folds of about equally many groups, none of them in two folds.

    Args:
        groups: The group of each image, shape `(images,)`.
        num_folds: Number of folds.
        seed: Seed of the division.

    Returns:
        The fold of each image, from 0, shape `(images,)`.
    """
    codes = number_groups(groups)
    num_groups = int(codes.max(initial=-1)) + 1
    folds = np.empty(num_groups, int)
    folds[np.random.default_rng(seed).permutation(num_groups)] = np.arange(num_groups) % num_folds
    assigned: np.ndarray = folds[codes]
    return assigned
