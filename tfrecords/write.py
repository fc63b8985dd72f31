"""Write a record folder that explains itself: shards, `features.json`, `dataset_info.json`, `rejected.csv`."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tfrecords.framing import frame
from tfrecords.schema import FIELDS, SCHEMA_VERSION

SHARD_RECORDS = 1024
INFO_FILE = "dataset_info.json"
FEATURES_FILE = "features.json"
REJECTED_FILE = "rejected.csv"
REVIEW_FOLDER = "review"
REJECTED_COLUMNS = ("id", "file", "reason", "detail", "decisions")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as `write_whole` does."""
    with write_whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside its place and rename it at the end, so that it is never there by half.

    Several processes may write it at once: each writes beside it under a name of its own, and the last one stays.
    """
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with beside.open("wb") as file:
            yield file
            # Renamed before its content is on the disk, the file would be empty after a power cut.
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `write_text` does: sorted keys, two spaces, no NaN."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_rejected(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write `rejected.csv`, one row for each file or table row that became no record."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, REJECTED_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


def shard_name(split: str, index: int, num_shards: int) -> str:
    """Name a shard as TensorFlow Datasets does: `train-00000-of-00010.tfrecord`."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def write_shard(path: Path, records: Iterable[bytes]) -> dict[str, Any]:
    """Write encoded records to one shard.

    Args:
        path: The shard's path; it appears there only when complete.
        records: Encoded records, as `tfrecords.schema.encode` gives them.

    Returns:
        The shard's entry in `dataset_info.json`: `file`, `num_records`, `num_bytes`, `sha256`.
    """
    digest, num_records, num_bytes = hashlib.sha256(), 0, 0
    with write_whole(path) as file:
        for record in records:
            framed = frame(record)
            file.write(framed)
            digest.update(framed)
            num_records += 1
            num_bytes += len(framed)
    return {"file": path.name, "num_records": num_records, "num_bytes": num_bytes, "sha256": digest.hexdigest()}


def write_split(folder: Path, split: str, records: Sequence[Any], *, load: Any) -> list[dict[str, Any]]:
    """Write one split into shards of at most `SHARD_RECORDS` records.

    Args:
        folder: Where the shards go.
        split: `"train"`, `"validation"` or `"test"`.
        records: Handles of the records in their final order.
        load: Function from a handle to the encoded record, so that a split never has to fit in memory.

    Returns:
        The shards' entries in `dataset_info.json`.
    """
    num_shards = -(-len(records) // SHARD_RECORDS)
    return [
        # Every num_shards-th record: shards of equal size, each a fair sample of the split.
        write_shard(folder / shard_name(split, index, num_shards), map(load, records[index::num_shards]))
        for index in range(num_shards)
    ]


def digest(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the data: SHA-256 over all the shards' names and hashes (16 hexadecimal digits)."""
    lines = [f"{shard['file']} {shard['sha256']}" for split in sorted(splits) for shard in splits[split]["shards"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_features(folder: Path) -> None:
    """Write `features.json`: the schema's version and every field, for whoever finds the folder."""
    fields = [dataclasses.asdict(field) for field in FIELDS]
    write_json(folder / FEATURES_FILE, {"schema_version": SCHEMA_VERSION, "fields": fields})
