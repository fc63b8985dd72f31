"""Disturb a command: kills, Ctrl-C, a full disk, a second process, and files that are not what they seem."""

import contextlib
import fcntl
import math
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from survival.commands import Command
from survival.process import Running, SurvivalError, kill_after, start

# Kills of one output in a row, before it is finished and compared.
KILLS_IN_A_ROW = 5
# Numbers of a training that was resumed differ in their last digits.
_RELATIVE = 1e-3
_PAGE_BYTES = 4096
_NOT_UTF8 = os.fsdecode(b"caf\xe9")


class Disturbed:
    """A command and what it does when nothing disturbs it.

    Args:
        command: The command.
        folder: Folder for its outputs.
        seed: Seed of the moments.
    """

    def __init__(self, command: Command, folder: Path, *, seed: int):
        self.command, self._folder, self._random = command, folder, random.Random(f"{seed} {command.name}")  # noqa: S311
        self._num_places = 0
        place, began = self._new_place(), time.monotonic()
        with self._start(place) as running:
            running.wait_until(lambda: any(place.iterdir()))
            self._first_seconds = time.monotonic() - began
            self._finish(running, place)
        self._seconds = time.monotonic() - began
        self.expected = command.read(place)
        self._num_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())

    def kill(self, num_kills: int) -> None:
        """Kill it at random moments, start it again, and compare what it leaves.

        Raises:
            SurvivalError: If the result differs or it does not go on.
        """
        done = 0
        while done < num_kills:
            place, is_finished = self._new_place(), False
            for _ in range(min(KILLS_IN_A_ROW, num_kills - done)):
                with self._start(place) as running, kill_after(running, self._moment()):
                    self._work(running, place)
                    is_finished = self.command.drive is not None and running.is_alive
                    if not is_finished:
                        is_finished = running.wait() >= 0
                if is_finished:
                    break
                done += 1
                if self.command.is_done(place):
                    break
            self._complete(place)

    def interrupt(self) -> None:
        """Press Ctrl-C at a random moment: one line and status 130, and the next run completes it."""
        for share in (0.3, 0.1, 0.03, 0.0):
            place = self._new_place()
            with self._start(place) as running:
                running.wait_until(lambda place=place: any(place.iterdir()))
                time.sleep(self._random.uniform(0, share * (self._seconds - self._first_seconds)))
                running.interrupt()
                if running.wait() == 0 and share:
                    continue  # it had ended before
                running.check_interrupted()
                break
        self._complete(place)

    def run_twice_at_once(self) -> None:
        """Start it a second time while the first is at work: the second says so, the first finishes."""
        place = self._new_place()
        with self._start(place) as running:
            running.wait_until(lambda: _is_locked(place))
            # The first is halted meanwhile, as it could end before the second has begun.
            running.process.send_signal(signal.SIGSTOP)
            try:
                with self._start(place) as second:
                    second.check_one_line(status=1)
                    if "another process" not in second.read_errors():
                        raise SurvivalError(f"the second said: {second.read_errors()[-300:]}")
            finally:
                running.process.send_signal(signal.SIGCONT)
            self._finish(running, place)
        self._compare(place)

    def fill_disk(self) -> None:
        """Let it run out of disk: one line, and with room again it completes.

        Raises:
            SurvivalError: If it does otherwise.
            PermissionError: If no small disk can be mounted.
        """
        place = self._new_place()
        with _small_disk(place, num_bytes=self._num_bytes // 2) as make_room:
            with self._start(place) as running:
                if self.command.drive is None:
                    running.check_one_line(status=1)
                    errors = running.read_errors()
                else:
                    try:
                        self._work_until_full(running, place)
                    finally:
                        errors = running.read_errors()
                if "Traceback" in errors:
                    raise SurvivalError(f"a traceback: {errors[-300:]}")
                if self.command.drive is None and "No space left" not in errors:
                    raise SurvivalError(f"it said: {errors[-300:]}")
                make_room()
                if self.command.drive is not None:
                    self._finish(running, place)
            self._complete(place)

    def remove_a_file(self) -> None:
        """Remove a file of the source while it works: all others are read; it has a row if it was listed before."""
        with self._copied_source() as source:
            place = self._new_place()
            with self._start(place, source) as running:
                running.wait_until(lambda: any(place.iterdir()))
                time.sleep(self._random.uniform(0, 0.5 * (self._seconds - self._first_seconds)))
                self._random.choice(sorted(source.rglob("*.dcm")) or sorted(source.rglob("*.png"))).unlink()
                self._finish(running, place)
            missing = len(self._expected_rows()) - len(self._rows(place))
            if missing > 1:
                raise SurvivalError(f"{missing} files have no row")

    def rename_to_no_utf8(self) -> None:
        """Put the source into a folder whose name is not UTF-8: every file has its row."""
        with self._copied_source(_NOT_UTF8) as source:
            place = self._new_place()
            with self._start(place, source) as running:
                self._finish(running, place)
            if len(self._rows(place)) != len(self._expected_rows()):
                raise SurvivalError("files have no row")

    def add_a_pipe(self) -> None:
        """Put a named pipe among the radiographs: it has a row, and nobody waits for it."""
        with self._copied_source() as source:
            os.mkfifo(source / "pipe.png")
            place = self._new_place()
            with self._start(place, source) as running:
                self._finish(running, place)
            if not self._rows(place)["pipe.png"]["reasons"]:
                raise SurvivalError("the pipe was accepted")

    def _new_place(self) -> Path:
        self._num_places += 1
        place = self._folder / self.command.name / str(self._num_places)
        place.mkdir(parents=True)
        return place

    def _start(self, place: Path, source: Path | None = None) -> contextlib.AbstractContextManager[Running]:
        words = (*self.command.words(source or self.command.source, place), *self.command.resume(place))
        return start(words, logs=self._folder / "logs" / self.command.name)

    def _moment(self) -> float:
        return self._random.uniform(0.8 * self._first_seconds, self._seconds)

    def _work(self, running: Running, place: Path) -> None:
        if self.command.drive is not None:
            self.command.drive(running, place)

    def _work_until_full(self, running: Running, place: Path) -> None:
        if self.command.name == "watch":
            running.wait_until(lambda: "No space left" in running.read_errors())
            return
        try:
            self._work(running, place)
        except OSError as error:
            if getattr(error, "code", None) != 507:
                raise
            return
        raise SurvivalError("a decision without room was acknowledged")

    def _finish(self, running: Running, place: Path) -> None:
        """Wait until it has done all; a server is then stopped."""
        self._work(running, place)
        if self.command.drive is not None and running.is_alive:
            running.interrupt()
            running.check_interrupted()
        elif status := running.wait():
            raise SurvivalError(f"status {status}; it said: {running.read_errors()[-300:]}")

    def _complete(self, place: Path) -> None:
        if not self.command.is_done(place):
            with self._start(place) as running:
                self._finish(running, place)
        self._compare(place)

    def _compare(self, place: Path) -> None:
        left = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if _is_temporary(path))
        if left:
            raise SurvivalError(f"left over: {', '.join(left[:5])}")
        if difference := find_difference(self.command.read(place), self.expected):
            raise SurvivalError(difference)

    def _rows(self, place: Path) -> dict[str, dict[str, str]]:
        if self.command.rows is None:
            raise SurvivalError("reads no radiographs")
        return self.command.rows(place)

    def _expected_rows(self) -> dict[str, dict[str, str]]:
        return self._rows(self._folder / self.command.name / "1")

    @contextlib.contextmanager
    def _copied_source(self, name: str = "copied") -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as above:
            yield Path(shutil.copytree(self.command.source, Path(above) / "source" / name)).parent


