"""The figure of predicted adult heights: their errors by age, and the error of the growth potential at equal age."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from boneage.base.errors import printable
from boneage.evaluation.plots import (
    INK,
    SERIES_COLOURS,
    make_figure,
    save_figure,
    style_axes,
)
from boneage.studies.reference_plot import CHILDREN

_DASHES = {"female": "-", "male": "--"}
_MAX_NAME = 24


def plot_outcomes(frame: pd.DataFrame, predicted: pd.DataFrame, ages: pd.DataFrame, path: Path | str) -> None:
    """Plot the error of each prediction against the age, and the standard deviations at equal age.

    Args:
        frame: `chronological_age_months` and `final_height_cm` of each radiograph.
        predicted: Predicted adult height in cm, a column for each method.
        ages: Standard deviations by method, sex and year, see `boneage.studies.outcomes.Outcomes`.
        path: PNG file to write; an existing one is replaced.
    """
    figure = make_figure(width_inches=12, height_inches=4.8)
    errors, deviations = figure.subplots(1, 2)
    for axes in (errors, deviations):
        style_axes(axes)
        axes.set_xlabel("Chronological age (years)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    errors.axhline(0, color=INK, linewidth=0.8)
    for number, method in enumerate(predicted):
        # Of further methods the last is used again.
        colour = SERIES_COLOURS[min(number, len(SERIES_COLOURS) - 1)]
        name = printable(str(method))[:_MAX_NAME].replace("$", r"\$")
        years = frame["chronological_age_months"] / 12
        errors.scatter(
            years, predicted[method] - frame["final_height_cm"], s=12, color=colour, alpha=0.5, linewidths=0, label=name
        )
        for sex, own in ages[ages["method"] == method].groupby("sex"):
            deviations.plot(
                own["age_years"] + 0.5,
                own["sd_percent"],
                _DASHES[str(sex)],
                color=colour,
                marker="o",
                markersize=3.5,
                label=f"{name}, {CHILDREN[str(sex)].lower()}",
            )
    errors.set(ylabel="Predicted − reached height (cm)", title="Error of the adult height")
    deviations.set(ylabel="Standard deviation (%)", title="Error of the growth potential at equal age")
    deviations.set_ylim(bottom=0)
    for axes, place in ((errors, "upper right"), (deviations, "lower right")):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc=place, framealpha=0.9, edgecolor="none", fontsize=8)
    save_figure(figure, path)
