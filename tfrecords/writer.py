"""Write the files of a record folder: shards, `features.json`, `rejected.csv`."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from boneage.base.files import open_atomic, write_json, write_text
from boneage.base.spreadsheets import format_rows
from boneage.tfrecords.framing import frame_record
from boneage.tfrecords.label_weights import READER_SD_MONTHS, weigh_label
from boneage.tfrecords.schema import FIELDS, SCHEMA_VERSION

Handle = TypeVar("Handle")

MAX_SHARD_RECORDS = 1024
INFO_FILE = "dataset_info.json"
FEATURES_FILE = "features.json"
REJECTED_FILE = "rejected.csv"
REVIEW_FOLDER = "review"
REJECTED_COLUMNS = ("id", "file", "reason", "detail", "decisions")


def write_rejected(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write `rejected.csv`, one row for each file or table row that is in no record."""
    cells = [[row.get(name, "") for name in REJECTED_COLUMNS] for row in rows]
    write_text(path, format_rows([REJECTED_COLUMNS, *cells]))


def shard_name(split: str, index: int, num_shards: int) -> str:
    """Return the name of a shard as in TensorFlow Datasets: `train-00000-of-00010.tfrecord`."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def write_shard(path: Path, records: Iterable[bytes]) -> dict[str, Any]:
    """Write encoded records to one shard.

    Args:
        path: The shard; it appears only when complete.
        records: Records encoded by `boneage.tfrecords.schema.encode`.

    Returns:
        The shard's entry in `dataset_info.json`: `file`, `num_records`, `num_bytes`, `sha256`.
    """
    digest, num_records, num_bytes = hashlib.sha256(), 0, 0
    with open_atomic(path) as file:
        for record in records:
            framed = frame_record(record)
            file.write(framed)
            digest.update(framed)
            num_records += 1
            num_bytes += len(framed)
    return {"file": path.name, "num_records": num_records, "num_bytes": num_bytes, "sha256": digest.hexdigest()}


def write_split(
    folder: Path, split: str, records: Sequence[Handle], *, load: Callable[[Handle], bytes]
) -> list[dict[str, Any]]:
    """Write one split into shards of at most `MAX_SHARD_RECORDS` records.

    Args:
        folder: Folder of the shards.
        split: `"train"`, `"validation"` or `"test"`.
        records: Handles of the records in their final order.
        load: Function from a handle to the encoded record, so that a split does not have to fit in memory.

    Returns:
        The shards' entries in `dataset_info.json`.
    """
    num_shards = -(-len(records) // MAX_SHARD_RECORDS)
    return [
        # Every num_shards-th record: shards of equal size, each an unbiased sample of the split.
        write_shard(folder / shard_name(split, index, num_shards), map(load, records[index::num_shards]))
        for index in range(num_shards)
    ]


def data_digest(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of the data: SHA-256 over the names and hashes of all shards (16 hexadecimal digits)."""
    lines = [f"{shard['file']} {shard['sha256']}" for split in sorted(splits) for shard in splits[split]["shards"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def describe_readers(readers: Sequence[tuple[int | None, float | None]]) -> dict[str, float]:
    """Return the mean weight of the labels of a split, its entry in `dataset_info.json`; empty without readers.

    Args:
        readers: Of each labelled record the number of readers and the standard deviation between them, in months.
    """
    if all(number is None for number, _ in readers):
        return {}
    weights = [weigh_label(float(number or 1), READER_SD_MONTHS if sd is None else sd) for number, sd in readers]
    return {"mean_label_weight": round(float(np.mean(weights)), 6)}


def describe_ages(ages_months: Sequence[float]) -> dict[str, Any]:
    """Return the statistics of the bone ages of a split, its entries in `dataset_info.json`.

    Args:
        ages_months: The bone ages of its labelled records, in months.
    """
    described: dict[str, Any] = {"num_labelled": len(ages_months)}
    if len(ages_months):
        ages = np.asarray(ages_months, np.float64)
        described |= {
            "mean_months": round(float(ages.mean()), 6),
            "std_months": round(float(ages.std()), 6),
            "min_months": float(ages.min()),
            "max_months": float(ages.max()),
        }
    return described


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a record folder, by its path in it; shards have theirs elsewhere."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".tfrecord" and path != folder / INFO_FILE:
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def write_features(folder: Path) -> None:
    """Write `features.json`: schema version and fields."""
    fields = [dataclasses.asdict(field) for field in FIELDS]
    write_json(folder / FEATURES_FILE, {"schema_version": SCHEMA_VERSION, "fields": fields})
