"""The rows of prediction tables: one per file, with the same columns everywhere."""

from boneage.base.errors import printable
from boneage.inference.messages import explain_warning, format_interval
from boneage.inference.reader import Reading
from boneage.inference.statements import state_score, state_side

COLUMNS = (
    "id",
    "bone_age_months",
    "low_months",
    "high_months",
    "sex",
    "accepted",
    "reasons",
    "warnings",
    "male_probability",
    "sds",
    "file",
    "detail",
    "reports",
    "interval",
    "reference",
    "centile",
    "determination",
    "score_missing",
    "side",
    "as_female_months",
    "as_male_months",
    "remarks",
    "hand",
    "right_bone_age_months",
    "right_low_months",
    "right_high_months",
    "right_interval",
)


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
    nothing = float("nan")
    return {
        "id": printable(id),
        "bone_age_months": nothing,
        "low_months": nothing,
        "high_months": nothing,
        "sex": "",
        "accepted": False,
        "reasons": reasons,
        "warnings": "",
        "male_probability": nothing,
        "sds": nothing,
        "file": printable(file),
        "detail": printable(detail),
        "reports": "",
        "interval": "",
        "reference": "",
        "centile": nothing,
        "determination": "",
        "score_missing": "",
        "side": "",
        "as_female_months": nothing,
        "as_male_months": nothing,
        "remarks": "",
        "hand": "",
        "right_bone_age_months": nothing,
        "right_low_months": nothing,
        "right_high_months": nothing,
        "right_interval": "",
    }
