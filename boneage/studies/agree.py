"""A study of readers: from a table of readings to their agreement, a figure, and one label for each radiograph."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MultipleLocator

from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.evaluation.bootstrap import Estimate
from boneage.evaluation.plots import BLUE, INK, VERMILION, make_figure, save_figure, style_axes
from boneage.studies.agreement import Agreement, measure_agreement
from boneage.studies.components import Components
from boneage.studies.consensus import find_consensus
from boneage.studies.differences import NUM_SDS
from boneage.studies.readings import MODEL, average_others, join_model, read_readings, spread_readers

REPORT_FILE, PAIRS_FILE, READERS_FILE, COMPONENTS_FILE = "agreement.json", "pairs.csv", "readers.csv", "components.csv"
FIGURE_FILE, CONSENSUS_FILE = "agreement.png", "consensus.csv"


def agree(
    readings: str | Path,
    *,
    out: str | Path,
    model: str | Path | None = None,
    by: Sequence[str] = (),
    consensus: str | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Measure how far readers of the same radiographs agree, and a model with them.

    Args:
        readings: Table of readings, see `boneage.studies.readings.read_readings`.
        out: Folder for `agreement.json`, `pairs.csv`, `readers.csv`, `components.csv`, `agreement.png`, and
            `consensus.csv` if asked for.
        model: Predictions of a model, which joins the readers under the name `model`.
        by: Factors to group by: columns of the table, or `"age"`, the band of the mean reading.
        consensus: How to join the readings to one label for each radiograph: `"mean"`, `"median"` or `"weighted"`, see
            `boneage.studies.consensus.find_consensus` (default: not at all).
        num_resamples: Bootstrap resamples of the radiographs.
        seed: Seed of the resampling.

    Returns:
        The agreement.

    Raises:
        BoneAgeError: If a table cannot be used, or another process writes the folder.
        ValueError: If `consensus` is unknown.
    """
    check_output(Path(out), is_folder=True)
    table = read_readings(readings)
    num_refused = 0
    if model is not None:
        table, num_refused = join_model(table, model)
    labels = None if consensus is None else find_consensus(table, method=consensus)
    agreement = measure_agreement(table, num_refused=num_refused, by=by, num_resamples=num_resamples, seed=seed)
    out = Path(out)
    with lock_folder(out):
        write_text(out / PAIRS_FILE, format_frame(_tabulate_pairs(agreement), float_format="%.3f"))
        write_text(out / READERS_FILE, format_frame(_tabulate_readers(agreement), float_format="%.3f"))
        write_text(out / COMPONENTS_FILE, format_frame(_tabulate_components(agreement), float_format="%.3f"))
        if labels is not None:
            write_text(out / CONSENSUS_FILE, format_frame(labels, float_format="%.2f"))
        plot_agreement(table, agreement, out / FIGURE_FILE)
        write_json(out / REPORT_FILE, dataclasses.asdict(agreement))
    return agreement


def plot_agreement(readings: pd.DataFrame, agreement: Agreement, path: Path | str) -> None:
    """Plot each reader, and the model, against the mean of the other readers (Bland-Altman).

    Args:
        readings: The readings, those of the model among them.
        agreement: Their agreement.
        path: PNG file to write; an existing one is replaced.
    """
    wide = spread_readers(readings)
    names = list(agreement.against_others)
    num_columns = 2 if len(names) in (2, 4) else min(3, len(names))
    num_rows = -(-len(names) // num_columns)
    figure = make_figure(width_inches=1 + 4.6 * num_columns, height_inches=4.2 * num_rows)
    panels = np.ravel(figure.subplots(num_rows, num_columns, sharey=True, squeeze=False))
    for axes, name in zip(panels, names, strict=False):
        style_axes(axes)
        others = average_others(wide, name)
        differences = wide[name] - others
        axes.scatter(
            (wide[name] + others) / 24,
            differences,
            s=14,
            alpha=0.6,
            linewidths=0,
            color=VERMILION if name == MODEL else BLUE,
        )
        bias, sd = differences.mean(), differences.std()
        axes.axhline(0, color=INK, linewidth=0.6)
        for months, dash in ((bias, "-"), (bias - NUM_SDS * sd, "--"), (bias + NUM_SDS * sd, "--")):
            axes.axhline(months, color=INK, linewidth=1.3, linestyle=dash)
            axes.annotate(
                f"{months:+.1f}".replace("-", "−"),
                (1.01, months),
                xycoords=axes.get_yaxis_transform(),
                va="center",
                fontsize=9,
                color=INK,
            )
        found = agreement.against_others[name]
        axes.set_title(f"{name}: MAE {found.mae.value:.1f}, n = {found.num_radiographs:,}")
        axes.set_xlabel("Mean of the two (years)")
        axes.xaxis.set_major_locator(MultipleLocator(3))
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    panels[0].set_ylabel("Reader − mean of the others (months)")
    figure.suptitle("Each reader against the mean of the other readers, limits of agreement", fontweight="bold")
    save_figure(figure, path)


def _tabulate_pairs(agreement: Agreement) -> pd.DataFrame:
    rows = []
    for pair, limits in agreement.pairs.items():
        row: dict[str, object] = {"pair": pair, "num_radiographs": limits.num_radiographs, "sd_months": limits.sd}
        for name, estimate in (("bias", limits.bias), ("lower_limit", limits.low), ("upper_limit", limits.high)):
            row |= _name_ends(name, estimate)
        rows.append(row)
    return pd.DataFrame(rows)


def _tabulate_readers(agreement: Agreement) -> pd.DataFrame:
    rows = []
    for name in agreement.readers:
        row: dict[str, object] = {"reader": name}
        if against := agreement.against_others.get(name):
            row["num_radiographs"] = against.num_radiographs
            for metric in ("bias", "mae", "rmse"):
                row |= _name_ends(metric, getattr(against, metric))
        if repeated := agreement.repeatability.get(name):
            row["repeated"] = repeated.num_pairs
            row |= _name_ends("dahlberg", repeated.dahlberg_months)
            row |= _name_ends("repeatability", repeated.coefficient_months)
        rows.append(row)
    return pd.DataFrame(rows)


def _tabulate_components(agreement: Agreement) -> pd.DataFrame:
    groups = {("", "all"): agreement.components}
    groups |= {
        (factor, level): group.components for factor, own in agreement.by.items() for level, group in own.items()
    }
    rows = []
    for (factor, level), found in groups.items():
        row: dict[str, object] = {"factor": factor, "level": level}
        for field in dataclasses.fields(Components):
            name = field.name if field.name == "num_radiographs" else f"{field.name}_sd_months"
            row[name] = None if found is None else getattr(found, field.name)
        rows.append(row)
    return pd.DataFrame(rows)


def _name_ends(name: str, estimate: Estimate) -> dict[str, object]:
    return {f"{name}_months": estimate.value, f"{name}_from": estimate.low, f"{name}_to": estimate.high}
