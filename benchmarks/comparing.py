"""Checkouts of this project beside each other: what a change of the hand stage costs in time."""

import ast
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import BenchmarkError, Row, TimedCase, median_and_quartiles, ratios, time_in_turns

from boneage.preprocessing.sources.sources import find_cases

# The whole stage on radiographs that are read already, once for each input line. A checkout runs the program of its own
# file, since names differ between checkouts.
_STAGE = """
import sys, time
from pathlib import Path
import cv2
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.process import process
from boneage.preprocessing.io.read import read_radiograph
cv2.setNumThreads(1)
config = PreprocessingConfig()
radiographs = [read_radiograph(Path(path)) for path in sys.argv[1:]]
for _ in sys.stdin:
    began = time.perf_counter()
    for radiograph in radiographs:
        process(radiograph, config)
    print((time.perf_counter() - began) / len(radiographs), flush=True)
"""


def comparing(
    files: Path, checkouts: Sequence[Path], *, num_files: int = 100, repeats: int = 7, seed: int = 0
) -> list[Row]:
    """The hand stage of several checkouts in turns, one core, on the same radiographs, beside the first of them.

    Args:
        files: Folder of radiographs.
        checkouts: Folders that hold a checkout each, such as `git worktree add` makes.
        num_files: How many radiographs to take at most.
        repeats: Rounds that count.
        seed: Seed of the sample.

    Raises:
        BenchmarkError: If a folder holds no checkout or has the name of another, or a process fails.
    """
    named = {checkout.absolute().name: checkout for checkout in checkouts}
    if len(named) < len(checkouts):
        raise BenchmarkError("two checkouts have folders of the same name; rename one.")
    cases, _ = find_cases(files)
    chosen = np.random.default_rng(seed).permutation(len(cases))[:num_files]
    paths = [str(cases[index].path.resolve()) for index in chosen]
    with contextlib.ExitStack() as stack:
        sides = {name: _start(checkout, paths, stack) for name, checkout in named.items()}
        seconds = time_in_turns(sides, repeats=repeats)
    first = next(iter(seconds.values()))
    return [
        {
            "checkout": name,
            "number": len(paths),
            **median_and_quartiles("seconds", values),
            **median_and_quartiles("times_the_first", ratios(values, first)),
        }
        for name, values in seconds.items()
    ]


def _start(checkout: Path, paths: Sequence[str], stack: contextlib.ExitStack) -> TimedCase:
    """Start a process that works through the radiographs by a checkout's own code whenever the case is called."""
    stage = read_stage(checkout)
    imported_from = stack.enter_context(tempfile.TemporaryDirectory())
    link_packages(checkout, Path(imported_from))
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", stage, *paths],
            env={**os.environ, "PYTHONPATH": imported_from},
            cwd=imported_from,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )

    def side() -> float:
        assert process.stdin is not None and process.stdout is not None
        try:
            print(file=process.stdin, flush=True)
            return float(process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise BenchmarkError(f"{checkout}: its process ended with the error above.") from error

    return side


def link_packages(checkout: Path, folder: Path) -> None:
    """Link a checkout's packages as they are installed, so that no installed checkout is imported in its place."""
    package = folder / "boneage"
    package.mkdir()
    for part in (checkout / "boneage").iterdir():
        (package / part.name).symlink_to(part.resolve())
    for name in ("preprocessing", "tfrecords"):
        for parent in (package, folder):
            (parent / name).symlink_to((checkout / name).resolve())


def read_stage(checkout: Path) -> str:
    """Return the program of a checkout's own benchmark.

    Raises:
        BenchmarkError: If the folder holds no checkout.
    """
    path = checkout / "benchmarks" / Path(__file__).name
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(f"{checkout}: not a checkout of this project; make one by `git worktree add`.") from error
    named = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return ast.literal_eval(named["_STAGE"])
