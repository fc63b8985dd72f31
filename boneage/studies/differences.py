"""What two readings of one radiograph differ by, and what that says of the error of one reading.

Limits of agreement after Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8, and Dahlberg's error of a reading.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.evaluation.bootstrap import Estimate

# 95% of a normal distribution.
NUM_SDS = 1.96
MIN_DIFFERENCES = 3
"""Radiographs that two readers must have in common to be compared."""


@dataclass(frozen=True)
class Limits:
    """Limits of agreement of paired readings, first minus second, in months.

    Args:
        num_radiographs: Radiographs that both read.
        bias: Mean difference.
        low: Lower limit: the bias minus 1.96 standard deviations of the differences.
        high: Upper limit.
        sd: Standard deviation of the differences.
    """

    num_radiographs: int
    bias: Estimate
    low: Estimate
    high: Estimate
    sd: float


@dataclass(frozen=True)
class Repeatability:
    """How far a reader repeats what was read in the session before.

    Args:
        num_pairs: Pairs of readings of one radiograph in two sessions.
        dahlberg_months: Error of one reading, `sqrt(sum(d**2) / (2 * n))`.
        coefficient_months: Repeatability coefficient: two readings differ by less in 95% of the radiographs.
    """

    num_pairs: int
    dahlberg_months: Estimate
    coefficient_months: Estimate


def measure_limits(differences: Float[np.ndarray, " radiographs"], *, num_sds: float = NUM_SDS) -> Limits:
    """Compute the limits of agreement of paired readings, with 95% intervals.

    The intervals are those of Bland and Altman 1999, doi:10.1177/096228029900800204, section 2.

    Args:
        differences: First minus second reading, in months, at least two.
        num_sds: Standard deviations from the bias to a limit.
    """
    # Imported here: it takes long, and only studies need it.
    from scipy.stats import t

    number, bias, sd = len(differences), float(np.mean(differences)), float(np.std(differences, ddof=1))
    reach = float(t.ppf(0.975, number - 1)) * sd

    def estimate(value: float, variance: float) -> Estimate:
        return Estimate(value, value - reach * math.sqrt(variance), value + reach * math.sqrt(variance))

    of_limit = 1 / number + num_sds**2 / (2 * (number - 1))
    return Limits(
        num_radiographs=number,
        bias=estimate(bias, 1 / number),
        low=estimate(bias - num_sds * sd, of_limit),
        high=estimate(bias + num_sds * sd, of_limit),
        sd=sd,
    )


def measure_repeatability(
    differences: Float[np.ndarray, " pairs"], *, num_sds: float = NUM_SDS, degrees: float | None = None
) -> Repeatability:
    """Compute how far a reader repeats readings, with 95% intervals by the chi-squared distribution.

    Args:
        differences: Second minus first reading of the same radiographs, in months.
        num_sds: Standard deviations of the differences that the repeatability coefficient spans.
        degrees: Degrees of freedom of the sum of their squares (default: their number), see `find_degrees`.
    """
    # Imported here: it takes long, and only studies need it.
    from scipy.stats import chi2

    dahlberg = math.sqrt(float(np.mean(np.square(differences))) / 2)
    degrees = len(differences) if degrees is None else degrees
    low, high = (dahlberg * math.sqrt(degrees / float(chi2.ppf(share, degrees))) for share in (0.975, 0.025))
    span = num_sds * math.sqrt(2)
    return Repeatability(
        len(differences), Estimate(dahlberg, low, high), Estimate(span * dahlberg, span * low, span * high)
    )


def find_degrees(num_sessions: Float[np.ndarray, " radiographs"]) -> float:
    """Return the degrees of freedom of the squared differences of each session from the one before (Satterthwaite).

    Two differences that share a reading are correlated by -1/2, so that they tell less than two that do not.

    Args:
        num_sessions: Sessions in which each radiograph was read, at least two.
    """
    return float(np.sum(num_sessions - 1) ** 2 / np.sum(num_sessions - 1 + (num_sessions - 2) / 2))


def find_differences(wide: pd.DataFrame) -> dict[tuple[str, str], Float[np.ndarray, " radiographs"]]:
    """Find the differences of each two readers, first minus second, in months; of those who share enough radiographs.

    Args:
        wide: Months, one row for each radiograph and one column for each reader, NaN where one did not read it.
    """
    differences = {
        (one, other): (wide[one] - wide[other]).dropna().to_numpy()
        for one, other in itertools.combinations(wide.columns, 2)
    }
    return {pair: months for pair, months in differences.items() if len(months) >= MIN_DIFFERENCES}


def find_reader_sd(wide: pd.DataFrame) -> float | None:
    """Find the error of one reader in months, bias aside: the root of half the mean variance of the differences.

    Args:
        wide: Months, one row for each radiograph and one column for each reader, NaN where one did not read it.

    Returns:
        The error; None where no two readers read three radiographs in common.
    """
    variances = [float(np.var(differences, ddof=1)) for differences in find_differences(wide).values()]
    return math.sqrt(float(np.mean(variances)) / 2) if variances else None


def subtract_readers(observed_sd: float, *, reader_sd: float, num_readers: float) -> float:
    """Return the error of a model whose difference from the mean of readers is known.

    The mean of `k` readers errs by `reader_sd / sqrt(k)`, which the observed difference contains (Thodberg 2010,
    doi:10.1155/2009/140932): `sqrt(observed_sd**2 - reader_sd**2 / k)`, 0 where the readers explain all of it.
    """
    return math.sqrt(max(observed_sd**2 - reader_sd**2 / num_readers, 0.0))
