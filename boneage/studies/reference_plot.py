"""Figures of a growth reference: its centiles over the children, and the worm plot of what they leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator
from scipy.stats import norm

from boneage.evaluation.plots import BLUE, GREY, INK, VERMILION, make_figure, save_figure, style_axes

COLOURS = {"female": VERMILION, "male": BLUE}
CHILDREN = {"female": "Girls", "male": "Boys"}
_NUM_WORMS, _MIN_PER_WORM = 4, 25
_SHOWN_SCORES = 3.2


@dataclass(frozen=True, eq=False)
class Worm:
    """The scores of one age class beside those of a normal distribution (van Buuren and Fredriks 2001).

    Args:
        ages_months: The youngest and the oldest age, in months.
        expected: The scores that the normal distribution has at these places, ascending.
        deviations: The scores, less those.
        bands: Half the width of the 95% interval of each.
    """

    ages_months: tuple[float, float]
    expected: Float[np.ndarray, " scores"]
    deviations: Float[np.ndarray, " scores"]
    bands: Float[np.ndarray, " scores"]

    @property
    def is_outside(self) -> Bool[np.ndarray, " scores"]:
        """Whether each score lies outside its interval."""
        outside: np.ndarray = np.abs(self.deviations) > self.bands
        return outside


def make_worms(
    ages_months: Float[np.ndarray, " scores"],
    scores: Float[np.ndarray, " scores"],
    weights: Float[np.ndarray, " scores"],
) -> list[Worm]:
    """Make the worms of up to four age classes of about equally many radiographs."""
    order = np.argsort(ages_months, kind="stable")
    num_classes = max(1, min(_NUM_WORMS, len(order) // _MIN_PER_WORM))
    return [_make_worm(ages_months[part], scores[part], weights[part]) for part in np.array_split(order, num_classes)]


def _make_worm(
    ages: Float[np.ndarray, " scores"], scores: Float[np.ndarray, " scores"], weights: Float[np.ndarray, " scores"]
) -> Worm:
    order = np.argsort(scores)
    ordered = weights[order]
    shares = (np.cumsum(ordered) - ordered / 2) / ordered.sum()
    number = ordered.sum() ** 2 / (ordered**2).sum()
    expected = norm.ppf(shares)
    bands = 1.96 * np.sqrt(shares * (1 - shares) / number) / norm.pdf(expected)
    return Worm((float(ages.min()), float(ages.max())), expected, scores[order] - expected, bands)


def plot_curves(table: pd.DataFrame, children: pd.DataFrame, path: Path | str) -> None:
    """Plot the centiles of a reference, with the bands of the outer ones and of the median, over the children.

    Args:
        table: From `boneage.studies.reference.reference_fit`.
        children: `sex`, `chronological_age_months`, `bone_age_months`.
        path: PNG file to write; an existing one is replaced.
    """
    sexes = list(table["sex"].unique())
    figure = make_figure(width_inches=1 + 5.4 * len(sexes), height_inches=5.8)
    for axes, sex in zip(np.ravel(figure.subplots(1, len(sexes), sharey=True, squeeze=False)), sexes, strict=True):
        style_axes(axes)
        rows, own = table[table["sex"] == sex], children[children["sex"] == sex]
        size, opacity = (10, 0.5) if len(own) < 500 else (4, 0.3)
        axes.scatter(
            own["chronological_age_months"] / 12,
            own["bone_age_months"] / 12,
            s=size,
            color=GREY,
            alpha=opacity,
            linewidths=0,
        )
        years = rows["chronological_age_months"] / 12
        for name in [name.removesuffix("_low_months") for name in rows if name.endswith("_low_months")]:
            is_main = name in ("p3", "p50", "p97")
            if is_main:
                ends = rows[f"{name}_low_months"] / 12, rows[f"{name}_high_months"] / 12
                axes.fill_between(years, *ends, color=COLOURS[sex], alpha=0.25, linewidth=0)
            centile = rows[f"{name}_months"] / 12
            axes.plot(years, centile, color=COLOURS[sex], linewidth=1.8 if name == "p50" else 1.0 if is_main else 0.6)
            axes.annotate(
                name.removeprefix("p"),
                (years.iloc[-1], centile.iloc[-1]),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=INK,
            )
        axes.set_title(f"{CHILDREN[sex]}, {len(own):,} radiographs")
        axes.set_xlabel("Chronological age (years)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MultipleLocator(2))
    figure.axes[0].set_ylabel("Bone age (years)")
    figure.suptitle("Centiles, shaded: 95% bands of the 3rd, 50th and 97th", fontweight="bold")
    save_figure(figure, path)


def plot_worms(worms: Mapping[str, Sequence[Worm]], path: Path | str) -> None:
    """Plot the worms of each sex: scores that follow the reference lie between the dashed lines.

    Args:
        worms: From `make_worms`, by sex.
        path: PNG file to write; an existing one is replaced.
    """
    num_columns = max(map(len, worms.values()))
    figure = make_figure(width_inches=1 + 2.9 * num_columns, height_inches=0.9 + 2.7 * len(worms))
    panels = figure.subplots(len(worms), num_columns, sharex=True, sharey=True, squeeze=False)
    for line, (sex, own) in zip(panels, worms.items(), strict=True):
        for axes, worm in zip(line, own, strict=False):
            _draw_worm(axes, worm, colour=COLOURS[sex])
            ages = " to ".join(f"{age / 12:.1f}" for age in worm.ages_months)
            axes.set_title(f"{CHILDREN[sex]}, {ages} years", fontsize=9)
        for axes in line[len(own) :]:
            axes.set_axis_off()
        line[0].set_ylabel("Score − expected")
    for axes in panels[-1]:
        axes.set_xlabel("Expected score")
    figure.suptitle("Worm plot, dashed: 95% interval of each score", fontweight="bold")
    save_figure(figure, path)


def _draw_worm(axes: Axes, worm: Worm, *, colour: str) -> None:
    style_axes(axes)
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.scatter(worm.expected, worm.deviations, s=6, color=colour, linewidths=0)
    for side in (-1, 1):
        axes.plot(worm.expected, side * worm.bands, color=GREY, linewidth=1, linestyle="--")
    axes.set(xlim=(-_SHOWN_SCORES, _SHOWN_SCORES), ylim=(-1, 1))
