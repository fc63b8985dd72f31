"""Figures of predictions and of training.

Figures use Matplotlib's object interface without `pyplot`: no window, no global state, no open figure. A notebook shows
them where a cell ends with one. Ages are in years, as clinicians read them; errors are in months.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, MultipleLocator

from boneage.base.files import write_atomic
from boneage.evaluation.metrics import Evaluation

# Okabe and Ito's palette, distinguishable with every kind of colour vision (https://jfly.uni-koeln.de/color/); markers
# distinguish the series in greyscale print.
VERMILION, BLUE, ORANGE, SKY_BLUE = "#D55E00", "#0072B2", "#E69F00", "#56B4E9"
INK, GREY, PALE_GREY = "#333333", "#777777", "#E4E4E4"
SERIES_COLOURS = (BLUE, VERMILION, ORANGE, SKY_BLUE, GREY)
_SEX_STYLES = {"male": (BLUE, "^"), "female": (VERMILION, "o"), "unknown sex": (GREY, "s")}


class NotebookFigure(Figure):
    """A figure that a notebook shows, though `pyplot` is not imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def plot_evaluation(frame: pd.DataFrame, evaluation: Evaluation) -> Figure:
    """Plot an evaluation: predicted against labelled age, Bland-Altman, and error by age band.

    Args:
        frame: The predictions that `evaluation` summarises, with columns `sex`, `bone_age_months`,
            `predicted_months`.
        evaluation: Their evaluation.
    """
    figure = make_figure(width_inches=16, height_inches=5.4)
    scatter, agreement, bands = figure.subplots(1, 3)
    for axes in (scatter, agreement, bands):
        style_axes(axes)
    _draw_scatter(scatter, frame)
    mae = evaluation.overall.mae_months
    interval = f"95% interval {mae.low:.2f} to {mae.high:.2f}" if mae.has_interval else "of one patient"
    scatter.set_title(f"MAE {mae.value:.2f} months ({interval})")
    _draw_agreement(agreement, frame)
    _draw_bands(bands, evaluation)
    num_images = f"{evaluation.overall.num_images:,} images"
    figure.suptitle(f"{evaluation.dataset}: {num_images}" if evaluation.dataset else num_images, fontweight="bold")
    return figure


def plot_sex(frame: pd.DataFrame, confusion: Mapping[str, Mapping[str, int]]) -> Figure:
    """Plot sex classification: the confusion matrix, and the predicted probabilities by recorded sex.

    Args:
        frame: Columns `sex` and `male_probability`, in [0, 1].
        confusion: Counts, by recorded and then by predicted sex.
    """
    figure = make_figure(width_inches=11, height_inches=4.8)
    matrix, shares = figure.subplots(1, 2)
    counts = np.array([list(row.values()) for row in confusion.values()])
    matrix.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = count / max(counts[row].sum(), 1)
        colour = "white" if share > 0.5 else INK
        matrix.text(column, row, f"{count:,}\n{100 * share:.1f}%", ha="center", va="center", color=colour, fontsize=12)
    names = list(confusion)
    matrix.set(xlabel="Predicted sex", ylabel="Recorded sex")
    matrix.set_xticks(range(len(names)), names)
    matrix.set_yticks(range(len(names)), names)
    matrix.set_title(f"Accuracy {100 * counts.trace() / max(counts.sum(), 1):.1f}%, {counts.sum():,} images")
    style_axes(shares)
    for name in names:
        colour = _SEX_STYLES[name][0]
        of_sex = frame.loc[frame["sex"] == name, "male_probability"]
        shares.hist(of_sex, bins=np.linspace(0, 1, 21), color=colour, alpha=0.6, label=f"{name} ({len(of_sex):,})")
    shares.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    shares.set(xlabel="Predicted probability of male", ylabel="Images", title="Predicted probability")
    _legend(shares)
    return figure


def plot_history(history: pd.DataFrame) -> Figure:
    """Plot the training history: training and validation metric by epoch.

    Args:
        history: One row per epoch: `epoch`, and `mae` and `val_mae` in months or `error_share` and `val_error_share`.
    """
    table = history.set_index("epoch")
    metric, label, unit = (
        ("mae", "MAE", " months") if "mae" in table else ("error_share", "sex classification error", "")
    )
    figure = make_figure(width_inches=7, height_inches=4.6)
    axes = figure.subplots()
    style_axes(axes)
    for column, name, colour in ((metric, "train", BLUE), (f"val_{metric}", "validation", VERMILION)):
        axes.plot(table.index, table[column], color=colour, marker="o", markersize=4, label=name)
    validation = table[f"val_{metric}"].dropna()
    if len(validation):
        axes.axhline(validation.min(), color=INK, linewidth=0.8, linestyle=":")
        best = f"{validation.min():.{2 if unit else 3}f}{unit}"
        axes.set_title(f"Best validation {label} {best}, epoch {validation.idxmin()}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.set(xlabel="Epoch", ylabel="Mean absolute error (months)" if unit else "Sex classification error")
    _legend(axes)
    return figure


def _draw_scatter(axes: Axes, frame: pd.DataFrame) -> None:
    label_years, predicted_years = frame["bone_age_months"] / 12, frame["predicted_months"] / 12
    low, high = min(0, predicted_years.min()) - 0.4, max(label_years.max(), predicted_years.max()) + 0.4
    axes.plot((low, high), (low, high), color=INK, linewidth=1.2, zorder=3, label="identity")
    _draw_images(axes, frame, label_years, predicted_years)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel="Labelled bone age (years)", ylabel="Predicted bone age (years)")
    axes.xaxis.set_major_locator(MultipleLocator(3))
    axes.yaxis.set_major_locator(MultipleLocator(3))
    _legend(axes, location="upper left")


