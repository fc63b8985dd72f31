"""Watch a folder: every new file is read once, and its results go to an output folder.

The folder is scanned every two seconds, which also works on network shares, where change events are not available. A
file is read once two scans find it unchanged. `readings.csv` has one line per file, and a restart resumes from it:
reports are written to a staging folder, then the line is appended, then the reports are moved to the output folder, so
that an interruption at any moment neither repeats nor loses a file. A file that was being read when the process was
killed may be the cause: after a restart it is read in a child process, whose end is its rejection. Files received by
the storage node lie in a hidden folder, are read in the same way, and are then removed.
"""

import contextlib
import csv
import io
import logging
import os
import threading
from pathlib import Path

from boneage.base.child_process import ChildKilledError
from boneage.base.errors import BoneAgeError, describe_error, printable
from boneage.base.files import append_line, encode_text, make_private_folder, remove_partial_line, write_json
from boneage.base.json_files import DamagedFileError, parse_json
from boneage.base.spreadsheets import format_rows, unescape_cell
from boneage.inference.messages import INTERNAL_ERROR, explain_reasons
from boneage.inference.predict import predict_case
from boneage.inference.reader import Reader
from boneage.inference.reports.writer import Reports
from boneage.inference.rows import COLUMNS, rejected_row
from boneage.preprocessing.io.isolated import describe_killed, start_child
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.sources.listing import SourceNotFoundError, list_files
from boneage.preprocessing.sources.names import to_id
from boneage.preprocessing.sources.sources import Case

READINGS_FILE = "readings.csv"
_READINGS_COLUMNS = (*COLUMNS, "size_bytes", "modified_ns")
_STAGING_FOLDER, _RECEIVED_FOLDER, _CURRENT_FILE = ".unfinished", ".received", ".reading.json"
# Time limit of a file that is suspected, with the networks loaded anew.
_SUSPECT_SECONDS = 600.0
_SCAN_SECONDS = 2.0
# Suffixes of files that a program is still writing.
_UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".filepart", ".tmp", ".crdownload"})
_log = logging.getLogger("boneage.web")

# Printable name within the folder, size in bytes, modification time in nanoseconds: a changed file is another file. A
# received file is named within the output folder, by its content, and its time is 0.
File = tuple[str, int, int]


class WatchError(BoneAgeError):
    """Raised if a folder cannot be watched or written to."""


