"""Heights of children: predicted adult height, target height, and standard deviation scores."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.base.errors import check_choice
from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.studies.adult_height import (
    MATURATIONS,
    BayleyPinneau,
    classify_maturation,
    find_target_height,
    format_age,
    load_bayley_pinneau,
)
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
    make_height_column,
    parse_sexes,
    read_columns,
    require,
)
from boneage.studies.height_plot import plot_heights
from boneage.studies.height_reference import HeightReference, load_height_reference

TABLE_FILE, REPORT_FILE = "height.csv", "height.json"
COLUMNS = {
    "child": Column((*CHILD.names, *ID.names)),
    "sex": SEX,
    "height_cm": make_height_column("height", "stature"),
    "chronological_age_months": CHRONOLOGICAL_AGE,
    "bone_age_months": BONE_AGE,
    "low_months": LOW,
    "high_months": HIGH,
    "maturation": Column(("maturation",)),
    "mother_cm": make_height_column("mother", "motherheight", "mothersheight"),
    "father_cm": make_height_column("father", "fatherheight", "fathersheight"),
}
"""What is known of a child."""
_GIVEN = ("child", "sex", "height_cm", "chronological_age_months", "bone_age_months", "maturation")
_FOUND = (
    "percent_of_adult_height",
    "adult_height_cm",
    "adult_height_low_cm",
    "adult_height_high_cm",
    "target_height_cm",
    "target_low_cm",
    "target_high_cm",
    "cdc_sds",
    "who_sds",
)


def height(
    children: str | Path | Mapping[str, str | float],
    *,
    tables: str | Path | None = None,
    cdc: str | Path | Sequence[str | Path] = (),
    who: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Predict adult height by Bayley and Pinneau, and give target height and standard deviation scores of the height.

    Args:
        children: Table with a row for each child, or what is known of one: `sex`, `height_cm`, `bone_age_months`,
            `low_months` and `high_months` (its interval), `chronological_age_months`, `maturation` (else by the two
            ages), `mother_cm`, `father_cm`. Height and bone age are of one day. Headings may state inches or years.
        tables: The tables of Bayley and Pinneau, see `boneage.studies.adult_height.load_bayley_pinneau` (default: no
            adult height).
        cdc: Table of stature for age of the CDC, as downloaded, see
            `boneage.studies.height_reference.load_height_reference` (default: no score).
        who: Table of height for age of the WHO, or one for boys and one for girls, as downloaded.
        out: Folder for `height.csv`, `height.json` and figures.

    Returns:
        One row per child: `child`, `sex`, `height_cm`, `chronological_age_months`, `bone_age_months`, `maturation`;
        `percent_of_adult_height` that is reached; `adult_height_cm`, and `adult_height_low_cm` and
        `adult_height_high_cm` by the interval of the bone age alone; `target_height_cm` with its range `target_low_cm`
        to `target_high_cm`; `cdc_sds` and `who_sds`; NaN where unknown, and `reasons`, why something that was asked for
        is unknown.

    Raises:
        BoneAgeError: If a table cannot be used, or another process writes `out`.
        ValueError: If `children` has a key or a value that is not understood.
    """
    if out is not None:
        check_output(Path(out), is_folder=True)
    frame = _make_frame(children) if isinstance(children, Mapping) else _read_children(children)
    bayley_pinneau = None if tables is None else load_bayley_pinneau(tables)
    references = {
        name: load_height_reference([paths] if isinstance(paths, str | Path) else paths, name=name)
        for name, paths in (("CDC", cdc), ("WHO", who))
        if paths
    }
    rows = [_find_heights(row, bayley_pinneau, references) for row in frame.to_dict("records")]
    found = pd.DataFrame(rows, columns=[*_GIVEN, *_FOUND, "reasons"])
    if out is not None:
        out = Path(out)
        with lock_folder(out):
            write_text(out / TABLE_FILE, format_frame(found, float_format="%.2f"))
            plot_heights(found, out)
            write_json(out / REPORT_FILE, to_records(found))
    return found


