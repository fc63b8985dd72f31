"""The packaged network by ONNX Runtime, as the package answers, beside Keras and torch."""

import functools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import BenchmarkError, Row, clock, median_and_quartiles, ratios, rounded, run_python, time_in_turns

SCRIPT = Path(__file__).with_name("answering.py")
# By the names of their modules.
TITLES = {"onnxruntime": "ONNX Runtime", "tensorflow": "Keras, TensorFlow", "torch": "torch"}
# Kernels are rounded to half precision before batch normalisation is folded in (Keras, torch) or after it (ONNX), which
# changes an answer by 0.1 months in the mean; `tools/ship.py` bounds it alike.
MAX_DIFFERENCE_MONTHS = 0.5


def runtimes(
    *, torch: Path | None = None, batches: Sequence[int] = (1, 32), seconds: float = 2.0, repeats: int = 5
) -> list[Row]:
    """A fresh process to its first answer, and images a second once it is warm, on one core by each runtime.

    The first answer takes the process, its imports, the network and one image that is in memory. All of it is float32;
    torch has it eager, with batch normalisation folded and channels last, which is its fastest here.

    Args:
        torch: Python of an environment with torch, which is not installed with TensorFlow (default: none).
        batches: Images at a time.
        seconds: How long each round of answering goes on.
        repeats: Rounds that count.

    Raises:
        BenchmarkError: If a process fails, or the runtimes do not answer alike.
    """
    pythons = {"onnxruntime": sys.executable, "tensorflow": sys.executable}
    if torch is not None:
        pythons["torch"] = str(torch)
    (core, *_) = os.sched_getaffinity(0)
    peaks_mib: dict[str, list[float]] = {name: [] for name in pythons}
    told: dict[str, dict[str, Any]] = {}

    def begin(name: str) -> None:
        run_python((str(SCRIPT), name), python=pythons[name], peaks_mib=peaks_mib[name], core=core)

    def answer(name: str, batch: int) -> float:
        words = (str(SCRIPT), name, "--batch", str(batch), "--seconds", str(seconds))
        told[name] = json.loads(run_python(words, python=pythons[name], core=core))
        return told[name]["seconds_per_image"]

    sides = {f"{name} begins": clock(functools.partial(begin, name), num_items=1) for name in pythons}
    sides |= {f"{name} by {batch}": functools.partial(answer, name, batch) for batch in batches for name in pythons}
    took = time_in_turns(sides, repeats=repeats)
    baseline = next(iter(pythons))
    rows = []
    for name in pythons:
        difference = float(np.abs(np.subtract(told[name]["months"], told[baseline]["months"])).max())
        if not difference <= MAX_DIFFERENCE_MONTHS:
            raise BenchmarkError(f"{TITLES[name]} answers {difference:.2f} months off {TITLES[baseline]}.")
        row: Row = {
            "runtime": f"{TITLES[name]} {told[name]['version']}",
            **median_and_quartiles("seconds_to_first_answer", took[f"{name} begins"]),
            **median_and_quartiles("times_as_long", ratios(took[f"{name} begins"], took[f"{baseline} begins"])),
            "peak_memory_mib": rounded(float(np.median(peaks_mib[name][-repeats:]))),
        }
        for batch in batches:
            seconds_per_image, first = took[f"{name} by {batch}"], took[f"{baseline} by {batch}"]
            row |= median_and_quartiles(f"images_per_second_by_{batch}", 1 / np.array(seconds_per_image))
            row |= median_and_quartiles(f"times_as_fast_by_{batch}", ratios(first, seconds_per_image))
        rows.append({**row, "largest_difference_months": rounded(difference), "repeats": repeats})
    return rows
