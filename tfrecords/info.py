"""Read `dataset_info.json`, the file by which a record folder explains itself."""

import json
from pathlib import Path
from typing import Any

from tfrecords.errors import BoneAgeError
from tfrecords.schema import SCHEMA_VERSION
from tfrecords.write import INFO_FILE


class RecordsError(BoneAgeError):
    """A record folder that is missing, incomplete, of another version, or lacks a split."""


def read_info(folder: str | Path) -> dict[str, Any]:
    """Read `dataset_info.json` of a record folder.

    Raises:
        RecordsError: If the folder holds no records or those of another schema version.
    """
    path = Path(folder) / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordsError(
            f"{folder}: no {INFO_FILE} here; make records with `boneage prepare SOURCE --out {folder}`."
        ) from None
    except ValueError as error:
        raise RecordsError(f"{path}: not readable as JSON ({error}); prepare the records again.") from error
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordsError(
            f"{path}: schema version {version} is not the version {SCHEMA_VERSION} that this package reads; "
            "prepare the records again."
        )
    return info


def split_info(info: dict[str, Any], split: str, *, folder: str | Path) -> dict[str, Any]:
    """Return what `dataset_info.json` says of one split.

    Raises:
        RecordsError: If the folder has no such split; the message lists those it has.
    """
    if split not in info["splits"]:
        raise RecordsError(f"{folder}: no split {split!r}. It has: {', '.join(info['splits']) or 'none'}.")
    return info["splits"][split]
