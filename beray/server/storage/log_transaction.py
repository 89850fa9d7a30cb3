"""Transaction of the event log: events, and the changes of tasks that they report.

A task's status and the event that reports it are written together, with the entry in the list of
the user's changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import String, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from beray.schema import TERMINAL_STATUSES
from beray.server.storage import task_changes
from beray.server.storage.tables import StoredEvent, Task


class LogPosition(NamedTuple):
    """End of a task's event log.

    Attributes:
        last_seq: ``seq`` of the newest event; 0 in an empty log.
        ended: True if the task has a terminal status.
        user_id: User of the task.
    """

    last_seq: int
    ended: bool
    user_id: int


class NewEvent(NamedTuple):
    """Event to store; ``body`` is its JSON in the wire format."""

    task_id: int
    seq: int
    type: str
    body: str


class LogTransaction:
    """Open transaction, which ``EventRepository.transact`` commits."""

    def __init__(self, *, session: Session) -> None:
        self._session = session

    def position(self, task_id: int) -> LogPosition | None:
        """Return the end of a task's log; ``None`` if the task does not exist."""
        return log_position(self._session, task_id)

    def insert(self, events: Sequence[NewEvent]) -> None:
        """Insert events."""
        self._session.execute(insert(StoredEvent), [event._asdict() for event in events])

    def set_ends(self, ends: Mapping[int, tuple[int, str | None]]) -> None:
        """Store the ends of tasks' logs.

        Args:
            ends: The last ``seq`` and the new last line by task id; a line that is ``None``
                leaves the stored one unchanged.
        """
        moved = (
            update(Task.__table__)  # type: ignore[arg-type]
            .where(Task.id == bindparam("task"))
            .values(
                last_seq=bindparam("seq"),
                last_line=func.coalesce(bindparam("line", type_=String), Task.last_line),
            )
        )
        rows = [{"task": task, "seq": seq, "line": line} for task, (seq, line) in ends.items()]
        self._session.connection().execute(moved, rows)

    def set_status(
        self, user_id: int, task_id: int, status: str, reason: str | None, at: str
    ) -> None:
        """Store a new status of a task, with the time ``at``, and add it to the user's changes."""
        values: dict[str, Any] = {"status": status, "reason": reason}
        if status == "RUNNING":
            values["started_at"] = at
        elif status in TERMINAL_STATUSES:
            values |= {"ended_at": at, "held": False}
        self._session.execute(update(Task).where(Task.id == task_id).values(values))
        task_changes.add(self._session, user_id, task_id, status, reason, at)


def log_position(session: Session, task_id: int) -> LogPosition | None:
    """Return the end of a task's log; ``None`` if the task does not exist."""
    found = session.execute(
        select(Task.last_seq, Task.status, Task.user_id).where(Task.id == task_id)
    ).one_or_none()
    if found is None:
        return None
    last_seq, status, user_id = found
    return LogPosition(last_seq, status in TERMINAL_STATUSES, user_id)
