"""A bounded number of readings at a time, each with a bounded time."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class PoolFull(Exception):
    """There is no room for another request."""


class Pool:
    """Threads that read, and the requests that wait for them.

    Args:
        num_threads: Readings at a time.
        max_requests: Requests at a time; one more is turned away.
        request_seconds: Time for one request, its upload included.
    """

    def __init__(self, *, num_threads: int = 2, max_requests: int = 10, request_seconds: float = 120.0):
        self.num_threads, self.max_requests, self.request_seconds = num_threads, max_requests, request_seconds
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="reading")
        self._lock = threading.Lock()
        self._num_requests = 0
        self._num_overdue = 0

    @contextlib.contextmanager
    def admit(self) -> Iterator[float]:
        """Take a request in, and give the moment, on the monotonic clock, by which it must end.

        Raises:
            PoolFull: If there are too many, or every thread is busy with what nobody waits for any more.
        """
        with self._lock:
            if self._num_requests >= self.max_requests or self._num_overdue >= self.num_threads:
                raise PoolFull
            self._num_requests += 1
        try:
            yield time.monotonic() + self.request_seconds
        finally:
            with self._lock:
                self._num_requests -= 1

    async def run(self, function: Callable[[], Result], *, until: float) -> Result:
        """Run a function in a thread.

        Args:
            function: What to run.
            until: Moment on the monotonic clock by which it must be done.

        Raises:
            TimeoutError: If it is not. A thread cannot be stopped: it ends on its own, and counts as busy until then.
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
        """Take no more work, and wait for what is being read: it cannot be stopped, and must not outlive the server."""
        self._threads.shutdown(wait=True, cancel_futures=True)
