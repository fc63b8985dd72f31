"""Worker processes: jobs on the cores of one machine."""

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

import cv2

from boneage.base.child_process import ChildKilledError, ChildProcess
from boneage.base.errors import BoneAgeError
from boneage.base.limits import cpu_count

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerError(BoneAgeError):
    """A worker failed; finished work is kept."""


class WorkerKilledError(WorkerError):
    """A worker process was killed from outside, most likely because memory ran out."""


def run_jobs(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int | None
) -> Iterator[tuple[Job, Result]]:
    """Run jobs in worker processes, or in this process where one worker is enough.

    Args:
        work: Does one job; a picklable function.
        jobs: Arguments of `work`, one a job.
        workers: Number of worker processes (default: one per CPU core).

    Yields:
        Each job with its result, as they finish.

    Raises:
        WorkerKilledError: If a process was killed. Results already yielded are complete.
    """
    workers = min(workers or cpu_count(), len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job, work(job)
        return
    children = [ChildProcess(modules=[__name__]) for _ in range(workers)]
    idle: SimpleQueue[ChildProcess] = SimpleQueue()
    for child in children:
        idle.put(child)

    def run(job: Job) -> Result:
        child = idle.get()
        try:
            result: Result = child.call(_work, work, job)
            return result
        finally:
            idle.put(child)

    threads = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        futures = {threads.submit(run, job): job for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except ChildKilledError as error:
        raise WorkerKilledError(
            "a worker process was killed, most likely because memory ran out; run the same command again with "
            "fewer `--workers`: finished work is kept."
        ) from error
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.close()
        threads.shutdown()


def _work(work: Callable[[Job], Result], job: Job) -> Result:
    # The processes already fill the cores; OpenCV's own threads would only compete with them.
    cv2.setNumThreads(1)
    return work(job)
