"""Tabulate every experiment: how long its training took and what came out; `not run here` where there was none.

    python experiments/results_table.py --runs runs

Without `--runs` the tables are made from `results` alone. With it, evaluation and history of each finished run
`runs/NAME` of an experiment `NAME.toml` are copied there first, and its predictions are compared with those of its
family's baseline, radiograph by radiograph. Predictions are never copied: they hold labels that may not be passed on.
"""

import argparse
import dataclasses
import json
import re
import statistics
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from boneage.config import AugmentConfig, TrainConfig
from boneage.evaluation import compare
from boneage.plots import BLUE, INK, PALE_GREY
from tfrecords.write import write_json, write_text

NOT_RUN = "not run here"
NOT_COMPARED = "not compared"
RESULTS_FILE, CURVE_FILE = "RESULTS.md", "figures/curve.png"

HEAD = """# Results

Written by `python experiments/results_table.py --runs runs`; not to be changed by hand. [README.md](README.md) tells
the machine, the data and what the figures can and cannot be compared with; the command of each row stands in its file.
Validation MAE is that of the run's bundle, in months, with its 95% bootstrap interval: its weights are of the epoch
that did best, which is slightly optimistic, and it may look at each radiograph more than once. The last epoch's is
neither. Minutes are those of the epochs alone, validation included, on a machine that may have had other work.
A paired difference tells how many months more than the baseline, on how many radiographs; less is better.
"""


@dataclasses.dataclass(frozen=True)
class Family:
    """Experiments that stand in one table.

    Args:
        prefix: How their names begin; the longest one that fits decides.
        title: Heading of the table.
        about: What they have in common.
        baseline: Name of the experiment that the others are compared with, if any.
    """

    prefix: str
    title: str
    about: str
    baseline: str | None = None


