"""A folder that is watched: each file that appears in it is read once, and what comes of it goes into another folder.

The folder is looked at every two seconds, which works on network shares as well, where no system tells of changes. A
file is read when two looks find it alike. `readings.csv` has a line for each, answer or reason, and is what a restart
goes by: the reports of a file are written aside, then comes its line, then they are moved to their place, so that
whatever moment the process ends at, no file is read twice or lost. What a storage node received lies in a hidden folder
of its own, is read alike, and is removed then.
"""

import contextlib
import csv
import io
import logging
import os
import threading
from pathlib import Path

from boneage.prediction import COLUMNS, answer_case, make_row
from boneage.reader import Reader
from boneage.reports.writer import Reports
from boneage.web.readings import name_error
from boneage.web.words import INTERNAL_ERROR, explain_reasons
from preprocessing.listing import SourceNotFound, list_files, to_id
from preprocessing.sources import Case
from tfrecords.errors import BoneAgeError

READINGS_FILE = "readings.csv"
_LEDGER_COLUMNS = (*COLUMNS, "size_bytes", "modified_ns")
_ASIDE_FOLDER, _RECEIVED_FOLDER = ".unfinished", ".received"
_LOOK_SECONDS = 2.0
# What programs call a file while they write it.
_UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".filepart", ".tmp", ".crdownload"})
_log = logging.getLogger("boneage.web")

# Name within the folder, size in bytes, moment of the last change in nanoseconds: what changes is another file. What
# was received is named within the other folder, by its content, and its moment is 0.
File = tuple[str, int, int]


class WatchError(BoneAgeError):
    """Folders that cannot be watched or written to."""


