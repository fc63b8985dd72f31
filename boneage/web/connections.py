"""The HTTP server, whose connections have deadlines: clients that send nothing, or too slowly, shut nobody out.

uvicorn has a limit on the number of connections, but none on the time that a client takes to send its request.
"""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 200
"""Where more are open, the slowest of those whose request is incomplete is closed."""
GRACE_SECONDS = 10.0
"""Time to send a request, to which each kilobyte adds a second."""
_MIN_BYTES_PER_SECOND = 1000


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose request does not arrive in time.

    Args:
        **options: Those of uvicorn.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._began_seconds, self._num_bytes, self._is_idle = 0.0, 0, False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request, and make room for it."""
        super().connection_made(transport)
        self._begin()
        if len(self.connections) > MAX_CONNECTIONS:
            others = [other for other in self.connections if isinstance(other, DeadlineProtocol) and other is not self]
            waiting = [other for other in others if other.is_waiting and not other.transport.is_closing()]
            if waiting:
                min(waiting, key=lambda other: other.deadline_seconds).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count what has arrived."""
        if self._is_idle:
            self._begin()
        self._num_bytes += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Note whether the connection is between two requests, where uvicorn has a time limit of its own."""
        super().on_response_complete()
        self._is_idle = self.cycle.response_complete and not self.cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    @property
    def is_waiting(self) -> bool:
        """Whether more of a request must arrive: header or body, or the next request of an open connection."""
        return self.cycle is None or self.cycle.more_body or self.cycle.response_complete

    @property
    def deadline_seconds(self) -> float:
        """When the request must be complete, on the clock of the event loop."""
        return self._began_seconds + GRACE_SECONDS + self._num_bytes / _MIN_BYTES_PER_SECOND

    def _begin(self) -> None:
        self._began_seconds, self._num_bytes, self._is_idle = self.loop.time(), 0, False
        if self._timer is None:
            self._timer = self.loop.call_later(GRACE_SECONDS, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._is_idle or not self.is_waiting or self.transport.is_closing():
            return
        left = self.deadline_seconds - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._check)
        else:
            self.transport.abort()


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Make the server of an application; its method `run` takes the listening sockets."""
    config = uvicorn.Config(
        app,
        http=DeadlineProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Reached only where this many requests are complete and unanswered.
        limit_concurrency=2 * MAX_CONNECTIONS,
        ws="none",
    )
    return uvicorn.Server(config)
