"""Outbox: tracking entries are appended to a file in the run folder first and sent to MLflow from there.

An entry is a line of JSON and is never changed. A second file records what each store has received, so that a store
gets exactly the entries that it lacks.
"""

import json
import os
import re
import threading
import time
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from boneage.base.files import append_line, remove_partial_line, write_json
from boneage.base.json_files import DamagedFileError, parse_json, read_own_json

OUTBOX_FILE, SENT_FILE = "tracking.jsonl", "tracking-sent.json"

# Settings whose values are paths, also relative ones.
_PATH_KEYS = frozenset({"init", "sam_checkpoint", "source"})
_URL = re.compile(r"models:/|[a-z]+://")
# An absolute path within a text, up to a blank or what ends a name; not the path of a URL.
_PATH_IN_TEXT = re.compile(r"""(?<![\w.:/\\])(?:~|[A-Za-z]:)?(?:[\\/][^\s\\/:;,'"()]+)*[\\/]([^\s\\/:;,'"()]+)""")

Entry = dict[str, Any]


class Outbox:
    """The outbox of one run folder; it holds the run and its child runs.

    Each entry holds `kind`, `run` (a key, unique in the outbox), `time` (milliseconds since 1970), and:

    - `begin`: `experiment`, `name`, `parent` (a key or None), `tags`; again when a run is resumed.
    - `params`: `params`.
    - `metrics`: `metrics`, `step` (None for the whole run).
    - `files`: `path` inside the run folder, of a file or a folder.
    - `model`: `path` inside the run folder, of a bundle.
    - `end`: `status`, `"FINISHED"` or `"FAILED"`.

    Args:
        folder: The run folder.

    Attributes:
        changed: Set after each entry, to wake the sender.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / OUTBOX_FILE
        self.changed = threading.Event()
        self._lock, self._is_whole = threading.Lock(), False

    def append(self, kind: str, *, run: str, **content: Any) -> None:
        """Append an entry; of paths on this machine only the last part is kept."""
        entry = {"kind": kind, "run": run, "time": time.time_ns() // 1_000_000, **redact_paths(content)}
        with self._lock:
            if not self._is_whole:
                remove_partial_line(self.path)
                self._is_whole = True
            append_line(self.path, json.dumps(entry).encode() + b"\n")
        self.changed.set()

    def read(self) -> list[Entry]:
        """Read all entries; an incomplete last line is ignored.

        Raises:
            DamagedFileError: If another line is damaged.
        """
        if not self.path.exists():
            return []
        *lines, _ = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        return [self._parse(line, number=number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: str, *, number: int) -> Entry:
        try:
            entry = parse_json(line)
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("kind", "run")):
                raise ValueError("no entry")
        except ValueError as error:
            raise DamagedFileError(f"{self.path}: line {number} is damaged ({error}); remove this line.") from error
        return entry

    def read_sent(self, store: str) -> tuple[int, dict[str, str]]:
        """Return the number of entries that a store has received, and its ids of the runs."""
        known = self._read_stores().get(store, {"entries": 0, "runs": {}})
        return known["entries"], known["runs"]

    def mark_sent(self, store: str, *, num_entries: int, runs: dict[str, str]) -> None:
        """Record the number of entries that a store has received, and its ids of the runs."""
        stores = self._read_stores() | {store: {"entries": num_entries, "runs": runs}}
        write_json(self.folder / SENT_FILE, stores)

    def _read_stores(self) -> dict[str, Any]:
        path = self.folder / SENT_FILE
        return read_own_json(path, fields={}, fix="remove it; all entries are sent again") if path.exists() else {}


def redact_paths(value: Any) -> Any:
    """Return a JSON value without folders of this machine: of a path only the last part is kept.

    A text is a path if it is absolute, begins in the home folder or the folder above, or is the value of a setting that
    names a file, such as `init`. In other texts, such as errors, absolute paths are reduced.

    Example:
        >>> redact_paths({"init": "/home/ottilie/runs/lite0/bundle", "network": "efficientnet_lite0"})
        {'init': 'bundle', 'network': 'efficientnet_lite0'}
    """
    if isinstance(value, dict):
        return {key: _last_part(item) if _is_path(key, item) else redact_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_paths(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if len(path.parts) > 1 and (path.is_absolute() or path.parts[0] in ("~", "..")):
                return path.name
        return _PATH_IN_TEXT.sub(r"\1", value)
    return value


def _is_path(key: str, value: Any) -> bool:
    return key.rpartition(".")[2] in _PATH_KEYS and isinstance(value, str) and not _URL.match(value)


def _last_part(path: str) -> str:
    return PureWindowsPath(path).name  # which separates at both slashes
