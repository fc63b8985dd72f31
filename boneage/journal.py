"""The journal of a run: whatever is tracked is written down beside the run first, and sent to a store from there.

An entry is a line of JSON and is never changed. What each store has been sent stands in a second file, so that a store
that was down is sent the rest later, and one that has everything nothing.
"""

import json
import os
import threading
import time
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tfrecords.write import write_json

JOURNAL_FILE, SENT_FILE = "tracking.jsonl", "tracking-sent.json"

Entry = dict[str, Any]


class Journal:
    """The journal of one run folder, and of the parts of that run that are runs of their own.

    Each entry holds `kind`, `run` (a key that the journal gave), `time` (milliseconds since 1970), and:

    - `begin`: `experiment`, `name`, `parent` (a key or None), `tags`; once more when a run is gone on with.
    - `params`: `params`.
    - `metrics`: `metrics`, `step` (None for the whole run).
    - `files`: `path` inside the run folder, of a file or a folder.
    - `model`: `path` inside the run folder, of a bundle.
    - `end`: `status`, `"FINISHED"` or `"FAILED"`.

    Args:
        folder: The run folder.

    Attributes:
        changed: Set after each entry, for whoever sends them.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / JOURNAL_FILE
        self.changed = threading.Event()
        self._lock, self._is_whole = threading.Lock(), False

    def append(self, kind: str, *, run: str, **content: Any) -> None:
        """Add an entry; where it names folders of this machine, only the last part is kept."""
        entry = {"kind": kind, "run": run, "time": time.time_ns() // 1_000_000, **hide_folders(content)}
        with self._lock:
            self._drop_torn_line()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        self.changed.set()

    def read(self) -> list[Entry]:
        """Read all entries; a line that a kill tore is none."""
        if not self.path.exists():
            return []
        *lines, _ = self.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines]

    def read_sent(self, store: str) -> tuple[int, dict[str, str]]:
        """Tell how many entries a store has been sent, and its own ids of the runs."""
        known = self._read_stores().get(store, {"entries": 0, "runs": {}})
        return known["entries"], known["runs"]

    def mark_sent(self, store: str, *, num_entries: int, runs: dict[str, str]) -> None:
        """Keep how many entries a store has been sent."""
        stores = self._read_stores() | {store: {"entries": num_entries, "runs": runs}}
        write_json(self.folder / SENT_FILE, stores)

    def _read_stores(self) -> dict[str, Any]:
        path = self.folder / SENT_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _drop_torn_line(self) -> None:
        """Cut off what a kill left of a line, so that the next entry begins one."""
        if not self._is_whole and self.path.exists():
            content = self.path.read_bytes()
            os.truncate(self.path, content.rfind(b"\n") + 1)
        self._is_whole = True


def hide_folders(value: Any) -> Any:
    """Return a value of JSON in which each path from the root or the home of a machine is its last part alone.

    Example:
        >>> hide_folders({"init": "/home/ottilie/runs/lite0/bundle", "network": "efficientnet_lite0"})
        {'init': 'bundle', 'network': 'efficientnet_lite0'}
    """
    if isinstance(value, dict):
        return {key: hide_folders(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [hide_folders(each) for each in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if len(path.parts) > 1 and (path.is_absolute() or path.parts[0] in ("~", "..")):
                return path.name
    return value