class Watch:
    """A watched folder.

    Args:
        folder: The folder, scanned with its subfolders; created if missing. Its files are not changed.
        out: Folder for reports and `readings.csv`; created if missing.
        reader: The reader.
        max_bytes: Maximum size of a file, in bytes.

    Attributes:
        received: Folder for files received by a storage node, named by their content; they are read as well, and
            removed once their reports and their line are written.

    Raises:
        WatchError: If one folder lies in the other, or cannot be created or read.
        ModuleNotFoundError: If highdicom is not installed.
    """

    def __init__(self, folder: str | Path, *, out: str | Path, reader: Reader, max_bytes: int):
        self._folder, self._out, self._max_bytes = Path(folder).resolve(), Path(out).resolve(), max_bytes
        if self._folder.is_relative_to(self._out) or self._out.is_relative_to(self._folder):
            raise WatchError(f"{out}: must lie outside {folder}, or its reports would be read again.")
        self._staging, self._readings_path = self._out / _STAGING_FOLDER, self._out / READINGS_FILE
        self.received, self._current_path = self._out / _RECEIVED_FOLDER, self._out / _CURRENT_FILE
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for private in (self._out, self._staging, self.received):
                make_private_folder(private)
            for unfinished in self.received.glob("*.part"):
                unfinished.unlink()
            self._resume()
        except OSError as error:
            raise WatchError(
                f"{error.filename}: {error.strerror}; choose other folders with --watch and --out."
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise WatchError(
                f"{self._readings_path}: is damaged; repair it or choose another folder with --out."
            ) from error
        self._reports = Reports(reader, dicom=self._staging, fhir=self._staging)
        self._seen: set[File] = set()
        self._last_problem = ""

    def run(self, stop: threading.Event) -> None:
        """Scan repeatedly until `stop` is set; a file that is being read then is finished."""
        while not stop.is_set():
            try:
                self.scan(stop)
            except Exception as error:  # the next scan may succeed
                _log.error("scan of the watched folder failed: %s", describe_error(error))
            stop.wait(_SCAN_SECONDS)

    def scan(self, stop: threading.Event | None = None) -> int:
        """Scan once, and read the files that are unchanged since the last scan.

        An inaccessible folder is logged once, and tried again at the next scan.

        Args:
            stop: If set, the scan ends before the next file.

        Returns:
            The number of files read.
        """
        num_read, problem = 0, ""
        try:
            self._publish_reports()
            files = self._list()
            for file in files.keys() & self._done:  # received again, or the process ended before it was removed
                self._remove_received(file, files[file])
            for file in sorted((files.keys() & self._seen) - self._done):
                if stop is not None and stop.is_set():
                    break
                num_read += self._take(file, files[file])
            self._seen = set(files)
        except SourceNotFoundError as error:
            problem = str(error)
        except OSError as error:
            problem = str(error.strerror)
        if problem and problem != self._last_problem:
            _log.error("waiting until the watched folders are accessible: %s", problem)
        self._last_problem = problem
        return num_read

    def _list(self) -> dict[File, Path]:
        files: dict[File, Path] = {}
        for path, name in list_files(self._folder)[0]:
            if name.startswith(".") or "/." in name or path.suffix.lower() in _UNFINISHED_SUFFIXES:
                continue
            with contextlib.suppress(FileNotFoundError):  # moved away since it was listed
                found = path.stat()
                files[printable(name), found.st_size, found.st_mtime_ns] = path
        for path in self.received.iterdir():
            if path.suffix not in _UNFINISHED_SUFFIXES:
                files[f"{_RECEIVED_FOLDER}/{path.name}", path.stat().st_size, 0] = path
        return files

    def _remove_received(self, file: File, path: Path) -> None:
        """Remove a file that a storage node received; files in the watched folder stay."""
        if _is_received(file[0]):
            path.unlink(missing_ok=True)

    def _take(self, file: File, path: Path) -> bool:
        """Read one file; returns whether it still existed at the end."""
        name, size_bytes, modified_ns = file
        # Stays only if this process is killed.
        write_json(self._current_path, file, private=True)
        try:
            row = self._answer(path, name=name, size_bytes=size_bytes, is_suspect=file == self._suspect)
            if not path.exists():
                return False
            self._write({**row, "file": name, "size_bytes": size_bytes, "modified_ns": modified_ns})
        finally:
            self._current_path.unlink(missing_ok=True)
        self._done.add(file)
        self._pending_reports.update(str(row["reports"]).split(";"))
        self._publish_reports()
        self._remove_received(file, path)
        return True

    def _answer(self, path: Path, *, name: str, size_bytes: int, is_suspect: bool) -> dict[str, object]:
        # Received files are named by their UID and the hash of their content.
        id = path.name.partition("-")[0] if _is_received(name) else to_id(path.name)
        if size_bytes > self._max_bytes:
            most = self._max_bytes / 2**20
            detail = f"{name}: larger than {most:g} MB; use a smaller file, or start with a larger --max-upload-mb."
            return rejected_row(id, file=name, reasons="too_large", detail=detail)
        try:
            return (_predict_in_child if is_suspect else predict_case)(Case(id, path, path.name), self._reports)
        except OSError:
            raise
        except UnreadableImageError as error:
            return rejected_row(id, file=name, reasons=error.reason, detail=str(error))
        except Exception as error:  # one file must not stop the watch
            _log.error("a file could not be read: %s", describe_error(error))
            return rejected_row(id, file=name, reasons=INTERNAL_ERROR, detail=explain_reasons([INTERNAL_ERROR]))

    def _write(self, row: dict[str, object]) -> None:
        """Append a line, completely or not at all."""
        blank = {key: "" if value != value else value for key, value in row.items()}  # only NaN differs from itself
        rounded = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in blank.items()}
        cells = [rounded.get(name, "") for name in _READINGS_COLUMNS]
        # A kill can leave an empty file.
        has_header = self._readings_path.exists() and self._readings_path.stat().st_size > 0
        text = format_rows([cells] if has_header else [_READINGS_COLUMNS, cells])
        append_line(self._readings_path, encode_text(text), private=True)

    def _resume(self) -> None:
        """Read from the table which files are done, and which of their reports may still be in the staging folder."""
        self._done: set[File] = set()
        self._pending_reports: set[str] = set()
        self._suspect = self._read_current()
        if not self._readings_path.exists():
            return
        remove_partial_line(self._readings_path)  # its file is read again
        text = self._readings_path.read_text(encoding="utf-8", errors="surrogateescape")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        try:
            if tuple(rows.fieldnames or _READINGS_COLUMNS) != _READINGS_COLUMNS:
                raise DamagedFileError(
                    f"{self._readings_path}: damaged or of another version, for it has other columns; choose another "
                    "folder with --out."
                )
            for row in rows:
                self._done.add((printable(unescape_cell(row["file"])), int(row["size_bytes"]), int(row["modified_ns"])))
                self._pending_reports.update(row["reports"].split(";"))
        except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise DamagedFileError(
                f"{self._readings_path}: damaged; repair its rows, or choose another folder with --out."
            ) from error

    def _read_current(self) -> File | None:
        """Return the file that was being read when an earlier process was killed."""
        try:
            name, size_bytes, modified_ns = parse_json(self._current_path.read_bytes())
        except (OSError, TypeError, ValueError):
            return None
        return name, size_bytes, modified_ns

    def _publish_reports(self) -> None:
        """Move the reports listed in the table to the output folder, and remove those of interrupted readings."""
        for path in self._staging.iterdir():
            if path.name in self._pending_reports:
                os.replace(path, self._out / path.name)
            else:
                path.unlink()
        self._pending_reports.clear()


def _is_received(name: str) -> bool:
    """Whether a file was received; hidden files of the watched folder are not read."""
    return name.startswith(f"{_RECEIVED_FOLDER}/")


def _predict_in_child(case: Case, reports: Reports) -> dict[str, object]:
    """Predict a radiograph in a child process.

    Raises:
        UnreadableImageError: If the child ends.
    """
    with contextlib.closing(start_child(predict_case.__module__)) as child:
        try:
            return child.call(predict_case, case, reports, seconds=_SUSPECT_SECONDS)
        except ChildKilledError as error:
            raise describe_killed(error, path=case.path) from error
