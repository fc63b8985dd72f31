"""Heights of children: predicted adult height, target height, and standard deviation scores."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from boneage.base.errors import check_choice
from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.studies.adult_height import MATURATIONS
from boneage.studies.child_height import BLANK, COLUMNS, FOUND, GIVEN, find_heights, load_height_tables
from boneage.studies.columns import ClinicTableError, parse_sexes, read_columns, require
from boneage.studies.height_plot import plot_heights

TABLE_FILE, REPORT_FILE = "height.csv", "height.json"


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
    loaded = load_height_tables(tables, cdc=cdc, who=who)
    found = pd.DataFrame(
        [find_heights(row, loaded) for row in frame.to_dict("records")], columns=[*GIVEN, *FOUND, "reasons"]
    )
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
    return frame.assign(**{name: blank for name, blank in BLANK.items() if name not in frame})
