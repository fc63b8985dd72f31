"""Many radiographs on many machines: the parts of a preparation as an Apache Beam pipeline.

Each worker reads the source and writes finished parts to `<out>.partial/parts`, so both must lie on a file system that
all workers share, under the paths that were given: absolute ones where a worker starts in another folder. Each worker
needs this package of this version. What is finished is told by the parts' notes alone, never by the runner: whatever
it repeats or does twice at once, a part is the same bytes.

The pipeline is launched by a process of its own, which ends with all the workers that it started: Beam's local runner
waits for ever for a worker that was killed, and its threads would outlive an error. That process alone imports Beam,
which takes a second and speaks up at that.
"""

import contextlib
import functools
import importlib.util
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from preprocessing.sources import Case
from preprocessing.workers import WorkerKilled, WorkFailed
from tfrecords.errors import check_choice, closest

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# Cases, and the note that makes their part done.
Part = tuple[Sequence[Case], Path]
Work = Callable[[Sequence[Case], Path], None]

# Beam's DirectRunner prefers to download another runner, which knows none of the `--direct_*` options, and falls back
# to the one that is named here.
RUNNERS = {
    "DirectRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "FlinkRunner": "FlinkRunner",
    "SparkRunner": "SparkRunner",
    "DataflowRunner": "DataflowRunner",
}
POLL_SECONDS = 0.2
# How many pipelines in a row may lose a worker without having finished a part.
MAX_FRUITLESS = 3
# The thread in which Beam's local runner waits for a worker process; that it failed is all that tells of a kill.
_WORKER_THREAD = "run_worker"


class _OptionRefused(ValueError):
    """An option of the runner that it does not know or take."""


def check(runner: str, options: Sequence[str]) -> None:
    """Check what can be told before any work.

    Args:
        runner: One of `RUNNERS`.
        options: Beam's own options, each as `--name=value` or `--name`.

    Raises:
        ValueError: If the runner is unknown or an option is no option.
        ModuleNotFoundError: If apache-beam is not installed.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam")
    check_choice("runner", runner, RUNNERS)
    for option in options:
        if not option.startswith("--"):
            raise ValueError(f"`runner_options` must be like --name=value or --name. Received: {option!r}.")


def work_through(work: Work, parts: Sequence[Part], *, runner: str, options: Sequence[str]) -> Iterator[Part]:
    """Do parts by Beam. Where a worker is killed, what is missing is done again.

    Args:
        work: The work, which writes a part's note last; a function that processes can be sent.
        parts: What to do it on: cases, and the note to write.
        runner: One of `RUNNERS`.
        options: Beam's own options, see `check`.

    Yields:
        Each part, once its note is there. What Beam and its local workers print goes to `beam.log` beside the notes.

    Raises:
        ValueError: If Beam refuses an option.
        WorkerKilled: If workers are killed again and again before any of them has finished a part.
        WorkFailed: If the pipeline fails. What was yielded before is done.
    """
    waiting, num_fruitless = list(parts), 0
    while waiting:
        num_before = len(waiting)
        with _launch(work, waiting, runner, options) as outcome:
            ended = False
            while not ended:
                ended = outcome.poll(POLL_SECONDS)
                done = {note for _, note in waiting if note.exists()}
                yield from (part for part in waiting if part[1] in done)
                waiting = [part for part in waiting if part[1] not in done]
            failure = _receive(outcome)
        num_fruitless = 0 if len(waiting) < num_before else num_fruitless + 1
        if waiting and failure is None:
            raise WorkFailed(f"{waiting[0][1]} is missing though the pipeline ended; let all workers share its folder.")
        if waiting and failure and (num_fruitless == MAX_FRUITLESS or not isinstance(failure, WorkerKilled)):
            raise failure


@contextlib.contextmanager
def _launch(work: Work, parts: Sequence[Part], runner: str, options: Sequence[str]) -> Iterator[Connection]:
    """Start a process that runs the pipeline; gives the connection through which it tells the outcome, if it lives."""
    context = multiprocessing.get_context("spawn")
    outcome, teller = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, parts, runner, options, teller))
    process.start()
    # With the process's own copy the last one closes, by which `outcome` ends.
    teller.close()
    try:
        yield outcome
    finally:
        # Before `join`, so that the group's number cannot be another's by now; it may not be there yet or no more.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _end_group(process.pid)
        process.kill()
        process.join()
        outcome.close()


def _receive(outcome: Connection) -> Exception | None:
    """Return what failed; a process that tells nothing was killed, or ended itself because a worker was."""
    try:
        return outcome.recv()
    except EOFError:
        return WorkerKilled(
            "workers were killed, most likely for memory; run the same command again with fewer of them: finished "
            "work is kept."
        )


def _run(work: Work, parts: Sequence[Part], runner: str, options: Sequence[str], outcome: Connection) -> None:
    # A group of its own, so that the workers end with this process whatever it dies of.
    os.setsid()
    log = parts[0][1].with_name("beam.log")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_follow_parent, daemon=True).start()
    threading.excepthook = _on_thread_failure
    try:
        _run_pipeline(work, parts, _parse(runner, options))
        outcome.send(None)
    except _OptionRefused as error:
        outcome.send(error)
    except Exception as error:
        traceback.print_exc()
        # Beam's error holds the whole traceback of the worker, whose last line tells what happened.
        *_, line = [type(error).__name__, *filter(str.strip, str(error).splitlines())]
        fix = f"see {log}, put it right and run the same command again: finished work is kept"
        outcome.send(WorkFailed(f"{line.strip()}; {fix}."))
    finally:
        _end_group(0)


def _parse(runner: str, options: Sequence[str]) -> "PipelineOptions":
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        parsed = PipelineOptions([f"--runner={RUNNERS[runner]}", *options])
        known = parsed.get_all_options()
    except SystemExit as error:  # Thus argparse refuses a value.
        raise _OptionRefused(f"`runner_options`: {error.__context__}.") from error
    if runner == "DirectRunner":
        # Others pass on what only their servers know; this one would ignore a misspelt option.
        for name in parsed.get_all_options(retain_unknown_options=True).keys() - known.keys():
            raise _OptionRefused(f"`runner_options`: {runner} knows no --{name}.{closest(name, known)}")
    return parsed


def _run_pipeline(work: Work, parts: Sequence[Part], options: "PipelineOptions") -> None:
    import apache_beam

    with apache_beam.Pipeline(options=options) as pipeline:
        listed = pipeline | "List parts" >> apache_beam.Create(parts, reshuffle=False)
        spread = listed | "Spread parts" >> apache_beam.Reshuffle()
        spread | "Process parts" >> apache_beam.Map(functools.partial(_process, work))


def _process(work: Work, part: Part) -> None:
    # The workers already fill the cores; OpenCV's own threads would only compete with them.
    cv2.setNumThreads(1)
    work(*part)


def _follow_parent() -> None:
    """End with the parent, even when it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _end_group(0)


def _on_thread_failure(failure: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(failure)
    if failure.thread is not None and failure.thread.name == _WORKER_THREAD:
        _end_group(0)


def _end_group(pid: int | None) -> None:
    """End a process and all that it started; 0 is this one."""
    if pid is not None:
        os.killpg(pid, signal.SIGKILL)
