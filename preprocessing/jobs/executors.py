"""Executors: where the shards of a preparation are processed, on this machine or by Apache Beam."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from boneage.preprocessing.jobs.beam import BeamExecutor
from boneage.preprocessing.jobs.shard import Shard
from boneage.preprocessing.jobs.workers import run_jobs


@runtime_checkable
class Executor(Protocol):
    """Processes shards somewhere."""

    def run(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Iterator[Shard]:
        """Process shards.

        Args:
            work: Processes one shard and writes its manifest last; a picklable function.
            shards: The shards.

        Yields:
            Each shard once its manifest is there, in any order.

        Raises:
            WorkerError: If a worker fails or is killed. Shards already yielded are complete.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LocalExecutor:
    """Processes shards on this machine.

    Args:
        workers: Number of worker processes (default: one per CPU core).
    """

    workers: int | None = None

    def run(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Iterator[Shard]:
        """Process shards; see `Executor.run`."""
        for shard, _ in run_jobs(work, shards, workers=self.workers):
            yield shard


def make_executor(*, workers: int | None, runner: str | None, runner_options: Sequence[str]) -> Executor:
    """Make the executor that the options of `prepare` ask for, and check them before any work starts.

    Raises:
        ValueError: If the options do not go together, or Beam has no such runner.
        ModuleNotFoundError: If `runner` is given and apache-beam is not installed.
    """
    if runner is None:
        if runner_options:
            raise ValueError(f"`runner_options` need a `runner`. Received: {' '.join(runner_options)}.")
        return LocalExecutor(workers)
    if workers is not None:
        raise ValueError(
            "`workers` applies to the local machine only; set the workers of `runner` with `runner_options`."
        )
    return BeamExecutor(runner, tuple(runner_options))