FAMILIES = (
    Family(
        "ablation_",
        "Ablations",
        "Validation: up to 1,000 radiographs of RSNA's training set at 100 x 100 pixels. Each file changes one thing "
        "of `ablation_base`, the networks their learning rate too, at the same short budget, where little is learnt to "
        "the end.",
        baseline="ablation_base",
    ),
    Family("curve_", "Accuracy against minutes", "Validation as in the ablations. Time is the point."),
    Family(
        "rsna100_",
        "Whole frames of 100 x 100 pixels",
        "Validation: 1,000 radiographs of RSNA's training set. What was not compared here is paired in README.md.",
        baseline="rsna100_short",
    ),
    Family(
        "rsna_",
        "The full-size RSNA radiographs",
        "Validation: RSNA's own validation set, one reader.",
        baseline="rsna_resnet50",
    ),
    Family(
        "rsna_transfer_",
        "Transfer",
        "Validation: RSNA's own validation set, one reader. The figures reported elsewhere stand in the files.",
        baseline="rsna_transfer_random",
    ),
    Family("", "Others", "Each has records of its own."),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment file with what is known of its run.

    Args:
        name: Name of the file without ending.
        title: First line of its header.
        network: Name of the network.
        input_size: Side of its input in pixels.
        mae: `value`, `low` and `high` in months; None without a run, or where the sex is told.
        accuracy: The same of the share of sexes told right; None where the age is read.
        history: One dictionary an epoch; empty without a run.
        comparison: What `collect` wrote into `comparison.json`; None without one.
    """

    name: str
    title: str
    network: str
    input_size: int
    mae: dict[str, float] | None
    accuracy: dict[str, float] | None
    history: Sequence[dict[str, float]]
    comparison: dict[str, Any] | None

    @property
    def minutes(self) -> float:
        """Minutes that the epochs took."""
        return sum(epoch["seconds"] for epoch in self.history) / 60


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file, and its folder in `results` beside it."""
    text = path.read_text(encoding="utf-8")
    train = tomllib.loads(text).get("train", {})
    results = path.parent / "results" / path.stem
    evaluation, history = (_read_json(results / name) for name in ("evaluation.json", "history.json"))
    is_run = evaluation is not None and bool(history)
    return Experiment(
        name=path.stem,
        title=text.split("\n", 1)[0].lstrip("# ").rstrip(". "),
        network=train.get("network", TrainConfig.network),
        input_size=train.get("input_size", TrainConfig.input_size),
        mae=evaluation["overall"]["mae_months"] if is_run and "overall" in evaluation else None,
        accuracy=evaluation["accuracy"] if is_run and "accuracy" in evaluation else None,
        history=history if is_run else (),
        comparison=_read_json(results / "comparison.json") if is_run else None,
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def find_family(name: str) -> Family:
    """Return the family of an experiment."""
    return max((each for each in FAMILIES if name.startswith(each.prefix)), key=lambda each: len(each.prefix))


def collect(folder: Path, runs: Path) -> list[str]:
    """Copy what finished runs measured into `results`, and compare each with its family's baseline.

    Args:
        folder: The folder of the experiment files.
        runs: The folder of the run folders.

    Returns:
        What was left out and why, one line a run.
    """
    finished, left_out = [], []
    for path in sorted(folder.glob("*.toml")):
        run, results = runs / path.stem, folder / "results" / path.stem
        if not (run / "evaluation-validation" / "evaluation.json").exists():
            continue
        state = json.loads((run / "state.json").read_text(encoding="utf-8"))
        if changed := list(_find_changes(path, state["experiment"])):
            left_out.append(f"{run}: not a run of {path.name}, which says otherwise of {', '.join(changed)}.")
            continue
        evaluation = (run / "evaluation-validation" / "evaluation.json").read_text(encoding="utf-8")
        results.mkdir(parents=True, exist_ok=True)
        write_text(results / "evaluation.json", evaluation)
        write_json(results / "history.json", state["history"])
        # It told of the run before.
        (results / "comparison.json").unlink(missing_ok=True)
        finished.append(path.stem)
    for name in finished:
        baseline = find_family(name).baseline
        if baseline in finished and baseline != name:
            comparison = _compare(runs / name, runs / baseline)
            write_json(folder / "results" / name / "comparison.json", {"baseline": baseline, **comparison})
    return left_out


def _find_changes(path: Path, trained: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Name what a run did otherwise than the file and the defaults say, of what both know."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    for table, defaults in (("train", TrainConfig()), ("augment", AugmentConfig())):
        # By way of JSON, as the run's settings came: a tuple is a list there.
        wanted = json.loads(json.dumps(dataclasses.asdict(defaults) | tables.get(table, {})))
        for key, value in wanted.items():
            if trained[table].get(key, value) != value:
                yield f"{table}.{key}"


def _compare(run: Path, baseline: Path) -> dict[str, Any]:
    """Compare two runs on the radiographs that both were validated on: crops and frames reject different ones."""
    frame, other = (
        pd.read_csv(each / "evaluation-validation" / "predictions.csv", dtype={"id": str}) for each in (run, baseline)
    )
    shared = set(frame["id"]) & set(other["id"])
    return dataclasses.asdict(compare(frame[frame["id"].isin(shared)], other[other["id"].isin(shared)]))


def render(folder: Path) -> str:
    """Write the tables of all experiments of a folder as Markdown."""
    experiments = [read_experiment(path) for path in sorted(folder.glob("*.toml"))]
    parts = [HEAD]
    for family in FAMILIES:
        members = [each for each in experiments if find_family(each.name) is family]
        if not members:
            continue
        members.sort(key=lambda each: (each.name != family.baseline, _natural(each.name)))
        heads = ["Experiment", "What it is", "Network", "Input, px", "Epochs", "Minutes", "Images/s"]
        heads += ["Validation MAE, months", "Last epoch"]
        if family.baseline:
            heads.append(f"Paired with `{family.baseline}`")
        lines = [heads, ["---"] * len(heads), *(_cells(each, family) for each in members)]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        parts.append(f"## {family.title}\n\n{family.about}\n\n{table}")
        if family.prefix == "curve_" and _has_curve(members):
            parts.append(f"![Validation MAE against minutes of training, with 95% intervals]({CURVE_FILE})\n")
    return "\n".join(parts)


def _cells(experiment: Experiment, family: Family) -> list[str]:
    cells = [f"[`{experiment.name}`]({experiment.name}.toml)", experiment.title, f"`{experiment.network}`"]
    cells.append(f"{experiment.input_size}")
    history, mae, accuracy = experiment.history, experiment.mae, experiment.accuracy
    if mae is None and accuracy is None:
        return cells + [NOT_RUN] * (6 if family.baseline else 5)
    cells += [f"{len(history)}", f"{experiment.minutes:.1f}"]
    cells.append(f"{statistics.median(epoch['images_per_second'] for epoch in history):.0f}")
    if mae is not None:
        cells.append(f"{mae['value']:.2f} [{mae['low']:.2f}, {mae['high']:.2f}]")
        cells.append(f"{history[-1]['val_mae']:.2f}")
    elif accuracy is not None:
        percent = [100 * accuracy[end] for end in ("value", "low", "high")]
        cells.append("sex right in {:.1f}% [{:.1f}, {:.1f}]".format(*percent))
        cells.append(f"{100 * (1 - history[-1]['val_error_share']):.1f}%")
    if experiment.name == family.baseline:
        cells.append("baseline")
    elif family.baseline:
        cells.append(_difference(experiment.comparison, family.baseline))
    return cells


def _difference(comparison: dict[str, Any] | None, baseline: str) -> str:
    if comparison is None or comparison["baseline"] != baseline:
        return NOT_COMPARED
    months = comparison["difference_months"]
    interval = f"{months['value']:+.2f} [{months['low']:+.2f}, {months['high']:+.2f}]"
    return f"{interval} on {comparison['num_images']:,}"


def _natural(name: str) -> list[str]:
    """Make a key that sorts curve_3 before curve_10."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _has_curve(experiments: Sequence[Experiment]) -> bool:
    return sum(each.mae is not None for each in experiments) >= 2


def draw_curve(folder: Path) -> bool:
    """Draw validation MAE against minutes of training, if at least two experiments of the curve were run.

    Returns:
        Whether it was drawn.
    """
    experiments = [read_experiment(path) for path in sorted(folder.glob("curve_*.toml"))]
    if not _has_curve(experiments):
        return False
    points = sorted((each for each in experiments if each.mae is not None), key=lambda each: each.minutes)
    minutes = [each.minutes for each in points]
    value, low, high = ([each.mae[end] for each in points if each.mae] for end in ("value", "low", "high"))
    figure = Figure(figsize=(7, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE_GREY, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.plot(minutes, value, color=BLUE, marker="o", markersize=5)
    axes.vlines(minutes, low, high, color=BLUE, linewidth=1.2)
    for each, x, y in zip(points, minutes, low, strict=True):
        label = f"{each.input_size} px\n{len(each.history)} epochs"
        axes.annotate(label, (x, y), (0, -4), textcoords="offset points", ha="center", va="top", color=INK, fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks(minutes, [f"{each:.1f}" if each < 10 else f"{each:.0f}" for each in minutes])
    axes.minorticks_off()
    axes.set_xlim(0.75 * minutes[0], 1.35 * minutes[-1])
    axes.set_ylim(0, 1.1 * max(high))
    axes.set(xlabel="Minutes of training on two cores", ylabel="Validation MAE (months), 95% interval")
    path = folder / CURVE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return True


def main() -> None:
    """Read the arguments, collect the runs, and write the tables and the curve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=Path, help="folder of run folders to collect from")
    parser.add_argument("--experiments", type=Path, default=Path(__file__).parent, help="folder of experiment files")
    options = parser.parse_args()
    if options.runs is not None:
        for line in collect(options.experiments, options.runs):
            sys.stderr.write(f"{line}\n")
    write_text(options.experiments / RESULTS_FILE, render(options.experiments))
    draw_curve(options.experiments)


if __name__ == "__main__":
    main()
