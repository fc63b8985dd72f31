"""A worker pool with a limit on concurrent requests and on time."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class PoolFullError(Exception):
    """Raised if the pool accepts no more requests."""


class Pool:
    """Worker threads, with a limit on waiting requests.

    Args:
        num_threads: Number of concurrent readings.
        max_requests: Number of concurrent requests; others are rejected.
        request_seconds: Time limit of a request, including its upload.
    """

    def __init__(self, *, num_threads: int = 2, max_requests: int = 10, request_seconds: float = 120.0):
        self.num_threads, self.max_requests, self.request_seconds = num_threads, max_requests, request_seconds
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="reading")
        self._lock = threading.Lock()
        self._num_requests = 0
        self._num_overdue = 0

    @contextlib.contextmanager
    def admit(self) -> Iterator[float]:
        """Admit a request; yields its deadline on the monotonic clock.

        Raises:
            PoolFullError: If there are too many requests, or all threads are busy with overdue readings.
        """
        with self._lock:
            if self._num_requests >= self.max_requests or self._num_overdue >= self.num_threads:
                raise PoolFullError
            self._num_requests += 1
        try:
            yield time.monotonic() + self.request_seconds
        finally:
            with self._lock:
                self._num_requests -= 1

    async def run(self, function: Callable[[], Result], *, until: float) -> Result:
        """Run a function in a thread.

        Args:
            function: The function.
            until: Deadline on the monotonic clock.

        Raises:
            TimeoutError: If the deadline passes. A thread cannot be stopped: it counts as busy until it ends.
        """
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        future = self._threads.submit(function)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), left)
        except TimeoutError:
            if not future.cancel() and not future.done():
                with self._lock:
                    self._num_overdue += 1
                future.add_done_callback(self._end_overdue)
            raise

    def _end_overdue(self, _: object) -> None:
        with self._lock:
            self._num_overdue -= 1

    def close(self) -> None:
        """Accept no more work and wait for running readings, which cannot be stopped."""
        self._threads.shutdown(wait=True, cancel_futures=True)
