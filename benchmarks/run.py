"""Every speed figure of the project, by one command.

    python benchmarks/run.py --data records --source rsna --files radiographs --bundle runs/first/bundle

Without names it runs all benchmarks whose inputs are given; `python benchmarks/run.py importing` runs that one alone.
Each writes `benchmark-<name>.json` and `benchmark-<name>.md`. On a machine that is busy otherwise only the ratios mean
something.
"""

import argparse
import dataclasses
import functools
import importlib
import inspect
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import (
    COMMAND_LINE,
    BenchmarkError,
    Row,
    clock,
    machine,
    markdown,
    median_and_quartiles,
    ratios,
    rounded,
    run_python,
    speed_row,
    time_in_turns,
    versions,
)

from boneage.base.errors import BoneAgeError
from boneage.base.files import write_json, write_text
from boneage.configuration.experiment import load_experiment
from boneage.preprocessing.jobs.prepare import CASES_PER_SHARD
from boneage.preprocessing.sources.sources import find_cases
from boneage.tfrecords.info import read_info

# Where each benchmark lives, the options it needs and those it can do without.
BENCHMARKS = {
    "reading": ("records", ("data", "source"), ("experiment",)),
    "encoding": ("records", ("data",), ("bundle",)),
    "preparing": (__name__, ("source",), ()),
    "networks": ("networks", (), ()),
    "performance": ("performance", (), ("torch",)),
    "memory": ("memory", (), ()),
    "importing": (__name__, (), ()),
    "installing": ("installing", (), ()),
    "predicting": ("networks", ("files", "bundle"), ()),
    "segmenting": ("hands", ("files", "masks", "folds"), ()),
    "clicking": ("clicking", ("files", "masks", "folds"), ()),
    "orienting": ("hands", ("source", "table", "split"), ()),
    "gating": ("gate", ("source",), ()),
    "completeness": ("completeness", ("source", "table"), ("files",)),
    "cutting": ("cutting", ("bundle", "source", "split"), ()),
    "measuring": ("gate", ("data",), ()),
    "staging": ("hands", ("files",), ()),
    "comparing": ("comparing", ("files", "checkouts"), ()),
    "disturbing": ("disturbing", ("bundle", "baseline_bundle", "source", "split"), ()),
    "repeating": ("repeating", ("bundle", "source", "split"), ()),
    "rendering": ("rendering", ("bundle", "source", "split"), ()),
    "regions": ("regions", ("bundle", "source", "split"), ()),
    "pairing": ("pairing", ("bundle", "source", "split"), ("files",)),
    "starting": ("serving", ("files",), ()),
    "folders": ("serving", ("files",), ()),
    "runtimes": ("runtimes", (), ("torch",)),
    "serving": ("serving", ("files",), ()),
    "shrinking": ("shrinking", ("files", "bundle", "table", "source"), ()),
}


def importing(*, repeats: int = 15) -> list[Row]:
    """Starting a fresh process that imports boneage or shows its help, beside one that does nothing.

    Args:
        repeats: Rounds that count.

    Raises:
        BenchmarkError: If a process fails.
    """
    commands = {
        "python -c pass": ("-c", "pass"),
        "import boneage": ("-c", "import boneage"),
        "boneage --help": (*COMMAND_LINE, "--help"),
    }
    sides = {name: clock(functools.partial(run_python, command), num_items=1) for name, command in commands.items()}
    seconds = time_in_turns(sides, repeats=repeats)
    baseline, *cases = commands
    return [
        {
            "case": case,
            "baseline": baseline,
            "seconds": rounded(float(np.median(seconds[case]))),
            "baseline_seconds": rounded(float(np.median(seconds[baseline]))),
            **median_and_quartiles("times_as_long", ratios(seconds[case], seconds[baseline])),
            **median_and_quartiles("added_seconds", np.subtract(seconds[case], seconds[baseline])),
            "repeats": repeats,
        }
        for case in cases
    ]


