"""Prediction intervals with measured coverage: split-conformal, from the errors on radiographs nothing was chosen by.

After Lei et al. 2018, doi:10.1080/01621459.2017.1307116, in two tails: the ends of an interval lie at the 5% and the
95% quantile of the errors of the same sex and the same band of predicted age, as errors differ by age. The bands are of
the predicted age, the only one known at inference; a band of few radiographs is pooled with its neighbour. Each patient
counts as one, however many radiographs there are (Dunn et al. 2023, doi:10.1080/01621459.2022.2060112).

Networks shrink towards the mean: the youngest are predicted too old and the oldest too young. Intervals that hold on
average over all who are predicted alike then miss just those. At both ends they are therefore widened until they hold
for the youngest and for the oldest alone, by label (label-conditional conformal, Vovk 2012,
doi:10.1007/978-3-642-34651-8). An interval that reaches the end of growth is open to the upper side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from boneage.evaluation.bootstrap import count_groups, find_groups, number_groups, split_by_group
from boneage.evaluation.metrics import AGE_BANDS_YEARS
from boneage.tfrecords.schema import SEXES

COVERAGE_SHARE = 0.9
MIN_GROUPS_OF_BAND = 30
MAX_BONE_AGE_MONTHS = 240.0
"""End of the range of bone ages, 20 years; as the upper end of an interval it means that there is none."""
# Growth plates of the hand are closed, and the standards of Greulich and Pyle end: nobody can tell older ages apart.
_GROWTH_ENDS_MONTHS = {"female": 216.0, "male": 228.0}

_NUM_FOLDS = 10
_BANDS = tuple(AGE_BANDS_YEARS)
# Labels that count as the youngest and the oldest: those of the first and the last band, and, as far as these are too
# few, of the band next to it.
_YOUNGEST_MONTHS, _OLDEST_MONTHS = (60.0, 120.0), (192.0, 156.0)

Interval = dict[str, Any]


def least_groups(coverage_share: float = COVERAGE_SHARE) -> int:
    """Return the least number of patients from which a coverage can be promised: 19 for 90%.

    Of `n` exchangeable errors and a new one, the new one lies beyond the largest with a probability of `1 / (n + 1)`,
    and as often beyond the smallest.
    """
    tail_share = (1 - coverage_share) / 2
    return math.ceil(round(1 / tail_share, 6)) - 1


def fit_conformal_intervals(
    frame: pd.DataFrame, *, coverage_share: float = COVERAGE_SHARE, seed: int = 0
) -> Interval | None:
    """Fit prediction intervals, and measure their coverage.

    Args:
        frame: Columns `sex`, `bone_age_months` and `predicted_months`, of radiographs by which neither weights nor
            epoch nor calibration were chosen; optionally `group`, equal for radiographs of one patient.
        coverage_share: Target coverage, in (0, 1).
        seed: Seed of the folds on which the coverage is measured.

    Returns:
        Values for the metadata of a bundle, None for fewer patients than `least_groups`:

        - `coverage_share`, the target; `num_groups`, the number of patients.
        - `offsets_months`, from the prediction to the lower and the upper end, by sex and band of predicted age.
        - `youngest`, by sex: `offset_months` to the lower end wherever that is at most `up_to_months`; `oldest`, by
          sex: `offset_months` to the upper end wherever that is at least `from_months`. A sex is absent where few
          radiographs are so young or so old.
        - `measured_coverage_share` and `measured` as in `measure_coverage`, by cross-validation over patients.
    """
    interval = _fit(frame, coverage_share=coverage_share)
    if interval is None:
        return None
    covered = cross_validate(frame, coverage_share=coverage_share, seed=seed)
    return {**interval, **(measure_coverage(covered) if len(covered) else {})}


def cross_validate(frame: pd.DataFrame, *, coverage_share: float = COVERAGE_SHARE, seed: int = 0) -> pd.DataFrame:
    """Return predictions with intervals that were fitted to the other patients, in ten folds.

    Args:
        frame: As in `fit_conformal_intervals`.
        coverage_share: Target coverage, in (0, 1).
        seed: Seed of the folds.

    Returns:
        The rows with `low_months` and `high_months`; none where the other patients are too few.
    """
    num_groups = count_groups(frame)
    # Few patients are left out one by one, so that enough are left to fit the others.
    num_folds = _NUM_FOLDS if num_groups >= 50 else num_groups
    folds = split_by_group(find_groups(frame), num_folds=num_folds, seed=seed)
    parts = [frame.iloc[:0].assign(low_months=[], high_months=[])]
    for fold in np.unique(folds):
        fitted = _fit(frame[folds != fold], coverage_share=coverage_share)
        if fitted is not None:
            parts.append(add_intervals(frame[folds == fold], fitted))
    return pd.concat(parts[1:] or parts)


def measure_coverage(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the share of the radiographs whose label lies in their interval.

    Args:
        frame: Columns `sex`, `bone_age_months`, `low_months` and `high_months`.

    Returns:
        `measured_coverage_share`, of all; `measured`, by sex and band of labelled age: `num_images` and
        `covered_share`; bands without radiographs are absent.
    """
    covered = (frame["low_months"] <= frame["bone_age_months"]) & (frame["bone_age_months"] <= frame["high_months"])
    bands = frame["bone_age_months"].map(age_band)
    cells = {sex: {band: covered[(frame["sex"] == sex) & (bands == band)] for band in _BANDS} for sex in SEXES}
    return {
        "measured_coverage_share": round(float(covered.mean()), 4),
        "measured": {
            sex: {
                band: {"num_images": len(cell), "covered_share": round(float(cell.mean()), 4)}
                for band, cell in by_band.items()
                if len(cell)
            }
            for sex, by_band in cells.items()
        },
    }


