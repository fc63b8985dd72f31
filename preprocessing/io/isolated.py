"""Read radiographs in child processes: files of strangers go through decoders written in C, which may crash on them.

A file that crashes its decoder, or needs too much memory or time, is an unreadable file like any other. A child is kept
for the next file; several threads have a child each.
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from boneage.base.child_process import Cause, ChildKilledError, ChildProcess
from boneage.base.limits import memory_bytes
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError
from boneage.preprocessing.io.read import decode_radiograph, read_radiograph

MAX_SECONDS = 60.0
"""Time limit of a file. The slowest image of the largest size takes half of it on a slow core."""
MAX_MEMORY_BYTES = 4 * 2**30
"""Memory limit of a file; at most half of what the machine or container has."""
_MODULE = "boneage.preprocessing.io.read"
_EXPORT = "export it again from its source"
_KILLED: dict[Cause, tuple[str, str, str]] = {
    "crash": ("crashes the process that reads it", _EXPORT, "damaged_image"),
    "memory": ("needs too much memory", "crop or shrink it, or free memory", "too_large"),
    "time": ("takes too long to read", _EXPORT, "too_slow"),
}


class _Children:
    """The children of one process that wait for a file."""

    def __init__(self) -> None:
        self._pid, self._waiting = os.getpid(), LifoQueue[ChildProcess]()

    def take(self) -> ChildProcess:
        """Return a child that waits, or start one."""
        if self._pid != os.getpid():  # A fork must not talk to the children of its parent.
            self._pid, self._waiting = os.getpid(), LifoQueue()
        with contextlib.suppress(Empty):
            while not (child := self._waiting.get_nowait()).is_alive:
                child.close()
            return child
        return start_child(_MODULE)

    def give_back(self, child: ChildProcess) -> None:
        """Keep a child for the next file."""
        self._waiting.put(child)

    def close(self) -> None:
        """End the children."""
        if self._pid == os.getpid():
            with contextlib.suppress(Empty):
                while True:
                    self._waiting.get_nowait().close()


def start_child(module: str) -> ChildProcess:
    """Start a child process with the memory limit of a file, which imports a module ahead of time."""
    # Elsewhere the limit has no effect.
    limit = min(MAX_MEMORY_BYTES, memory_bytes() // 2) if sys.platform == "linux" else None
    return ChildProcess(modules=[module], max_memory_bytes=limit)


_children = _Children()
atexit.register(_children.close)


def start_decoder() -> None:
    """Start a child for the first file ahead of time, so that it imports what it needs while this process goes on."""
    _children.give_back(_children.take())


def read_isolated(path: str | Path) -> Radiograph:
    """Read a radiograph like `boneage.preprocessing.io.read.read_radiograph`, in a child process.

    Raises:
        UnreadableImageError: If the file contains no radiograph, crashes its decoder (`damaged_image`), or needs too
            much memory (`too_large`) or time (`too_slow`).
        OSError: If reading the file fails.
    """
    return _call(read_radiograph, Path(path), path=Path(path))


def decode_isolated(data: bytes, *, path: str | Path) -> Radiograph:
    """Read a radiograph like `boneage.preprocessing.io.read.decode_radiograph`, in a child process.

    Args:
        data: The whole file.
        path: Name used in error messages.

    Raises:
        UnreadableImageError: As `read_isolated`.
    """
    return _call(_decode, data, Path(path), path=Path(path))


def _decode(data: bytes, path: Path) -> Radiograph:
    return decode_radiograph(data, path=path)


def _call(function: Callable[..., Radiograph], *args: Any, path: Path) -> Radiograph:
    child = _children.take()
    try:
        radiograph = child.call(function, *args, seconds=MAX_SECONDS)
    except ChildKilledError as error:
        raise describe_killed(error, path=path) from error
    except MemoryError as error:
        child.close()
        raise describe_killed(ChildKilledError("memory"), path=path) from error
    except Exception:
        _children.give_back(child)
        raise
    _children.give_back(child)
    return radiograph


def describe_killed(error: ChildKilledError, *, path: Path) -> UnreadableImageError:
    """Return the error of a file that ended the child that read it."""
    problem, fix, reason = _KILLED[error.cause]
    return UnreadableImageError(f"{path} {problem}; {fix}.", reason=reason)
