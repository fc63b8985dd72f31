"""The figure of one child: bone age against chronological age over the bands of the reference, and the velocity."""

from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from boneage.base.errors import printable
from boneage.evaluation.plots import (
    BLUE,
    GREY,
    INK,
    PALE_GREY,
    SKY_BLUE,
    VERMILION,
    make_figure,
    save_figure,
    style_axes,
)
from boneage.inference.growth_reference import GrowthReference
from boneage.studies.bands import find_bands, find_shown_ages
from boneage.studies.progress import ACCELERATED, MONTHS_PER_YEAR, SLOWED, Course, Step

# By standard deviations of the reference.
_COLOURS_OF_BANDS = {2: "#EEF3F7", 1: "#DAE6EF"}
# Characters of a child's name in the title.
_MAX_TITLE = 40
_COLOURS = {ACCELERATED: VERMILION, SLOWED: BLUE}


def plot_course(course: Course, reference: GrowthReference, path: Path | str) -> None:
    """Plot the course of one child.

    Args:
        course: The course.
        reference: The growth reference; its bands are drawn at the ages that it has.
        path: PNG file to write; an existing one is replaced.
    """
    figure = make_figure(width_inches=7.6, height_inches=8.2 if course.steps else 5.8)
    if course.steps:
        ages, speeds = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.25))
        _draw_velocity(speeds, course)
        bottom = speeds
    else:
        ages = bottom = figure.subplots()
    _draw_ages(ages, course, reference)
    bottom.set_xlabel("Chronological age (years)")
    figure.suptitle(_make_title(course), fontweight="bold")
    save_figure(figure, path)


def _make_title(course: Course) -> str:
    title = ", ".join(filter(None, (f"Child {printable(course.child)[:_MAX_TITLE]}", course.sex)))
    if course.overall is not None:
        title += f": {_format_velocity(course.overall)} months per year"
        if course.overall.pace in _COLOURS:
            title += f", {course.overall.pace}"
    return title.replace("$", r"\$")


def _format_velocity(step: Step) -> str:
    text = f"{step.velocity:.0f}".replace("-", "−")
    return text if step.velocity_error is None else f"{text} ± {step.velocity_error:.0f}"


def _draw_ages(axes: Axes, course: Course, reference: GrowthReference) -> None:
    style_axes(axes)
    years = np.array([visit.chronological_age_months for visit in course.visits]) / 12
    bone_years = np.array([visit.bone_age_months for visit in course.visits]) / 12
    shown_months = find_shown_ages(course)
    low, high = (end / 12 for end in shown_months)
    handles: list[Artist] = []
    if bands := find_bands(course, reference, shown_months=shown_months):
        shown = bands.ages_months / 12
        for number, colour in _COLOURS_OF_BANDS.items():
            axes.fill_between(shown, *bands.ends_months[number].T / 12, color=colour, linewidth=0)
            handles.append(Patch(color=colour, label=f"reference: ± {number} SD"))
        axes.plot(shown, bands.medians_months / 12, color=GREY, linewidth=1)
    handles += axes.plot(
        (low, high), (low, high), color=GREY, linewidth=0.9, linestyle=":", label="bone age = chronological age"
    )
    for step, one, two in zip(course.steps, course.visits, course.visits[1:], strict=False):
        axes.plot(
            (one.chronological_age_months / 12, two.chronological_age_months / 12),
            (one.bone_age_months / 12, two.bone_age_months / 12),
            color=_COLOURS.get(step.pace or "", INK),
            linewidth=1.6,
        )
    top = _draw_intervals(axes, course)
    handles += axes.plot(years, bone_years, "o", color=INK, markersize=5.5, label="bone age with its 90% interval")
    reach = np.array([*bone_years, *top, low])
    axes.set(xlim=(low, high), ylabel="Bone age (years)")
    axes.set_ylim(max(0.0, min(low, reach.min()) - 0.6), max(high, reach.max()) + 0.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(handles=handles, loc="upper left", framealpha=0.9, edgecolor="none", fontsize=9)


def _draw_intervals(axes: Axes, course: Course) -> list[float]:
    """Draw the prediction intervals, an open one as an arrow; returns their ends in years."""
    ends = []
    for visit in course.visits:
        if visit.low_months is None:
            continue
        age = visit.chronological_age_months / 12
        low = visit.low_months / 12
        if visit.high_months is None:
            high = visit.bone_age_months / 12 + 1
            axes.annotate("", (age, high), (age, low), arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.1})
        else:
            high = visit.high_months / 12
            middle = (low + high) / 2
            axes.errorbar(age, middle, yerr=(high - low) / 2, fmt="none", color=INK, capsize=3, linewidth=1.1)
        ends += [low, high]
    return ends


def _draw_velocity(axes: Axes, course: Course) -> None:
    """Draw the velocity of each step over its ages, with its 95% interval."""
    style_axes(axes)
    axes.axhline(MONTHS_PER_YEAR, color=GREY, linewidth=0.9, linestyle=":")
    tops = [MONTHS_PER_YEAR]
    for step in course.steps:
        ages = step.from_age_months / 12, step.to_age_months / 12
        colour = _COLOURS.get(step.pace or "", INK)
        if step.velocity_low is not None and step.velocity_high is not None:
            face = SKY_BLUE if step.pace == SLOWED else VERMILION if step.pace == ACCELERATED else GREY
            axes.fill_between(ages, step.velocity_low, step.velocity_high, color=face, alpha=0.25, linewidth=0)
        axes.plot(ages, (step.velocity, step.velocity), color=colour, linewidth=2)
        label = _format_velocity(step)
        if step.pace in _COLOURS:
            label += f"\n{step.pace}"
        tops.append(step.velocity)
        axes.annotate(
            label,
            (sum(ages) / 2, step.velocity),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            color=colour,
        )
    # Intervals of steps that are short would dwarf the rest.
    low, high = min(0.0, *tops), max(tops)
    axes.set_ylim(low - 6, high + 14)
    axes.grid(visible=True, color=PALE_GREY, linewidth=0.7)
    axes.set_ylabel("Bone age velocity\n(months per year)")
    axes.set_title("± standard deviation, shaded: 95% interval", fontsize=9, color=INK, loc="left")