def format_coverage(interval: Mapping[str, Any] | None) -> str:
    """Format promised and measured coverage as text, one line for all and one for each sex.

    Args:
        interval: From `fit_conformal_intervals`, or from the metadata of a bundle.
    """
    if not interval:
        return f"no prediction interval: it needs radiographs of at least {least_groups()} patients"
    share = interval.get("coverage_share", COVERAGE_SHARE)
    promised = "interval" if share is None else f"{share:.0%} interval"
    if interval.get("measured_coverage_share") is None:
        return f"{promised}: coverage not measured"
    lines = [f"{promised}, measured coverage: {interval['measured_coverage_share']:.1%}"]
    measured: Mapping[str, Any] = interval.get("measured", {})
    for sex, bands in measured.items():
        if not bands:
            continue  # No radiograph is of this sex.
        cells = (f"{cell['covered_share']:.0%} of {cell['num_images']:,} at {band} y" for band, cell in bands.items())
        lines.append(f"  {sex}: {', '.join(cells)}")
    return "\n".join(lines)


def add_intervals(frame: pd.DataFrame, interval: Mapping[str, Any]) -> pd.DataFrame:
    """Return predictions, columns `sex` and `predicted_months`, with their `low_months` and `high_months`."""
    ends = [
        prediction_interval(interval, {sex: months})
        for sex, months in zip(frame["sex"], frame["predicted_months"], strict=True)
    ]
    low, high = np.reshape(np.array(ends, float), (-1, 2)).T
    return frame.assign(low_months=low, high_months=high)


def prediction_interval(interval: Mapping[str, Any], predictions: Mapping[str, float]) -> tuple[float, float]:
    """Return the prediction interval that covers those of all plausible sexes.

    Args:
        interval: From `fit_conformal_intervals`, or from the metadata of a bundle.
        predictions: The predicted bone age in months, by plausible sex.

    Returns:
        Lower and upper end in months, within 0 and `MAX_BONE_AGE_MONTHS`, which means an open end.
    """
    ends = [_ends(interval, sex=sex, months=months) for sex, months in predictions.items()]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return min(max(low, 0.0), MAX_BONE_AGE_MONTHS), min(max(high, 0.0), MAX_BONE_AGE_MONTHS)


def age_band(months: float) -> str:
    """Return the band of an age, a key of `boneage.evaluation.metrics.AGE_BANDS_YEARS`; the first for negative ages."""
    return next((name for name, (_, high) in AGE_BANDS_YEARS.items() if months / 12 < high), _BANDS[-1])


def _ends(interval: Mapping[str, Any], *, sex: str, months: float) -> tuple[float, float]:
    band = age_band(months)
    if "offsets_months" in interval:
        below, above = interval["offsets_months"][sex][band]
    else:  # Bundles of version 0.1.0 have equal distances to both ends.
        above = interval["half_width_months"][sex][band]
        below = -above
    low, high = months + below, months + above
    youngest = interval.get("youngest", {}).get(sex)
    if youngest and months + youngest["offset_months"] <= youngest["up_to_months"]:
        low = min(low, months + youngest["offset_months"])
    oldest = interval.get("oldest", {}).get(sex)
    if oldest and months + oldest["offset_months"] >= oldest["from_months"]:
        high = max(high, months + oldest["offset_months"])
    return low, MAX_BONE_AGE_MONTHS if high >= _GROWTH_ENDS_MONTHS[sex] else high


@dataclass(frozen=True)
class _Readings:
    """Labels and predictions in months, the number of each one's patient, each of shape `(images,)`."""

    label: Float[np.ndarray, " images"]
    predicted: Float[np.ndarray, " images"]
    patient: Int[np.ndarray, " images"]

    @property
    def num_patients(self) -> int:
        return len(np.unique(self.patient))

    @property
    def error(self) -> Float[np.ndarray, " images"]:
        error: np.ndarray = self.label - self.predicted
        return error

    def select(self, chosen: Bool[np.ndarray, " images"]) -> "_Readings":
        return _Readings(self.label[chosen], self.predicted[chosen], self.patient[chosen])


