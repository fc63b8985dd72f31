"""The last step of a preparation: finished parts become splits, shards and the files that explain them."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.pipeline import PreprocessingConfig, fingerprint
from preprocessing.sheets import write_sheets
from preprocessing.sources import Case
from preprocessing.splits import assign_splits
from tfrecords.framing import read_frame_at
from tfrecords.schema import SCHEMA_VERSION, SPLITS
from tfrecords.write import REJECTED_FILE, REVIEW_FOLDER, digest, write_features, write_rejected, write_split

# (id, part file, offset): where a finished record stands.
Handle = tuple[str, Path, int]


def assemble(
    folder: Path,
    notes: Sequence[Path],
    cases: Sequence[Case],
    rejected: list[dict[str, str]],
    *,
    config: PreprocessingConfig,
    split: str,
    seed: int,
    root: Path,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Divide finished parts into splits and write the record folder.

    Args:
        folder: Where to write; it must not exist yet.
        notes: The parts' notes, each beside its records.
        cases: All cases of the job.
        rejected: Rows of what was rejected before any file was read.
        config: The preprocessing that made the parts.
        split: `"given"` or `"random"`.
        seed: Seed of the random split and of the order of the records.
        root: The source, within which files are named.

    Returns:
        The content of `dataset_info.json` and all rejected rows, both as written.
    """
    handles: dict[str, Handle] = {}
    hashes: dict[str, str] = {}
    rejected = list(rejected)
    for note in notes:
        part = json.loads(note.read_text())
        rejected += part["rejected"]
        for entry in part["index"]:
            handles[entry["id"]] = (entry["id"], note.with_suffix(".tfrecord"), entry["offset"])
            hashes[entry["id"]] = entry["pixel_sha256"]
    known = {case.id: case for case in cases if case.id in handles}
    assignment = assign_splits(list(known.values()), hashes, split=split, seed=seed)
    for item in assignment.rejections:
        rejected.append({**dataclasses.asdict(item), "file": name_in_source(known[item.id].path, root)})
    rejected.sort(key=lambda row: (row["reason"], row["id"], row["file"]))

    folder.mkdir()
    splits = {}
    for name in SPLITS:
        ids = sorted(
            (id for id, given in assignment.splits.items() if given == name), key=lambda id: _shuffled(id, seed)
        )
        if ids:
            shards = write_split(folder, name, [handles[id] for id in ids], load=_load)
            splits[name] = {**_describe([known[id] for id in ids]), "shards": shards}
    info = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint(config),
        "preprocessing": dataclasses.asdict(config),
        "split": split,
        "seed": seed,
        "splits": splits,
        "digest": digest(splits),
        "duplicates": assignment.duplicates,
        "num_rejected": len(rejected),
    }
    write_features(folder)
    write_sheets(folder / REVIEW_FOLDER, [note.with_suffix(".tiles") for note in notes])
    write_rejected(folder / REJECTED_FILE, rejected)
    return info, rejected


def name_in_source(path: Path, root: Path) -> str:
    """Return how `rejected.csv` names a file: its path within the source, or its name if it is the source."""
    return path.name if path == root else path.relative_to(root).as_posix()


def _load(handle: Handle) -> bytes:
    _, path, offset = handle
    with path.open("rb") as file:
        return read_frame_at(file, offset)


def _shuffled(id: str, seed: int) -> str:
    """Order ids as if shuffled, the same way on every machine and whatever else is in the folder."""
    return hashlib.sha256(f"{seed} {id}".encode()).hexdigest()


def _describe(cases: Sequence[Case]) -> dict[str, Any]:
    ages = np.array([case.bone_age_months for case in cases if case.bone_age_months is not None], np.float64)
    described: dict[str, Any] = {"num_records": len(cases), "num_labelled": len(ages)}
    if len(ages):
        described |= {
            "mean_months": round(float(ages.mean()), 6),
            "std_months": round(float(ages.std()), 6),
            "min_months": float(ages.min()),
            "max_months": float(ages.max()),
        }
    return described
