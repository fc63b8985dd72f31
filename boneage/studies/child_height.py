"""The heights of one child: predicted adult height, target height, and standard deviation scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.studies.adult_height import (
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
    Column,
    make_height_column,
)
from boneage.studies.height_reference import HeightReference, load_height_reference

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
GIVEN = ("child", "sex", "height_cm", "chronological_age_months", "bone_age_months", "maturation")
FOUND = (
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
BLANK: dict[str, object] = {name: float("nan") if column.units else "" for name, column in COLUMNS.items()}
"""What is unknown of a child."""


@dataclass(frozen=True, eq=False)
class HeightTables:
    """The tables that heights are found by.

    Args:
        bayley_pinneau: The tables of Bayley and Pinneau; None for no adult height.
        references: References of height for age by name, `"CDC"` and `"WHO"`.
    """

    bayley_pinneau: BayleyPinneau | None
    references: Mapping[str, HeightReference]


def load_height_tables(
    tables: str | Path | None = None,
    *,
    cdc: str | Path | Sequence[str | Path] = (),
    who: str | Path | Sequence[str | Path] = (),
) -> HeightTables:
    """Load the tables that heights are found by; for the arguments see `boneage.studies.height.height`.

    Raises:
        BoneAgeError: If a table cannot be used.
    """
    references = {
        name: load_height_reference([paths] if isinstance(paths, str | Path) else paths, name=name)
        for name, paths in (("CDC", cdc), ("WHO", who))
        if paths
    }
    return HeightTables(None if tables is None else load_bayley_pinneau(tables), references)


def find_heights(child: Mapping[str, object], tables: HeightTables) -> dict[str, object]:
    """Find all heights of one child.

    Args:
        child: What is known, with all keys of `COLUMNS`: numbers within their limits, else `BLANK`.
        tables: The tables.

    Returns:
        One row of `boneage.studies.height.height`.
    """
    known = _Child(child)
    reasons = []
    found: dict[str, object] = {name: child[name] for name in GIVEN}
    found |= dict.fromkeys(FOUND, float("nan"))
    if tables.bayley_pinneau is not None:
        more, reason = known.predict_adult_height(tables.bayley_pinneau)
        found |= more
        reasons += [f"adult height: {reason}"] if reason else []
    if not all(np.isnan(known.number(name)) for name in ("mother_cm", "father_cm")):
        more, reason = known.find_target()
        found |= more
        reasons += [f"target height: {reason}"] if reason else []
    for name, reference in tables.references.items():
        found[f"{name.lower()}_sds"], reason = known.find_score(reference)
        reasons += [f"{name}: {reason}"] if reason else []
    return {**found, "reasons": "; ".join(reasons)}


def state_heights(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """State the heights of a child, and why some are unknown, as pairs of a name and a text.

    Args:
        record: From `find_heights`, with None or NaN where unknown.
    """

    def state(name: str, form: str = ".1f") -> str:
        value = record[name]
        return "" if value is None or math.isnan(value) else format(value, form)

    stated = []
    if adult := state("adult_height_cm"):
        by = f"{state('percent_of_adult_height')}% of it reached; maturation {record['maturation']}"
        shortest, tallest = state("adult_height_low_cm"), state("adult_height_high_cm")
        if shortest or tallest:
            ends = " ".join([f"from {shortest} cm"] * bool(shortest) + [f"up to {tallest} cm"] * bool(tallest))
            by += f"; by the interval of the bone age {ends}"
        stated.append(("predicted adult height", f"{adult} cm ({by})"))
    if target := state("target_height_cm"):
        stated.append(("target height", f"{target} cm, {state('target_low_cm')} to {state('target_high_cm')}"))
    for name in ("CDC", "WHO"):
        if score := state(f"{name.lower()}_sds", "+.2f"):
            stated.append((f"standard deviation score by {name}", score))
    for reason in filter(None, str(record["reasons"]).split("; ")):
        name, _, text = reason.partition(": ")
        stated.append((name, text))
    return stated


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
