"""Figures of a stress test: the effect of each transformation, and the worst cases."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from boneage.cohorts.transformations import OWN, PUBLISHED, TRANSFORMATIONS, find_white
from boneage.evaluation.plots import BLUE, GREY, INK, VERMILION, make_figure, save_figure, style_axes
from boneage.preprocessing.io.isolated import read_isolated

if TYPE_CHECKING:
    from boneage.cohorts.effects import Effect

_COLUMNS = 5


def plot_stress(effects: "Mapping[str, Effect]", path: Path, *, title: str) -> None:
    """Plot the change of the absolute error by transformation, with its interval, and the refusals.

    Args:
        effects: The effects.
        path: PNG file to write.
        title: What the changes are measured from.
    """
    figure = make_figure(width_inches=11, height_inches=1.6 + 0.24 * len(effects))
    changes, refusals = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    positions = -np.arange(len(effects))
    for position, effect in zip(positions, effects.values(), strict=True):
        colour = BLUE if effect.source == PUBLISHED else VERMILION
        if effect.change_months is not None:
            change = effect.change_months
            changes.plot((change.low, change.high), (position, position), color=colour, linewidth=1.6)
            changes.plot(change.value, position, "o", color=colour, markersize=4.5)
        num_all = effect.num_paired + effect.num_refused
        refusals.barh(position, 100 * effect.num_refused / max(num_all, 1), color=colour, height=0.65)
    for source, colour in ((PUBLISHED, BLUE), (OWN, VERMILION)):
        changes.plot([], [], "o-", color=colour, markersize=4.5, linewidth=1.6, label=source)
    figure.legend(loc="outside lower center", ncols=2, edgecolor="none")
    for axes in (changes, refusals):
        style_axes(axes)
    changes.axvline(0, color=INK, linewidth=0.9)
    # Whatever blinds the model is far off the scale of the others.
    changes.set_xscale("symlog", linthresh=2.0)
    low, high = changes.get_xlim()
    ticks = [tick for tick in (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    changes.set_xticks(ticks, [f"{tick:+d}".replace("-", "−") if tick else "0" for tick in ticks])
    changes.set_xticks([], minor=True)
    changes.set_yticks(positions, list(effects))
    changes.set_ylim(positions[-1] - 0.7, 0.7)
    changes.set_xlabel("Change of the absolute error (months), mean with 95% interval")
    refusals.set_xlabel("Refused (%)")
    refusals.set_xlim(left=0, right=max(5.0, refusals.get_xlim()[1]))
    families = [effect.family for effect in effects.values()]
    for position, (family, other) in zip(positions[1:], itertools.pairwise(families), strict=True):
        if family != other:
            for axes in (changes, refusals):
                axes.axhline(position + 0.5, color=GREY, linewidth=0.5)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def draw_worst(worst: pd.DataFrame, paths: Mapping[str, Path], path: Path) -> None:
    """Draw a contact sheet of radiographs as they were transformed, with label and answers.

    Args:
        worst: Columns `id`, `transformation`, `bone_age_months`, `baseline_months` and `predicted_months`.
        paths: File of each radiograph, by id.
        path: PNG file to write.
    """
    num_rows = max(1, -(-len(worst) // _COLUMNS))
    figure = make_figure(width_inches=2.5 * _COLUMNS, height_inches=0.5 + 3.2 * num_rows)
    grid = np.ravel(figure.subplots(num_rows, _COLUMNS, squeeze=False))
    for axes in grid:
        axes.set_axis_off()
    for axes, row in zip(grid, worst.to_dict("records"), strict=False):
        changed = TRANSFORMATIONS[row["transformation"]].change(read_isolated(paths[row["id"]]).pixels)
        axes.imshow(changed, cmap="gray", vmin=0, vmax=find_white(changed))
        axes.set_title(
            f"{_shorten(row['id'])}: {row['transformation']}\nlabel {row['bone_age_months']:.0f}, as it comes "
            f"{row['baseline_months']:.0f},\nnow {row['predicted_months']:.0f} months",
            fontsize=8,
            color=INK,
        )
    figure.suptitle("The worst case of each transformation, the worst first", fontsize=10)
    save_figure(figure, path)


def _shorten(id: str) -> str:
    return id if len(id) <= 12 else f"...{id[-9:]}"
