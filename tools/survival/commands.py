"""The commands that are disturbed, on drawings, and what each leaves."""

import csv
import dataclasses
import hashlib
import io
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.sources.review_csv import read_reviews
from boneage.preprocessing.synthetic import write_dataset
from survival.process import Running

ROOT = Path(__file__).parents[2]
BONEAGE = (sys.executable, "-m", "boneage")
# Networks that train in a second.
TINY_TRAIN = (sys.executable, str(ROOT / "tests/boneage/training/train_tiny.py"), "1", "0.3")
TINY_TUNE = (sys.executable, str(ROOT / "tests/boneage/tuning/tune_tiny.py"))
NUM_FRAMES, NUM_HANDS = 600, 6
EXPERIMENT = """
[train]
network = "efficientnet_lite0"
init = "none"
input_size = 32
epochs = 4
batch_size = 8
warmup_epochs = 0.5
"""
_TUNE = {
    "num_layers": "[0, 1]",
    "units": "[4, 8]",
    "sex_widths": "[4]",
    "trial_epochs": "2",
}
# What differs between two runs that do the same.
_TIMES = frozenset({"seconds", "images_per_second", "input_stall_share", "modified_ns", "reports"})

Rows = dict[str, dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command on small inputs.

    Args:
        name: Its name.
        source: The folder that it reads.
        words: From the source and the place, a folder of its own, to the command line.
        read: From the place to what the command has left there: equal for two runs that did the same.
        rows: From the place to one row for each file of the source, for commands that read radiographs.
        drive: For servers: work with a running one at a place until all is done; returns early if it ends.
        resume: Words to go on after a kill, from the place.
        is_done: From the place to whether it has finished there, for commands that begin anew when run once more.
    """

    name: str
    source: Path
    words: Callable[[Path, Path], tuple[str, ...]]
    read: Callable[[Path], Any]
    rows: Callable[[Path], Rows] | None = None
    drive: Callable[[Running, Path], None] | None = None
    resume: Callable[[Path], tuple[str, ...]] = lambda _: ()
    is_done: Callable[[Path], bool] = lambda _: False


def make_commands(folder: Path) -> list[Command]:
    """Draw the inputs of all commands and describe the commands.

    Args:
        folder: Folder for the inputs.
    """
    frames, hands, dicom = folder / "frames", folder / "hands", folder / "dicom"
    write_dataset(frames, num_images=NUM_FRAMES, seed=1, size_px=(80, 64))
    write_dataset(hands, num_images=NUM_HANDS, seed=2, size_px=(320, 256))
    _write_dicom(dicom, hands)
    few = folder / "few"
    write_dataset(few, num_images=40, seed=3, size_px=(80, 64))
    records = prepare(
        few, out=folder / "records", split="random", config=PreprocessingConfig(segmenter="none", image_size_px=32)
    ).folder
    prepared = prepare(hands, out=folder / "prepared", split="random", workers=1).folder
    experiment = folder / "tiny.toml"
    experiment.write_text(EXPERIMENT, encoding="utf-8")
    tuned = tuple(word for key, value in _TUNE.items() for word in ("--set", f"tune.{key}={value}"))
    common = ("--workers", "2", "--json")
    return [
        Command(
            "prepare",
            frames,
            lambda source, place: (
                *(*BONEAGE, "prepare", str(source), "--out", str(place / "records"), "--split", "random"),
                *("--segmenter", "none", *common),
            ),
            read_files,
            rows=_read_prepared,
        ),
        Command(
            "segment",
            dicom,
            lambda source, place: (*BONEAGE, "segment", str(source), "--out", str(place / "masks"), *common),
            read_files,
            rows=lambda place: _read_table(place / "masks" / "segments.csv"),
        ),
        Command(
            "predict",
            dicom,
            lambda source, place: (
                *(*BONEAGE, "predict", str(source), "--out", str(place / "table.csv"), *common),
                *("--dicom", str(place / "dicom"), "--fhir", str(place / "fhir")),
            ),
            lambda place: _read_reported(place, place / "table.csv", {"table.csv"}),
            rows=lambda place: _read_table(place / "table.csv"),
            is_done=lambda place: {path.name for path in place.glob("table.csv*")} == {"table.csv"},
        ),
        Command(
            "train",
            records,
            lambda source, place: (
                *(*TINY_TRAIN, "train", str(experiment), "--data", str(source), "--run", str(place / "run")),
                *("--tracking-uri", "none"),
            ),
            _read_run,
            resume=lambda place: ("--resume",) if _has_epoch(place / "run") else (),
        ),
        Command(
            "tune",
            records,
            lambda source, place: (
                *(*TINY_TUNE, "tune", str(experiment), "--data", str(source), "--out", str(place / "search")),
                *("--num-trials", "5", "--tuner", "random", "--tracking-uri", "none", *tuned),
            ),
            _read_search,
        ),
        Command(
            "review",
            hands,
            lambda source, place: (
                *(*BONEAGE, "review", str(prepared), "--source", str(source)),
                *("--decisions", str(place / "decisions.csv"), "--port", "0"),
            ),
            read_files,
            drive=_decide,
        ),
        Command(
            "watch",
            dicom,
            lambda source, place: (
                *(*BONEAGE, "serve", "--watch", str(source), "--out", str(place / "out"), "--port", "0"),
            ),
            lambda place: _read_reported(place, place / "out" / "readings.csv", {"readings.csv"}),
            rows=lambda place: _read_table(place / "out" / "readings.csv"),
            drive=_wait_for_readings,
        ),
    ]


def _write_dicom(folder: Path, drawn: Path) -> None:
    folder.mkdir()
    for number, path in enumerate(sorted(drawn.rglob("*.png")), start=1):
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", f"1.2.3.4.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{number}", f"1.2.3.{number}.1"
        dataset.PatientID, dataset.PatientSex, dataset.PatientAge = f"P{number}", "FM"[number % 2], "010Y"
        dataset.Modality, dataset.StudyDate = "CR", "20200101"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.SamplesPerPixel, dataset.PixelRepresentation = 7, 1, 0
        dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", pixels.tobytes()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def read_files(place: Path) -> dict[str, str]:
    """Return the hash of every file below a folder by its name."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in place.rglob("*")
        if path.is_file()
    }


