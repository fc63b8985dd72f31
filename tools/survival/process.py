"""One process of a command: started, perhaps killed at a moment, and what it said."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

TIMEOUT_SECONDS = 600.0
POLL_SECONDS = 0.02
ENDING_SECONDS = 5.0
INTERRUPTED = 130


class SurvivalError(Exception):
    """A command did not survive what it should; the message says how."""


@dataclasses.dataclass
class Running:
    """A running command.

    Args:
        process: The process, the leader of its own group.
        outputs: Files of its standard output and standard error.
    """

    process: subprocess.Popen[bytes]
    outputs: tuple[Path, Path]

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def read_output(self) -> str:
        """Return its standard output so far."""
        return self.outputs[0].read_text(encoding="utf-8", errors="replace")

    def read_errors(self) -> str:
        """Return its standard error so far."""
        return self.outputs[1].read_text(encoding="utf-8", errors="replace")

    def interrupt(self) -> None:
        """Send Ctrl-C to the process and its workers, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end and return its exit status; a killed one has a negative status.

        Raises:
            SurvivalError: If it does not end.
        """
        try:
            return self.process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise SurvivalError("does not end") from None

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait until something is so; returns False if the process ends before.

        Raises:
            SurvivalError: If neither happens.
        """
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            if condition():
                return True
            if not self.is_alive:
                return condition()
            time.sleep(POLL_SECONDS)
        raise SurvivalError("waits for ever")

    def has_ended(self) -> bool:
        """Whether it has ended, or does so in a moment: a connection is reset before the process is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDING_SECONDS)
        return not self.is_alive

    def check_interrupted(self) -> None:
        """Check that it ends with one line after Ctrl-C.

        The status is 130, or the signal itself where it came amid an import: CPython then ends by the signal, although
        the exception was handled.

        Raises:
            SurvivalError: If it does otherwise.
        """
        self.check_one_line(status=-signal.SIGINT if self.wait() == -signal.SIGINT else INTERRUPTED)

    def check_one_line(self, *, status: int) -> None:
        """Check that it ends with a status and one line on standard error, without a traceback.

        Raises:
            SurvivalError: If it does otherwise.
        """
        got, errors = self.wait(), self.read_errors()
        *_, last = ["", *filter(str.strip, errors.splitlines())]
        if got != status or "Traceback" in errors or not last.startswith("boneage: "):
            raise SurvivalError(f"status {got}, expected {status}; it said: {last[:300]}")


@contextlib.contextmanager
def start(words: Sequence[str], *, logs: Path) -> Iterator[Running]:
    """Start a command; whatever is left of it at the end is killed.

    Args:
        words: The command line.
        logs: Folder for its output.
    """
    # A shell starts background jobs so that they, and all that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logs.mkdir(parents=True, exist_ok=True)
    number = len(list(logs.iterdir()))
    outputs = (logs / f"{number}.out", logs / f"{number}.err")
    with outputs[0].open("wb") as out, outputs[1].open("wb") as err:
        # Without a GPU each run gives the same numbers.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONHASHSEED": "0"}
        process = subprocess.Popen(words, stdout=out, stderr=err, start_new_session=True, env=environment)
    try:
        yield Running(process, outputs)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def kill_after(running: Running, seconds: float) -> Iterator[None]:
    """Kill the process itself, not its workers, after some time, unless it has ended by then."""
    timer = threading.Timer(seconds, running.process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