class Watch:
    """A folder that is watched.

    Args:
        folder: Where files appear, at any depth; made if it is not there. Nothing in it is changed.
        out: Where reports and `readings.csv` go; made if it is not there.
        reader: What reads.
        max_bytes: Bytes of the largest file that is read.

    Attributes:
        received: Where a storage node puts what it receives, named by its content; what is there is read as well, and
            removed once its reports and its line are written.

    Raises:
        WatchError: If one folder lies in the other, or cannot be made or read.
        ModuleNotFoundError: If highdicom is not installed.
    """

    def __init__(self, folder: str | Path, *, out: str | Path, reader: Reader, max_bytes: int):
        self._folder, self._out, self._max_bytes = Path(folder).resolve(), Path(out).resolve(), max_bytes
        if self._folder.is_relative_to(self._out) or self._out.is_relative_to(self._folder):
            raise WatchError(f"{out}: its reports would be read again; name a folder apart from {folder} by --out.")
        self._aside, self._ledger = self._out / _ASIDE_FOLDER, self._out / READINGS_FILE
        self.received = self._out / _RECEIVED_FOLDER
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._aside.mkdir(parents=True, exist_ok=True)
            self.received.mkdir(mode=0o700, exist_ok=True)
            for unfinished in self.received.glob("*.part"):
                unfinished.unlink()
            self._go_on()
        except OSError as error:
            raise WatchError(f"{error.filename}: {error.strerror}; name other folders by --watch and --out.") from error
        except (KeyError, TypeError, ValueError) as error:
            raise WatchError(
                f"{self._ledger}: not as it was written; mend it, or name another folder by --out."
            ) from error
        self._reports = Reports(reader, dicom=self._aside, fhir=self._aside)
        self._seen: set[File] = set()
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Look again and again, until told to stop; the file that is being read then is finished."""
        while not stop.is_set():
            try:
                self.look(stop)
            except Exception as error:  # the next look may do better
                _log.error("a look at the watched folder failed: %s", name_error(error))
            stop.wait(_LOOK_SECONDS)

    def look(self, stop: threading.Event | None = None) -> int:
        """Look once, and read what has not changed since the last look.

        A folder that cannot be read or written to is told once, and tried again at the next look.

        Args:
            stop: Ends the look before the next file.

        Returns:
            How many files were read.
        """
        num_read, trouble = 0, ""
        try:
            self._tidy()
            files = self._list()
            for file in files & self._done:  # received once more, or the process ended before it was removed
                self._remove_received(file)
            for file in sorted((files & self._seen) - self._done):
                if stop is not None and stop.is_set():
                    break
                num_read += self._take(file)
            self._seen = files
        except SourceNotFound as error:
            trouble = str(error)
        except OSError as error:
            trouble = str(error.strerror)
        if trouble and trouble != self._trouble:
            _log.error("the watch waits until its folders can be read and written: %s", trouble)
        self._trouble = trouble
        return num_read

    def _list(self) -> set[File]:
        files = set()
        for path, name in list_files(self._folder)[0]:
            if name.startswith(".") or "/." in name or path.suffix.lower() in _UNFINISHED_SUFFIXES:
                continue
            with contextlib.suppress(FileNotFoundError):  # moved away since it was listed
                found = path.stat()
                files.add((name, found.st_size, found.st_mtime_ns))
        for path in self.received.iterdir():
            if path.suffix not in _UNFINISHED_SUFFIXES:
                files.add((f"{_RECEIVED_FOLDER}/{path.name}", path.stat().st_size, 0))
        return files

    def _locate(self, name: str) -> Path:
        return (self._out if _is_received(name) else self._folder) / name

    def _remove_received(self, file: File) -> None:
        """Remove what a storage node received and is done; what people put into the folder stays."""
        if _is_received(file[0]):
            self._locate(file[0]).unlink(missing_ok=True)

    def _take(self, file: File) -> bool:
        """Read one file, and tell whether it was there to the end."""
        name, size_bytes, modified_ns = file
        path = self._locate(name)
        row = self._answer(path, name=name, size_bytes=size_bytes)
        if not path.exists():
            return False
        self._write({**row, "file": name, "size_bytes": size_bytes, "modified_ns": modified_ns})
        self._done.add(file)
        self._owed.update(str(row["reports"]).split(";"))
        self._tidy()
        self._remove_received(file)
        return True

    def _answer(self, path: Path, *, name: str, size_bytes: int) -> dict[str, object]:
        # What was received is named by its UID and the hash of its content.
        id = path.name.partition("-")[0] if _is_received(name) else to_id(path.name)
        if size_bytes > self._max_bytes:
            most = self._max_bytes / 2**20
            detail = f"{name}: more than {most:g} MB; give a smaller file, or start with a larger --max-upload-mb."
            return make_row(id, file=name, reasons="too_large", detail=detail)
        try:
            return answer_case(Case(id, path), self._reports)
        except OSError:
            raise
        except Exception as error:  # one file must never stop the watch
            _log.error("a file could not be read: %s", name_error(error))
            return make_row(id, file=name, reasons=INTERNAL_ERROR, detail=explain_reasons([INTERNAL_ERROR]))

    def _write(self, row: dict[str, object]) -> None:
        """Add a line, whole or not at all."""
        line = io.StringIO()
        table = csv.DictWriter(line, _LEDGER_COLUMNS, lineterminator="\n")
        is_new = not self._ledger.exists()
        if is_new:
            table.writeheader()
        blank = {key: "" if value != value else value for key, value in row.items()}  # NaN alone differs from itself
        table.writerow({key: f"{value:.2f}" if isinstance(value, float) else value for key, value in blank.items()})
        with self._ledger.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                file.write(line.getvalue().encode(errors="surrogateescape"))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    def _go_on(self) -> None:
        """Find out from the table what is done, and which reports of it have not come to their place yet."""
        self._done: set[File] = set()
        self._owed: set[str] = set()
        if not self._ledger.exists():
            return
        whole, newline, _ = self._ledger.read_bytes().rpartition(b"\n")
        with self._ledger.open("r+b") as file:
            file.truncate(len(whole + newline))  # a line that was cut off is written again
        text = whole.decode(errors="surrogateescape")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            self._done.add((row["file"], int(row["size_bytes"]), int(row["modified_ns"])))
            self._owed.update(row["reports"].split(";"))

    def _tidy(self) -> None:
        """Move the reports that the table lists to their place, and remove those of a reading that did not end."""
        for path in self._aside.iterdir():
            if path.name in self._owed:
                os.replace(path, self._out / path.name)
            else:
                path.unlink()
        self._owed.clear()


def _is_received(name: str) -> bool:
    """Tell whether a file was received; in the folder that is watched, nothing hidden is read."""
    return name.startswith(f"{_RECEIVED_FOLDER}/")
