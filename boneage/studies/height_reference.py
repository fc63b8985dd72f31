"""Height for age by tables of L, M and S: those of the CDC and of the WHO, in the form in which they are downloaded.

L, M and S are interpolated linearly between the ages of the table; `boneage.inference.lms` has the score.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from boneage.inference.lms import find_lms_score
from boneage.preprocessing.sources.cells import read_cells
from boneage.preprocessing.sources.tables import simplify_heading
from boneage.studies.adult_height import HeightTableError
from boneage.tfrecords.schema import SEXES

# Headings of the age, and months of one: CDC's, WHO's for 5 to 19 years, and WHO's for younger children.
_MONTHS_PER_AGE = {"agemos": 1.0, "month": 1.0, "months": 1.0, "age": 1.0, "day": 12 / 365.25, "agedays": 12 / 365.25}
_SEX_CODES = {"1": "male", "2": "female", "m": "male", "f": "female", "male": "male", "female": "female"}
_SEX_WORDS = {"boys": "male", "girls": "female"}
_MAX_AGE_MONTHS = 252.0
# Median heights in cm from two years on; tables of weights and body mass indices lie below.
_MEDIANS_CM, _MEDIANS_FROM_MONTHS = (75.0, 200.0), 24.0


@dataclass(frozen=True, eq=False)
class HeightReference:
    """Tables of height for age.

    Args:
        name: Name of the reference, such as `"CDC"`.
        rows: By sex, float64 `(ages, 4)`: age in months, L, M in cm and S, sorted by age.
    """

    name: str
    rows: dict[str, Float[np.ndarray, "ages 4"]]

    def sd_score(self, height_cm: float, *, chronological_age_months: float, sex: str) -> float:
        """Return the standard deviation score of a height.

        Args:
            height_cm: Height, in cm.
            chronological_age_months: Age, in months.
            sex: `"female"` or `"male"`.

        Returns:
            The score; NaN outside the ages of the table.
        """
        rows = self.rows.get(sex)
        if rows is None or not rows[0, 0] <= chronological_age_months <= rows[-1, 0]:
            return float("nan")
        power, median, deviation = (
            float(np.interp(chronological_age_months, rows[:, 0], rows[:, column])) for column in (1, 2, 3)
        )
        return float(find_lms_score(height_cm, power=power, median=median, deviation=deviation))

    def describe_limits(self, *, sex: str) -> str:
        """Say from which to which age the table of a sex reaches."""
        children = "girls" if sex == "female" else "boys"
        if sex not in self.rows:
            return f"the {self.name} table has no {children}"
        first, last = self.rows[sex][[0, -1], 0]
        return f"the {self.name} table for {children} has ages from {first:g} to {last:g} months"


def load_height_reference(paths: Sequence[str | Path], *, name: str) -> HeightReference:
    """Load tables of height for age: one file with both sexes, or one for each sex, or further ones for other ages.

    Args:
        paths: CSV or Excel files with the columns L, M, S and the age: `Agemos`, `Month` or `age` in months, or `Day`.
            The sex is a column (1 male, 2 female), or the word `boys` or `girls` in the name of the file.
        name: Name of the reference.

    Raises:
        UnreadableTableError: If a file cannot be read.
        HeightTableError: If a column is missing, a value is impossible for heights, or an age comes twice.
    """
    found: dict[str, list[list[float]]] = {}
    for path in map(Path, paths):
        for sex, row in _read_rows(path):
            found.setdefault(sex, []).append(row)
    rows = {}
    for sex, values in found.items():
        rows[sex] = np.array(sorted(values), np.float64)
        ages, medians = rows[sex][:, 0], rows[sex][:, 2]
        listed = ", ".join(map(str, paths))
        if (np.diff(ages) == 0).any():
            raise HeightTableError(f"{listed}: has two rows for one age and sex; give each table once.")
        later = medians[ages >= _MEDIANS_FROM_MONTHS]
        if not ((later >= _MEDIANS_CM[0]) & (later <= _MEDIANS_CM[1])).all():
            raise HeightTableError(
                f"{listed}: has medians from {later.min():g} to {later.max():g}, which are no heights in cm; give the "
                "table of stature (height) for age."
            )
    return HeightReference(name, rows)


def _read_rows(path: Path) -> list[tuple[str, list[float]]]:
    """Read the sex, and age in months, L, M and S of each row."""
    header, *lines = [cells for cells in read_cells(path) if cells] or [[]]
    keys = [simplify_heading(heading) for heading in header]
    age = next((key for key in _MONTHS_PER_AGE if key in keys), None)
    missing = [key.upper() for key in ("l", "m", "s") if key not in keys]
    if age is None or missing:
        raise HeightTableError(
            f"{path}: needs the columns L, M, S, and Agemos, Month, age or Day. Received: "
            f"{', '.join(header) or 'none'}."
        )
    words = {word for word in re.findall(r"[a-z]+", path.stem.lower()) if word in _SEX_WORDS}
    if "sex" not in keys and len(words) != 1:
        raise HeightTableError(
            f"{path}: has no column Sex, and its name does not say boys or girls; rename it as it was downloaded."
        )
    rows = []
    for number, cells in enumerate(lines, start=2):
        if cells == header:  # some of CDC's tables repeat it between the sexes
            continue
        row = dict(zip(keys, cells, strict=False))
        sex = _SEX_CODES.get(row.get("sex", "").lower()) if "sex" in keys else _SEX_WORDS[min(words)]
        try:
            values = [float(row[key]) for key in (age, "l", "m", "s")]
        except (KeyError, ValueError):
            values = [math.nan]
        if sex not in SEXES or not np.isfinite(values).all() or values[2] <= 0 or values[3] <= 0:
            raise HeightTableError(f"{path} line {number}: needs a sex (1 or 2), an age, and numbers for L, M and S.")
        values[0] *= _MONTHS_PER_AGE[age]
        if values[0] > _MAX_AGE_MONTHS:
            raise HeightTableError(f"{path} line {number}: age {values[0]:g} is not in months; name the column Day.")
        rows.append((sex, values))
    if not rows:
        raise HeightTableError(f"{path}: contains no rows.")
    return rows
