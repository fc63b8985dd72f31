"""Figures of predicted adult heights beside the target ranges of the parents."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from boneage.base.errors import printable
from boneage.evaluation.plots import BLUE, INK, SKY_BLUE, make_figure, save_figure, style_axes

# Children of one figure, and characters of a name.
_PER_FIGURE, _MAX_NAME = 30, 24


def plot_heights(heights: pd.DataFrame, folder: Path) -> None:
    """Plot the adult and the target height of each child that has one: `height-1.png`, of many children further ones.

    Args:
        heights: From `boneage.studies.height.height`.
        folder: Where to write the figures; existing ones are replaced.
    """
    shown = heights[heights[["adult_height_cm", "target_height_cm"]].notna().any(axis=1)]
    for number, start in enumerate(range(0, len(shown), _PER_FIGURE), start=1):
        _plot(shown.iloc[start : start + _PER_FIGURE], folder / f"height-{number}.png")


def _plot(shown: pd.DataFrame, path: Path) -> None:
    figure = make_figure(width_inches=8.4, height_inches=1.9 + 0.34 * len(shown))
    axes = figure.subplots()
    style_axes(axes)
    places = np.arange(len(shown))
    target, adult = shown["target_height_cm"], shown["adult_height_cm"]
    low, high = shown["target_low_cm"], shown["target_high_cm"]
    axes.barh(places, high - low, left=low, height=0.55, color=SKY_BLUE, alpha=0.45)
    axes.plot(target, places, "|", color=BLUE, markersize=13, markeredgewidth=2)
    axes.use_sticky_edges = False
    interval = axes.hlines(
        places, shown["adult_height_low_cm"], shown["adult_height_high_cm"], color=INK, linewidth=1.4
    )
    interval.set_label("by its interval")
    (mark,) = axes.plot(adult, places, "o", color=INK, markersize=6, label="adult height by bone age")
    names = [
        printable(str(name))[:_MAX_NAME].replace("$", r"\$") or sex
        for name, sex in zip(shown["child"], shown["sex"], strict=True)
    ]
    axes.set_yticks(places, names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("Adult height (cm)")
    band = Patch(color=SKY_BLUE, alpha=0.45, label="target height by the parents, ± 8.5 cm")
    figure.legend(handles=[mark, interval, band], loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)
