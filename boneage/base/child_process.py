"""Call functions in a child process, with limits on memory and time.

A function that crashes, hangs or needs too much memory ends its child and is one failed call for the caller. The child
is no sandbox: it has the rights of the user.

Children are started with `subprocess`: `multiprocessing` would run the script of the user again in each of them.
"""

import contextlib
import importlib
import json
import multiprocessing.spawn
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Literal, TypeVar, cast

from boneage.base.errors import BoneAgeError, describe_error

Result = TypeVar("Result")
Cause = Literal["time", "memory", "crash"]

# -P: a module in the working folder, which may hold files of strangers, must not replace a library. Without a line, the
# parent has ended meanwhile.
_START = (
    "import json, sys; line = sys.stdin.buffer.readline(); "
    "options = json.loads(line) if line.endswith(b'\\n') else sys.exit(1); sys.path[:] = options['path']; "
    "from boneage.base.child_process import serve_calls; serve_calls(options)"
)
# Windows has a flag for a process of its own group, others have a number.
_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_LENGTH = struct.Struct("<Q")


class ChildKilledError(BoneAgeError):
    """A child process ended during a call.

    Attributes:
        cause: `"time"` if it took too long, `"memory"` if it was killed from outside, most likely because memory ran
            out, or `"crash"`.
    """

    def __init__(self, cause: Cause):
        super().__init__(f"a child process ended during a call ({cause}).")
        self.cause: Cause = cause


class ChildStartError(BoneAgeError):
    """A child process could not be started."""


class ChildProcess:
    """A child process that calls functions, one at a time. It ends with this process, however that ends.

    Args:
        modules: Modules that the child imports at once, while this process goes on.
        max_memory_bytes: Memory that a call may take beyond what the child has then; None for no limit. It holds on
            Linux; elsewhere there is none.
    """

    def __init__(self, *, modules: Sequence[str] = (), max_memory_bytes: int | None = None):
        self._is_started, self._is_expired = False, False
        self._process = subprocess.Popen(
            [multiprocessing.spawn.get_executable(), "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A terminal sends Ctrl-C to all processes of a group: the parent decides what becomes of its children.
            process_group=None if _NEW_GROUP else 0,
            creationflags=_NEW_GROUP,
        )
        options = {"path": sys.path, "modules": list(modules), "max_memory_bytes": max_memory_bytes}
        with contextlib.suppress(OSError):  # A child that has ended already is found by the first call.
            self._requests.write(json.dumps(options).encode() + b"\n")
            self._requests.flush()

    @property
    def is_alive(self) -> bool:
        """Whether the child can take a call."""
        return not self._is_expired and self._process.poll() is None

    def call(self, function: Callable[..., Result], *args: Any, seconds: float | None = None) -> Result:
        """Call a function in the child, in the working folder of this process.

        Args:
            function: A function that can be pickled.
            *args: Its arguments.
            seconds: Time limit; None for none.

        Returns:
            What the function returns. An exception that it raises is raised here.

        Raises:
            ChildKilledError: If the child ends before that. It can take no other call.
            ChildStartError: If the child could not start.
        """
        timer = None if seconds is None else threading.Timer(seconds, self._expire)
        try:
            if timer is not None:
                timer.daemon = True
                timer.start()
            if not self._is_started:
                _read(self._answers)
                self._is_started = True
            _write(self._requests, pickle.dumps((_working_folder(), function, args), pickle.HIGHEST_PROTOCOL))
            # The child runs the code of this package, with the same rights.
            is_returned, value = pickle.loads(_read(self._answers))  # noqa: S301
        except (OSError, EOFError, ValueError) as error:
            self.close()
            if not self._is_started and not self._is_expired:
                python = multiprocessing.spawn.get_executable()
                raise ChildStartError(
                    f"{python}: a child process cannot start with it; set sys.executable to a Python with this package."
                ) from error
            raise ChildKilledError(self._find_cause()) from error
        except BaseException:
            self.close()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not is_returned:
            raise value
        result: Result = value
        return result

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()

    @property
    def _requests(self) -> BinaryIO:
        return cast(BinaryIO, self._process.stdin)

    @property
    def _answers(self) -> BinaryIO:
        return cast(BinaryIO, self._process.stdout)

    def _expire(self) -> None:
        self._is_expired = True
        self._process.kill()

    def _find_cause(self) -> Cause:
        if self._is_expired:
            return "time"
        return "memory" if self._process.returncode == -getattr(signal, "SIGKILL", 9) else "crash"


def serve_calls(options: dict[str, Any]) -> None:
    """Answer the calls of the parent until it ends; runs in the child.

    Args:
        options: The module search path, the modules to import and the memory limit.
    """
    # Libraries print to standard output, which is the way of the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY), 1)
    # Started before anything else, so that a parent that ends during a long call ends this process too.
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    for module in options["modules"]:
        importlib.import_module(module)
    _write(answers, b"")  # started
    is_limited = False
    while True:
        try:
            folder, function, args = pickle.loads(requests.get())  # noqa: S301 - from the parent
            if folder is not None and folder != _working_folder():
                os.chdir(folder)
            if not is_limited:  # What the function needs has been imported by now.
                _limit(options["max_memory_bytes"])
                is_limited = True
            answer = (True, function(*args))
        except Exception as error:
            answer = (False, error)
        _write(answers, _pickle(answer))


def _receive(stream: BinaryIO, requests: "SimpleQueue[bytes]") -> None:
    try:
        while True:
            requests.put(_read(stream))
    except (OSError, EOFError):
        os._exit(1)  # The parent has ended.


def _limit(max_memory_bytes: int | None) -> None:
    """Limit the memory of this process where the platform can, and leave no image of its memory after a crash."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # If the memory of the machine runs out, this process is to end, not its parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if max_memory_bytes is None or not Path("/proc/self/statm").exists():
        return
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used_bytes + max_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _working_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # It has been removed.
        return None


def _pickle(answer: tuple[bool, Any]) -> bytes:
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        failed = RuntimeError(f"the answer of a child process cannot be pickled ({describe_error(error)}).")
        return pickle.dumps((False, failed))


def _write(stream: BinaryIO, data: bytes) -> None:
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: BinaryIO) -> bytes:
    length = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))[0]
    return _read_exactly(stream, length)


def _read_exactly(stream: BinaryIO, num_bytes: int) -> bytes:
    data = stream.read(num_bytes)
    if len(data) < num_bytes:
        raise EOFError
    return data
