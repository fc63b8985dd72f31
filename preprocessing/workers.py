"""Many radiographs on the cores of one machine."""

import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import cv2

from tfrecords.errors import BoneAgeError

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkFailed(BoneAgeError):
    """Work that could not go on; what was finished is kept."""


class WorkerKilled(WorkFailed):
    """A process that was killed from outside, most likely for memory."""


def work_through(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int | None
) -> Iterator[tuple[Job, Result]]:
    """Do jobs in processes of their own, or in this one where one worker is enough.

    Args:
        work: The work; a function that processes can be sent.
        jobs: What to do it on.
        workers: Number of processes; one per core without it.

    Yields:
        Each job with its result, as they finish.

    Raises:
        WorkerKilled: If a process was killed. What was yielded before is done.
    """
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job, work(job)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        futures = {pool.submit(work, job): job for job in jobs}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise WorkerKilled(
                "a worker was killed, most likely for memory; run the same command again with fewer `--workers`: "
                "finished work is kept."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    # The processes already fill the cores; OpenCV's own threads would only compete with them.
    cv2.setNumThreads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this worker when the parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