def _draw_agreement(axes: Axes, frame: pd.DataFrame) -> None:
    error_months = frame["predicted_months"] - frame["bone_age_months"]
    mean_years = (frame["predicted_months"] + frame["bone_age_months"]) / 24
    axes.axhline(0, color=GREY, linewidth=0.8)
    _draw_images(axes, frame, mean_years, error_months)
    bias, deviation = error_months.mean(), error_months.std()
    lines = [("bias", bias, "-")]
    if len(frame) > 1:
        lines += [("+1.96 SD", bias + 1.96 * deviation, "--"), ("−1.96 SD", bias - 1.96 * deviation, "--")]
    beside = axes.get_yaxis_transform()
    for name, months, dash in lines:
        axes.axhline(months, color=INK, linewidth=1.4, linestyle=dash, zorder=3)
        text = f"{name}\n{months:+.1f}".replace("-", "−")
        axes.text(1.015, months, text, transform=beside, va="center", color=INK, fontsize=9)
    reach = 1.1 * max(1, error_months.abs().max(), *(abs(months) for _, months, _ in lines))
    axes.set_ylim(-reach, reach)
    axes.set(xlabel="Mean of predicted and labelled bone age (years)", ylabel="Predicted − labelled (months)")
    axes.set_title("Agreement (Bland-Altman)")
    axes.xaxis.set_major_locator(MultipleLocator(3))


def _draw_bands(axes: Axes, evaluation: Evaluation) -> None:
    groups = evaluation.by_age_years
    positions = np.arange(len(groups))
    series = (
        ("MAE", SKY_BLUE, -0.2, [group.mae_months for group in groups.values()]),
        ("bias", ORANGE, 0.2, [group.bias_months for group in groups.values()]),
    )
    for name, colour, shift, estimates in series:
        value, low, high = (np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high"))
        # The interval of very few resamples can miss its estimate, and error bars cannot be negative.
        arms = np.maximum((value - low, high - value), 0)
        axes.bar(positions + shift, value, width=0.4, color=colour, zorder=2, label=name)
        axes.errorbar(positions + shift, value, yerr=arms, fmt="none", color=INK, capsize=3, linewidth=1.1)
    axes.axhline(0, color=INK, linewidth=0.8, zorder=3)
    axes.grid(visible=False, axis="x")
    axes.set_xticks(positions, [f"{name.replace('-', '–')}\nn = {g.num_images:,}" for name, g in groups.items()])
    axes.set(xlabel="Labelled bone age (years)", ylabel="Months", title="Error by age, with 95% intervals")
    _legend(axes)


def _draw_images(axes: Axes, frame: pd.DataFrame, x: pd.Series, y: pd.Series) -> None:
    sex = frame["sex"].astype(object).where(frame["sex"].notna(), "unknown sex")
    # Many images overlap: small and transparent markers show their density.
    opacity, area = np.clip(np.array([15, 600]) / np.sqrt(len(frame)), (0.15, 12), (0.85, 36))
    for name, (colour, marker) in _SEX_STYLES.items():
        of_sex = sex == name
        if of_sex.any():
            label = f"{name} ({of_sex.sum():,})"
            axes.scatter(
                x[of_sex], y[of_sex], s=area, c=colour, marker=marker, alpha=opacity, linewidths=0, label=label
            )


def make_figure(*, width_inches: float, height_inches: float) -> Figure:
    """Make an empty figure without a window, which a notebook shows."""
    figure = NotebookFigure(figsize=(width_inches, height_inches), dpi=130, layout=ConstrainedLayoutEngine(wspace=0.06))
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes) -> None:
    """Give axes a pale grid and no frame at the top and the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE_GREY, linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(axes: Axes, *, location: Literal["best", "upper left"] = "best") -> None:
    for handle in axes.legend(loc=location, framealpha=0.9, edgecolor="none").legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG; an existing file is replaced."""
    with write_atomic(Path(path)) as temporary:
        figure.savefig(temporary, format="png")
