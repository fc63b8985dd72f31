"""Read JSON that others wrote, or that a kill has damaged: what is wrong with it is a single line."""

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from boneage.base.errors import BoneAgeError

# Files of this package are far smaller: the largest, of record folders, have a line per shard and per duplicate.
_MAX_BYTES = 2**28


class DamagedFileError(BoneAgeError):
    """A file that this package has written and cannot read any more."""


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, which may contain NaN.

    Raises:
        ValueError: If it is no JSON, or has too many levels.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Args:
        path: The file, in UTF-8.

    Returns:
        The object. All its numbers are finite.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no regular file, is too large, or contains no JSON object, a number that is not finite, or
            too many levels.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no regular file")
    if found.st_size > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES:,} bytes")
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=_parse_float)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, received {type(value).__name__}")
    return value


def read_own_json(path: Path, *, fields: Mapping[str, type], fix: str) -> dict[str, Any]:
    """Read a JSON object that this package has written.

    Args:
        path: The file.
        fields: Types of the entries that must be there.
        fix: What to do about a damaged file, for the error message.

    Raises:
        OSError: If the file cannot be read.
        DamagedFileError: If it is damaged; the message ends in `fix`.
    """
    try:
        value = read_json(path)
        for name, kind in fields.items():
            if not isinstance(value.get(name), kind):
                raise ValueError(f"`{name}` is missing or no {kind.__name__}")
    except ValueError as error:
        raise DamagedFileError(f"{path}: damaged ({error}); {fix}.") from error
    return value


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no finite number")
