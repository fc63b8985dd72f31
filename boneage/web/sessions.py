"""User sessions: in memory, limited in number, discarded when the server stops."""

import dataclasses
import secrets
import threading
import time
from collections import OrderedDict


@dataclasses.dataclass
class _Session:
    is_authenticated: bool
    used: float


class Sessions:
    """User sessions; the least recently used one is discarded first.

    Args:
        max_sessions: Maximum number of sessions.
        idle_seconds: Time after which an unused session ends.
    """

    def __init__(self, *, max_sessions: int = 500, idle_seconds: float = 12 * 3600.0):
        self._max_sessions, self._idle_seconds = max_sessions, idle_seconds
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.RLock()

    def open(self, *, is_authenticated: bool) -> str:
        """Open a session.

        Args:
            is_authenticated: Whether the user has given the token.

        Returns:
            Its random name, the value of the cookie.
        """
        with self._lock:
            name = secrets.token_urlsafe(32)
            self._sessions[name] = _Session(is_authenticated, time.monotonic())
            while len(self._sessions) > self._max_sessions:
                self.forget(next(iter(self._sessions)))
            return name

    def find(self, name: str | None) -> str | None:
        """Return the name of a session if it exists, and extend it."""
        with self._lock:
            session = self._sessions.get(name or "")
            if session is None or name is None:
                return None
            if time.monotonic() - session.used > self._idle_seconds:
                self.forget(name)
                return None
            session.used = time.monotonic()
            self._sessions.move_to_end(name)
            return name

    def is_authenticated(self, name: str | None) -> bool:
        """Whether the user of a session has given the token."""
        found = self.find(name)
        return found is not None and self._sessions[found].is_authenticated

    def forget(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(name, None)
