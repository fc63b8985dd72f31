"""Locks of outputs: of two processes that write the same output, the second one stops at its start."""

import contextlib
import errno
import glob
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from boneage.base.errors import BoneAgeError
from boneage.base.files import check_output, remove_left_overs

_FOLDER_LOCK = ".boneage.lock"
# A process that ends removes its lock file; whoever opened that file just before tries again within this time.
_TIMEOUT_SECONDS, _POLL_SECONDS = 0.2, 0.05


class OutputInUseError(BoneAgeError):
    """Another process is writing the same output, or watching the same folder."""


@contextlib.contextmanager
def lock_folder(folder: Path, *, mode: int = 0o777) -> Iterator[None]:
    """Lock a folder that processes add files to, by a hidden file in it, until the context ends.

    The lock of a killed process does not count, and its temporary files are removed.

    Args:
        folder: The folder; created if missing, and then removed again if nothing is written.
        mode: Permissions of a new folder.

    Raises:
        OutputInUseError: If another process has locked it.
        OSError: If the folder or the lock file cannot be created.
    """
    check_output(folder, is_folder=True)
    is_new = not folder.exists()
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    try:
        with _lock(
            folder.resolve() / _FOLDER_LOCK,
            message=f"{folder}: another process is writing here; wait until it has ended, or choose another folder.",
        ):
            remove_left_overs(folder.rglob("*"))
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


@contextlib.contextmanager
def lock_watched(folder: Path) -> Iterator[None]:
    """Lock a folder that one process may watch, by a hidden file in it, until the context ends.

    Args:
        folder: The folder; created if missing. Its other files are not touched.

    Raises:
        OutputInUseError: If another process has locked it.
        OSError: If the folder or the lock file cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(
        folder.resolve() / _FOLDER_LOCK,
        message=f"{folder}: another process is watching this folder; stop it, or watch another folder.",
    ):
        yield


@contextlib.contextmanager
def lock_output(path: Path) -> Iterator[None]:
    """Lock a file, or a folder that is replaced as a whole, by a hidden file beside it, until the context ends.

    The lock of a killed process does not count, and its temporary files are removed.

    Args:
        path: The file or the folder, which need not exist.

    Raises:
        OutputInUseError: If another process has locked it.
        OSError: If the lock file cannot be created.
    """
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    with _lock(
        lock_path(path),
        message=f"{path}: another process is writing here; wait until it has ended, or choose another output.",
    ):
        remove_left_overs(target.parent.glob(f"{glob.escape(target.name)}.*"))
        yield


def lock_path(path: Path) -> Path:
    """Return the hidden file by which `lock_output` locks an output."""
    target = path.resolve()
    return target.with_name(f".{target.name}.lock")


@contextlib.contextmanager
def _lock(path: Path, *, message: str) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=_TIMEOUT_SECONDS, poll_interval=_POLL_SECONDS)
    except filelock.Timeout:
        raise OutputInUseError(message) from None
    try:
        yield
    finally:
        # Removed while it is still locked: whoever waits for it finds that it is gone, and locks a new one. Windows
        # removes no open file; there the release does it.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
