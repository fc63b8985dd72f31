"""Checkouts of this project beside each other: what a change of the hand stage costs in time."""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import BenchmarkFailed, Row, Side, alternate, ratios, spread

from preprocessing.sources import find_cases

# The whole stage on radiographs that are read already, once for each line that comes in.
_STAGE = """
import contextlib, sys, time
from pathlib import Path
import cv2
from preprocessing.pipeline import PreprocessingConfig, Untrusted, process
from preprocessing.read import read_radiograph
cv2.setNumThreads(1)
config = PreprocessingConfig()
radiographs = [(Path(path), read_radiograph(Path(path))) for path in sys.argv[1:]]
for _ in sys.stdin:
    began = time.perf_counter()
    for path, radiograph in radiographs:
        with contextlib.suppress(Untrusted):  # it takes the same steps
            process(radiograph, config, path=path)
    print((time.perf_counter() - began) / len(radiographs), flush=True)
"""


def comparing(
    files: Path, trees: Sequence[Path], *, num_files: int = 100, repeats: int = 7, seed: int = 0
) -> list[Row]:
    """The hand stage of several checkouts in turns, one core, on the same radiographs, beside the first of them.

    Args:
        files: Folder of radiographs.
        trees: Folders that hold a checkout each, such as `git worktree add` makes.
        num_files: How many radiographs to take at most.
        repeats: Rounds that count.
        seed: Seed of the sample.

    Raises:
        BenchmarkFailed: If a folder holds no checkout or has the name of another, or a process fails.
    """
    named = {tree.absolute().name: tree for tree in trees}
    if len(named) < len(trees):
        raise BenchmarkFailed("checkouts are told apart by the names of their folders; give each its own.")
    cases, _ = find_cases(files)
    chosen = np.random.default_rng(seed).permutation(len(cases))[:num_files]
    paths = [str(cases[index].path.resolve()) for index in chosen]
    with contextlib.ExitStack() as stack:
        sides = {name: _start(tree, paths, stack) for name, tree in named.items()}
        seconds = alternate(sides, repeats=repeats)
    first = next(iter(seconds.values()))
    return [
        {
            "checkout": name,
            "number": len(paths),
            **spread("seconds", values),
            **spread("times_the_first", ratios(values, first)),
        }
        for name, values in seconds.items()
    ]


def _start(tree: Path, paths: Sequence[str], stack: contextlib.ExitStack) -> Side:
    """Start a process that works through the radiographs by a checkout's own code whenever the side is called."""
    if not (tree / "preprocessing" / "pipeline.py").is_file():
        raise BenchmarkFailed(f"{tree}: holds no checkout of this project; make one by `git worktree add`.")
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", _STAGE, *paths],
            cwd=tree,  # by which Python imports first
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
            raise BenchmarkFailed(f"{tree}: its process ended; what it said stands above.") from error

    return side
