"""The figure of exposures: dose area product by age, and deviation index by year."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from boneage.evaluation.plots import (
    INK,
    SERIES_COLOURS,
    make_figure,
    save_figure,
    style_axes,
)


def plot_dose(radiographs: pd.DataFrame, path: Path | str) -> None:
    """Plot the dose area product by age, and the deviation index by year, each device in its colour.

    Args:
        radiographs: See `boneage.studies.dose.Dose`.
        path: PNG file to write; an existing one is replaced.
    """
    figure = make_figure(width_inches=11, height_inches=4.8)
    by_age, by_year = figure.subplots(1, 2)
    devices = list(radiographs["device"].value_counts().index)
    years = pd.to_numeric(radiographs["year"], errors="coerce")
    # Years are whole: without a shift the radiographs of one lie upon each other.
    shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(radiographs))
    for axes, x, name in (
        (by_age, radiographs["age_years"], "dose_area_product_dgy_cm2"),
        (by_year, years + shift, "deviation_index"),
    ):
        style_axes(axes)
        _draw(axes, radiographs, x, name, devices=devices)
    by_age.set(xlabel="Chronological age (years)", ylabel="Dose area product (dGy cm²)")
    by_year.set(xlabel="Year", ylabel="Deviation index")
    by_year.axhline(0, color=INK, linewidth=1)
    for indices in (-3, 3):  # half the target, and twice
        by_year.axhline(indices, color=INK, linewidth=0.9, linestyle="--")
    for axes in (by_age, by_year):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_age.set_ylim(bottom=0)
    handles, labels = max(
        (axes.get_legend_handles_labels() for axes in (by_age, by_year)), key=lambda pair: len(pair[1])
    )
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw(axes: Axes, radiographs: pd.DataFrame, x: pd.Series, name: str, *, devices: list[str]) -> None:
    values = radiographs[name]
    known = x.notna() & values.notna()
    axes.set_title(f"{known.sum():,} of {len(radiographs):,} radiographs", fontsize=10)
    for number, device in enumerate(devices):
        own = known & (radiographs["device"] == device)
        # Devices beyond these share the last colour.
        colour = SERIES_COLOURS[min(number, len(SERIES_COLOURS) - 1)]
        label = device[:30].replace("$", r"\$") if number < len(SERIES_COLOURS) - 1 else "others"
        if own.any():
            shown = label if label not in axes.get_legend_handles_labels()[1] else None
            axes.scatter(x[own], values[own], s=16, color=colour, alpha=0.7, linewidths=0, label=shown)
