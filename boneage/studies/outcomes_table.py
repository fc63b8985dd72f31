"""Tables of children whose adult height is known, and what methods predicted of it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.preprocessing.sources.cells import read_cells
from boneage.preprocessing.sources.tables import MAX_AGE_MONTHS, simplify_heading
from boneage.studies.columns import (
    BONE_AGE,
    CHILD,
    CHRONOLOGICAL_AGE,
    ID,
    MONTHS_PER_UNIT,
    SEX,
    Column,
    make_height_column,
    parse_sexes,
    read_columns,
    require,
)

BAYLEY_PINNEAU, UNNAMED = "Bayley-Pinneau", "predicted"
"""Names of methods: of what `boneage height` predicts, and of a column that names none."""
EVENTS = {"menarche": ("menarcheage", "ageatmenarche"), "growth_spurt": ("growthspurtage", "ageatpeakheightvelocity")}
"""Headings of the ages at which something happened, without unit."""
_COLUMNS = {
    "id": ID,
    "child": CHILD,
    "sex": SEX,
    "chronological_age_months": CHRONOLOGICAL_AGE,
    "bone_age_months": BONE_AGE,
    "height_cm": make_height_column("height", "stature"),
    "method": Column(("method",)),
    "last_age_months": Column(("lastage", "ageatlastvisit"), MONTHS_PER_UNIT, high=100 * 12.0),
    **{f"{event}_months": Column(names, MONTHS_PER_UNIT, high=MAX_AGE_MONTHS) for event, names in EVENTS.items()},
}
_FINAL, _ADULT = ("finalheight", "realadultheight", "finaladultheight"), "adultheight"
_PREDICTED = re.compile(
    r"predicted[ _]*(?:adult[ _]*)?(?:height[ _]*)?(?P<method>.*?)[ _]*\(?(?:cm|inches|inch|in)?\)?", re.IGNORECASE
)
_KEYS = ("child", "id", "sex", "chronological_age_months", "height_cm", "final_height_cm")


class OutcomesError(BoneAgeError):
    """A table of outcomes that cannot be used."""


@dataclass(frozen=True, eq=False)
class OutcomesTable:
    """Children whose adult height or whose age at an event is known.

    Args:
        frame: One row for each radiograph: `child`, `sex`, float64 `chronological_age_months`, `bone_age_months`,
            `height_cm`, `final_height_cm`, `last_age_months`, and `menarche_months`, `growth_spurt_months`; NaN where
            unknown.
        predicted: Predicted adult height in cm, a column for each method; NaN without an answer. The index is that of
            `frame`.
        events: The events of which the table has a column.
    """

    frame: pd.DataFrame
    predicted: pd.DataFrame
    events: tuple[str, ...]


def read_outcomes(path: str | Path) -> OutcomesTable:
    """Read a table of outcomes: CSV or Excel, a row for each radiograph, or for each radiograph and method.

    Args:
        path: The table, with `sex`, and `final_height_cm` or `adult_height_cm`, the height that was reached. What was
            predicted are the columns `predicted_NAME_cm`, or by row `method`, `predicted_cm` and `id` or `child`;
            beside `final_height_cm` also `adult_height_cm`, as `boneage height` writes it. Events are
            `menarche_age_years` and `growth_spurt_age_years`, blank where they had not happened at `last_age_years`.

    Raises:
        BoneAgeError: If the table cannot be read, a column is missing, or a cell is not understood.
    """
    path = Path(path)
    header = next(iter(read_cells(path)), [])
    columns, methods = _find_columns(header, path=path)
    frame = read_columns(path, columns)
    require(frame, "sex", path=path)
    frame["sex"] = parse_sexes(frame["sex"], path=path)
    events = tuple(event for event in EVENTS if f"{event}_months" in frame)
    if not events:
        require(frame, "final_height_cm", path=path)
    if "final_height_cm" in frame and not methods and not events:
        raise OutcomesError(
            f"{path}: has no prediction; name a column predicted_NAME_cm, such as predicted_bayley_pinneau_cm. If "
            "adult_height_cm is one, as `boneage height` writes it, add what was reached as final_height_cm."
        )
    if frame.empty:
        raise OutcomesError(f"{path}: contains no rows.")
    if "method" in frame and not {"child", "id"} & set(frame):
        raise OutcomesError(f"{path}: needs a column id or child beside method, by which rows are of one radiograph.")
    frame["child"] = _name_children(frame)
    texts = {"id", "method"}
    frame = frame.assign(**{name: "" if name in texts else np.nan for name in columns if name not in frame})
    if "final_height_cm" not in frame:
        frame["final_height_cm"] = np.nan
    _check_children(frame, path=path)
    if (frame["method"] != "").any():
        return _spread_methods(frame, methods, events, path=path)
    predicted = frame[list(methods)].rename(columns=methods)
    return OutcomesTable(frame.drop(columns=list(methods)), predicted, events)


def _name_children(frame: pd.DataFrame) -> pd.Series:
    """Name the child of each row: where it is blank, by the radiograph, and where that is blank too, by the row."""
    names = pd.Series([f"row {number}" for number in frame.index], index=frame.index)
    if "id" in frame:
        names = ("radiograph " + frame["id"]).where(frame["id"] != "", names)
    return frame["child"].where(frame["child"] != "", names) if "child" in frame else names


def _check_children(frame: pd.DataFrame, *, path: Path) -> None:
    """Check that no row is there twice, no child has two sexes, adult heights or ages at an event, no boy a menarche.

    Raises:
        OutcomesError: If one has.
    """
    if (again := frame.duplicated()).any():
        raise OutcomesError(
            f"{path} row {again.idxmax()}: is there twice; remove it, or tell radiographs apart by a column id."
        )
    for name in ("sex", "final_height_cm", *(f"{event}_months" for event in EVENTS)):
        known = frame[frame[name] != ""].groupby("child")[name].nunique()
        if (known > 1).any():
            raise OutcomesError(f"{path}: child {known.idxmax()} has two values of {name}; keep the correct one.")
    boys = frame[(frame["sex"] == "male") & frame["menarche_months"].notna()]
    if len(boys):
        raise OutcomesError(f"{path} row {boys.index[0]}: a boy has an age at menarche; correct one of them.")


def _find_columns(header: list[str], *, path: Path) -> tuple[dict[str, Column], dict[str, str]]:
    """Return the columns to read, and of the predictions among them the name of the method.

    Raises:
        OutcomesError: If two columns are of one method.
    """
    keys = [re.sub(r"(in)?(cm|inches|inch|in)$", "", simplify_heading(heading)) for heading in header]
    columns = dict(_COLUMNS)
    methods: dict[str, str] = {}
    for key, heading in zip(keys, header, strict=True):
        if found := _PREDICTED.fullmatch(heading.strip()):
            method = found["method"].replace("_", " ") or UNNAMED
            if key in methods or method in methods.values():
                raise OutcomesError(f"{path}: column {heading!r} is another of {method!r}; keep one of them.")
            columns[key] = make_height_column(key)
            methods[key] = method
    final = [name for name in _FINAL if name in keys]
    if final and _ADULT in keys:
        columns[_ADULT] = make_height_column(_ADULT)
        methods[_ADULT] = BAYLEY_PINNEAU
    if final or _ADULT in keys:
        columns["final_height_cm"] = make_height_column(*(final or [_ADULT]))
    return columns, methods


def _spread_methods(
    frame: pd.DataFrame, methods: dict[str, str], events: tuple[str, ...], *, path: Path
) -> OutcomesTable:
    """Turn rows for each radiograph and method into rows for each radiograph."""
    if len(methods) != 1:
        raise OutcomesError(f"{path}: beside the column method there must be one of predictions, predicted_cm.")
    (column,) = methods
    radiographs = frame.groupby(list(_KEYS), sort=False, dropna=False).ngroup()
    again = pd.DataFrame({"radiograph": radiographs, "method": frame["method"]}).duplicated()
    if again.any():
        raise OutcomesError(
            f"{path} row {again.idxmax()}: {frame['method'][again.idxmax()]} has two predictions of one radiograph; "
            "tell radiographs apart by chronological_age_months or id."
        )
    if (frame["method"] == "").any():
        raise OutcomesError(f"{path} row {(frame['method'] == '').idxmax()}: method is blank; fill it in.")
    first = ~radiographs.duplicated()
    kept = frame[first].drop(columns=[column, "method"]).set_index(radiographs[first])
    predicted = frame.assign(radiograph=radiographs).pivot(index="radiograph", columns="method", values=column)
    return OutcomesTable(kept, predicted.reindex(kept.index), events)
