"""Radiographs of children who come again: predictions, and what is known of the children at each."""

import contextlib
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.preprocessing.sources.sources import find_cases
from boneage.studies.columns import (
    BONE_AGE,
    CHILD,
    CHRONOLOGICAL_AGE,
    HIGH,
    ID,
    LOW,
    SEX,
    ClinicTableError,
    Column,
    parse_sexes,
    read_columns,
    require,
)

_OF_CHILD = {
    "child": CHILD,
    "sex": SEX,
    "chronological_age_months": CHRONOLOGICAL_AGE,
    "date": Column(("date", "studydate", "examdate", "dateofradiograph")),
    "birth_date": Column(("birthdate", "dateofbirth", "dob")),
}
_OF_RADIOGRAPH = {"id": ID, "bone_age_months": BONE_AGE, "low_months": LOW, "high_months": HIGH}
_DAYS_PER_MONTH = 365.25 / 12
_COLUMNS = ("child", "sex", "chronological_age_months", "bone_age_months", "low_months", "high_months")


@dataclass(frozen=True, eq=False)
class Visits:
    """Radiographs with a child, an age and a bone age, and how many lack one of them.

    Args:
        frame: `child` (text), `sex` (`"female"`, `"male"` or `""`), `chronological_age_months`, `bone_age_months`,
            `low_months` and `high_months` (float64, NaN without an interval), sorted by child and age.
        num_refused: Radiographs without bone age.
        num_without_child: Radiographs with a bone age of which nobody says whose they are.
        num_without_age: Radiographs with a bone age and a child, but without chronological age.
    """

    frame: pd.DataFrame
    num_refused: int
    num_without_child: int
    num_without_age: int


def read_visits(
    predictions: str | Path, *, table: str | Path | None = None, radiographs: str | Path | None = None
) -> Visits:
    """Read predictions, and whose they are.

    Args:
        predictions: The table that `boneage predict --out` wrote, or any with the bone age. It may itself have the
            columns `child`, `sex`, and the chronological age or `date` and `birth_date`.
        table: Table with these columns and `id`; what it says replaces what the predictions say.
        radiographs: Folder of the DICOM files that the predictions are of: patient, sex and age are read from their
            headers. The children get running numbers; no number of a patient leaves.

    Raises:
        BoneAgeError: If a table or the folder cannot be read, a column is missing, or a cell is not understood.
        ValueError: If both `table` and `radiographs` are given.
    """
    if table is not None and radiographs is not None:
        raise ValueError("`table` and `radiographs` exclude each other: both say whose radiographs they are.")
    frame = read_columns(predictions, {**_OF_RADIOGRAPH, **_OF_CHILD})
    require(frame, "bone_age_months", path=predictions)
    frame = _resolve_children(frame, path=predictions)
    if table is not None or radiographs is not None:
        require(frame, "id", path=predictions)
        known = _read_table(table) if table is not None else _read_headers(Path(radiographs or ""))
        frame = _join(frame, known)
        if "child" in known and not frame["id"].isin(known.index).any():
            raise ClinicTableError(
                f"{predictions}: no id of it is in {table or radiographs}; the ids of both must be the same."
            )
    missing = [name for name in ("child", "chronological_age_months") if name not in frame]
    if missing:
        raise ClinicTableError(
            f"{predictions}: says not whose radiographs they are, or how old the children were; add the columns child "
            "and chronological_age_months (or date and birth_date), or give --table or --radiographs."
        )
    for name in set(_COLUMNS) - set(frame):
        frame[name] = "" if name == "sex" else np.nan
    read = frame[frame["bone_age_months"].notna()]
    of_child = read[read["child"] != ""]
    with_age = of_child[of_child["chronological_age_months"].notna()]
    return Visits(
        frame=with_age[list(_COLUMNS)].sort_values(
            ["child", "chronological_age_months"], kind="stable", ignore_index=True, key=_sort_key
        ),
        num_refused=len(frame) - len(read),
        num_without_child=len(read) - len(of_child),
        num_without_age=len(of_child) - len(with_age),
    )


def _resolve_children(frame: pd.DataFrame, *, path: str | Path) -> pd.DataFrame:
    """Parse the sex, and turn two dates into an age."""
    if "sex" in frame:
        frame["sex"] = parse_sexes(frame["sex"], path=path)
    if {"date", "birth_date"} <= set(frame) and "chronological_age_months" not in frame:
        frame["chronological_age_months"] = [
            _find_age(row["date"], row["birth_date"], where=f"{path} row {number}") for number, row in frame.iterrows()
        ]
    return frame.drop(columns=["date", "birth_date"], errors="ignore")


def _read_table(path: str | Path) -> pd.DataFrame:
    frame = read_columns(path, {"id": ID, **_OF_CHILD})
    require(frame, "id", "child", path=path)
    frame = _resolve_children(frame, path=path)
    again = frame[frame["id"].duplicated() & (frame["id"] != "")]
    if len(again):
        raise ClinicTableError(f"{path} row {again.index[0]}: {again['id'].iloc[0]} has two rows; remove one.")
    return frame.set_index("id")


def _read_headers(folder: Path) -> pd.DataFrame:
    """Read what DICOM headers say of the children, by the id of the radiograph."""
    cases, _ = find_cases(folder)
    numbers: dict[str, str] = {}
    rows = {}
    for case in cases:
        child = "" if case.patient is None else numbers.setdefault(case.patient, f"{len(numbers) + 1}")
        # More digits would reveal the day of birth to whoever knows the day of the study.
        age = np.nan if case.chronological_age_months is None else round(case.chronological_age_months, 1)
        rows[case.id] = {"child": child, "sex": case.sex or "", "chronological_age_months": age}
    return pd.DataFrame.from_dict(rows, orient="index")


def _join(frame: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Replace what predictions say of the children by what is known of them, cell by cell."""
    frame = frame.copy()
    for name in known:
        values = frame["id"].map(known[name])
        if name in frame:
            values = values.where(values.notna() & (values != ""), frame[name])
        is_text = name != "chronological_age_months"
        frame[name] = values.fillna("") if is_text else values.astype(np.float64)
    return frame


def _find_age(day: str, birthday: str, *, where: str) -> float:
    """Return the age in months; NaN where a date is blank."""
    if not day or not birthday:
        return float("nan")
    days = (_parse_date(day, where=where) - _parse_date(birthday, where=where)).days
    if days < 0:
        raise ClinicTableError(f"{where}: the date lies before the birth date; correct one of them.")
    return days / _DAYS_PER_MONTH


def _parse_date(cell: str, *, where: str) -> date:
    # A spreadsheet's date has a time behind it; other forms do not tell day and month apart.
    found = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})(?:[ T]00:00:00)?", cell, flags=re.ASCII)
    if found:
        with contextlib.suppress(ValueError):  # no such day
            return date(int(found[1]), int(found[2]), int(found[3]))
    raise ClinicTableError(f"{where}: a date is not understood; write year, month and day, such as 2024-03-31.")


def _sort_key(values: pd.Series) -> pd.Series:
    """Sort running numbers as numbers."""
    return values.map(lambda cell: f"{cell:0>12}" if isinstance(cell, str) and cell.isdigit() else cell)