def _read_table(path: Path) -> Rows:
    # Strict: a table must be UTF-8 whatever the names.
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    by_file = {Path(row["file"]).name: row for row in rows}
    if len(by_file) < len(rows):
        raise ValueError(f"{path.name}: {len(rows)} rows of {len(by_file)} files")
    return by_file


def _read_prepared(place: Path) -> Rows:
    info = json.loads((place / "records" / "dataset_info.json").read_text(encoding="utf-8"))
    rejected = csv.DictReader(io.StringIO((place / "records" / "rejected.csv").read_text(encoding="utf-8")))
    rows = {Path(row["file"]).name: {"reasons": row["reason"]} for row in rejected}
    num_records = sum(split["num_records"] for split in info["splits"].values())
    return rows | {f"record {number}": {"reasons": ""} for number in range(num_records)}


def _read_reported(place: Path, table: Path, tables: set[str]) -> Any:
    """Return the rows of a table without the random names of reports, which must be those that are there."""
    rows = _read_table(table)
    listed = [name for row in rows.values() for name in row["reports"].split(";") if name]
    present = [path.name for path in place.rglob("*") if path.is_file() and path.name not in tables]
    if sorted(listed) != sorted(present):
        raise ValueError(f"{len(listed)} reports listed, {len(present)} files there")
    return {name: _without_times(row) for name, row in rows.items()}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in _TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _has_epoch(run: Path) -> bool:
    state = run / "state.json"
    return state.exists() and bool(json.loads(state.read_text(encoding="utf-8"))["history"])


def _read_run(place: Path) -> Any:
    run = place / "run"
    history = json.loads((run / "state.json").read_text(encoding="utf-8"))["history"]
    predictions = _read_column(run / "evaluation-validation" / "predictions.csv", "id", "predicted_months")
    return {"history": _without_times(history), "predictions": predictions, "files": sorted(read_files(place))}


def _read_search(place: Path) -> Any:
    search = place / "search"
    errors = _read_column(search / "trials.csv", "number", "val_mae_months")
    return {"errors": errors, "files": sorted(read_files(place))}


def _read_column(path: Path, key: str, value: str) -> dict[str, float]:
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return {row[key]: float(row[value]) for row in rows}


def _decide(running: Running, place: Path) -> None:
    """Decide on every radiograph in turn; what was acknowledged before must be in the file."""
    if not running.wait_until(lambda: "http://" in running.read_output()):
        return
    (address,) = re.findall(r"http://[\d.]+:\d+", running.read_output())
    path = place / "decisions.csv"
    decided = len(read_reviews(path)) if path.exists() else 0
    for number in range(decided, NUM_HANDS):
        body = json.dumps({"decision": "reject" if number % 2 else "keep"}).encode()
        request = urllib.request.Request(f"{address}/hands/{number}/decision", body, {"Origin": address})  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
        except urllib.error.HTTPError:
            raise
        except OSError:
            if running.has_ended():
                return
            raise
        if len(read_reviews(path)) != number + 1:
            raise ValueError(f"decision {number} was acknowledged and is not in the file")


def _wait_for_readings(running: Running, place: Path) -> None:
    table = place / "out" / "readings.csv"
    source = Path(running.process.args[running.process.args.index("--watch") + 1])  # type: ignore[index,union-attr]

    def is_done() -> bool:
        found = sum(path.name[0] != "." and not path.is_dir() for path in source.rglob("*"))
        return (
            table.exists()
            and table.read_bytes().count(b"\n") > found
            and not any((place / "out" / ".unfinished").iterdir())
        )

    if running.wait_until(lambda: "watching" in running.read_output()):
        running.wait_until(is_done)
