"""Check a record folder: counts, hashes, schema, and that no radiograph stands in two splits."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfrecords.framing import DamagedShard, read_frames
from tfrecords.info import read_info
from tfrecords.schema import SchemaError, decode
from tfrecords.write import FEATURES_FILE, INFO_FILE, REJECTED_FILE, REVIEW_FOLDER, digest


def verify(folder: str | Path) -> list[str]:
    """Check a record folder.

    Args:
        folder: The record folder.

    Returns:
        One line for each fault; empty if the folder is whole.

    Raises:
        BoneAgeError: If there is no readable `dataset_info.json`.
    """
    folder = Path(folder)
    info = read_info(folder)
    return list(_faults(folder, info))


def _faults(folder: Path, info: dict[str, Any]) -> Iterator[str]:
    known = {INFO_FILE, FEATURES_FILE, REJECTED_FILE}
    yield from (f"{name}: missing" for name in sorted(known) if not (folder / name).exists())
    if digest(info["splits"]) != info["digest"]:
        yield f"{INFO_FILE}: its digest does not match its shards"
    split_of: dict[str, dict[str, str]] = {"id": {}, "pixel_sha256": {}}
    for split, described in info["splits"].items():
        for shard in described["shards"]:
            known.add(shard["file"])
            found, faults = _read_shard(folder / shard["file"], shard, info["fingerprint"])
            yield from faults
            for names in found:
                for key, value in names.items():
                    is_known = value in split_of[key]
                    other = split_of[key].setdefault(value, split)
                    if other != split:
                        yield f"{key} {value}: in the splits {other} and {split}"
                    elif is_known and key == "id":
                        yield f"id {value}: twice in the split {split}"
        # What a shard lacks is that shard's fault; here the description alone is checked.
        num_records = sum(shard["num_records"] for shard in described["shards"])
        if num_records != described["num_records"]:
            yield f"{split}: {num_records} records in its shards, {described['num_records']} expected"
    yield from (
        f"{path.name}: not part of this folder"
        for path in sorted(folder.iterdir())
        if path.name not in known | {REVIEW_FOLDER}
    )


def _read_shard(path: Path, shard: dict[str, Any], fingerprint: str) -> tuple[list[dict[str, str]], list[str]]:
    """Read one shard; return id and pixel hash of its records, and its faults."""
    if not path.exists():
        return [], [f"{path.name}: missing"]
    found: list[dict[str, str]] = []
    faults: list[str] = []
    try:
        for data in read_frames(path):
            record = decode(data)
            found.append({"id": record.id, "pixel_sha256": record.pixel_sha256})
            if record.fingerprint != fingerprint:
                faults.append(f"{path.name}: {record.id} was preprocessed as {record.fingerprint}, not {fingerprint}")
    except DamagedShard as error:
        # A wrong hash and a wrong count follow from the damage and would say it again.
        return found, [*faults, str(error)]
    except SchemaError as error:
        return found, [*faults, f"{path.name}: {error}"]
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard["sha256"]:
            faults.append(f"{path.name}: its hash is not the one written in {INFO_FILE}")
        elif len(found) != shard["num_records"]:
            faults.append(f"{path.name}: {len(found)} records read, {shard['num_records']} expected")
    return found, faults
