"""How far readers agree, and a model with them.

Bone age has no truth beside its readers. What a study of readers tells is how far two of them lie apart (limits of
agreement, Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8), how far one repeats what was read before (error of
Dahlberg), which share of the variance is that of the children (intraclass correlation, Shrout and Fleiss 1979,
doi:10.1037/0033-2909.86.2.420; Krippendorff's alpha, which allows gaps), and where a model stands among them.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.base.errors import BoneAgeError
from boneage.evaluation.bootstrap import Estimate, Metrics, bootstrap
from boneage.evaluation.conformal import age_band
from boneage.evaluation.metrics import AGE_BANDS_YEARS
from boneage.studies.readings import MODEL

# 95% of a normal distribution.
NUM_SDS = 1.96
AGE = "age"
"""Name of the factor that is not a column: the band of the mean reading."""

_MIN_DIFFERENCES = 3


class AgreementError(BoneAgeError):
    """Readings from which no agreement can be computed."""


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
    dahlberg_months: float
    coefficient_months: float


@dataclass(frozen=True)
class AgainstOthers:
    """A reader, or the model, against the mean of the other readers, in months; the model is nobody's other.

    Args:
        num_radiographs: Radiographs that the reader and at least one other read.
        bias: Mean difference.
        mae: Mean absolute difference.
        rmse: Root mean squared difference.
    """

    num_radiographs: int
    bias: Estimate
    mae: Estimate
    rmse: Estimate


@dataclass(frozen=True)
class Correlations:
    """Intraclass correlations of the radiographs that all readers read.

    Args:
        num_radiographs: Their number.
        values: By their names in Shrout and Fleiss 1979, `"ICC(1,1)"` to `"ICC(3,k)"`.
    """

    num_radiographs: int
    values: dict[str, Estimate]


@dataclass(frozen=True)
class ModelError:
    """The error of the model without that of the readers, in months.

    Args:
        num_radiographs: Radiographs with an answer, read by at least two readers.
        num_refused: Radiographs without an answer.
        observed_sd: Standard deviation of the answer minus the mean of the readers.
        reader_sd: Error of one reader, see `find_reader_sd`.
        own_sd: Error of the model itself, see `subtract_readers`.

    The last three are None where fewer than three radiographs tell them.
    """

    num_radiographs: int
    num_refused: int
    observed_sd: float | None
    reader_sd: float | None
    own_sd: float | None


@dataclass(frozen=True)
class Group:
    """Agreement of the readers in one group of radiographs.

    Args:
        num_radiographs: Radiographs that at least two readers read.
        reader_sd: Error of one reader in months, see `find_reader_sd`.
        alpha: Krippendorff's alpha, see `krippendorff_alpha`.
    """

    num_radiographs: int
    reader_sd: float | None
    alpha: float | None


@dataclass(frozen=True)
class Agreement:
    """Agreement of readers.

    Args:
        num_radiographs: Radiographs with a reading.
        num_readings: Readings.
        readers: Names of the readers, the model last.
        correlations: Intraclass correlations; None where fewer than three radiographs were read by all.
        alpha: Krippendorff's alpha for intervals, see `krippendorff_alpha`.
        reader_sd: Error of one reader in months, bias aside, see `find_reader_sd`.
        pairs: Limits of agreement of each two readers, by `"first - second"`.
        repeatability: By reader, only those who read in several sessions.
        against_others: By reader.
        model: The error of the model; None without one.
        by: Agreement by factor and level.
    """

    num_radiographs: int
    num_readings: int
    readers: list[str]
    correlations: Correlations | None
    alpha: float | None
    reader_sd: float | None
    pairs: dict[str, Limits]
    repeatability: dict[str, Repeatability]
    against_others: dict[str, AgainstOthers]
    model: ModelError | None
    by: dict[str, dict[str, Group]]


def measure_agreement(
    readings: pd.DataFrame, *, num_refused: int = 0, by: Sequence[str] = (), num_resamples: int = 2000, seed: int = 0
) -> Agreement:
    """Measure the agreement of readers.

    Between readers, the first reading of each radiograph by each reader counts.

    Args:
        readings: Columns `id`, `reader`, `session`, `months` and the factors, see `boneage.studies.readings`.
        num_refused: Radiographs that the reader `MODEL` gave no answer for.
        by: Factors to group by: columns of the table, or `AGE`.
        num_resamples: Bootstrap resamples of the radiographs.
        seed: Seed of the resampling.

    Raises:
        AgreementError: If there are fewer than two readers, no two of them read three radiographs in common, or a
            factor is unknown.
    """
    for factor in by:
        if factor != AGE and (factor not in readings.columns or factor in ("id", "reader", "session", "months")):
            known = [name for name in readings.columns if name not in ("id", "reader", "session", "months")]
            raise AgreementError(f"no column {factor!r} to group by; there are {', '.join([AGE, *known])}.")
    first = readings.drop_duplicates(["id", "reader"])
    wide = first.pivot(index="id", columns="reader", values="months")
    people = sorted(set(wide.columns) - {MODEL})
    wide = wide[[*people, *({MODEL} & set(wide.columns))]]
    pairs = {
        f"{one} - {other}": measure_limits(differences)
        for one, other in itertools.combinations(wide.columns, 2)
        if len(differences := (wide[one] - wide[other]).dropna().to_numpy()) >= _MIN_DIFFERENCES
    }
    if not pairs:
        raise AgreementError(
            f"no two readers read {_MIN_DIFFERENCES} radiographs in common; there is nothing to compare."
        )
    return Agreement(
        num_radiographs=len(wide),
        num_readings=len(readings),
        readers=list(wide.columns),
        correlations=correlate(wide[people]),
        alpha=krippendorff_alpha(wide[people]),
        reader_sd=find_reader_sd(wide[people]),
        pairs=pairs,
        repeatability=_measure_repeatability(readings),
        against_others={
            name: against
            for name in wide.columns
            if (against := _compare_with_others(wide, name, num_resamples=num_resamples, seed=seed)) is not None
        },
        model=_measure_model(wide, num_refused=num_refused) if MODEL in wide else None,
        by={factor: _group(wide[people], _find_levels(first, wide, factor)) for factor in by},
    )


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


def measure_repeatability(differences: Float[np.ndarray, " pairs"], *, num_sds: float = NUM_SDS) -> Repeatability:
    """Compute how far a reader repeats readings.

    Args:
        differences: Second minus first reading of the same radiographs, in months.
        num_sds: Standard deviations of the differences that the repeatability coefficient spans.
    """
    dahlberg = math.sqrt(float(np.mean(np.square(differences))) / 2)
    return Repeatability(len(differences), dahlberg, num_sds * math.sqrt(2) * dahlberg)


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
    if n < _MIN_DIFFERENCES or k < 2:
        return None
    mean = complete.mean()
    of_radiographs = k * float(np.sum((complete.mean(axis=1) - mean) ** 2))
    of_readers = n * float(np.sum((complete.mean(axis=0) - mean) ** 2))
    of_all = float(np.sum((complete - mean) ** 2))
    between, readers = of_radiographs / (n - 1), of_readers / (k - 1)
    error = (of_all - of_radiographs - of_readers) / ((n - 1) * (k - 1))
    within = (of_all - of_radiographs) / (n * (k - 1))
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


def krippendorff_alpha(wide: pd.DataFrame) -> float | None:
    """Compute Krippendorff's alpha for intervals; None where no radiograph was read twice, or all readings are equal.

    It is 1 minus the mean squared difference of two readings of one radiograph by that of any two readings
    (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").

    Args:
        wide: Months, one row for each radiograph and one column for each reader, NaN where one did not read it.
    """
    read_twice = wide[wide.notna().sum(axis=1) >= 2]
    values = read_twice.to_numpy(float)[read_twice.notna().to_numpy()]
    if len(values) < 2 or not np.var(values) > 0:
        return None
    numbers = read_twice.notna().sum(axis=1)
    # The squared differences of all pairs of n values sum up to n * n times their variance, each pair taken twice: 2.
    observed = float((numbers**2 * 2 * read_twice.var(axis=1, ddof=0) / (numbers - 1)).sum()) / len(values)
    expected = 2 * float(np.var(values, ddof=1))
    return 1 - observed / expected


def find_reader_sd(wide: pd.DataFrame) -> float | None:
    """Find the error of one reader in months, bias aside: the root of half the mean variance of the differences.

    Args:
        wide: Months, one row for each radiograph and one column for each reader, NaN where one did not read it.

    Returns:
        The error; None where no two readers read three radiographs in common.
    """
    variances = [
        float(np.var(differences, ddof=1))
        for one, other in itertools.combinations(wide.columns, 2)
        if len(differences := (wide[one] - wide[other]).dropna().to_numpy()) >= _MIN_DIFFERENCES
    ]
    return math.sqrt(float(np.mean(variances)) / 2) if variances else None


def subtract_readers(observed_sd: float, *, reader_sd: float, num_readers: float) -> float:
    """Return the error of a model whose difference from the mean of readers is known.

    The mean of `k` readers errs by `reader_sd / sqrt(k)`, which the observed difference contains (Thodberg 2010,
    doi:10.1155/2009/140932): `sqrt(observed_sd**2 - reader_sd**2 / k)`, 0 where the readers explain all of it.
    """
    return math.sqrt(max(observed_sd**2 - reader_sd**2 / num_readers, 0.0))


def _measure_repeatability(readings: pd.DataFrame) -> dict[str, Repeatability]:
    found = {}
    for reader, own in readings.groupby("reader"):
        # Each session with the one before.
        differences = own.groupby("id")["months"].diff().dropna().to_numpy()
        if len(differences):
            found[str(reader)] = measure_repeatability(differences)
    return found


def _compare_with_others(wide: pd.DataFrame, name: str, *, num_resamples: int, seed: int) -> AgainstOthers | None:
    others = wide.drop(columns=[name, MODEL], errors="ignore").mean(axis=1)
    differences = (wide[name] - others).dropna().to_numpy()
    if len(differences) < _MIN_DIFFERENCES:
        return None

    def compute(values: Float[np.ndarray, "*resamples radiographs"]) -> Metrics:
        return {
            "bias": np.mean(values, axis=-1),
            "mae": np.mean(np.abs(values), axis=-1),
            "rmse": np.sqrt(np.mean(values**2, axis=-1)),
        }

    return AgainstOthers(len(differences), **bootstrap(compute, differences, num_resamples=num_resamples, seed=seed))


def _measure_model(wide: pd.DataFrame, *, num_refused: int) -> ModelError:
    people = wide.drop(columns=MODEL)
    num_readers = people.notna().sum(axis=1)
    differences = (wide[MODEL] - people.mean(axis=1))[num_readers >= 2].dropna()
    reader_sd = find_reader_sd(people)
    if len(differences) < _MIN_DIFFERENCES or reader_sd is None:
        return ModelError(len(differences), num_refused, None, reader_sd, None)
    observed_sd = float(differences.std())
    # Of unequal numbers of readers, the mean of their inverses counts.
    mean_number = 1 / float((1 / num_readers[differences.index]).mean())
    own_sd = subtract_readers(observed_sd, reader_sd=reader_sd, num_readers=mean_number)
    return ModelError(len(differences), num_refused, observed_sd, reader_sd, own_sd)


def _find_levels(first: pd.DataFrame, wide: pd.DataFrame, factor: str) -> pd.Series:
    """Return the level of each radiograph; blank cells are `unknown`."""
    if factor == AGE:
        return wide.drop(columns=MODEL, errors="ignore").mean(axis=1).map(age_band)
    levels = first.drop_duplicates("id").set_index("id")[factor].reindex(wide.index)
    return levels.where(levels.notna() & (levels != ""), "unknown")


def _group(wide: pd.DataFrame, levels: pd.Series) -> dict[str, Group]:
    groups = {}
    for level, members in sorted(wide.groupby(levels), key=lambda group: _rank(str(group[0]))):
        read_twice = members[members.notna().sum(axis=1) >= 2]
        groups[str(level)] = Group(len(read_twice), find_reader_sd(read_twice), krippendorff_alpha(read_twice))
    return groups


def _rank(level: str) -> tuple[int, str]:
    """Return what levels are sorted by: bands of age in their order, the others by name."""
    bands = list(AGE_BANDS_YEARS)
    return (bands.index(level), "") if level in bands else (len(bands), level)
