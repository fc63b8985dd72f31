"""Write files and folders atomically: a reader finds the old one or the new one, never a part of either."""

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_BLOCK_BYTES = 65536
_PART_SUFFIX = ".part"
_LEFT_OVER = re.compile(rf".+\.[0-9a-f]{{8}}{re.escape(_PART_SUFFIX)}", re.DOTALL)


@contextlib.contextmanager
def open_atomic(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, and rename it to `path` at the end.

    Several processes may write the same file at once: each has a temporary file of its own, and the last rename wins.

    Args:
        path: The file to write or replace.
        private: Whether only this user may open the file, whatever the umask.

    Yields:
        The temporary file, `<name>.<random>.part`. It is removed if the body raises.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_PART_SUFFIX}")
    opener = open_private if private else None
    with _rename_at_end(temporary, path), open(temporary, "wb", opener=opener) as file:
        yield file


@contextlib.contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """Give a library that writes by path a temporary path beside `path`, and rename that file to `path` at the end.

    Only one process at a time may write the same file. What a killed process leaves is overwritten by the next one.

    Args:
        path: The file to write or replace.

    Yields:
        The temporary path, `part-<name>`, which keeps the extension of the file. It is removed if the body raises.
    """
    temporary = path.with_name(f"part-{path.name}")
    with _rename_at_end(temporary, path):
        yield temporary


@contextlib.contextmanager
def _rename_at_end(temporary: Path, path: Path) -> Iterator[None]:
    try:
        yield
        # A file that is renamed before its content is on the disk is empty after a power cut.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def check_output(path: Path, *, is_folder: bool) -> None:
    """Refuse an output that exists as the other kind, before the work that it is for.

    Raises:
        NotADirectoryError: If a folder is to be written where a file is.
        IsADirectoryError: If a file is to be written where a folder is.
    """
    if is_folder and path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not is_folder and path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def remove_left_overs(paths: Iterable[Path]) -> None:
    """Remove those of the files that a killed process left of `open_atomic`; no other process may be writing them.

    Raises:
        OSError: If a file cannot be removed.
    """
    for path in paths:
        if _LEFT_OVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def open_private(path: str, flags: int) -> int:
    """Open a file that only this user may open, whatever the umask; the `opener` of `open`."""
    descriptor = os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):  # Windows has none; there the folder of a user is private.
        os.fchmod(descriptor, 0o600)
    return descriptor


def make_private_folder(path: Path) -> None:
    """Make a folder that only this user may open, whatever the umask; one that exists is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        check_output(path, is_folder=True)
    else:
        path.chmod(0o700)


def write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file atomically; `private` as in `open_atomic`."""
    with open_atomic(path, private=private) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8 atomically.

    File names that are not UTF-8 hold characters that UTF-8 cannot express: those are written as `\udcff`.
    """
    write_bytes(path, encode_text(text))


def encode_text(text: str) -> bytes:
    r"""Encode text in UTF-8; parts of file names that are not UTF-8 become `\udcff` and the like."""
    return text.encode(errors="backslashreplace")


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write a JSON file atomically: sorted keys, two spaces, no NaN; `private` as in `open_atomic`."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_bytes(path, encode_text(text), private=private)


def append_line(path: Path, line: bytes, *, private: bool = False) -> None:
    """Append a line to a file, on the disk when this returns: completely, or not at all if it fails.

    After a kill the last line may be incomplete; `remove_partial_line` removes it.

    Args:
        path: The file; created if missing.
        line: The line, with its line feed.
        private: Whether only this user may open the file, whatever the umask.

    Raises:
        OSError: If the line cannot be written.
    """
    with open(path, "ab", buffering=0, opener=open_private if private else None) as file:
        end = file.tell()
        try:
            # A disk that is nearly full takes a part, without an error.
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def remove_partial_line(path: Path) -> None:
    """Remove an incomplete last line, left by a killed process; without a file, do nothing.

    Raises:
        OSError: If the file cannot be read or written.
    """
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        file.truncate(end)


def cache_folder() -> Path:
    """Return the folder of downloaded files: `$BONEAGE_HOME`, or by default `~/.cache/boneage`."""
    return Path(os.environ.get("BONEAGE_HOME") or "~/.cache/boneage").expanduser()


def make_folder_beside(target: Path) -> Path:
    """Make an empty folder beside `target`, to be filled and passed to `replace_folder`.

    Args:
        target: The folder to write or replace.

    Returns:
        The folder `<name>.part`; what a killed process left of it is removed.
    """
    folder = _sibling(target, ".part")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def replace_folder(new: Path, target: Path) -> None:
    """Put a complete folder in the place of another, or where there is none yet.

    No portable call exchanges two folders. The present one is renamed to `<name>.old`, the new one takes its place, and
    the old one is removed. After a kill between the two renames only `<name>.old` is there, complete: readers and the
    next writer call `restore_folder`, which renames it back.

    Args:
        new: The complete folder, on the same file system as `target`. It is renamed.
        target: The folder to write or replace; of a link, the folder that it points to.

    Raises:
        OSError: If a folder cannot be renamed or removed. `target` is then complete: the old folder or the new one.
    """
    target, old = target.resolve(), _sibling(target, ".old")
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    restore_folder(target)
    while True:
        if target.exists():
            # Left by a process that was killed while it removed the folder.
            if old.exists():
                shutil.rmtree(old)
            os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            if not target.exists():
                restore_folder(target)
                raise
            # A reader has just restored the old folder; move it away again.
        else:
            break
    if old.exists():
        shutil.rmtree(old)


def restore_folder(target: Path) -> None:
    """Bring back a folder that a killed `replace_folder` has moved away; else do nothing.

    Call it before a folder is read that `replace_folder` may write.

    Args:
        target: The folder.

    Raises:
        OSError: If the folder cannot be renamed.
    """
    if target.exists():
        return
    target, old = target.resolve(), _sibling(target, ".old")
    if not old.exists():
        return
    try:
        os.replace(old, target)
    except OSError:
        # Another process may have restored or replaced it in the meantime.
        if not target.exists():
            raise


def _sibling(target: Path, suffix: str) -> Path:
    target = target.resolve()
    return target.with_name(target.name + suffix)
