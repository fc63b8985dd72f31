"""Process the shards of a preparation on many machines, as an Apache Beam pipeline.

Each worker reads the source and writes finished shards to `<out>.partial/parts`, so both must be on a file system that
all workers share, under the paths that were given: absolute ones where a worker starts in another folder. Each worker
needs this package in this version. Finished shards are known by their manifests alone, never by the runner: if it
repeats a shard or processes it twice at once, the shard has the same bytes.

A process of its own runs the pipeline and ends with all the workers that it started: Beam's local runner waits
indefinitely for a killed worker, and its threads would outlive an error. Only that process imports Beam, which takes a
second and prints messages.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import cv2

from boneage.base.errors import check_choice, suggest_closest
from boneage.preprocessing.jobs.shard import Shard
from boneage.preprocessing.jobs.workers import WorkerError, WorkerKilledError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# Beam's DirectRunner prefers to download another runner, which has none of the `--direct_*` options, and falls back to
# the one that is named here.
RUNNERS = {
    "DirectRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "FlinkRunner": "FlinkRunner",
    "SparkRunner": "SparkRunner",
    "DataflowRunner": "DataflowRunner",
}
POLL_SECONDS = 0.2
# How many pipelines in a row may lose a worker without finishing a shard.
MAX_RESTARTS_WITHOUT_PROGRESS = 3
# The thread in which Beam's local runner waits for a worker process; its failure is the only sign of a killed worker.
_WORKER_THREAD = "run_worker"


class _RunnerOptionError(ValueError):
    """An option that the runner does not have or take."""


@dataclasses.dataclass(frozen=True)
class BeamExecutor:
    """Processes shards with Apache Beam; if a worker is killed, the missing shards are processed again.

    Args:
        runner: One of `RUNNERS`.
        options: Beam's own options, each as `--name=value` or `--name`.

    Raises:
        ValueError: If the runner is unknown or an option has another form.
        ModuleNotFoundError: If apache-beam is not installed.
    """

    runner: str
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check what can be checked before any work starts."""
        if importlib.util.find_spec("apache_beam") is None:
            raise ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam")
        check_choice("runner", self.runner, RUNNERS)
        for option in self.options:
            if not option.startswith("--"):
                raise ValueError(f"`runner_options` must be like --name=value or --name. Received: {option!r}.")

    def run(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Iterator[Shard]:
        """Process shards; what Beam and its local workers print goes to `beam.log` beside the manifests.

        Args:
            work: Processes one shard and writes its manifest last; a picklable function.
            shards: The shards.

        Yields:
            Each shard once its manifest is there.

        Raises:
            ValueError: If Beam refuses an option.
            WorkerKilledError: If workers are killed repeatedly before any of them has finished a shard.
            WorkerError: If the pipeline fails. Shards already yielded are complete.
        """
        pending, num_restarts = list(shards), 0
        while pending:
            num_before = len(pending)
            with self._launch(work, pending) as outcome:
                ended = False
                while not ended:
                    ended = outcome.poll(POLL_SECONDS)
                    finished = {shard.manifest for shard in pending if shard.manifest.exists()}
                    yield from (shard for shard in pending if shard.manifest in finished)
                    pending = [shard for shard in pending if shard.manifest not in finished]
                failure = _receive(outcome)
            num_restarts = 0 if len(pending) < num_before else num_restarts + 1
            if pending and failure is None:
                raise WorkerError(
                    f"{pending[0].manifest}: missing after the pipeline ended; all workers must share this folder."
                )
            may_restart = isinstance(failure, WorkerKilledError) and num_restarts < MAX_RESTARTS_WITHOUT_PROGRESS
            if pending and failure and not may_restart:
                raise failure

    @contextlib.contextmanager
    def _launch(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Iterator[Connection]:
        """Start a process that runs the pipeline; yield the connection on which it reports the outcome."""
        context = multiprocessing.get_context("spawn")
        outcome, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(work, shards, self.runner, self.options, sender))
        process.start()
        # With the process's own copy the last one closes, which ends `outcome`.
        sender.close()
        try:
            yield outcome
        finally:
            # Before `join`, after which the group's number may be another's; the group may not exist yet or any more.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                _kill_process_group(process.pid)
            process.kill()
            process.join()
            outcome.close()


def _receive(outcome: Connection) -> Exception | None:
    """Return the failure; a process that reports nothing was killed, or stopped because a worker was killed."""
    try:
        failure: Exception | None = outcome.recv()
    except EOFError:
        return WorkerKilledError(
            "workers were killed, most likely because memory ran out; run the same command again with fewer workers: "
            "finished work is kept."
        )
    return failure


def _run(
    work: Callable[[Shard], None], shards: Sequence[Shard], runner: str, options: Sequence[str], outcome: Connection
) -> None:
    # A group of its own, so that the workers end with this process however it ends. Windows has no such groups.
    if hasattr(os, "setsid"):
        os.setsid()
    log = shards[0].manifest.with_name("beam.log")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    threading.excepthook = _on_thread_failure
    try:
        _run_pipeline(work, shards, _parse(runner, options))
        outcome.send(None)
    except _RunnerOptionError as error:
        outcome.send(error)
    except Exception as error:
        traceback.print_exc()
        # Beam's error holds the whole traceback of the worker, whose last line names the error.
        *_, line = [type(error).__name__, *filter(str.strip, str(error).splitlines())]
        fix = f"see {log}, fix the cause and run the same command again: finished work is kept"
        outcome.send(WorkerError(f"{line.strip()}; {fix}."))
    finally:
        _kill_process_group(0)


def _parse(runner: str, options: Sequence[str]) -> "PipelineOptions":
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        parsed = PipelineOptions([f"--runner={RUNNERS[runner]}", *options])
        known = parsed.get_all_options()
    except SystemExit as error:  # This is how argparse refuses a value.
        raise _RunnerOptionError(f"`runner_options`: {error.__context__}.") from error
    if runner == "DirectRunner":
        # Others pass on options that only their servers know; this one would ignore a misspelt option.
        for name in parsed.get_all_options(retain_unknown_options=True).keys() - known.keys():
            hint = suggest_closest(name, known)
            raise _RunnerOptionError(f"`runner_options`: {runner} has no option --{name}.{hint}")
    return parsed


def _run_pipeline(work: Callable[[Shard], None], shards: Sequence[Shard], options: "PipelineOptions") -> None:
    import apache_beam

    with apache_beam.Pipeline(options=options) as pipeline:
        listed = pipeline | "List shards" >> apache_beam.Create(shards, reshuffle=False)
        spread = listed | "Spread shards" >> apache_beam.Reshuffle()
        spread | "Process shards" >> apache_beam.Map(functools.partial(_process, work))


def _process(work: Callable[[Shard], None], shard: Shard) -> None:
    # The workers already fill the cores; OpenCV's own threads would only compete with them.
    cv2.setNumThreads(1)
    work(shard)


def _exit_with_parent() -> None:
    """End with the parent, even when it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _kill_process_group(0)


def _on_thread_failure(failure: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(failure)
    if failure.thread is not None and failure.thread.name == _WORKER_THREAD:
        _kill_process_group(0)


def _kill_process_group(pid: int | None) -> None:
    """End a process and all that it started; 0 is this one."""
    if hasattr(os, "killpg"):
        if pid is not None:
            os.killpg(pid, signal.SIGKILL)
    elif pid == 0:
        os._exit(1)
