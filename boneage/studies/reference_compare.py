"""What it changes to score bone ages by another growth reference."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MultipleLocator

from boneage.base.errors import BoneAgeError
from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.evaluation.plots import BLUE, INK, VERMILION, make_figure, save_figure, style_axes
from boneage.inference.comparison import NORMAL_SDS, determine
from boneage.inference.growth_reference import GrowthReference, load_growth_reference
from boneage.studies.reference import read_children
from boneage.studies.reference_plot import CHILDREN
from boneage.tfrecords.schema import SEXES

SHIFTS_FILE, CLASSES_FILE, FIGURE_FILE = "shifts.csv", "classes.csv", "comparison.png"
REPORT_FILE = "comparison.json"
STEP_MONTHS = 6
"""Months from one age of the comparison to the next."""
CLASSES = ("delayed", "normal", "advanced")
_SCORES = {"minus_2": -NORMAL_SDS, "median": 0.0, "plus_2": NORMAL_SDS}


class ReferencesError(BoneAgeError):
    """Growth references that cannot be compared."""


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceComparison:
    """Two growth references, the second beside the first.

    Args:
        first: Name of the first.
        second: Name of the second.
        shifts: By `sex` and `chronological_age_months`, at the ages that both have: how much higher the second scores
            the bone age that has the score -2, 0 or +2 by the first, `shift_at_minus_2`, `shift_at_median`,
            `shift_at_plus_2`.
        classes: Radiographs of the cohort by `sex`, class by the `first`, class by the `second`, `num_radiographs`;
            None without a cohort.
        num_children: Children of the cohort whom both references score.
        num_changed: Those of them whose class changes at one radiograph at least.
        num_outside: Radiographs that one of the references does not score.
        num_incomplete: Radiographs without sex, age or bone age.
    """

    first: str
    second: str
    shifts: pd.DataFrame
    classes: pd.DataFrame | None = None
    num_children: int = 0
    num_changed: int = 0
    num_outside: int = 0
    num_incomplete: int = 0


def reference_compare(
    first: str | Path, second: str | Path, *, out: str | Path, cohort: str | Path | None = None
) -> ReferenceComparison:
    """Compare two growth references: how the score shifts by age and sex, and which children change their class.

    Args:
        first: CSV with a growth reference, or `brush_foundation` for the packaged table.
        second: The same.
        out: Folder for `shifts.csv`, `comparison.png`, `comparison.json`, and with a cohort `classes.csv`.
        cohort: Table with a row for each radiograph: `sex`, `chronological_age_months`, `bone_age_months`, optionally
            `child`. A bone age is delayed below a score of -2, advanced above +2.

    Returns:
        The comparison.

    Raises:
        BoneAgeError: If a table cannot be used, the references share no age, or another process writes `out`.
    """
    check_output(Path(out), is_folder=True)
    one, other = load_growth_reference(first), load_growth_reference(second)
    shifts = pd.DataFrame([row for sex in SEXES for row in _list_shifts(one, other, sex=sex)])
    if shifts.empty:
        raise ReferencesError(f"{first} and {second} have no age of one sex in common.")
    comparison = ReferenceComparison(one.name, other.name, shifts)
    if cohort is not None:
        comparison = _classify(comparison, one, other, cohort)
    out = Path(out)
    with lock_folder(out):
        write_text(out / SHIFTS_FILE, format_frame(shifts, float_format="%.3f"))
        if comparison.classes is not None:
            write_text(out / CLASSES_FILE, format_frame(comparison.classes))
        plot_comparison(comparison, one, other, out / FIGURE_FILE)
        write_json(out / REPORT_FILE, to_report(comparison))
    return comparison


def to_report(comparison: ReferenceComparison) -> dict[str, object]:
    """Return what is written as JSON."""
    fields = {field.name: getattr(comparison, field.name) for field in dataclasses.fields(comparison)}
    classes = comparison.classes
    return {
        **fields,
        "shifts": comparison.shifts.round(4).to_dict("records"),
        "classes": None if classes is None else classes.to_dict("records"),
    }


def plot_comparison(
    comparison: ReferenceComparison, first: GrowthReference, second: GrowthReference, path: Path | str
) -> None:
    """Plot the medians of both references less the age, with two standard deviations, and the shift of the score.

    Args:
        comparison: The comparison.
        first: The first reference.
        second: The second.
        path: PNG file to write; an existing one is replaced.
    """
    sexes = list(comparison.shifts["sex"].unique())
    figure = make_figure(width_inches=1.2 + 4.6 * len(sexes), height_inches=6.8)
    panels = figure.subplots(2, len(sexes), sharex="col", sharey="row", squeeze=False, height_ratios=(1.4, 1))
    for (above, below), sex in zip(panels.T, sexes, strict=True):
        rows = comparison.shifts[comparison.shifts["sex"] == sex]
        ages = rows["chronological_age_months"].to_numpy()
        for reference, colour in ((first, BLUE), (second, VERMILION)):
            healthy = [reference.at(age, sex=sex) for age in ages]
            low, middle, high = (
                np.array([of_age.value(score) for of_age in healthy]) - ages for score in _SCORES.values()
            )
            label = reference.label.replace("$", r"\$")[:45]
            above.plot(ages / 12, middle, color=colour, linewidth=1.8, label=label)
            above.fill_between(ages / 12, low, high, color=colour, alpha=0.15, linewidth=0)
        for name, dash in (("minus_2", ":"), ("median", "-"), ("plus_2", "--")):
            label = f"at {_SCORES[name]:+.0f}".replace("-", "−").replace("+0", "0")
            below.plot(ages / 12, rows[f"shift_at_{name}"], color=INK, linestyle=dash, linewidth=1.3, label=label)
        above.set_title(CHILDREN[sex])
        below.set_xlabel("Chronological age (years)")
        below.xaxis.set_major_locator(MultipleLocator(2))
        for axes in (above, below):
            style_axes(axes)
            axes.axhline(0, color=INK, linewidth=0.6)
    panels[0, 0].set_ylabel("Bone age − age (months), median ± 2 SD")
    panels[1, 0].set_ylabel("Shift of the score")
    panels[1, 0].legend(frameon=False, fontsize=8, title="score by the first", title_fontsize=8, ncols=3)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    save_figure(figure, path)


def _list_shifts(first: GrowthReference, second: GrowthReference, *, sex: str) -> list[dict[str, object]]:
    """List the shifts at the ages that both references have; nothing where they share none."""
    rows: list[dict[str, object]] = []
    if sex in first.rows and sex in second.rows:
        starts, ends = zip(*(reference.rows[sex][[0, -1], 0] for reference in (first, second)), strict=True)
        for age in np.arange(np.ceil(max(starts) / STEP_MONTHS) * STEP_MONTHS, min(ends) + 0.5, STEP_MONTHS):
            if not (first.reaches(age, sex=sex) and second.reaches(age, sex=sex)):
                continue
            healthy = first.at(age, sex=sex)
            shifts = {
                f"shift_at_{name}": second.sd_score(healthy.value(score), chronological_age_months=age, sex=sex) - score
                for name, score in _SCORES.items()
            }
            # L and S may be so large that no bone age has the score.
            if np.isfinite(list(shifts.values())).all():
                rows.append({"sex": sex, "chronological_age_months": int(age), **shifts})
    return rows


def _classify(
    comparison: ReferenceComparison, first: GrowthReference, second: GrowthReference, cohort: str | Path
) -> ReferenceComparison:
    children, num_incomplete = read_children(cohort)
    found = pd.DataFrame({"child": children["child"], "sex": children["sex"]})
    for name, reference in (("first", first), ("second", second)):
        scores = [
            reference.sd_score(row.bone_age_months, chronological_age_months=row.chronological_age_months, sex=row.sex)
            for row in children.itertuples()
        ]
        found[name] = [None if np.isnan(score) else determine(score) for score in scores]
    scored = found.dropna(subset=["first", "second"])
    every = pd.MultiIndex.from_product([SEXES, CLASSES, CLASSES], names=["sex", "first", "second"])
    counts = scored.groupby(["sex", "first", "second"]).size().reindex(every, fill_value=0)
    return dataclasses.replace(
        comparison,
        classes=counts.rename("num_radiographs").reset_index(),
        num_children=int(scored["child"].nunique()),
        num_changed=int(scored.loc[scored["first"] != scored["second"], "child"].nunique()),
        num_outside=len(found) - len(scored),
        num_incomplete=num_incomplete,
    )
