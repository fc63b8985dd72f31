"""Timings whose ratios mean something, the tables they make, and the machine they were taken on.

What is compared runs in turns, A B A B, in one run. Absolute times on a machine that others use are noise; the ratio of
two timings taken one after the other is the figure, and its quartiles over the rounds tell how far to trust it.
"""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from boneage.base.errors import BoneAgeError

PACKAGES = ("boneage", "keras", "numpy", "opencv-python-headless", "pillow", "protobuf", "tensorflow", "tensorflow-cpu")

COMMAND_LINE = ("-c", "from boneage.cli.main import main; main()")
_SAMPLING_SECONDS = 0.05

Row = dict[str, Any]
# Does its work once and tells the seconds it took for each item.
TimedCase = Callable[[], float]


class BenchmarkError(BoneAgeError):
    """Inputs from which a benchmark would measure something else than it says."""


def clock(work: Callable[[], object], *, num_items: int, min_seconds: float = 0.0) -> TimedCase:
    """Make a side of a comparison from a function.

    Args:
        work: The function, called with nothing.
        num_items: Items that one call of it works through.
        min_seconds: How long to go on calling it, so that short work is not drowned by the clock.

    Returns:
        A function that gives the seconds for each item.
    """

    def side() -> float:
        began, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - began < min_seconds:
            work()
            calls += 1
        return (time.perf_counter() - began) / (calls * num_items)

    return side


def time_in_turns(sides: Mapping[str, TimedCase], *, repeats: int) -> dict[str, list[float]]:
    """Time all sides in turns: one round that does not count, to warm up, then `repeats` rounds.

    Returns:
        Seconds for each item, one value a round, by side.

    Raises:
        ValueError: If there is not one round.
    """
    if repeats < 1:
        raise ValueError(f"`repeats` must be 1 or more. Received: {repeats}.")
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            seconds[name].append(side())
    return seconds


def run_python(
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    peaks_mib: list[float] | None = None,
    core: int | None = None,
) -> str:
    """Run Python in a process of its own, and wait for it.

    Args:
        arguments: What it is given.
        python: Which one; that of another environment has other packages.
        peaks_mib: Its peak memory is added here.
        core: The only CPU core that it may use (default: all of them).

    Returns:
        What it prints.

    Raises:
        BenchmarkError: If it fails.
    """
    keep = None if core is None else lambda: os.sched_setaffinity(0, {core})
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [python, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=keep
            )
        )
        if peaks_mib is not None:
            stack.enter_context(_watch_memory(process.pid, peaks_mib))
        printed, complaint = process.communicate()
    if process.returncode:
        last = (complaint.strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"a timed process ended with status {process.returncode} ({last}); run it by itself.")
    return printed


@contextlib.contextmanager
def _watch_memory(pid: int, peaks_mib: list[float]) -> Iterator[None]:
    """Add to `peaks_mib` the largest resident memory of a process and all below it, in MiB."""
    over = threading.Event()
    sums: list[int] = [0]

    def watch() -> None:
        root = psutil.Process(pid)
        while not over.wait(_SAMPLING_SECONDS):
            sums.append(_resident_bytes(root))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        peaks_mib.append(max(sums) / 2**20)


def _resident_bytes(root: psutil.Process) -> int:
    total = 0
    # A process may end while it is looked at; what is gone holds no memory.
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def median_and_quartiles(name: str, values: Sequence[float] | np.ndarray) -> Row:
    """Return the median of the values as `name` and their quartiles as `name_low` and `name_high`."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return {name: rounded(median), f"{name}_low": rounded(low), f"{name}_high": rounded(high)}


def rounded(value: float) -> float:
    """Round to four significant digits, more than any timing has."""
    return float(f"{value:.4g}")


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> np.ndarray:
    """Divide round by round, so that what slows both sides of a round cancels."""
    return np.divide(numerator, denominator)


def speed_row(case: str, *, baseline: str, seconds: Mapping[str, Sequence[float]], num_images: int) -> Row:
    """Make the row that tells how many times as fast a case is as its baseline.

    Args:
        case: A side that `time_in_turns` timed.
        baseline: The side it is compared to.
        seconds: What `time_in_turns` returned.
        num_images: Images that one round of the case works through.
    """
    return {
        "case": case,
        "baseline": baseline,
        "images_per_second": rounded(1 / float(np.median(seconds[case]))),
        "baseline_images_per_second": rounded(1 / float(np.median(seconds[baseline]))),
        **median_and_quartiles("times_as_fast", ratios(seconds[baseline], seconds[case])),
        "num_images": num_images,
        "repeats": len(seconds[case]),
    }


def markdown(rows: Sequence[Row]) -> str:
    """Lay out rows as a Markdown table; a median stands with its quartiles in one cell."""
    columns = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if not any(key == f"{other}{end}" for row in rows for other in row for end in ("_low", "_high"))
    ]

    def cell(row: Row, key: str) -> str:
        value = row.get(key)
        if value is None:
            return "-"
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"{text} [{row[f'{key}_low']:.4g}, {row[f'{key}_high']:.4g}]" if f"{key}_low" in row else text

    lines = [[key.replace("_", " ") for key in columns], ["---"] * len(columns)]
    lines += [[cell(row, key) for key in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine() -> Row:
    """Describe the machine without naming it."""
    return {"cpu": _cpu_model(), "num_cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def _cpu_model() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages whose work is timed, those that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
