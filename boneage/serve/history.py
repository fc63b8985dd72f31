"""Sessions with their readings: in memory, limited in number, discarded when the server stops."""

import dataclasses
import datetime
import itertools
import secrets
from collections import OrderedDict

from boneage.base.spreadsheets import format_rows
from boneage.serve.child import NOTHING_TOLD, Child
from boneage.serve.readings import Answer
from boneage.web.sessions import Sessions

COLUMNS = (
    "file",
    "read_at",
    "hand",
    "accepted",
    "bone_age_months",
    "low_months",
    "high_months",
    "interval",
    "sex",
    "chronological_age_months",
    "difference_months",
    "sds",
    "reference",
    "centile",
    "determination",
    "score_missing",
    "male_probability",
    "side_detail",
    "warnings",
    "remarks",
    "reasons",
    "detail",
    "model",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A reading in the history of a session.

    Args:
        id: Random id in the addresses of the page.
        session: Name of its session.
        batch: Id of its request.
        read_at: Time of the request.
        answer: The answer.
        child: What is told of the child.
    """

    id: str
    session: str
    batch: str
    read_at: datetime.datetime
    answer: Answer
    child: Child = NOTHING_TOLD


class History(Sessions):
    """The sessions and their readings; the oldest are discarded first.

    Args:
        max_entries: Maximum number of readings of all sessions.
        max_sessions: Maximum number of sessions.
        idle_seconds: Time after which an unused session ends.
    """

    def __init__(self, *, max_entries: int = 300, max_sessions: int = 500, idle_seconds: float = 12 * 3600.0):
        super().__init__(max_sessions=max_sessions, idle_seconds=idle_seconds)
        self._max_entries = max_entries
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def forget(self, name: str) -> None:
        """End a session and discard its readings."""
        with self._lock:
            super().forget(name)
            self._entries = OrderedDict((id, entry) for id, entry in self._entries.items() if entry.session != name)

    def add(self, answers: list[Answer], *, session: str, batch: str | None = None) -> str:
        """Add the answers to a request, the hands of a film of two as an entry each.

        Args:
            answers: The answers.
            session: Name of the session.
            batch: Id of the latest batch of the session, to add to it (default: a new one).

        Returns:
            Id of the batch.
        """
        now = datetime.datetime.now().astimezone()
        latest = next(iter(self.list_entries(session)), None)
        if latest is not None and latest.batch == batch:
            now = latest.read_at  # files sent one by one stay in their order
        else:
            batch = secrets.token_urlsafe(9)
        with self._lock:
            for answer in itertools.chain.from_iterable(answer.hands for answer in answers):
                id = secrets.token_urlsafe(12)
                self._entries[id] = Entry(id, session, batch, now, answer)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return batch

    def replace(self, id: str, *, answer: Answer | None = None, child: Child | None = None) -> None:
        """Replace the answer of a film that was read again, or what is told of its child, unless it is discarded."""
        with self._lock:
            if entry := self._entries.get(id):
                replaced = dataclasses.replace(entry, answer=answer or entry.answer, child=child or entry.child)
                self._entries[id] = replaced

    def list_entries(self, session: str | None) -> list[Entry]:
        """List the readings of a session, the latest request first, files in the order sent."""
        with self._lock:
            mine = [entry for entry in self._entries.values() if entry.session == session]
        return sorted(mine, key=lambda entry: entry.read_at, reverse=True)

    def get(self, id: str, *, session: str | None) -> Entry | None:
        """Return a reading of a session; None if it does not exist or belongs to another session."""
        entry = self._entries.get(id)
        return entry if entry is not None and entry.session == session else None


def write_csv(entries: list[Entry], *, model: str) -> str:
    """Format readings as CSV, the earliest first, safe to open in a spreadsheet.

    Args:
        entries: The readings.
        model: Name and digest of the model.
    """
    rows: list[tuple[object, ...]] = [COLUMNS]
    for entry in reversed(entries):
        answer = entry.answer
        values = {
            "read_at": entry.read_at.isoformat(timespec="seconds"),
            "warnings": ";".join(answer.warnings),
            "reasons": ";".join(answer.reasons),
            "model": model,
        }
        rows.append(tuple(values[name] if name in values else getattr(answer, name) for name in COLUMNS))
    return format_rows(rows)
