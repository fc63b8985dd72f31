"""Stage reports: they reach their folder only once the row that lists them is saved, so that a kill doubles none."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path


class Staging:
    """Hidden folders inside the folders of reports, for one run on one table.

    Args:
        folders: The folders of reports by what is written there; None where nothing is written.
        table: The table that the run writes, which gives the hidden folders their name: two runs on different tables do
            not meet. None writes to the folders themselves.

    Attributes:
        folders: The folders to write to, with the same keys.
    """

    def __init__(self, folders: Mapping[str, Path | None], *, table: Path | None):
        self._targets = folders
        self.folders = dict(folders)
        if table is not None:
            run = hashlib.sha256(os.fsencode(table.resolve())).hexdigest()[:8]
            for name, folder in folders.items():
                self.folders[name] = None if folder is None else folder / f".unfinished-{run}"

    def publish(self, names: Mapping[str, Iterable[str]]) -> None:
        """Move files to their folders; those that are there already stay.

        Args:
            names: Names of the files, or paths within the folders, by the keys of `folders`.

        Raises:
            OSError: If a file cannot be moved.
        """
        for staged, target, listed in self._each(names):
            for name in filter(None, listed):
                if (staged / name).exists():
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(staged / name, target / name)

    def close(self) -> None:
        """Remove the hidden folders, with what interrupted work has left in them."""
        for staged, _, _ in self._each({}):
            if staged.exists():
                shutil.rmtree(staged)

    def _each(self, names: Mapping[str, Iterable[str]]) -> list[tuple[Path, Path, Iterable[str]]]:
        return [
            (staged, target, names.get(name, ()))
            for name, target in self._targets.items()
            if target is not None and (staged := self.folders[name]) is not None and staged != target
        ]
