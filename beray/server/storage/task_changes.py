"""Repository of the changes of users' tasks: one short row for each, numbered per user.

A client that watches all tasks resumes after one of these numbers. A row contains the task's id
and new status; other properties are read from the task when the change is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.tables import Task, TaskChange

RETAINED_CHANGES: Final = 10_000
"""Minimum number of stored changes per user. Clients that missed more get the whole list again."""
_CLEANUP_INTERVAL: Final = 1_000
"""Number of changes between deletions of old ones."""
_ROWS_AT_ONCE: Final = 8


def add(
    session: Session, user_id: int, task_id: int, status: str | None, reason: str | None, at: str
) -> None:
    """Add a change within the session's transaction.

    Args:
        session: Session of a write transaction.
        user_id: User of the task.
        task_id: Task that changed.
        status: New status; ``None`` if the task was deleted.
        reason: Reason for the status.
        at: Time of the change.
    """
    seq = _last_seq(session, user_id) + 1
    change = TaskChange(
        user_id=user_id, seq=seq, task_id=task_id, status=status, reason=reason, created_at=at
    )
    session.add(change)
    session.flush()
    if seq % _CLEANUP_INTERVAL == 0:
        too_old = (TaskChange.user_id == user_id) & (TaskChange.seq <= seq - RETAINED_CHANGES)
        session.execute(delete(TaskChange).where(too_old))


class TaskChangeRepository:
    """Changes of all users' tasks. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def last_seq(self, user_id: int) -> int:
        """Return the number of a user's newest change; 0 before the first."""
        with self._database.reading() as session:
            return _last_seq(session, user_id)

    def covers(self, user_id: int, after: int) -> bool:
        """Return True if all changes after number ``after`` are still stored."""
        bounds = select(func.min(TaskChange.seq), func.max(TaskChange.seq)).where(
            TaskChange.user_id == user_id
        )
        with self._database.reading() as session:
            first, last = session.execute(bounds).one()
        return first is not None and first - 1 <= after <= last

    @contextmanager
    def following(
        self, user_id: int, after: int
    ) -> Iterator[Iterator[tuple[TaskChange, Task | None]]]:
        """Read the changes after number ``after`` during the block, in order.

        Each comes with the task's current row, which is ``None`` if the task was deleted. Only a
        few rows are in memory at a time, because tasks can be large.
        """
        following = (
            select(TaskChange, Task)
            .outerjoin(Task, Task.id == TaskChange.task_id)
            .where(TaskChange.user_id == user_id, TaskChange.seq > after)
            .order_by(TaskChange.seq)
            .execution_options(yield_per=_ROWS_AT_ONCE)
        )
        with self._database.reading() as session, session.execute(following) as rows:
            yield ((change, task) for change, task in rows)


def _last_seq(session: Session, user_id: int) -> int:
    newest = select(func.max(TaskChange.seq)).where(TaskChange.user_id == user_id)
    return session.scalar(newest) or 0
