"""The rows of prediction tables, with the same columns everywhere, and the rows of a DataFrame as files to read."""

from pathlib import Path
from typing import TYPE_CHECKING

from boneage.base.errors import printable
from boneage.inference.messages import explain_warning, format_interval
from boneage.inference.reading import Reading
from boneage.inference.statements import state_score, state_side
from boneage.preprocessing.sources.names import to_id
from boneage.preprocessing.sources.rejections import InvalidEntryError, Rejection, make_rejection
from boneage.preprocessing.sources.sources import Case
from boneage.preprocessing.sources.tables import Row, parse_rows

if TYPE_CHECKING:
    import pandas as pd

_NOTHING = float("nan")
# What a rejected file has in each column.
_BLANK: dict[str, object] = {
    "id": "",
    "bone_age_months": _NOTHING,
    "low_months": _NOTHING,
    "high_months": _NOTHING,
    "sex": "",
    "accepted": False,
    "reasons": "",
    "warnings": "",
    "male_probability": _NOTHING,
    "sds": _NOTHING,
    "file": "",
    "detail": "",
    "reports": "",
    "interval": "",
    "reference": "",
    "centile": _NOTHING,
    "determination": "",
    "score_missing": "",
    "side": "",
    "as_female_months": _NOTHING,
    "as_male_months": _NOTHING,
    "remarks": "",
    "hand": "",
    "right_bone_age_months": _NOTHING,
    "right_low_months": _NOTHING,
    "right_high_months": _NOTHING,
    "right_interval": "",
}
COLUMNS = tuple(_BLANK)


def make_row(id: str, reading: Reading, *, file: str) -> dict[str, object]:
    """Return the row of a reading that may be rejected; see `reading_row`."""
    if reading.accepted:
        return reading_row(id, reading, file=file)
    return rejected_row(id, file=file, reasons=";".join(reading.reasons), detail=reading.detail)


def reading_row(id: str, reading: Reading, *, file: str, detail: str = "", reports: str = "") -> dict[str, object]:
    """Return the row of a reading, as in `boneage.inference.predict.predict`.

    Args:
        id: Id of the radiograph.
        reading: The reading.
        file: Name of the file.
        detail: One line on what to fix.
        reports: Names of the reports written, joined by `;`.
    """
    comparison = reading.comparison
    by_sex = reading.predictions if len(reading.predictions) > 1 else {}
    return {
        **rejected_row(id, file=file, detail=detail),
        "bone_age_months": reading.bone_age_months,
        "low_months": reading.low_months,
        "high_months": reading.high_months,
        # More digits would reveal the age to the day.
        "sds": round(reading.sds, 1),
        "sex": reading.sex or "",
        "accepted": True,
        "warnings": ";".join(reading.warnings),
        "male_probability": reading.male_probability,
        "reports": reports,
        "interval": format_interval(reading.low_months, reading.high_months),
        "reference": "" if comparison.missing else comparison.reference,
        "centile": comparison.centile,
        "determination": comparison.determination,
        "score_missing": state_score(reading) if comparison.missing else "",
        "side": state_side(reading.laterality, reading.side, reading.marker),
        **{f"as_{sex}_months": months for sex, months in by_sex.items()},
        "remarks": " ".join(map(explain_warning, reading.warnings)),
        **_describe_right_hand(reading.other),
    }


def _describe_right_hand(other: Reading | None) -> dict[str, object]:
    if other is None:
        return {}
    return {
        "hand": "left",
        "right_bone_age_months": other.bone_age_months,
        "right_low_months": other.low_months,
        "right_high_months": other.high_months,
        "right_interval": format_interval(other.low_months, other.high_months),
    }


def rejected_row(id: str, *, file: str, reasons: str = "", detail: str = "") -> dict[str, object]:
    """Return the row of a rejected file, as in `predict`."""
    told = {"id": printable(id), "file": printable(file), "reasons": reasons, "detail": printable(detail)}
    return {**_BLANK, **told}


def list_table_cases(frame: "pd.DataFrame", *, sex: str | None = None) -> list[Case | Rejection]:
    """List the radiographs that the rows of a DataFrame name by their paths, in the order of the rows.

    Args:
        frame: Columns as in the tables of `boneage.predict`; the first of `id`, `file`, `path` and so on that is the
            path of a file counts.
        sex: The sex where the table has none.

    Returns:
        One entry for each row; a rejection where the sex or an age is not understood, or no file is named.

    Raises:
        UnreadableTableError: If a column is missing, or the ages may be years.
    """
    absent = frame.isna().to_numpy()
    lines = [
        ["" if is_absent else _format_cell(value) for value, is_absent in zip(values, missing, strict=True)]
        for values, missing in zip(frame.itertuples(index=False, name=None), absent, strict=True)
    ]
    rows = parse_rows([[str(name) for name in frame.columns], *lines], path=Path("table"))
    return [_to_case(row, sex=sex) for row in rows]


def _format_cell(value: object) -> str:
    # pandas makes 1377.0 of a whole number where another row of the column is empty.
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _to_case(row: Row, *, sex: str | None) -> Case | Rejection:
    name = next((text for text in row.files if Path(text).is_file()), row.files[0] if row.files else "")
    id = to_id(Path(row.files[0]).name) if row.files else ""
    try:
        if not name:
            raise InvalidEntryError(f"{row.location}: the file is blank; fill it in or remove the row.", reason="no_id")
        return Case(
            id,
            Path(name),
            name,
            sex=row.sex() or sex,
            chronological_age_months=row.months("chronological_age"),
            is_age_unit_stated=row.is_age_unit_stated,
        )
    except InvalidEntryError as error:
        return make_rejection(id, file=name, error=error)
