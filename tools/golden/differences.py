"""The comparison of two golden runs."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from golden.describe import LEFT_OUT, Document
from golden.program import GoldenRunError


def list_differences(
    before: Document, after: Document, *, renamed: Mapping[str, str], tolerance: float = 0.0
) -> list[str]:
    """Compare two documents.

    Args:
        before: The document of one run.
        after: That of the other.
        renamed: New name by old name, of keys of `before`. Where runs leave the new name out, so is the old one.
        tolerance: Largest relative difference of two numbers to ignore.

    Returns:
        One line for each value that is not the same in both.
    """
    values, others = dict(_flatten(before, renamed)), dict(_flatten(after, {}))
    lines = []
    for place in sorted(values.keys() | others.keys()):
        value, other = values.get(place, "absent"), others.get(place, "absent")
        if not _is_same(value, other, tolerance):
            lines.append(f"{place}: {value} -> {other}")
    return lines


def _flatten(value: Any, renamed: Mapping[str, str], place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            name = renamed.get(str(key))
            if name not in LEFT_OUT:
                yield from _flatten(item, renamed, f"{place}/{name or key}")
    else:
        yield place, value


def _is_same(value: Any, other: Any, tolerance: float) -> bool:
    try:
        return value == other or math.isclose(float(value), float(other), rel_tol=tolerance)
    except (TypeError, ValueError):
        return False


def compare(before: Path, after: Path, *, renamed: Mapping[str, str], tolerance: float = 0.0) -> list[str]:
    """Compare the files of two golden runs; see `list_differences`.

    Raises:
        GoldenRunError: If one of them is not the document of a complete run.
        OSError: If one of them cannot be read.
        ValueError: If one of them is not JSON.
    """
    documents = []
    for path in (before, after):
        document = json.loads(path.read_text(encoding="utf-8"))
        if not document.get("steps") or document.get("failed"):
            raise GoldenRunError(f"{path}: not the document of a complete golden run; run it again.")
        documents.append(document["steps"])
    return list_differences(*documents, renamed=renamed, tolerance=tolerance)
