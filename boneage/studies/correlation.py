"""Which share of the variance of readings is that of the children: intraclass correlations and Krippendorff's alpha.

Intraclass correlations after Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420, need readings by all readers;
Krippendorff's alpha allows gaps. Both depend on how far the children differ: the same errors give less within a band of
ages.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.evaluation.bootstrap import Estimate

_MIN_RADIOGRAPHS = 3


@dataclass(frozen=True)
class MeanSquares:
    """Analysis of variance of readings, each radiograph read once by each reader, in months squared.

    Args:
        between: Mean square between radiographs.
        within: Mean square within radiographs.
        readers: Mean square between readers.
        error: Mean square of what is left of the differences within radiographs.
    """

    between: float
    within: float
    readers: float
    error: float


@dataclass(frozen=True)
class Correlations:
    """Intraclass correlations of the radiographs that all readers read.

    Args:
        num_radiographs: Their number.
        values: By their names in Shrout and Fleiss 1979, `"ICC(1,1)"` to `"ICC(3,k)"`.
    """

    num_radiographs: int
    values: dict[str, Estimate]


def correlate(wide: pd.DataFrame) -> Correlations | None:
    """Compute the intraclass correlations of the radiographs that all readers read; None of fewer than three.

    The 95% intervals are those of McGraw and Wong 1996, doi:10.1037/1082-989X.1.1.30, table 7.

    Args:
        wide: Months, one row for each radiograph and one column for each of at least two readers.
    """
    # Imported here: it takes long, and only studies need it.
    from scipy.stats import f

    complete = wide.dropna().to_numpy(float)
    n, k = complete.shape
    if n < _MIN_RADIOGRAPHS or k < 2:
        return None
    between, within, readers, error = dataclasses.astuple(find_mean_squares(complete))
    if not error > 0:
        return None  # the readings of one are those of another
    singles = {}
    for name, noise, freedom in (("1", within, n * (k - 1)), ("3", error, (n - 1) * (k - 1))):
        ratio = between / noise
        ends = (ratio / f.ppf(0.975, n - 1, freedom), ratio, ratio * f.ppf(0.975, freedom, n - 1))
        low, value, high = ((end - 1) / (end + k - 1) for end in ends)
        singles[name] = Estimate(float(value), float(low), float(high))
    value = (between - error) / (between + (k - 1) * error + k * (readers - error) / n)
    # Satterthwaite's degrees of freedom of the readers and the error together.
    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * readers + b * error) ** 2 / ((a * readers) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = f.ppf(0.975, n - 1, freedom), f.ppf(0.975, freedom, n - 1)
    rest = k * readers + (k * n - k - n) * error
    low = n * (between - lower * error) / (lower * rest + n * between)
    high = n * (upper * between - error) / (rest + n * upper * between)
    singles["2"] = Estimate(float(value), float(low), float(high))
    values = {f"ICC({name},1)": singles[name] for name in "123"}
    for name in "123":
        # Spearman and Brown: the mean of all readers.
        one = singles[name]
        means = (k * end / (1 + (k - 1) * end) for end in (one.value, one.low, one.high))
        values[f"ICC({name},k)"] = Estimate(*means)
    return Correlations(n, values)


def find_mean_squares(readings: Float[np.ndarray, "radiographs readers"]) -> MeanSquares:
    """Analyse the variance of readings without gaps; at least two radiographs and two readers."""
    n, k = readings.shape
    mean = readings.mean()
    of_radiographs = k * float(np.sum((readings.mean(axis=1) - mean) ** 2))
    of_readers = n * float(np.sum((readings.mean(axis=0) - mean) ** 2))
    of_all = float(np.sum((readings - mean) ** 2))
    return MeanSquares(
        between=of_radiographs / (n - 1),
        within=(of_all - of_radiographs) / (n * (k - 1)),
        readers=of_readers / (k - 1),
        error=(of_all - of_radiographs - of_readers) / ((n - 1) * (k - 1)),
    )


def krippendorff_alpha(wide: pd.DataFrame) -> Estimate | None:
    """Compute Krippendorff's alpha for intervals; None where no radiograph was read twice, or all readings are equal.

    It is 1 minus the mean squared difference of two readings of one radiograph by that of any two readings
    (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"). The 95% interval is Student's t by the jackknife
    over radiographs (Efron 1982, doi:10.1137/1.9781611970319) of the logarithm of 1 - alpha; its ends are alpha itself
    where all radiographs are read alike, and -1 and 1 of fewer than three.

    Args:
        wide: Months, one row for each radiograph and one column for each reader, NaN where one did not read it.
    """
    read_twice = wide[wide.notna().sum(axis=1) >= 2]
    months = read_twice.to_numpy(float)
    numbers = np.isfinite(months).sum(axis=1)
    if not len(months) or not np.nanvar(months) > 0:
        return None
    # Of each radiograph: the sums of its readings, of their squares, and of the squared differences of their pairs.
    months = months - np.nanmean(months)
    totals, squares = np.nansum(months, axis=1), np.nansum(months**2, axis=1)
    pairs = 2 * (numbers * squares - totals**2) / (numbers - 1)

    def find_disagreement(left_out: Float[np.ndarray, "*some radiographs"]) -> Float[np.ndarray, "*some"]:
        """Return 1 - alpha of the radiographs that are not left out, marked by 1."""
        kept = 1 - left_out
        number = kept @ numbers
        expected = 2 * (number * (kept @ squares) - (kept @ totals) ** 2) / (number - 1)
        disagreement: np.ndarray = (kept @ pairs) / np.where(expected > 0, expected, np.nan)
        return disagreement

    disagreement = float(find_disagreement(np.zeros(len(months))))
    if disagreement == 0:
        return Estimate(1.0, 1.0, 1.0)
    left = find_disagreement(np.eye(len(months)))
    if len(months) < _MIN_RADIOGRAPHS or not (left > 0).all():
        return Estimate(1 - disagreement, -1.0, 1.0)
    # Imported here: it takes long, and only studies need it.
    from scipy.stats import t

    error = math.sqrt(len(left) - 1) * float(np.log(left).std())
    ratio = math.exp(float(t.ppf(0.975, len(left) - 1)) * error)
    return Estimate(1 - disagreement, 1 - disagreement * ratio, 1 - disagreement / ratio)
