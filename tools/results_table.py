"""Tabulate the training time and the scores of every experiment; `not run here` where there is no run.

    python tools/results_table.py --runs runs

Without `--runs` the tables are made from `results` alone. With it, evaluation and history of each finished run
`runs/NAME` of an experiment `NAME.toml` are copied there first, and its predictions are compared with those of its
family's baseline, paired by radiograph and resampled by patient. Runs of other seeds are named `runs/NAME-seed1` and so
on: from three seeds on, the difference is their mean, with an interval over radiographs and seeds. Predictions are not
copied: they hold labels.
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

from boneage.base.files import write_json, write_text
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.training import TrainConfig
from boneage.evaluation.bootstrap import Estimate, average_seeds
from boneage.evaluation.plots import BLUE, INK, PALE_GREY
from boneage.evaluation.summarise import compare

MIN_SEEDS = 3
NOT_RUN = "not run here"
NOT_COMPARED = "not compared"
RESULTS_FILE, CURVE_FILE = "RESULTS.md", "figures/curve.png"

HEAD = """# Results

Written by `python tools/results_table.py --runs runs`; do not edit. [README.md](README.md) describes the machine, the
data and the known limits; the file of each experiment holds its command. Validation MAE is that of the run's bundle, in
months, with its 95% bootstrap interval: its weights are those of the best epoch, which is slightly optimistic, and it
may use test-time augmentation. The MAE of the last epoch does neither. Minutes are the time of the epochs, validation
included, on a machine that may run other work. A paired difference is the MAE minus that of the baseline, on the stated
number of radiographs; negative is better. Two trainings of one recipe that differ by their seed differ by as much as
many of these: below each table stands what rests on fewer than three seeds, for which no effect is claimed.
"""


@dataclasses.dataclass(frozen=True)
class Family:
    """Experiments that share a table.

    Args:
        prefix: Prefix of their names; the longest matching one decides.
        title: Heading of the table.
        about: What they have in common.
        baseline: Name of the experiment with which the others are compared, if any.
    """

    prefix: str
    title: str
    about: str
    baseline: str | None = None


FAMILIES = (
    Family(
        "ablation_",
        "Ablations",
        "Validation: up to 1,000 radiographs of RSNA's training set at 100 x 100 pixels. Each file changes one setting "
        "of `ablation_base`; other backbones change the learning rate too. The budget is the same and short: training "
        "does not converge.",
        baseline="ablation_base",
    ),
    Family("curve_", "Accuracy against minutes", "Validation as in the ablations. The files differ in their budget."),
    Family(
        "rsna100_",
        "Whole frames of 100 x 100 pixels",
        "Validation: 1,000 radiographs of RSNA's training set. More pairs are in "
        "[history/whole_frames.md](history/whole_frames.md).",
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
        "Validation: RSNA's own validation set, one reader. Scores reported elsewhere are in the headers of the files.",
        baseline="rsna_transfer_random",
    ),
    Family("", "Others", "Each uses its own records."),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment file with the results of its run.

    Args:
        name: Name of the file without ending.
        title: First line of its header.
        network: Name of the network.
        input_size: Side of its input in pixels.
        mae: `value`, `low` and `high` in months; None without a run, or for a sex classifier.
        accuracy: `value`, `low` and `high` of the accuracy in [0, 1]; None without a run, or for an age model.
        history: One dictionary per epoch; empty without a run.
        comparison: Content of `comparison.json`, written by `collect`; None without one.
        num_seeds: Number of runs that differ by their seed; 0 without a run.
    """

    name: str
    title: str
    network: str
    input_size: int
    mae: dict[str, float] | None
    accuracy: dict[str, float] | None
    history: Sequence[dict[str, float]]
    comparison: dict[str, Any] | None
    num_seeds: int

    @property
    def minutes(self) -> float:
        """Total time of the epochs, in minutes."""
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
        num_seeds=len(_read_json(results / "seeds.json") or [0]) if is_run else 0,
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def find_family(name: str) -> Family:
    """Return the family of an experiment."""
    return max((family for family in FAMILIES if name.startswith(family.prefix)), key=lambda family: len(family.prefix))


def collect(folder: Path, runs: Path) -> list[str]:
    """Copy the results of finished runs into `results`, and compare each with its family's baseline.

    Args:
        folder: The folder of the experiment files.
        runs: The folder of the run folders.

    Returns:
        One line per run that was left out, with the reason.
    """
    finished, left_out = {}, []
    for path in sorted(folder.glob("*.toml")):
        run, results = runs / path.stem, folder / "results" / path.stem
        if not (run / "evaluation-validation" / "evaluation.json").exists():
            continue
        seeds = {}
        for other in (run, *sorted(runs.glob(f"{path.stem}-seed*"))):
            state = json.loads((other / "state.json").read_text(encoding="utf-8"))
            changed = set(_find_changes(path, state["experiment"])) - ({"train.seed"} if other != run else set())
            if changed:
                left_out.append(f"{other}: its settings differ from {path.name}: {', '.join(sorted(changed))}.")
            elif (other / "evaluation-validation" / "evaluation.json").exists():
                seeds.setdefault(state["experiment"]["train"]["seed"], other)
        if run not in seeds.values():
            continue
        history = json.loads((run / "state.json").read_text(encoding="utf-8"))["history"]
        evaluation = (run / "evaluation-validation" / "evaluation.json").read_text(encoding="utf-8")
        results.mkdir(parents=True, exist_ok=True)
        write_text(results / "evaluation.json", evaluation)
        write_json(results / "history.json", history)
        (results / "seeds.json").unlink(missing_ok=True)
        if len(seeds) > 1:
            write_json(results / "seeds.json", sorted(seeds))
        # A comparison of an earlier run does not hold for this one.
        (results / "comparison.json").unlink(missing_ok=True)
        finished[path.stem] = seeds
    for name, seeds in finished.items():
        baseline = find_family(name).baseline
        if baseline in finished and baseline != name:
            comparison = _compare(runs / name, runs / baseline)
            shared = sorted(set(seeds) & set(finished[baseline]))
            if len(shared) >= MIN_SEEDS:
                pairs = [_compare(seeds[seed], finished[baseline][seed])["difference_months"] for seed in shared]
                average = dataclasses.asdict(average_seeds([Estimate(**pair) for pair in pairs]))
                comparison |= {"difference_months": average, "num_seeds": len(shared)}
            write_json(folder / "results" / name / "comparison.json", {"baseline": baseline, **comparison})
    return left_out


