"""Reference tables: how far a bone age lies from those of healthy children of the same age and sex.

The table that ships is that of the Brush Foundation's study of healthy children in Cleveland, in Greulich and Pyle,
Radiographic Atlas of Skeletal Development of the Hand and Wrist, 2nd edition, Stanford University Press 1959: mean
skeletal age and its standard deviation by chronological age, for each sex. Those children lived in the 1930s: a table
of one's own population says more.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecords.errors import BoneAgeError
from tfrecords.schema import SEXES

BRUSH_FOUNDATION = Path(__file__).parent / "references" / "brush_foundation.csv"
COLUMNS = ("sex", "chronological_age_months", "mean_months", "sd_months")


class UnusableReference(BoneAgeError):
    """A reference table that cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A reference table.

    Args:
        name: What it is called.
        digest: Names what is in it (16 hexadecimal digits).
        rows: By sex, float64 `(ages, 3)`: chronological age, mean bone age and its standard deviation, all in months,
            by rising age.
    """

    name: str
    digest: str
    rows: dict[str, np.ndarray]

    def score(self, bone_age_months: float, *, chronological_age_months: float | None, sex: str | None) -> float:
        """Return the standard deviation score: bone age less the mean at that age, in standard deviations.

        Between two ages of the table mean and standard deviation are interpolated.

        Args:
            bone_age_months: The bone age, in months.
            chronological_age_months: The child's age, in months, or None.
            sex: `"female"`, `"male"` or None.

        Returns:
            The score; NaN where age or sex is not known, or the table does not reach so far.
        """
        rows = self.rows.get(sex or "")
        if rows is None or chronological_age_months is None:
            return float("nan")
        ages, means, deviations = rows.T
        if not ages[0] <= chronological_age_months <= ages[-1]:
            return float("nan")
        mean, deviation = (np.interp(chronological_age_months, ages, each) for each in (means, deviations))
        return float((bone_age_months - mean) / deviation)


def load_reference(path: str | Path | None = None) -> Reference:
    """Load a reference table.

    Args:
        path: CSV with the columns `sex`, `chronological_age_months`, `mean_months`, `sd_months`; the Brush Foundation's
            table without it.

    Raises:
        UnusableReference: If it cannot be read, lacks a column, or holds what cannot be right.
    """
    path = BRUSH_FOUNDATION if path is None else Path(path)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UnusableReference(f"{path}: not readable as a CSV file ({error}); give one with {_list()}.") from error
    if absent := [name for name in COLUMNS if name not in table.columns]:
        raise UnusableReference(f"{path}: has no column {absent[0]}; give a CSV file with {_list()}.")
    if not table["sex"].isin(SEXES).all():
        raise UnusableReference(f"{path}: has a sex other than {' or '.join(SEXES)}; correct it.")
    numbers = table[list(COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers.to_numpy(float)).all() or (numbers["sd_months"] <= 0).any():
        raise UnusableReference(
            f"{path}: has an age, mean or standard deviation that is no number above 0; correct it."
        )
    rows = {}
    for sex in SEXES:
        chosen = numbers[table["sex"] == sex].sort_values("chronological_age_months")
        if chosen["chronological_age_months"].duplicated().any():
            raise UnusableReference(f"{path}: has an age twice for the same sex; keep one row of each.")
        if len(chosen):
            rows[sex] = chosen.to_numpy(float)
    return Reference(path.stem, hashlib.sha256(table.to_csv().encode()).hexdigest()[:16], rows)


def _list() -> str:
    return ", ".join(COLUMNS)
