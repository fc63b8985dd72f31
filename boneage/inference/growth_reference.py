"""Growth reference tables: the standard deviation score of a bone age among healthy children of the same age and sex.

The packaged table is that of the Brush Foundation's study of healthy children in Cleveland, in Greulich and Pyle,
Radiographic Atlas of Skeletal Development of the Hand and Wrist, 2nd edition, Stanford University Press 1959: mean
skeletal age and its standard deviation by chronological age, for each sex. Those children lived in the 1930s: a table
of the local population is preferable.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.tfrecords.schema import SEXES

BRUSH_FOUNDATION = Path(__file__).parent / "references" / "brush_foundation.csv"
COLUMNS = ("sex", "chronological_age_months", "mean_months", "sd_months")


class ReferenceTableError(BoneAgeError):
    """Raised if a reference table cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class GrowthReference:
    """A reference table.

    Args:
        name: Name of the table.
        digest: Digest of its content (16 hexadecimal digits).
        rows: By sex, float64 `(ages, 3)`: chronological age, mean bone age and its standard deviation, all in months,
            sorted by age.
    """

    name: str
    digest: str
    rows: dict[str, np.ndarray]

    def sd_score(self, bone_age_months: float, *, chronological_age_months: float | None, sex: str | None) -> float:
        """Return the standard deviation score: bone age minus the mean at that age, in standard deviations.

        Mean and standard deviation are interpolated linearly between the ages of the table.

        Args:
            bone_age_months: The bone age, in months.
            chronological_age_months: Chronological age in months, or None.
            sex: `"female"`, `"male"` or None.

        Returns:
            The score; NaN if age or sex is unknown, or the age is outside the table.
        """
        rows = self.rows.get(sex or "")
        if rows is None or chronological_age_months is None:
            return float("nan")
        if not rows[0, 0] <= chronological_age_months <= rows[-1, 0]:
            return float("nan")
        mean, deviation = self.at(chronological_age_months, sex=sex or "")
        return (bone_age_months - mean) / deviation

    def at(self, chronological_age_months: float, *, sex: str) -> tuple[float, float]:
        """Return mean and standard deviation of the bone age, in months, at an age within the table.

        Args:
            chronological_age_months: Chronological age in months.
            sex: A key of `rows`.
        """
        ages, means, deviations = self.rows[sex].T
        mean, deviation = (float(np.interp(chronological_age_months, ages, values)) for values in (means, deviations))
        return mean, deviation

    @property
    def label(self) -> str:
        """Name of the table for people, with its source if it is the packaged one; ASCII."""
        if self.name == BRUSH_FOUNDATION.stem:
            return "Brush Foundation (Greulich and Pyle 1959)"
        return self.name.encode("ascii", "replace").decode()


def load_growth_reference(path: str | Path | None = None) -> GrowthReference:
    """Load a reference table.

    Args:
        path: CSV with the columns `sex`, `chronological_age_months`, `mean_months`, `sd_months`
            (default: Brush Foundation table).

    Raises:
        ReferenceTableError: If it cannot be read, lacks a column, or contains an invalid value.
    """
    path = BRUSH_FOUNDATION if path is None else Path(path)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ReferenceTableError(f"{path}: cannot be read as CSV ({error}); required columns: {_list()}.") from error
    if absent := [name for name in COLUMNS if name not in table.columns]:
        raise ReferenceTableError(f"{path}: has no column {absent[0]}; required columns: {_list()}.")
    if not table["sex"].isin(SEXES).all():
        raise ReferenceTableError(f"{path}: contains a sex other than {' or '.join(SEXES)}.")
    numbers = table[list(COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers.to_numpy(float)).all() or (numbers["sd_months"] <= 0).any():
        raise ReferenceTableError(f"{path}: contains an age, mean or standard deviation that is not a positive number.")
    rows = {}
    for sex in SEXES:
        chosen = numbers[table["sex"] == sex].sort_values("chronological_age_months")
        if chosen["chronological_age_months"].duplicated().any():
            raise ReferenceTableError(f"{path}: contains duplicate ages for one sex.")
        if len(chosen):
            rows[sex] = chosen.to_numpy(float)
    return GrowthReference(path.stem, hashlib.sha256(table.to_csv().encode()).hexdigest()[:16], rows)


def _list() -> str:
    return ", ".join(COLUMNS)