def find_difference(got: Any, expected: Any, *, where: str = "result") -> str:
    """Return where two results differ, empty where they are the same."""
    if isinstance(expected, dict) and isinstance(got, dict):
        if got.keys() != expected.keys():
            return f"{where}: {sorted(map(str, got.keys() ^ expected.keys()))[:5]} only in one"
        differences = (find_difference(got[key], expected[key], where=f"{where} {key}") for key in expected)
        return next(filter(None, differences), "")
    if isinstance(expected, list) and isinstance(got, list) and len(got) == len(expected):
        pairs = enumerate(zip(got, expected, strict=True))
        differences = (find_difference(one, other, where=f"{where} {number}") for number, (one, other) in pairs)
        return next(filter(None, differences), "")
    if isinstance(expected, float) and isinstance(got, float):
        return "" if math.isclose(got, expected, rel_tol=_RELATIVE) else f"{where}: {got}, expected {expected}"
    return "" if got == expected else f"{where}: {got!r}, expected {expected!r}"[:300]


def _is_temporary(path: Path) -> bool:
    is_empty_folder = path.is_dir() and not any(path.iterdir())
    names = (".part", ".partial", ".old", ".lock", ".jsonl")
    return not is_empty_folder and (path.suffix in names or path.name.startswith((".unfinished", "part-")))


def _is_locked(place: Path) -> bool:
    """Find out whether a process holds the lock of an output in a folder."""
    for path in place.rglob(".*.lock"):
        # Not by filelock, which may remove what it has locked; closing the file gives the lock back.
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


@contextlib.contextmanager
def _small_disk(place: Path, *, num_bytes: int) -> Iterator[Any]:
    """Mount a disk at a folder with room for a few bytes; yields a function that makes room.

    Raises:
        PermissionError: If nothing may be mounted here.
    """
    size = 4 * max(num_bytes, 2**20) + 2**24
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    if mounting.returncode:
        raise PermissionError("nothing can be mounted here")
    filler = place / "filler"
    try:
        free = max(_PAGE_BYTES, num_bytes // _PAGE_BYTES * _PAGE_BYTES)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - free)
        yield filler.unlink
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
