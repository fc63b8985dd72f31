"""Read `dataset_info.json`, the metadata of a record folder."""

import reprlib
from pathlib import Path, PurePath
from typing import Any

from boneage.base.errors import BoneAgeError
from boneage.base.json_files import read_json
from boneage.tfrecords.schema import READABLE_VERSIONS, SPLITS
from boneage.tfrecords.writer import INFO_FILE


class RecordsError(BoneAgeError):
    """A record folder that is missing, incomplete or of another version, or has no such split."""


def read_info(folder: str | Path) -> dict[str, Any]:
    """Read `dataset_info.json` of a record folder.

    Raises:
        RecordsError: If the folder contains no records or those of another schema version.
    """
    path = Path(folder) / INFO_FILE
    try:
        info = read_json(path)
    except FileNotFoundError:
        raise RecordsError(
            f"{folder}: {INFO_FILE} not found; make records with `boneage prepare SOURCE --out {folder}`."
        ) from None
    except OSError as error:
        raise RecordsError(f"{path}: {error.strerror}; check the path of the records.") from error
    except ValueError as error:
        raise RecordsError(f"{path}: not readable as JSON ({error}); prepare the records again.") from error
    version = info.get("schema_version")
    if version not in READABLE_VERSIONS:
        raise RecordsError(
            f"{path}: schema version {reprlib.repr(version)} is none of those that this package reads "
            f"({', '.join(map(str, READABLE_VERSIONS))}); prepare the records again."
        )
    if fault := _find_fault(info):
        raise RecordsError(f"{path}: {fault}; prepare the records again.")
    return info


def _find_fault(info: dict[str, Any]) -> str:
    """Return what is wrong with the fields that readers use; empty if nothing is."""
    for name, kind in (("fingerprint", str), ("digest", str), ("splits", dict)):
        if not isinstance(info.get(name), kind):
            return f"`{name}` is missing or no {kind.__name__}"
    if not isinstance(info.get("preprocessing", {}), dict):
        return "`preprocessing` is no dict"
    for name, split in info["splits"].items():
        shards = split.get("shards") if isinstance(split, dict) else None
        if name not in SPLITS or not isinstance(shards, list) or not _is_count(split.get("num_records")):
            return f"the split {name[:20]!r} is damaged"
        for shard in shards:
            file = shard.get("file") if isinstance(shard, dict) else None
            is_described = isinstance(shard, dict) and _is_count(shard.get("num_records")) and "sha256" in shard
            if not is_described or not isinstance(file, str) or PurePath(file).name != file:
                return f"a shard of the split {name!r} is damaged"
    return ""


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def split_info(info: dict[str, Any], split: str, *, folder: str | Path) -> dict[str, Any]:
    """Return the entry of one split in `dataset_info.json`.

    Raises:
        RecordsError: If the folder has no such split; the message lists its splits.
    """
    if split not in info["splits"]:
        raise RecordsError(f"{folder}: no split {split!r}. It has: {', '.join(info['splits']) or 'none'}.")
    described: dict[str, Any] = info["splits"][split]
    return described
