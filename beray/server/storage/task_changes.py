"""What happened to a user's tasks: one short row for each change, in an order of its own.

The rows are what a watcher of all tasks resumes by. They say that a task changed, and
to which status; the rest is read from the task as it is by then.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from beray.server.storage.tables import Task, TaskChange

RETAINED_CHANGES: Final = 10_000
"""How many changes of a user are kept at least. Who comes back later starts anew."""
_STEP: Final = 1_000
_ROWS_AT_ONCE: Final = 8


def add(
    session: Session, user_id: int, task_id: int, status: str | None, reason: str | None, at: str
) -> None:
    """Note a change; it is there when the transaction is. ``status`` ``None``: deleted."""
    seq = last_seq(session, user_id) + 1
    change = TaskChange(
        user_id=user_id, seq=seq, task_id=task_id, status=status, reason=reason, created_at=at
    )
    session.add(change)
    session.flush()
    if seq % _STEP == 0:
        too_old = (TaskChange.user_id == user_id) & (TaskChange.seq <= seq - RETAINED_CHANGES)
        session.execute(delete(TaskChange).where(too_old))


def last_seq(session: Session, user_id: int) -> int:
    newest = select(func.max(TaskChange.seq)).where(TaskChange.user_id == user_id)
    return session.scalar(newest) or 0


def covers(session: Session, user_id: int, after: int) -> bool:
    """Whether everything behind the change ``after`` is still known."""
    bounds = select(func.min(TaskChange.seq), func.max(TaskChange.seq)).where(
        TaskChange.user_id == user_id
    )
    first, last = session.execute(bounds).one()
    return first is not None and first - 1 <= after <= last


def changes_after(
    session: Session, user_id: int, after: int
) -> Generator[tuple[TaskChange, Task | None], None, None]:
    """Yield the changes after ``after``, in order, each with its task as it is now.

    Only a few rows are in memory at a time: tasks can be large.
    """
    following = (
        select(TaskChange, Task)
        .outerjoin(Task, Task.id == TaskChange.task_id)
        .where(TaskChange.user_id == user_id, TaskChange.seq > after)
        .order_by(TaskChange.seq)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    with session.execute(following) as rows:
        yield from rows
