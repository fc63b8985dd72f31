"""From nothing to an answer, and a server under load."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from measure import (
    COMMAND_LINE,
    BenchmarkError,
    Row,
    clock,
    median_and_quartiles,
    ratios,
    rounded,
    run_python,
    time_in_turns,
)

from boneage.preprocessing.sources.sources import find_cases

SEX = {"sex": "female"}
LOAD_NETWORK = (
    "-c",
    "from boneage.bundles.bundle import DEFAULT_BUNDLE; from boneage.bundles.save import load_network; "
    "load_network(DEFAULT_BUNDLE)",
)


def starting(files: Path, *, repeats: int = 7) -> list[Row]:
    """A fresh process that predicts one radiograph with the packaged model on one core, beside one that does nothing.

    The last row is what Keras would need first: TensorFlow imported and the same network loaded, nothing predicted.

    Args:
        files: Folder of radiographs, of which the largest is taken.
        repeats: Rounds that count.

    Raises:
        BenchmarkError: If a process fails.
    """
    largest = max((case.path for case in find_cases(files)[0]), key=lambda path: path.stat().st_size)
    commands = {
        "python -c pass": ("-c", "pass"),
        "boneage predict one file": (*COMMAND_LINE, "predict", str(largest), "--sex", "male"),
        "network loaded by Keras": LOAD_NETWORK,
    }
    (core, *_) = os.sched_getaffinity(0)
    peaks_mib: dict[str, list[float]] = {name: [] for name in commands}
    sides = {
        name: clock(functools.partial(run_python, command, peaks_mib=peaks_mib[name], core=core), num_items=1)
        for name, command in commands.items()
    }
    seconds = time_in_turns(sides, repeats=repeats)
    baseline = next(iter(commands))
    return [
        {
            "case": name,
            **median_and_quartiles("seconds", seconds[name]),
            **median_and_quartiles("times_as_long", ratios(seconds[name], seconds[baseline])),
            "peak_memory_mib": rounded(float(np.median(peaks_mib[name][-repeats:]))),
            "repeats": repeats,
        }
        for name in commands
    ]


def folders(files: Path, *, workers: int = 2, repeats: int = 3) -> list[Row]:
    """`boneage predict` of a folder with the packaged models, beside `boneage segment` of it, start and all.

    Args:
        files: The folder of radiographs.
        workers: Processes of each.
        repeats: Rounds that count.

    Raises:
        BenchmarkError: If a process fails.
    """
    number = len(find_cases(files)[0])
    with tempfile.TemporaryDirectory() as out:
        commands = {
            "segment": ("segment", str(files), "--out", f"{out}/masks"),
            "predict": ("predict", str(files), "--sex", "male", "--out", f"{out}/ages.csv"),
        }

        def run(name: str) -> None:
            # Either would go on where it was.
            for path in Path(out).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            run_python((*COMMAND_LINE, *commands[name], "--workers", str(workers)))

        sides = {name: clock(functools.partial(run, name), num_items=number) for name in commands}
        seconds = time_in_turns(sides, repeats=repeats)
    return [
        {
            "case": f"boneage {name}",
            "number": number,
            **median_and_quartiles("seconds", seconds[name]),
            **median_and_quartiles("times_as_long", ratios(seconds[name], seconds["segment"])),
        }
        for name in commands
    ]


def serving(files: Path, *, num_clients: int = 8, seconds: float = 120.0) -> list[Row]:
    """`boneage serve` with the packaged model, asked by several clients at once without a pause.

    Args:
        files: Folder of radiographs, which each client sends in turn.
        num_clients: Clients at a time.
        seconds: How long.

    Raises:
        BenchmarkError: If the server does not start.
    """
    paths = [case.path for case in find_cases(files)[0]]
    server = subprocess.Popen(
        [sys.executable, "-u", *COMMAND_LINE, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        found = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
        if not found:
            raise BenchmarkError("the server did not start; run `boneage serve` by itself.")
        _wait_until_ready(found[0])
        statuses: list[int] = []
        accepted: list[bool] = []
        end = time.monotonic() + seconds

        def ask(number: int) -> None:
            with httpx.Client(base_url=found[0], timeout=120) as client:
                for turn in range(number, 10**9):
                    if time.monotonic() > end:
                        return
                    path = paths[turn % len(paths)]
                    told = client.post("/api/v1/predict", files={"files": (path.name, path.read_bytes())}, data=SEX)
                    statuses.append(told.status_code)
                    if told.status_code == 200:
                        accepted.extend(prediction["accepted"] for prediction in told.json())

        clients = [threading.Thread(target=ask, args=(number,)) for number in range(num_clients)]
        for client in clients:
            client.start()
        memory_mib = []
        while any(client.is_alive() for client in clients):
            memory_mib.append(psutil.Process(server.pid).memory_info().rss / 2**20)
            time.sleep(1)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    half = len(memory_mib) // 2
    return [
        {
            "clients": num_clients,
            "seconds": seconds,
            "requests": len(statuses),
            "answered": statuses.count(200),
            "accepted": sum(accepted),
            "turned_away": statuses.count(503),
            "failed": sum(status not in (200, 503) for status in statuses),
            "requests_per_second": rounded(len(statuses) / seconds),
            "memory_mib_first_half": rounded(float(np.median(memory_mib[:half]))),
            "memory_mib_second_half": rounded(float(np.median(memory_mib[half:]))),
            "peak_memory_mib": rounded(max(memory_mib)),
        }
    ]


def _wait_until_ready(address: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:  # not listening yet
            pass
        time.sleep(0.1)
    raise BenchmarkError("the server was not ready within a minute; run `boneage serve` by itself.")
