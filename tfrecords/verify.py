"""Check a record folder: counts, statistics, hashes, schema, and that no radiograph or patient is in two splits."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from boneage.tfrecords.framing import DamagedShardError, read_frames
from boneage.tfrecords.info import read_info
from boneage.tfrecords.schema import Record, SchemaError, decode, group_key
from boneage.tfrecords.writer import (
    FEATURES_FILE,
    INFO_FILE,
    REJECTED_FILE,
    REVIEW_FOLDER,
    data_digest,
    describe_ages,
    describe_readers,
    hash_files,
)

# What no two splits share.
_UNIQUE = ("id", "pixel_sha256", "group")


def verify(folder: str | Path) -> list[str]:
    """Check a record folder.

    Args:
        folder: The record folder.

    Returns:
        One line for each fault; empty if there is none.

    Raises:
        BoneAgeError: If there is no readable `dataset_info.json`.
    """
    folder = Path(folder)
    info = read_info(folder)
    return list(_faults(folder, info))


def _faults(folder: Path, info: dict[str, Any]) -> Iterator[str]:
    known = {INFO_FILE, FEATURES_FILE, REJECTED_FILE}
    yield from (f"{name}: missing" for name in sorted(known) if not (folder / name).exists())
    if data_digest(info["splits"]) != info["digest"]:
        yield f"{INFO_FILE}: its digest does not match its shards"
    split_of: dict[str, dict[str, str]] = {key: {} for key in _UNIQUE}
    for split, described in info["splits"].items():
        records: list[Record] = []
        faults: list[str] = []
        for shard in described["shards"]:
            known.add(shard["file"])
            found, faults_of_shard = _read_shard(folder / shard["file"], shard, info["fingerprint"])
            records += found
            faults += faults_of_shard
        yield from faults
        for record in records:
            for key in _UNIQUE:
                value = getattr(record, key)
                if value is None:
                    continue
                is_repeated = value in split_of[key]
                other = split_of[key].setdefault(value, split)
                if other != split:
                    yield f"{key} {value}: in the splits {other} and {split}"
                elif is_repeated and key == "id":
                    yield f"id {value}: twice in the split {split}"
        # Missing records are a fault of the shard; here only the description is checked.
        num_records = sum(shard["num_records"] for shard in described["shards"])
        if num_records != described["num_records"]:
            yield f"{split}: {num_records} records in its shards, {described['num_records']} expected"
        if not faults:
            yield from _wrong_statistics(split, described, records)
    yield from _wrong_files(folder, info)
    yield from (
        f"{path.name}: not part of this folder"
        for path in sorted(folder.iterdir())
        if path.name not in known | {REVIEW_FOLDER}
    )


def _wrong_statistics(split: str, described: dict[str, Any], records: Sequence[Record]) -> Iterator[str]:
    """Yield the statistics of a split that differ from those of its records."""
    found = describe_ages([record.bone_age_months for record in records if record.bone_age_months is not None])
    labelled = [record for record in records if record.bone_age_months is not None]
    found |= describe_readers([(record.num_readers, record.reader_sd_months) for record in labelled])
    found["num_groups"] = len({group_key(record.id, record.group) for record in records})
    for name, value in found.items():
        # Records hold ages with seven digits.
        if name in described and not math.isclose(described[name], value, abs_tol=1e-3):
            yield f"{split}: {name} is {value:g} in its records, {described[name]} in {INFO_FILE}"


def _wrong_files(folder: Path, info: dict[str, Any]) -> Iterator[str]:
    """Yield the files other than shards that were changed, are missing, or were added to the contact sheets."""
    if "files" not in info:  # Folders of version 0.1.0 know the hashes of their shards alone.
        return
    expected, found = info["files"], hash_files(folder)
    for name in sorted(expected):
        if name in found and found[name] != expected[name]:
            yield f"{name}: its hash differs from the one in {INFO_FILE}"
        elif name not in found and name not in (FEATURES_FILE, REJECTED_FILE):
            yield f"{name}: missing"
    yield from (f"{name}: not part of this folder" for name in sorted(found) if "/" in name and name not in expected)


def _read_shard(path: Path, shard: dict[str, Any], fingerprint: str) -> tuple[list[Record], list[str]]:
    """Read one shard; return its records, without their images, and its faults."""
    if not path.exists():
        return [], [f"{path.name}: missing"]
    found: list[Record] = []
    faults: list[str] = []
    try:
        for data in read_frames(path):
            record = decode(data)
            found.append(dataclasses.replace(record, image=b"", decisions=None))
            if record.fingerprint != fingerprint:
                faults.append(f"{path.name}: {record.id} has fingerprint {record.fingerprint}, expected {fingerprint}")
    except DamagedShardError as error:
        # A wrong hash and a wrong count follow from the damage and are not reported again.
        return found, [*faults, str(error)]
    except SchemaError as error:
        return found, [*faults, f"{path.name}: {error}"]
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard["sha256"]:
            faults.append(f"{path.name}: its hash differs from the one in {INFO_FILE}")
        elif len(found) != shard["num_records"]:
            faults.append(f"{path.name}: {len(found)} records read, {shard['num_records']} expected")
    return found, faults