def preparing(source: Path, *, workers: Sequence[int] = (1, 2), repeats: int = 3, seed: int = 0) -> list[Row]:
    """Preparing a whole source as records by several worker processes, beside one, each in a fresh process.

    The time is that of the command, start included. The memory is the largest sum over the process tree, looked at
    20 times a second; pages that processes share count for each of them.

    Args:
        source: The source.
        workers: Numbers of workers to try; the first one is the baseline.
        repeats: Rounds that count.
        seed: Seed of the split and of the order.

    Raises:
        BenchmarkError: If the source is too small to occupy the workers, or a process fails.
    """
    num_cases = len(find_cases(source)[0])
    if num_cases <= (max(workers) - 1) * CASES_PER_SHARD:
        raise BenchmarkError(
            f"{source}: {num_cases} radiographs do not occupy {max(workers)} workers, who take {CASES_PER_SHARD} at a "
            "time; give a larger source."
        )
    num_images: set[int] = set()
    peaks_mib: dict[int, list[float]] = {number: [] for number in workers}

    def prepare(number: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "records"
            options = (
                "--workers",
                str(number),
                "--segmenter",
                "none",
                "--split",
                "random",
                "--seed",
                str(seed),
                "--json",
            )
            began = time.perf_counter()
            printed = run_python(
                (*COMMAND_LINE, "prepare", str(source), "--out", str(out), *options), peaks_mib=peaks_mib[number]
            )
            seconds = time.perf_counter() - began
        num_records = sum(json.loads(printed)["records"].values())
        num_images.add(num_records)
        return seconds / num_records

    names = {number: f"{number} worker{'s' if number > 1 else ''}" for number in workers}
    seconds = time_in_turns({names[number]: functools.partial(prepare, number) for number in workers}, repeats=repeats)
    if len(num_images) > 1:
        raise BenchmarkError(f"{source}: changed while it was prepared ({sorted(num_images)} records); run it again.")
    return [
        {
            **speed_row(names[number], baseline=names[workers[0]], seconds=seconds, num_images=max(num_images)),
            **median_and_quartiles("peak_memory_mib", peaks_mib[number][-repeats:]),
        }
        for number in workers
    ]


def run(name: str, *, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Run one benchmark and write its table.

    Args:
        name: Name of the benchmark.
        inputs: Its arguments.
        out: Folder for `benchmark-<name>.json` and `benchmark-<name>.md`; made if missing.

    Returns:
        The document that the JSON file holds.
    """
    module, _, _ = BENCHMARKS[name]
    # TensorFlow is loaded only for the benchmarks that need it.
    function = getattr(sys.modules.get(module) or importlib.import_module(module), name)
    signature = inspect.signature(function)
    arguments = signature.bind(**{key: value for key, value in inputs.items() if key in signature.parameters})
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    began = time.perf_counter()
    rows = function(*arguments.args, **arguments.kwargs)
    seconds = time.perf_counter() - began
    arguments.apply_defaults()
    document = {
        "benchmark": name,
        "compared": (inspect.getdoc(function) or "").partition("\n")[0],
        "rows": rows,
        "parameters": {key: _describe(key, value) for key, value in arguments.arguments.items() if value is not None},
        "machine": {**machine(), "load_before": load_before},
        "versions": versions(),
        "seconds": round(seconds, 1),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"benchmark-{name}.json", document)
    write_text(out / f"benchmark-{name}.md", to_markdown(document))
    return document


def _describe(key: str, value: Any) -> Any:
    """Describe an argument for the document: folders by what is in them, never by where they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if key == "data":
        return f"records {read_info(value)['digest']}"
    if key in ("bundle", "baseline_bundle"):
        # Whoever was given a bundle has loaded TensorFlow by now.
        from boneage.bundles.bundle import read_metadata

        metadata = read_metadata(value)
        return f"{metadata['network']}, model {metadata['sha256']['model.onnx'][:16]}"
    if key == "folds":
        return f"{len(list(value.glob('fold-*/hand_sam.onnx')))} networks"
    if key == "checkouts":
        return [tree.absolute().name for tree in value]
    if isinstance(value, Path) and value.is_file():
        return value.name
    if isinstance(value, Path):
        return f"{len(find_cases(value)[0])} radiographs"
    return value


def to_markdown(document: Mapping[str, Any]) -> str:
    """Lay out a document for people: what is compared, the table, and on what it was measured."""
    about = document["machine"]
    load = "" if about["load_before"] is None else f", load {about['load_before']:.1f} before"
    listed = {
        "Machine": f"{about['cpu']}, {about['num_cores']} cores, {about['system']}{load}",
        "Versions": ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
        "Parameters": json.dumps(document["parameters"]),
        "Took": f"{document['seconds']:.0f} s",
    }
    timed = any(key.endswith("_low") for row in document["rows"] for key in row)
    return (
        f"## {document['benchmark']}\n\n{document['compared']}\n\n{markdown(document['rows'])}\n"
        + ("Medians, with quartiles over the rounds in brackets.\n\n" if timed else "")
        + "".join(f"- {title}: {text}\n" for title, text in listed.items())
    )


def main() -> None:
    """Read the command line and run what it names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--data", type=Path, help="record folder, made from --source")
    parser.add_argument("--source", type=Path, help="RSNA download")
    parser.add_argument("--files", type=Path, help="folder of radiographs to predict")
    parser.add_argument("--table", type=Path, help="labels or landmarks of these radiographs")
    parser.add_argument("--masks", type=Path, help="masks of these radiographs, made by hand")
    parser.add_argument("--folds", type=Path, help="what `boneage train-sam` wrote")
    parser.add_argument("--split", type=Path, help="CSV with id,split")
    parser.add_argument("--bundle", type=Path, help="bundle of a training run")
    parser.add_argument("--baseline-bundle", type=Path, help="bundle to compare it with")
    parser.add_argument(
        "--experiment", type=Path, help="experiment whose augmentation is timed (default: the settings of `[augment]`)"
    )
    parser.add_argument(
        "--checkouts", type=Path, nargs="+", help="folders of checkouts to compare, the first with the others"
    )
    parser.add_argument("--torch", type=Path, help="Python that has torch, such as .venv-sam/bin/python")
    parser.add_argument("--repeats", type=int, help="rounds that count (default: the benchmark's own number)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every sample")
    parser.add_argument("--out", type=Path, default=Path("experiments/figures"), help="folder for the tables")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in options.names or BENCHMARKS:
        _, needed, welcome = BENCHMARKS[name]
        missing = " and ".join(f"--{key}" for key in needed if getattr(options, key) is None)
        if missing and options.names:
            parser.error(f"{name} needs {missing}")
        if missing:
            print(f"{name}: left out, it needs {missing}", file=sys.stderr)
            continue
        inputs = {key: getattr(options, key) for key in (*needed, *welcome, "repeats", "seed")}
        inputs = {key: value for key, value in inputs.items() if value is not None}
        try:
            if "experiment" in inputs:
                inputs["experiment"] = load_experiment(inputs["experiment"])
            print(to_markdown(run(name, inputs=inputs, out=options.out)), flush=True)
        except (BoneAgeError, ValueError) as error:
            sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