def _fit(frame: pd.DataFrame, *, coverage_share: float) -> Interval | None:
    least, tail_share = least_groups(coverage_share), (1 - coverage_share) / 2
    of_both = _Readings(
        frame["bone_age_months"].to_numpy(float),
        frame["predicted_months"].to_numpy(float),
        number_groups(find_groups(frame)),
    )
    if of_both.num_patients < least:
        return None
    offsets: dict[str, dict[str, list[float]]] = {}
    youngest, oldest = {}, {}
    for sex in SEXES:
        own = of_both.select((frame["sex"] == sex).to_numpy(bool))
        # Too few of one sex share the intervals of both.
        readings = own if own.num_patients >= least else of_both
        offsets[sex] = _fit_offsets(readings, tail_share=tail_share)
        young = _find_end(readings, limits=_YOUNGEST_MONTHS, least=least)
        if young is not None:
            offset = _upper_quantile(-young.error, young.patient, tail_share=tail_share)
            up_to = float(young.label.max())
            youngest[sex] = {"up_to_months": max(up_to, _YOUNGEST_MONTHS[0]), "offset_months": -_ceil(offset)}
        old = _find_end(readings, limits=_OLDEST_MONTHS, least=least)
        if old is not None:
            offset = _upper_quantile(old.error, old.patient, tail_share=tail_share)
            since = min(float(old.label.min()), _OLDEST_MONTHS[0])
            oldest[sex] = {"from_months": since, "offset_months": _ceil(offset)}
    return {
        "coverage_share": coverage_share,
        "num_groups": of_both.num_patients,
        "offsets_months": offsets,
        "youngest": youngest,
        "oldest": oldest,
    }


def _fit_offsets(readings: _Readings, *, tail_share: float) -> dict[str, list[float]]:
    """Return the offsets in months from the prediction to both ends, by band of predicted age."""
    bands = np.array([_BANDS.index(age_band(months)) for months in readings.predicted], int)
    offsets: dict[str, list[float]] = {}
    for pool in _pool_bands(readings, bands):
        members = readings.select(np.isin(bands, pool))
        below, above = (
            _upper_quantile(sign * members.error, members.patient, tail_share=tail_share) for sign in (-1, 1)
        )
        offsets |= {_BANDS[band]: [-_ceil(below), _ceil(above)] for band in pool}
    return offsets


def _pool_bands(readings: _Readings, bands: Int[np.ndarray, " images"]) -> list[list[int]]:
    """Join each band of few patients to the smaller one of its neighbours, the smallest first."""
    pools = [[band] for band in range(len(_BANDS))]
    while len(pools) > 1:
        sizes = [readings.select(np.isin(bands, pool)).num_patients for pool in pools]
        smallest = int(np.argmin(sizes))
        if sizes[smallest] >= MIN_GROUPS_OF_BAND:
            break
        neighbours = [index for index in (smallest - 1, smallest + 1) if 0 <= index < len(pools)]
        first, second = sorted((smallest, min(neighbours, key=sizes.__getitem__)))
        pools[first : second + 1] = [pools[first] + pools[second]]
    return pools


def _find_end(readings: _Readings, *, limits: tuple[float, float], least: int) -> _Readings | None:
    """Return the youngest or the oldest radiographs by label, None where there are few.

    Args:
        readings: The radiographs.
        limits: Labels in months from one end of the range to the first limit, and at most to the second.
        least: Least number of patients: no more, so that they are as young or as old as can be.
    """
    sign = -1 if limits[0] < limits[1] else 1
    labels, (first, last) = sign * readings.label, (sign * limit for limit in limits)
    of_patient = pd.Series(labels).groupby(readings.patient).max().to_numpy()
    if len(of_patient) < least:
        return None
    months = min(first, np.sort(of_patient)[-least])
    return readings.select(labels >= months) if months >= last else None


def _ceil(months: float) -> float:
    """Round up to hundredths: a rounded interval is not narrower than the exact one."""
    return math.ceil(round(100 * months, 6)) / 100


def _upper_quantile(
    errors: Float[np.ndarray, " images"], patients: Int[np.ndarray, " images"], *, tail_share: float
) -> float:
    """Return the value that a new patient's error exceeds with a probability of at most `tail_share`."""
    _, codes, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    order = np.argsort(errors, kind="stable")
    # The finite-sample correction: of n patients the ceil((n + 1) * share)-th smallest. A patient's errors share a one.
    reached = np.cumsum(1 / sizes[codes[order]]) >= (len(sizes) + 1) * (1 - tail_share) - 1e-9
    return float(errors[order][int(np.argmax(reached))]) if reached.any() else math.inf