def _find_changes(path: Path, trained: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the names of the settings, known to both, in which a run differs from the file and the defaults."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    for table, defaults in (("train", TrainConfig()), ("augment", AugmentConfig())):
        # Through JSON, like the settings of the run: tuples become lists.
        wanted = json.loads(json.dumps(dataclasses.asdict(defaults) | tables.get(table, {})))
        for key, value in wanted.items():
            if trained[table].get(key, value) != value:
                yield f"{table}.{key}"


def _compare(run: Path, baseline: Path) -> dict[str, Any]:
    """Compare two runs on their shared validation radiographs: the gate rejects some crops and no frames."""
    frame, other = (
        pd.read_csv(folder / "evaluation-validation" / "predictions.csv", dtype={"id": str})
        for folder in (run, baseline)
    )
    shared = set(frame["id"]) & set(other["id"])
    return dataclasses.asdict(compare(frame[frame["id"].isin(shared)], other[other["id"].isin(shared)]))


def render(folder: Path) -> str:
    """Write the tables of all experiments of a folder as Markdown."""
    experiments = [read_experiment(path) for path in sorted(folder.glob("*.toml"))]
    parts = [HEAD]
    for family in FAMILIES:
        members = [experiment for experiment in experiments if find_family(experiment.name) is family]
        if not members:
            continue
        members.sort(key=lambda experiment: (experiment.name != family.baseline, _natural(experiment.name)))
        heads = ["Experiment", "Description", "Network", "Input, px", "Epochs", "Minutes", "Images/s"]
        heads += ["Validation MAE, months", "Last epoch"]
        if family.baseline:
            heads.append(f"Paired with `{family.baseline}`")
        lines = [heads, ["---"] * len(heads), *(_cells(member, family) for member in members)]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        parts.append(f"## {family.title}\n\n{family.about}\n\n{table}")
        if few := [f"`{member.name}`" for member in members if 0 < member.num_seeds < MIN_SEEDS]:
            parts.append(f"Fewer than three seeds, so that no effect is claimed: {', '.join(few)}.\n")
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
        cells.append("sex accuracy {:.1f}% [{:.1f}, {:.1f}]".format(*percent))
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
    seeds = f", {comparison['num_seeds']} seeds" if "num_seeds" in comparison else ""
    return f"{interval} on {comparison['num_images']:,}{seeds}"


def _natural(name: str) -> list[str]:
    """Return a key that sorts curve_3 before curve_10."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _has_curve(experiments: Sequence[Experiment]) -> bool:
    return sum(experiment.mae is not None for experiment in experiments) >= 2


def draw_curve(folder: Path) -> bool:
    """Plot validation MAE against minutes of training, if at least two experiments of the curve have a run.

    Returns:
        True if it was plotted.
    """
    experiments = [read_experiment(path) for path in sorted(folder.glob("curve_*.toml"))]
    if not _has_curve(experiments):
        return False
    points = sorted(
        (experiment for experiment in experiments if experiment.mae is not None),
        key=lambda experiment: experiment.minutes,
    )
    minutes = [experiment.minutes for experiment in points]
    value, low, high = (
        [experiment.mae[end] for experiment in points if experiment.mae] for end in ("value", "low", "high")
    )
    figure = Figure(figsize=(7, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE_GREY, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.plot(minutes, value, color=BLUE, marker="o", markersize=5)
    axes.vlines(minutes, low, high, color=BLUE, linewidth=1.2)
    for experiment, x, y in zip(points, minutes, low, strict=True):
        label = f"{experiment.input_size} px\n{len(experiment.history)} epochs"
        axes.annotate(label, (x, y), (0, -4), textcoords="offset points", ha="center", va="top", color=INK, fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks(minutes, [f"{value:.1f}" if value < 10 else f"{value:.0f}" for value in minutes])
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
    parser.add_argument(
        "--experiments", type=Path, default=Path(__file__).parents[1] / "experiments", help="folder of experiment files"
    )
    options = parser.parse_args()
    if options.runs is not None:
        for line in collect(options.experiments, options.runs):
            sys.stderr.write(f"{line}\n")
    write_text(options.experiments / RESULTS_FILE, render(options.experiments))
    draw_curve(options.experiments)


if __name__ == "__main__":
    main()
