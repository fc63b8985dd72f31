"""Work on many radiographs that a killed run takes up where it was: each finished row is noted in a file."""

import contextlib
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, TextIO

from preprocessing.sources import Case
from preprocessing.workers import work_through
from tfrecords.write import write_text

Row = dict[str, Any]


def name_work(case: Case, *, work: object) -> str:
    """Name a radiograph and what is done with it, so that a run takes up only what it would have done itself.

    Args:
        case: The radiograph.
        work: Whatever the result depends on beside the file, with a `repr` that tells it.
    """
    stat = case.path.stat()
    return repr((case.id, str(case.path), stat.st_size, stat.st_mtime_ns, work))


def work_noted(
    work: Callable[[tuple[str, Case]], Row],
    named: Mapping[str, Case],
    *,
    notes: Path | None,
    workers: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Do the work on all radiographs that have no note yet.

    Args:
        work: From a name and its radiograph to a row of plain values; a function that processes can be sent.
        named: The radiographs by their names, see `name_work`.
        notes: The file of the notes, one JSON document a line; None keeps none. Who has put the rows in their place
            removes it.
        workers: Number of processes; one per core without it.
        progress: Called with the number of finished and of all radiographs.

    Returns:
        The rows, those of an earlier run first.

    Raises:
        WorkerKilled: If a process was killed; what was finished is noted.
    """
    done = {} if notes is None else _read_notes(notes, named)
    waiting = [(name, case) for name, case in named.items() if name not in done]
    if progress:
        progress(len(done), len(named))
    with contextlib.nullcontext() if notes is None else _open_notes(notes, done) as file:
        for (name, _), row in work_through(work, waiting, workers=workers):
            done[name] = row
            if file:
                file.write(_note(name, row))
                file.flush()
            if progress:
                progress(len(done), len(named))
    return list(done.values())


def _note(name: str, row: Row) -> str:
    return json.dumps([name, row]) + "\n"


def _open_notes(notes: Path, done: Mapping[str, Row]) -> TextIO:
    """Open the notes to add to them, written anew: a note must not be joined to a line that a kill cut off."""
    write_text(notes, "".join(map(_note, done, done.values())))
    return notes.open("a", encoding="utf-8")


def _read_notes(notes: Path, names: Container[str]) -> dict[str, Row]:
    """Read what a killed run has finished; its last line may be half written."""
    done = {}
    if notes.exists():
        for line in notes.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                name, row = json.loads(line)
                if name in names:
                    done[name] = row
    return done
