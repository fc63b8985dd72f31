"""Adult height by the tables of Bayley and Pinneau, and the target height of the parents.

The tables of Bayley and Pinneau (J Pediatr 1952;40:423, for the atlas of Greulich and Pyle) give the percent of adult
height that a child of a bone age has reached, for each sex and for children whose bone age is average for their age,
accelerated or retarded. They are not included: give them as a file, see `load_bayley_pinneau`.

The target height is the mean height of both parents, of whom one is moved by 13 cm to the sex of the child, and its
range 8.5 cm to both sides (Tanner et al. 1970, as tabulated in doi:10.1186/s12887-025-05551-6, table 1).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from boneage.base.errors import BoneAgeError, check_choice
from boneage.studies.columns import BONE_AGE, SEX, Column, parse_sexes, read_columns, require
from boneage.tfrecords.schema import SEXES

AVERAGE, ACCELERATED, RETARDED = MATURATIONS = ("average", "accelerated", "retarded")
"""Maturations, in the words of the tables."""
MAX_AVERAGE_MONTHS = 12.0
"""Difference of bone age and chronological age up to which maturation is average."""
SEX_DIFFERENCE_CM = 13.0
TARGET_RANGE_CM = 8.5

_COLUMNS = {
    "sex": SEX,
    "maturation": Column(("maturation",)),
    "bone_age_months": BONE_AGE,
    "percent_of_adult_height": Column(("percentofadultheight", "percent"), {"": 1.0}, high=100.0),
}


class HeightTableError(BoneAgeError):
    """A table of heights that cannot be used."""


@dataclass(frozen=True, eq=False)
class BayleyPinneau:
    """The tables of Bayley and Pinneau.

    Args:
        rows: By sex and maturation, float64 `(bone ages, 2)`: bone age in months and percent of adult height, sorted by
            bone age.
    """

    rows: dict[tuple[str, str], Float[np.ndarray, "ages 2"]]

    def find_percent(self, bone_age_months: float, *, sex: str, maturation: str) -> float:
        """Return the percent of adult height, interpolated linearly between the bone ages of the table.

        Args:
            bone_age_months: Bone age, in months.
            sex: `"female"` or `"male"`.
            maturation: One of `MATURATIONS`.

        Returns:
            The percent, in (0, 100]; NaN outside the table, which is not extrapolated.

        Raises:
            ValueError: If sex or maturation is unknown.
        """
        check_choice("sex", sex, SEXES)
        check_choice("maturation", maturation, MATURATIONS)
        ages, percents = self._find_rows(sex, maturation)
        if not len(ages) or not ages[0] <= bone_age_months <= ages[-1]:
            return float("nan")
        return float(np.interp(bone_age_months, ages, percents))

    def describe_limits(self, *, sex: str, maturation: str) -> str:
        """Say from which to which bone age the table of a sex and maturation reaches, as years and months."""
        ages, _ = self._find_rows(sex, maturation)
        children = f"{maturation} {'girls' if sex == 'female' else 'boys'}"
        if not len(ages):
            return f"there is no table for {children}"
        return f"the table for {children} has bone ages from {format_age(ages[0])} to {format_age(ages[-1])}"

    def _find_rows(self, sex: str, maturation: str) -> tuple[Float[np.ndarray, " ages"], Float[np.ndarray, " ages"]]:
        ages, percents = self.rows.get((sex, maturation), np.empty((0, 2))).T
        return ages, percents


def load_bayley_pinneau(path: str | Path) -> BayleyPinneau:
    """Load the tables of Bayley and Pinneau from a file.

    Args:
        path: CSV or Excel file with the columns `sex`, `maturation` (average, accelerated or retarded),
            `bone_age_months` and `percent_of_adult_height`; others are ignored.

    Raises:
        UnreadableTableError: If the file cannot be read.
        ClinicTableError: If a column is missing or a cell is not understood.
        HeightTableError: If a cell is blank, a bone age comes twice, or a percent falls while the bone age rises.
    """
    table = read_columns(path, _COLUMNS)
    require(table, *_COLUMNS, path=path)
    table["sex"] = parse_sexes(table["sex"], path=path)
    for number, row in table.iterrows():
        if row["sex"] == "" or row["maturation"] not in MATURATIONS or row.isna().any():
            raise HeightTableError(
                f"{path} row {number}: needs a sex, a maturation ({', '.join(MATURATIONS)}), a bone age and a percent."
            )
    if table.empty:
        raise HeightTableError(f"{path}: contains no rows.")
    rows = {}
    for (sex, maturation), own in table.groupby(["sex", "maturation"]):
        own = own.sort_values("bone_age_months")
        values = own[["bone_age_months", "percent_of_adult_height"]].to_numpy(np.float64)
        steps = np.diff(values, axis=0)
        if (wrong := (steps[:, 0] == 0) | (steps[:, 1] < 0)).any():
            raise HeightTableError(
                f"{path} row {own.index[1:][wrong][0]}: a bone age comes twice, or the percent of {maturation} {sex} "
                "children falls while the bone age rises; compare it with the paper."
            )
        rows[sex, maturation] = values
    return BayleyPinneau(rows)


def classify_maturation(bone_age_months: float, *, chronological_age_months: float) -> str:
    """Classify the maturation of a child as Bayley and Pinneau do: average within one year of chronological age.

    Args:
        bone_age_months: Bone age, in months.
        chronological_age_months: Chronological age, in months.

    Returns:
        One of `MATURATIONS`.
    """
    ahead = bone_age_months - chronological_age_months
    if abs(ahead) <= MAX_AVERAGE_MONTHS:
        return AVERAGE
    return ACCELERATED if ahead > 0 else RETARDED


def find_target_height(*, mother_cm: float, father_cm: float, sex: str) -> tuple[float, float, float]:
    """Return the target height of a child by the heights of its parents.

    Args:
        mother_cm: Height of the mother, in cm.
        father_cm: Height of the father, in cm.
        sex: Sex of the child, `"female"` or `"male"`.

    Returns:
        The target height, and the lower and upper end of its range, in cm.

    Raises:
        ValueError: If the sex is unknown.
    """
    check_choice("sex", sex, SEXES)
    target = (mother_cm + father_cm + (SEX_DIFFERENCE_CM if sex == "male" else -SEX_DIFFERENCE_CM)) / 2
    return target, target - TARGET_RANGE_CM, target + TARGET_RANGE_CM


def format_age(months: float) -> str:
    """Format an age as the tables write it, in years and months: `13-3`.

    Args:
        months: The age, in months.
    """
    years, rest = divmod(round(months), 12)
    return f"{years}-{rest}"
