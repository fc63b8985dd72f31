"""How far readers agree, and a model with them.

Bone age has no truth beside its readers. What a study of readers tells is how far two of them lie apart, how far one
repeats what was read before, which share of the variance is that of the children, and where a model stands among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.base.errors import BoneAgeError
from boneage.evaluation.bootstrap import Estimate, Metrics, bootstrap
from boneage.evaluation.conformal import age_band
from boneage.evaluation.metrics import AGE_BANDS_YEARS
from boneage.studies.components import Components, find_components
from boneage.studies.correlation import Correlations, correlate, krippendorff_alpha
from boneage.studies.differences import (
    MIN_DIFFERENCES,
    Limits,
    Repeatability,
    find_degrees,
    find_differences,
    find_reader_sd,
    measure_limits,
    measure_repeatability,
    subtract_readers,
)
from boneage.studies.readings import MODEL, average_others, list_factors, spread_readers

AGE = "age"
"""Name of the factor that is not a column: the band of the mean reading."""


class AgreementError(BoneAgeError):
    """Readings from which no agreement can be computed."""


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
        components: What their readings differ by; None where too few were read twice.
    """

    num_radiographs: int
    reader_sd: float | None
    alpha: Estimate | None
    components: Components | None


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
        components: What the readings differ by, of all sessions; None where too few radiographs were read twice.
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
    alpha: Estimate | None
    reader_sd: float | None
    components: Components | None
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
        if factor not in (known := [AGE, *list_factors(readings)]):
            raise AgreementError(f"no column {factor!r} to group by; there are {', '.join(known)}.")
    wide = spread_readers(readings)
    people = sorted(set(wide.columns) - {MODEL})
    wide = wide[[*people, *({MODEL} & set(wide.columns))]]
    pairs = {
        f"{one} - {other}": measure_limits(differences) for (one, other), differences in find_differences(wide).items()
    }
    if not pairs:
        raise AgreementError(
            f"no two readers read {MIN_DIFFERENCES} radiographs in common; there is nothing to compare."
        )
    return Agreement(
        num_radiographs=len(wide),
        num_readings=len(readings),
        readers=list(wide.columns),
        correlations=correlate(wide[people]),
        alpha=krippendorff_alpha(wide[people]),
        reader_sd=find_reader_sd(wide[people]),
        components=find_components(readings),
        pairs=pairs,
        repeatability=_measure_repeatability(readings),
        against_others={
            name: against
            for name in wide.columns
            if (against := _compare_with_others(wide, name, num_resamples=num_resamples, seed=seed)) is not None
        },
        model=_measure_model(wide, num_refused=num_refused) if MODEL in wide else None,
        by={factor: _group(readings, wide[people], _find_levels(readings, wide, factor)) for factor in by},
    )


def _measure_repeatability(readings: pd.DataFrame) -> dict[str, Repeatability]:
    found = {}
    for reader, own in readings.groupby("reader"):
        # Each session with the one before.
        differences = own.groupby("id")["months"].diff().dropna().to_numpy()
        if len(differences):
            sessions = own["id"].value_counts().to_numpy(float)
            found[str(reader)] = measure_repeatability(differences, degrees=find_degrees(sessions[sessions >= 2]))
    return found


def _compare_with_others(wide: pd.DataFrame, name: str, *, num_resamples: int, seed: int) -> AgainstOthers | None:
    differences = (wide[name] - average_others(wide, name)).dropna().to_numpy()
    if len(differences) < MIN_DIFFERENCES:
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
    if len(differences) < MIN_DIFFERENCES or reader_sd is None:
        return ModelError(len(differences), num_refused, None, reader_sd, None)
    observed_sd = float(differences.std())
    # Of unequal numbers of readers, the mean of their inverses counts.
    mean_number = 1 / float((1 / num_readers[differences.index]).mean())
    own_sd = subtract_readers(observed_sd, reader_sd=reader_sd, num_readers=mean_number)
    return ModelError(len(differences), num_refused, observed_sd, reader_sd, own_sd)


def _find_levels(readings: pd.DataFrame, wide: pd.DataFrame, factor: str) -> pd.Series:
    """Return the level of each radiograph; blank cells are `unknown`."""
    if factor == AGE:
        return wide.drop(columns=MODEL, errors="ignore").mean(axis=1).map(age_band)
    levels = readings.drop_duplicates("id").set_index("id")[factor].reindex(wide.index)
    return levels.where(levels.notna() & (levels != ""), "unknown")


def _group(readings: pd.DataFrame, wide: pd.DataFrame, levels: pd.Series) -> dict[str, Group]:
    groups = {}
    for level, members in sorted(wide.groupby(levels), key=lambda group: _rank(str(group[0]))):
        read_twice = members[members.notna().sum(axis=1) >= 2]
        groups[str(level)] = Group(
            num_radiographs=len(read_twice),
            reader_sd=find_reader_sd(read_twice),
            alpha=krippendorff_alpha(read_twice),
            components=find_components(readings[readings["id"].isin(members.index)]),
        )
    return groups


def _rank(level: str) -> tuple[int, str]:
    """Return what levels are sorted by: bands of age in their order, the others by name."""
    bands = list(AGE_BANDS_YEARS)
    return (bands.index(level), "") if level in bands else (len(bands), level)
