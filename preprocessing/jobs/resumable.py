"""Resumable work on many radiographs.

Each finished row is appended to a progress file, which an interrupted run reads again.
"""

import contextlib
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, TextIO

from boneage.base.files import write_text
from boneage.base.json_files import DamagedFileError, parse_json
from boneage.base.progress import Progress, report_progress
from boneage.preprocessing.jobs.workers import run_jobs
from boneage.preprocessing.sources.sources import Case

Row = dict[str, Any]


def resume_key(case: Case, *, work: object) -> str:
    """Return the key by which an interrupted run recognises finished work.

    Args:
        case: The radiograph.
        work: Everything besides the file that the result depends on; its `repr` is part of the key.
    """
    return repr((case.id, str(case.path), *file_stamp(case.path), work))


def file_stamp(path: Path) -> tuple[int, int]:
    """Return size in bytes and modification time in nanoseconds of a file, -1 and -1 of one that has vanished.

    A file may vanish after it was listed; it is rejected when it is read.
    """
    try:
        stat = path.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def run_resumable(
    work: Callable[[tuple[str, Case]], Row],
    cases_by_key: Mapping[str, Case],
    *,
    progress_file: Path | None,
    workers: int | None,
    progress: Progress | None = None,
    publish: Callable[[Case, Row], None] | None = None,
) -> list[Row]:
    """Do the work on all radiographs that are not in the progress file yet.

    Args:
        work: From a key and its radiograph to a row of plain values; a picklable function.
        cases_by_key: The radiographs by `resume_key`.
        progress_file: Progress file (JSON Lines); None keeps none. The caller removes it once the result is written.
        workers: Number of worker processes (default: one per CPU core).
        progress: Called with the number of finished and of all radiographs (default: a bar in a notebook).
        publish: Called for each radiograph with its row once the row is in the progress file, and again if the run was
            interrupted: it moves what the work has written to its place.

    Returns:
        The rows, those of an earlier run first.

    Raises:
        WorkerKilledError: If a process was killed; finished rows are in the progress file.
    """
    finished = {} if progress_file is None else _read_progress_file(progress_file, cases_by_key)
    pending = [(key, case) for key, case in cases_by_key.items() if key not in finished]
    if publish:
        for key, row in finished.items():
            publish(cases_by_key[key], row)
    with (
        report_progress(progress, "Reading") as report,
        contextlib.nullcontext() if progress_file is None else _open_progress_file(progress_file, finished) as file,
    ):
        report(len(finished), len(cases_by_key))
        for (key, case), row in run_jobs(work, pending, workers=workers):
            finished[key] = row
            if file:
                file.write(_format_row(key, row))
                file.flush()
            if publish:
                publish(case, row)
            report(len(finished), len(cases_by_key))
    return list(finished.values())


def _format_row(key: str, row: Row) -> str:
    return json.dumps([key, row]) + "\n"


def _open_progress_file(path: Path, finished: Mapping[str, Row]) -> TextIO:
    """Open the progress file to append to it, written anew: a kill may have cut off its last line."""
    write_text(path, "".join(map(_format_row, finished, finished.values())))
    return path.open("a", encoding="utf-8")


def _read_progress_file(path: Path, keys: Container[str]) -> dict[str, Row]:
    """Read what an interrupted run has finished; its last line may be incomplete.

    Raises:
        DamagedFileError: If another line is damaged.
    """
    finished = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            if line.endswith("\n"):
                try:
                    key, row = parse_json(line)
                    if not isinstance(key, str) or not isinstance(row, dict):
                        raise ValueError("no key and row")
                except (TypeError, ValueError) as error:
                    raise DamagedFileError(f"{path}: damaged ({error}); remove it to start again.") from error
                if key in keys:
                    finished[key] = row
    return finished
