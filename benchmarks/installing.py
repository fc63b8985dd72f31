"""The first steps of a new user, beside those with two packages of neighbouring fields."""

import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
from measure import COMMAND_LINE, BenchmarkError, Row, clock, median_and_quartiles, ratios, run_python, time_in_turns

from boneage.preprocessing.synthetic import draw_radiograph

ROOT = Path(__file__).parents[1]
# What is installed, and the first step that needs no weights: both packages download theirs when they first answer.
PEERS = {
    "torchxrayvision": ("torchxrayvision==1.5.7", "imported", ("-c", "import torchxrayvision")),
    "TotalSegmentator": (
        "TotalSegmentator==2.18.0",
        "--help",
        (
            "-c",
            "import sys; sys.argv[1:] = ['--help']; from totalsegmentator.bin.TotalSegmentator import main; main()",
        ),
    ),
}
INSTALLED = "boneage, installed"
FIRST, SECOND = "boneage, first answer", "boneage, second answer"
# Two radiographs are read by one process, which prints the seconds from its first line to each answer.
_ANSWERS = """
import json, sys, time
began = time.perf_counter()
import boneage
model = boneage.load()
seconds = []
for path in sys.argv[1:]:
    assert model.predict(path, sex="female").accepted
    seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
print(json.dumps(seconds))
"""
# Of a radiograph; height and width.
_SIZE_PX = (2040, 1600)


def installing(*, repeats: int = 3) -> list[Row]:
    """The core installed by pip into a fresh environment and its first answers, beside the first steps of two others.

    The round that does not count fills pip's cache, so that no download is timed. The other packages download their
    weights before they answer: they are only imported, or asked for their help.

    Args:
        repeats: Rounds that count.

    Raises:
        BenchmarkError: If the core cannot be installed, or does not answer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_python(("-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)))
        radiographs = [_draw(folder / f"{seed}.png", seed=seed) for seed in (7, 8)]
        install = {INSTALLED: functools.partial(_install, folder / "boneage", str(next(folder.glob("*.whl"))))}
        steps: dict[str, tuple[Path, Sequence[str]]] = {
            "boneage, --help": (folder / "boneage", (*COMMAND_LINE, "--help"))
        }
        not_run: list[Row] = []
        for peer, (requirement, step, command) in PEERS.items():
            fresh = functools.partial(_install, folder / peer, requirement)
            try:
                fresh()
                _run(folder / peer, command)
            except BenchmarkError as error:
                not_run.append({"case": peer, "not_run": str(error)})
                continue
            install[f"{peer}, installed"] = fresh
            steps[f"{peer}, {step}"] = (folder / peer, command)
        installed = time_in_turns({case: clock(work, num_items=1) for case, work in install.items()}, repeats=repeats)
        sizes_mib = {case: _measure_mib(work.args[0]) for case, work in install.items()}

        seconds: list[tuple[float, float]] = []

        def answer() -> float:
            first, second = json.loads(_run(folder / "boneage", ("-c", _ANSWERS, *radiographs)))
            seconds.append((first, second))
            return float(first)

        sides = {
            case: clock(functools.partial(_run, environment, command), num_items=1)
            for case, (environment, command) in steps.items()
        }
        started = time_in_turns({FIRST: answer, **sides}, repeats=repeats)
    started[SECOND] = [second for _, second in seconds[-repeats:]]
    return [
        *(
            {
                "case": case,
                "baseline": baseline,
                **median_and_quartiles("seconds", times[case]),
                **median_and_quartiles("times_as_long", ratios(times[case], times[baseline])),
                "installed_mib": sizes_mib.get(case),
                "repeats": repeats,
            }
            for times, baseline in ((installed, INSTALLED), (started, FIRST))
            for case in times
        ),
        *not_run,
    ]


def _draw(path: Path, *, seed: int) -> str:
    _, encoded = cv2.imencode(".png", draw_radiograph(120, sex="female", seed=seed, size_px=_SIZE_PX).pixels)
    path.write_bytes(encoded.tobytes())
    return str(path)


def _run(environment: Path, command: Sequence[str]) -> str:
    """Run the Python of an environment, without the modules of the working folder."""
    return run_python(("-P", *command), python=str(environment / "bin" / "python"))


def _install(environment: Path, requirement: str) -> None:
    """Make an environment anew and install into it, as the README says."""
    shutil.rmtree(environment, ignore_errors=True)
    run_python(("-m", "venv", str(environment)))
    _run(environment, ("-m", "pip", "install", "--quiet", requirement))


def _measure_mib(environment: Path) -> int:
    num_bytes = sum(path.lstat().st_size for path in environment.rglob("*") if not path.is_dir())
    return round(num_bytes / 2**20)
