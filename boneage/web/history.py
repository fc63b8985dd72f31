"""Sessions and what was read in them: in memory, bounded, gone when the server ends."""

import csv
import dataclasses
import datetime
import io
import secrets
import threading
import time
from collections import OrderedDict

from boneage.web.readings import Answer

COLUMNS = (
    "file",
    "read_at",
    "accepted",
    "bone_age_months",
    "low_months",
    "high_months",
    "sex",
    "chronological_age_months",
    "difference_months",
    "sds",
    "male_share",
    "warnings",
    "reasons",
    "detail",
    "model",
)
# What a spreadsheet would take for a formula; a file name may begin like one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A reading in the history of a session.

    Args:
        id: Random name by which the page asks for it.
        session: The session that it belongs to.
        batch: The request that brought it.
        read_at: When.
        answer: The answer.
    """

    id: str
    session: str
    batch: str
    read_at: datetime.datetime
    answer: Answer


@dataclasses.dataclass
class _Session:
    is_known: bool
    used: float


class History:
    """The sessions and their readings; what is oldest goes first.

    Args:
        max_entries: Readings of all sessions together.
        max_sessions: Sessions.
        idle_seconds: Time after which an unused session ends.
    """

    def __init__(self, *, max_entries: int = 300, max_sessions: int = 500, idle_seconds: float = 12 * 3600.0):
        self._max_entries, self._max_sessions, self._idle_seconds = max_entries, max_sessions, idle_seconds
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.RLock()

    def open(self, *, is_known: bool) -> str:
        """Begin a session.

        Args:
            is_known: Whether whoever it belongs to has given the token.

        Returns:
            Its random name, the content of the cookie.
        """
        with self._lock:
            name = secrets.token_urlsafe(32)
            self._sessions[name] = _Session(is_known, time.monotonic())
            while len(self._sessions) > self._max_sessions:
                self.forget(next(iter(self._sessions)))
            return name

    def find(self, name: str | None) -> str | None:
        """Return the name of a session if there is such a one, and keep it alive."""
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

    def is_known(self, name: str | None) -> bool:
        """Tell whether a session is one whose owner has given the token."""
        found = self.find(name)
        return found is not None and self._sessions[found].is_known

    def forget(self, name: str) -> None:
        """End a session and drop what was read in it."""
        with self._lock:
            self._sessions.pop(name, None)
            self._entries = OrderedDict((id, each) for id, each in self._entries.items() if each.session != name)

    def add(self, answers: list[Answer], *, session: str) -> str:
        """Keep the answers to a request.

        Returns:
            Name of the batch.
        """
        batch, now = secrets.token_urlsafe(9), datetime.datetime.now().astimezone()
        with self._lock:
            for answer in answers:
                id = secrets.token_urlsafe(12)
                self._entries[id] = Entry(id, session, batch, now, answer)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return batch

    def entries_of(self, session: str | None) -> list[Entry]:
        """List the readings of a session, the latest request first, its files as they were sent."""
        with self._lock:
            mine = [each for each in self._entries.values() if each.session == session]
        return sorted(mine, key=lambda entry: entry.read_at, reverse=True)

    def get(self, id: str, *, session: str | None) -> Entry | None:
        """Return a reading of a session; None where it is not there or is another's."""
        entry = self._entries.get(id)
        return entry if entry is not None and entry.session == session else None


def write_csv(entries: list[Entry], *, model: str) -> str:
    """Write readings as CSV, the earliest first, safe to open in a spreadsheet.

    Args:
        entries: The readings.
        model: Name and digest of the model.
    """
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in reversed(entries):
        answer = entry.answer
        writer.writerow(
            {
                "file": _plain(answer.file),
                "read_at": entry.read_at.isoformat(timespec="seconds"),
                "accepted": answer.accepted,
                "bone_age_months": answer.bone_age_months,
                "low_months": answer.low_months,
                "high_months": answer.high_months,
                "sex": answer.sex,
                "chronological_age_months": answer.chronological_age_months,
                "difference_months": answer.difference_months,
                "sds": answer.sds,
                "male_share": answer.male_share,
                "warnings": ";".join(answer.warnings),
                "reasons": ";".join(answer.reasons),
                "detail": answer.detail,
                "model": _plain(model),
            }
        )
    return table.getvalue()


def _plain(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
