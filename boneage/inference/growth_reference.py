"""Growth reference tables: the standard deviation score of a bone age among healthy children of the same age and sex.

The packaged table is that of the Brush Foundation's study of healthy children in Cleveland, in Greulich and Pyle,
Radiographic Atlas of Skeletal Development of the Hand and Wrist, 2nd edition, Stanford University Press 1959: mean
skeletal age and its standard deviation by chronological age, for each sex. Those children lived in the 1930s: a table
of the local population is preferable, such as one that `boneage reference fit` writes.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.inference.lms import find_lms_score, find_lms_value
from boneage.tfrecords.schema import SEXES

BRUSH_FOUNDATION = Path(__file__).parent / "references" / "brush_foundation.csv"
_KEYS = ("sex", "chronological_age_months")
COLUMNS = (*_KEYS, "mean_months", "sd_months")
LMS_COLUMNS = (*_KEYS, "L", "M", "S")
# No bone age is lower; where L is not positive, 0 has no score.
_LEAST_MONTHS = 0.1


class ReferenceTableError(BoneAgeError):
    """Raised if a reference table cannot be used."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The bone ages of healthy children of one age and sex.

    Args:
        power: L, see `boneage.inference.lms`; 1 for a normal distribution.
        median_months: M, for a normal distribution the mean, in months.
        sd_months: M times S, for a normal distribution the standard deviation, in months.
    """

    power: float
    median_months: float
    sd_months: float

    def score(self, bone_age_months: float) -> float:
        """Return the standard deviation score of a bone age in months."""
        if self.power == 1:
            return (bone_age_months - self.median_months) / self.sd_months
        value = max(bone_age_months, _LEAST_MONTHS)
        return float(find_lms_score(value, power=self.power, median=self.median_months, deviation=self._coefficient))

    def value(self, score: float) -> float:
        """Return the bone age in months that has a standard deviation score."""
        if self.power == 1:
            return self.median_months + score * self.sd_months
        return float(find_lms_value(score, power=self.power, median=self.median_months, deviation=self._coefficient))

    @property
    def _coefficient(self) -> float:
        return self.sd_months / self.median_months


@dataclasses.dataclass(frozen=True, eq=False)
class GrowthReference:
    """A reference table.

    Args:
        name: Name of the table.
        digest: Digest of its content (16 hexadecimal digits).
        rows: By sex, float64, sorted by age: `(ages, 3)` chronological age, mean bone age and its standard deviation,
            all in months; or `(ages, 4)` chronological age in months, L, M in months, and S.
    """

    name: str
    digest: str
    rows: dict[str, np.ndarray]

    def sd_score(self, bone_age_months: float, *, chronological_age_months: float | None, sex: str | None) -> float:
        """Return the standard deviation score of a bone age.

        Args:
            bone_age_months: The bone age, in months.
            chronological_age_months: Chronological age in months, or None.
            sex: `"female"`, `"male"` or None.

        Returns:
            The score; NaN if age or sex is unknown, or the age is outside the table.
        """
        if not self.reaches(chronological_age_months, sex=sex):
            return float("nan")
        return self.at(chronological_age_months or 0.0, sex=sex or "").score(bone_age_months)

    def reaches(self, chronological_age_months: float | None, *, sex: str | None) -> bool:
        """Tell whether the table has the sex, and the age lies between its first and its last.

        Args:
            chronological_age_months: Chronological age in months, or None.
            sex: `"female"`, `"male"` or None.
        """
        rows = self.rows.get(sex or "")
        if rows is None or chronological_age_months is None:
            return False
        return bool(rows[0, 0] <= chronological_age_months <= rows[-1, 0])

    def at(self, chronological_age_months: float, *, sex: str) -> Distribution:
        """Return the distribution of the bone age at an age within the table.

        What the table holds is interpolated linearly between its ages.

        Args:
            chronological_age_months: Chronological age in months.
            sex: A key of `rows`.
        """
        ages, *columns = self.rows[sex].T
        found = [float(np.interp(chronological_age_months, ages, values)) for values in columns]
        if len(found) == 2:
            return Distribution(1.0, *found)
        power, median, deviation = found
        return Distribution(power, median, median * deviation)

    @property
    def label(self) -> str:
        """Name of the table for people, with its source if it is the packaged one; ASCII."""
        if self.name == BRUSH_FOUNDATION.stem:
            return "Brush Foundation (Greulich and Pyle 1959)"
        return self.name.encode("ascii", "replace").decode()


def load_growth_reference(path: str | Path | None = None) -> GrowthReference:
    """Load a reference table.

    Args:
        path: CSV with the columns `sex`, `chronological_age_months`, and `mean_months`, `sd_months` or `L`, `M` (in
            months), `S`; others are ignored, and of both kinds the second counts. `brush_foundation` names the packaged
            table (default).

    Raises:
        ReferenceTableError: If it cannot be read, lacks a column, or contains an invalid value.
    """
    path = BRUSH_FOUNDATION if path is None or str(path) == BRUSH_FOUNDATION.stem else Path(path)
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise ReferenceTableError(f"{path}: {error.strerror}; check the path of the reference.") from error
    except ValueError as error:
        raise ReferenceTableError(f"{path}: cannot be read as CSV ({error}); required columns: {_list()}.") from error
    columns = LMS_COLUMNS if set(LMS_COLUMNS) <= set(table.columns) else COLUMNS
    if absent := [name for name in columns if name not in table.columns]:
        raise ReferenceTableError(f"{path}: has no column {absent[0]}; required columns: {_list()}.")
    if not table["sex"].isin(SEXES).all():
        raise ReferenceTableError(f"{path}: contains a sex other than {' or '.join(SEXES)}.")
    numbers = table[list(columns[1:])].apply(pd.to_numeric, errors="coerce")
    must_be_positive = numbers[["M", "S"] if columns is LMS_COLUMNS else ["sd_months"]]
    if not np.isfinite(numbers.to_numpy(float)).all() or (must_be_positive <= 0).any(axis=None):
        what = "L that is no number, or an age, M or S" if columns is LMS_COLUMNS else "age, mean or standard deviation"
        raise ReferenceTableError(f"{path}: contains an {what} that is not a positive number.")
    rows = {}
    for sex in SEXES:
        chosen = numbers[table["sex"] == sex].sort_values("chronological_age_months")
        if chosen["chronological_age_months"].duplicated().any():
            raise ReferenceTableError(f"{path}: contains duplicate ages for one sex.")
        if len(chosen):
            rows[sex] = chosen.to_numpy(float)
    return GrowthReference(path.stem, hashlib.sha256(table.to_csv().encode()).hexdigest()[:16], rows)


def _list() -> str:
    return f"{', '.join(COLUMNS)}, or L, M, S in place of the last two"
