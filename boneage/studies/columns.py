"""Tables of clinics: columns of text, ages and lengths under their usual names, whose headings state their units."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.base.sex import UnknownSexError, parse_sex
from boneage.base.spreadsheets import unescape_cell
from boneage.preprocessing.sources.cells import read_cells
from boneage.preprocessing.sources.tables import (
    MAX_AGE_MONTHS,
    YEARS_BELOW,
    parse_number,
    simplify_heading,
)

MONTHS_PER_UNIT = {"months": 1.0, "month": 1.0, "years": 12.0, "year": 12.0}
CM_PER_UNIT = {"cm": 1.0, "inches": 2.54, "inch": 2.54, "in": 2.54}
# The shortest newborn and the tallest person on record.
MIN_HEIGHT_CM, MAX_HEIGHT_CM = 20.0, 280.0
# Months read as years or years as months are off by 12; no group of children is as far ahead or behind.
_MAX_RATIO = 8.0
# Below, ages are of infants, who may be.
_MIN_MEDIAN_MONTHS = 24.0
# What is written by programs, whose headings are right; other columns are typed, and headings copied from elsewhere.
_OF_INFANTS = frozenset({"bone_age_months", "predicted_months", "low_months", "high_months"})


class ClinicTableError(BoneAgeError):
    """A table of children that cannot be used."""


@dataclass(frozen=True)
class Column:
    """A column of text or of numbers.

    Args:
        names: Its headings in lower case without blanks and punctuation, and without a unit.
        units: By unit that a heading may end with, the factor to the unit of the result; empty for text. The unit `""`
            is that of a number without one.
        low: Smallest number, in the unit of the result.
        high: Largest number.
        needs_unit: Whether a heading without unit is refused. Otherwise its numbers are months.
    """

    names: tuple[str, ...]
    units: Mapping[str, float] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    needs_unit: bool = False


ID = Column(("id", "imageid", "caseid", "file", "radiograph"))
CHILD = Column(("child", "childid", "patient", "patientid"))
SEX = Column(("sex", "gender"))
CHRONOLOGICAL_AGE = Column(("chronologicalage", "age", "patientage"), MONTHS_PER_UNIT, high=MAX_AGE_MONTHS)
BONE_AGE = Column(("boneage", "reading"), MONTHS_PER_UNIT, high=MAX_AGE_MONTHS)
LOW = Column(("low",), MONTHS_PER_UNIT, high=MAX_AGE_MONTHS)
HIGH = Column(("high",), MONTHS_PER_UNIT, high=MAX_AGE_MONTHS)


def make_height_column(*names: str) -> Column:
    """Make a column of heights, which become cm; the heading has to state whether they are cm or inches."""
    return Column(names, CM_PER_UNIT, low=MIN_HEIGHT_CM, high=MAX_HEIGHT_CM, needs_unit=True)


def read_columns(path: str | Path, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Read the known columns of a CSV or Excel file; others are ignored.

    Args:
        path: The table, see `boneage.preprocessing.sources.tables.read_table` for its forms.
        columns: The columns to look for, by the name in the result.

    Returns:
        The columns that the table has, in the order of `columns`: text as str, `""` where blank; numbers as float64 in
        the unit of the result, NaN where blank. The index is the row as a spreadsheet shows it.

    Raises:
        UnreadableTableError: If the file cannot be read.
        ClinicTableError: If a heading lacks its unit, ages may be years, bone ages and chronological ages are of two
            units, or a cell is not what its column holds.
    """
    path = Path(path)
    header, *lines = read_cells(path) or [[]]
    rows = {number: cells for number, cells in enumerate(lines, start=2) if cells}
    found = {}
    for name, column in columns.items():
        place = _find(header, column, path=path)
        if place is None:
            continue
        index, unit = place
        cells = {number: unescape_cell(row[index]) if index < len(row) else "" for number, row in rows.items()}
        if not column.units:
            found[name] = pd.Series(cells, dtype=object)
            continue
        numbers = pd.Series(
            {
                number: _parse(cell, column, unit=unit, where=f"{path} row {number}: {header[index]}")
                for number, cell in cells.items()
            },
            dtype=np.float64,
        )
        may_be_years = unit in (None, "month", "months") and numbers.notna().any() and numbers.max() < YEARS_BELOW
        if may_be_years and (unit is None or name not in _OF_INFANTS):
            stem = name.removesuffix("_months")
            advice = f"`{name}` or `{stem}_years`" if name in _OF_INFANTS else f"`{stem}_years`"
            raise ClinicTableError(
                f"{path}: column {header[index]!r} contains at most {numbers.max():g}, which may be years; name it "
                f"{advice}{'' if name in _OF_INFANTS else ', and give the ages of infants in years'}."
            )
        found[name] = numbers
    table = pd.DataFrame(found, index=pd.Index(list(rows), dtype=int))
    if {"chronological_age_months", "bone_age_months"} <= set(table):
        _check_units(table, path=path)
    return table


