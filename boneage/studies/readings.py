"""Tables of readings: one row for each reading of a radiograph by a reader."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.preprocessing.sources.cells import read_cells
from boneage.preprocessing.sources.tables import (
    MAX_AGE_MONTHS,
    YEARS_BELOW,
    parse_number,
    simplify_heading,
)
from boneage.studies.columns import ID

MODEL = "model"
"""The name of a model among the readers."""
COLUMNS = ("id", "reader", "session", "months")
"""The columns of a table of readings; all others are factors."""

_COLUMNS = {
    "id": ID.names,
    "reader": ("reader", "rater", "observer"),
    "months": ("months", "boneagemonths", "boneage", "reading"),
    "years": ("years", "boneageyears"),
    "session": ("session", "round", "repeat"),
}


class ReadingsError(BoneAgeError):
    """A table of readings that cannot be used."""


def read_readings(path: str | Path) -> pd.DataFrame:
    """Read a table of readings: CSV or Excel, one row for each reading.

    Args:
        path: The table, with the columns `id`, `reader`, and `months` or `years`; optionally `session`, which tells the
            readings of one reader apart. Every other column, such as `sex` or `atlas`, is a factor to group by. A
            radiograph need not be read by everybody.

    Returns:
        Columns `id`, `reader`, `session` (text) and `months` (float64), then the factors (text); sorted by id, reader
        and session.

    Raises:
        UnreadableTableError: If the file cannot be read.
        ReadingsError: If a column is missing, a cell is no age, ages may be years, or one reader has two readings of a
            radiograph in one session.
    """
    path = Path(path)
    header, *lines = read_cells(path) or [[]]
    columns = _find_columns(header, path=path)
    rows = []
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue
        row = {name: cells[index] if index < len(cells) else "" for name, index in columns.items()}
        for name in ("id", "reader"):
            if not row[name]:
                raise ReadingsError(f"{path} row {number}: {name} is blank; fill it in or remove the row.")
        unit = "years" if "years" in row else "months"
        cell = row.pop(unit)
        if not cell:
            continue  # not read
        rows.append({**row, "months": _parse_months(cell, unit=unit, where=f"{path} row {number}")})
    if not rows:
        raise ReadingsError(f"{path}: contains no readings.")
    frame = pd.DataFrame(rows)
    frame["session"] = frame["session"].replace("", "1") if "session" in frame else "1"
    if "years" not in columns and frame["months"].max() < YEARS_BELOW:
        raise ReadingsError(
            f"{path}: column {header[columns['months']]!r} contains at most {frame['months'].max():g}, which may be "
            "years; name the column `years`, and give the readings of infants in years."
        )
    again = frame[frame.duplicated(["id", "reader", "session"])]
    if len(again):
        id, reader = again.iloc[0][["id", "reader"]]
        raise ReadingsError(
            f"{path}: {reader} has two readings of {id} in one session; tell them apart by a column `session`."
        )
    return frame[[*COLUMNS, *list_factors(frame)]].sort_values(
        ["id", "reader", "session"], kind="stable", ignore_index=True
    )


def list_factors(readings: pd.DataFrame) -> list[str]:
    """List the columns of a table of readings to group by."""
    return [name for name in readings.columns if name not in COLUMNS]


def spread_readers(readings: pd.DataFrame) -> pd.DataFrame:
    """Return the first reading of each radiograph by each reader: one row for each id, one column for each reader."""
    return readings.drop_duplicates(["id", "reader"]).pivot(index="id", columns="reader", values="months")


def average_others(wide: pd.DataFrame, name: str) -> pd.Series:
    """Return the mean of the other readers of each radiograph; the model is nobody's other.

    Args:
        wide: From `spread_readers`.
        name: The reader, or the model.
    """
    return wide.drop(columns=[name, MODEL], errors="ignore").mean(axis=1)


def join_model(readings: pd.DataFrame, predictions: str | Path) -> tuple[pd.DataFrame, int]:
    """Let a model join the readers.

    Args:
        readings: From `read_readings`.
        predictions: The table that `boneage predict --out` or `boneage evaluate --out` wrote, or any with `id` and the
            answer in months; a blank answer is a refusal.

    Returns:
        The readings with those of the reader `MODEL`, and the number of radiographs that it gave no answer for.

    Raises:
        UnreadableTableError: If the file cannot be read.
        ReadingsError: If a column is missing, an answer is no age, or no radiograph was read by both.
    """
    path = Path(predictions)
    header, *lines = read_cells(path) or [[]]
    names = [simplify_heading(heading) for heading in header]
    answer = next((name for name in ("predictedmonths", "boneagemonths", "months") if name in names), None)
    if "id" not in names or answer is None:
        raise ReadingsError(
            f"{path}: needs the columns id and predicted_months, bone_age_months or months. "
            f"Received: {', '.join(header) or 'none'}."
        )
    if MODEL in set(readings["reader"]):
        raise ReadingsError(f"a reader is called {MODEL!r} already; rename that reader.")
    factors = readings.drop_duplicates("id").set_index("id").drop(columns=["reader", "session", "months"])
    answers = {}
    for number, cells in enumerate(lines, start=2):
        row = dict(zip(names, cells, strict=False))
        if row.get("id") in factors.index and row.get(answer):
            answers[row["id"]] = _parse_months(row[answer], unit="months", where=f"{path} row {number}")
    if not answers:
        raise ReadingsError(f"{path}: no answer has the id of a reading; the ids of both tables must be the same.")
    joined = pd.DataFrame({"id": list(answers), "reader": MODEL, "session": "1", "months": list(answers.values())})
    joined = joined.join(factors, on="id")
    return pd.concat([readings, joined], ignore_index=True), len(factors) - len(answers)


def _find_columns(header: Sequence[str], *, path: Path) -> dict[str, int]:
    """Return the index of each column by its name; factors keep their own in lower case."""
    keys = [simplify_heading(heading) for heading in header]
    columns = {}
    for name, aliases in _COLUMNS.items():
        found = next((keys.index(alias) for alias in aliases if alias in keys), None)
        if found is not None:
            columns[name] = found
    if "months" in columns:
        columns.pop("years", None)
    missing = [name for name in ("id", "reader") if name not in columns]
    if missing or not columns.keys() & {"months", "years"}:
        raise ReadingsError(
            f"{path}: needs the columns id, reader, and months or years. Received: {', '.join(header) or 'none'}."
        )
    factors = {heading.strip().lower(): index for index, heading in enumerate(header) if index not in columns.values()}
    return {**factors, **columns}


def _parse_months(cell: str, *, unit: str, where: str) -> float:
    number = parse_number(cell)
    months = math.nan if number is None else number * (12.0 if unit == "years" else 1.0)
    if not 0 <= months <= MAX_AGE_MONTHS:
        raise ReadingsError(f"{where}: {cell!r} is no bone age in {unit}.")
    return months
