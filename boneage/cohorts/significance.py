"""Paired tests of a transformation: of the errors (Wilcoxon) and of the significant errors (McNemar)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from boneage.inference.comparison import compare_ages
from boneage.inference.growth_reference import GrowthReference, load_growth_reference

MAX_ERROR_MONTHS = 24.0
"""Where no chronological age is known, an error beyond two years counts as clinically significant: about two standard
deviations of the bone age of healthy children of school age (Brush Foundation table)."""
_NOT_DETERMINED = frozenset({"", "indeterminate"})


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of paired shares (Psychometrika 1947, doi:10.1007/BF02295996).

    Attributes:
        num_new: Errors that are significant with the transformation alone.
        num_gone: Errors that are significant without it alone.
        statistic: `(b - c)**2 / (b + c)`; None where both are 0.
        corrected: The same with the continuity correction of Edwards 1948.
        p_value: Exact two-sided probability, by the binomial distribution.
    """

    num_new: int
    num_gone: int
    statistic: float | None
    corrected: float | None
    p_value: float


def mcnemar(num_new: int, num_gone: int) -> McNemar:
    """Test whether as many errors become significant as cease to be.

    Args:
        num_new: Pairs that are significant with the transformation alone.
        num_gone: Pairs that are significant without it alone.

    Example:
        >>> test = mcnemar(121, 59)
        >>> round(test.statistic, 2), round(test.corrected, 2)
        (21.36, 20.67)
    """
    number, difference = num_new + num_gone, abs(num_new - num_gone)
    if not number:
        return McNemar(0, 0, None, None, 1.0)
    tail = sum(math.comb(number, count) for count in range(min(num_new, num_gone) + 1))
    return McNemar(
        num_new,
        num_gone,
        statistic=difference**2 / number,
        corrected=max(difference - 1, 0) ** 2 / number,
        p_value=min(1.0, 2 * tail / 2**number),
    )


def wilcoxon(changes: Float[np.ndarray, " radiographs"]) -> float | None:
    """Return the two-sided probability of Wilcoxon's signed-rank test; None where nothing changes.

    Args:
        changes: Paired changes of the absolute error, in months.
    """
    # Imported here: it takes long, and only studies need it.
    from scipy.stats import wilcoxon as test

    return float(test(changes).pvalue) if np.any(changes) else None


def determine(frame: pd.DataFrame, months: "pd.Series[float]", *, reference: GrowthReference) -> list[str]:
    """Determine bone ages at the chronological ages: delayed, normal, advanced, or empty where that is not known.

    Args:
        frame: Columns `sex` and `chronological_age_months`, NaN where unknown.
        months: The bone ages, in months.
        reference: The growth reference.
    """
    found = []
    for sex, age, bone_age in zip(frame["sex"], frame["chronological_age_months"], months, strict=True):
        if pd.isna(sex) or math.isnan(age) or math.isnan(bone_age):
            found.append("")
            continue
        compared = compare_ages(
            reference,
            {sex: bone_age},
            bone_age_months=bone_age,
            interval_months=(math.nan, math.nan),
            sex=sex,
            chronological_age_months=age,
        )
        found.append("" if compared.determination in _NOT_DETERMINED else compared.determination)
    return found


def add_determination(frame: pd.DataFrame) -> pd.DataFrame:
    """Add how the labels are determined at the chronological ages, so that each determination is measured apart.

    Args:
        frame: Columns `sex`, `bone_age_months` and `chronological_age_months`, NaN where unknown.

    Returns:
        With the column `determination`, empty where it is not known, by the Brush Foundation table; where no age is
        known, without `chronological_age_months`.
    """
    if frame["chronological_age_months"].isna().all():
        return frame.drop(columns="chronological_age_months")
    reference = load_growth_reference()
    return frame.assign(determination=determine(frame, frame["bone_age_months"], reference=reference))


def find_significant(
    labels: Sequence[str], answers: Sequence[str], errors: Float[np.ndarray, " radiographs"]
) -> tuple[Bool[np.ndarray, " radiographs"], Bool[np.ndarray, " radiographs"]]:
    """Find the clinically significant errors: those that change the determination.

    Args:
        labels: Determinations of the labels; empty for all where no chronological age is known, and then an error
            beyond `MAX_ERROR_MONTHS` counts.
        answers: Determinations of the answers.
        errors: Errors in months, NaN where there is no answer.

    Returns:
        Whether each error is significant, and whether that can be said of it.
    """
    if not any(labels):
        return np.abs(errors) > MAX_ERROR_MONTHS, np.isfinite(errors)
    known = np.array([bool(label and answer) for label, answer in zip(labels, answers, strict=True)], bool)
    differs = np.array([label != answer for label, answer in zip(labels, answers, strict=True)], bool)
    return known & differs, known