def require(table: pd.DataFrame, *names: str, path: str | Path) -> None:
    """Check that a table has columns.

    Raises:
        ClinicTableError: If one is missing.
    """
    if missing := [name for name in names if name not in table]:
        raise ClinicTableError(
            f"{path}: needs the columns {', '.join(names)}; {', '.join(missing)} is missing. Of its columns these are "
            f"used: {', '.join(map(str, table.columns)) or 'none'}."
        )


def parse_sexes(sexes: pd.Series, *, path: str | Path) -> pd.Series:
    """Parse a column of the sex.

    Args:
        sexes: Text, by row.
        path: The table, for the error.

    Returns:
        `"female"`, `"male"`, or `""` where unknown.

    Raises:
        ClinicTableError: If a cell is not understood.
    """
    parsed = {}
    for number, cell in sexes.items():
        try:
            parsed[number] = parse_sex(cell) or ""
        except UnknownSexError as error:
            raise ClinicTableError(f"{path} row {number}: sex {error}.") from error
    return pd.Series(parsed, dtype=object)


def _check_units(table: pd.DataFrame, *, path: Path) -> None:
    """Check that bone ages and chronological ages are of one unit.

    Raises:
        ClinicTableError: If they are not.
    """
    medians = table[["chronological_age_months", "bone_age_months"]].dropna().median()
    if medians.max() >= _MIN_MEDIAN_MONTHS and medians.max() > _MAX_RATIO * medians.min():
        raise ClinicTableError(
            f"{path}: the median chronological age is {medians.iloc[0]:.1f} months and the median bone age "
            f"{medians.iloc[1]:.1f}; one of them has another unit than its heading states."
        )


def _find(header: list[str], column: Column, *, path: Path) -> tuple[int, str | None] | None:
    """Find the first heading of a column and its unit; the names that are listed first count first."""
    keys = [simplify_heading(heading) for heading in header]
    for name in column.names:
        for index, key in enumerate(keys):
            unit = re.fullmatch(rf"{name}(?:in)?({'|'.join(column.units)})", key) if column.units else None
            if unit:
                return index, unit[1]
            if key != name:
                continue
            if column.needs_unit:
                raise ClinicTableError(
                    f"{path}: column {header[index]!r} states no unit; name it {name}_cm or {name}_in."
                )
            return index, None
    return None


def _parse(cell: str, column: Column, *, unit: str | None, where: str) -> float:
    if not cell:
        return float("nan")
    factor = 1.0 if unit is None else column.units[unit]
    number = parse_number(cell)
    if number is None or not column.low <= number * factor <= column.high:
        raise ClinicTableError(
            f"{where} is {cell!r}; write a number{_of_unit(unit)} from {column.low / factor:g} to "
            f"{column.high / factor:g}, or leave it blank."
        )
    return number * factor


def _of_unit(unit: str | None) -> str:
    return " of months" if unit is None else f" of {unit}" if unit else ""