def to_records(heights: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of `height` as they are written as JSON: numbers to two digits, None where unknown."""
    records: list[dict[str, object]] = json.loads(heights.to_json(orient="records", double_precision=2))
    return records


def _read_children(path: str | Path) -> pd.DataFrame:
    frame = read_columns(path, COLUMNS)
    require(frame, "sex", path=path)
    frame["sex"] = parse_sexes(frame["sex"], path=path)
    for number, maturation in frame.get("maturation", pd.Series(dtype=object)).items():
        if maturation not in ("", *MATURATIONS):
            raise ClinicTableError(
                f"{path} row {number}: maturation is {maturation!r}; write {', '.join(MATURATIONS)}, or leave it blank."
            )
    return _fill(frame)


def _make_frame(child: Mapping[str, str | float]) -> pd.DataFrame:
    for name, value in child.items():
        check_choice("children", name, tuple(COLUMNS))
        column = COLUMNS[name]
        if column.units and not column.low <= float(value) <= column.high:
            raise ValueError(f"`{name}` must lie in {column.low:g} to {column.high:g}. Received: {value}.")
    if "maturation" in child:
        check_choice("maturation", str(child["maturation"]), MATURATIONS)
    frame = pd.DataFrame([{"child": "", "sex": "", **child}])
    frame["sex"] = parse_sexes(frame["sex"], path="child")
    return _fill(frame)


def _fill(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that a table lacks, blank."""
    return frame.assign(
        **{name: np.nan if column.units else "" for name, column in COLUMNS.items() if name not in frame}
    )


def _find_heights(
    row: dict[str, object], bayley_pinneau: BayleyPinneau | None, references: Mapping[str, HeightReference]
) -> dict[str, object]:
    """Find all heights of one child; `row` has the columns `COLUMNS`."""
    child = _Child(row)
    reasons = []
    found: dict[str, object] = {name: row[name] for name in _GIVEN}
    found |= dict.fromkeys(_FOUND, float("nan"))
    if bayley_pinneau is not None:
        more, reason = child.predict_adult_height(bayley_pinneau)
        found |= more
        reasons += [f"adult height: {reason}"] if reason else []
    if not all(np.isnan(child.number(name)) for name in ("mother_cm", "father_cm")):
        more, reason = child.find_target()
        found |= more
        reasons += [f"target height: {reason}"] if reason else []
    for name, reference in references.items():
        found[f"{name.lower()}_sds"], reason = child.find_score(reference)
        reasons += [f"{name}: {reason}"] if reason else []
    return {**found, "reasons": "; ".join(reasons)}


class _Child:
    """What is known of one child, and what follows from it; each answer comes with the reason why there is none."""

    def __init__(self, row: Mapping[str, object]):
        self.row = row
        self.sex = str(row["sex"])

    def number(self, name: str) -> float:
        value = self.row[name]
        return float(value) if isinstance(value, int | float) else float("nan")

    def missing(self, **names: str) -> str:
        """Say what is missing; names are those of columns, with their words."""
        words = ["sex"] if not self.sex else []
        words += [word for name, word in names.items() if np.isnan(self.number(name))]
        return f"unknown: {', '.join(words)}" if words else ""

    def predict_adult_height(self, tables: BayleyPinneau) -> tuple[dict[str, object], str]:
        if reason := self.missing(height_cm="height", bone_age_months="bone age"):
            return {}, reason
        bone_age, age = self.number("bone_age_months"), self.number("chronological_age_months")
        maturation = str(self.row["maturation"])
        if not maturation:
            if np.isnan(age):
                return {}, "unknown: chronological age, or the maturation"
            maturation = classify_maturation(bone_age, chronological_age_months=age)
        percent = tables.find_percent(bone_age, sex=self.sex, maturation=maturation)
        if np.isnan(percent):
            limits = tables.describe_limits(sex=self.sex, maturation=maturation)
            reason = f"bone age {format_age(bone_age)} is outside the table: {limits}"
            return {"maturation": maturation}, reason
        height_cm = self.number("height_cm")
        # The older the bones, the less is left to grow. An interval that is open has no upper end.
        low, high = self.number("high_months"), self.number("low_months")
        ends = [
            height_cm / tables.find_percent(end, sex=self.sex, maturation=maturation) * 100
            if end < MAX_BONE_AGE_MONTHS
            else float("nan")
            for end in (low, high)
        ]
        return {
            "maturation": maturation,
            "percent_of_adult_height": percent,
            "adult_height_cm": height_cm / percent * 100,
            "adult_height_low_cm": ends[0],
            "adult_height_high_cm": ends[1],
        }, ""

    def find_target(self) -> tuple[dict[str, object], str]:
        if reason := self.missing(mother_cm="height of the mother", father_cm="height of the father"):
            return {}, reason
        target, low, high = find_target_height(
            mother_cm=self.number("mother_cm"), father_cm=self.number("father_cm"), sex=self.sex
        )
        return {"target_height_cm": target, "target_low_cm": low, "target_high_cm": high}, ""

    def find_score(self, reference: HeightReference) -> tuple[float, str]:
        if reason := self.missing(height_cm="height", chronological_age_months="chronological age"):
            return float("nan"), reason
        age = self.number("chronological_age_months")
        score = reference.sd_score(self.number("height_cm"), chronological_age_months=age, sex=self.sex)
        if np.isnan(score):
            return score, f"{age:.0f} months is outside the table: {reference.describe_limits(sex=self.sex)}"
        return score, ""
