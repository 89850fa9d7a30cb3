"""Repository of tasks. Chats are tasks as well; see ``storage.chats``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, delete, exists, func, select
from sqlalchemy.orm import Session

from beray.schema import TERMINAL_STATUSES
from beray.server.runtime.fair_queue import QueueFull
from beray.server.storage import idempotency_keys, task_changes
from beray.server.storage.database import Database
from beray.server.storage.idempotency_keys import IdempotencyKey
from beray.server.storage.sqlite.statements import insert_if_missing
from beray.server.storage.tables import DeletedTask, PendingRestore, StoredEvent, Task, User
from beray.server.storage.times import utc_now

UNFINISHED_PAGE_SIZE: Final = 1000
# Columns of the table: unlike objects of the mapped class, their rows are fetched one by one.
_TASKS: Final = Task.__table__.c


class TaskSpec(NamedTuple):
    """Goal of a task with its tools, runner, model, limits, tags and origin."""

    goal: str
    tools: list[dict[str, Any]] | None = None
    runner: str | None = None
    model: str | None = None
    limits: dict[str, Any] | None = None
    tags: list[str] | None = None
    origin: dict[str, Any] | None = None


class UnfinishedTask(NamedTuple):
    """Facts about a task or a chat that was unfinished when an earlier server ended."""

    id: int
    user_id: int
    chat: str | None
    status: str
    held: bool
    last_seq: int


class StoredProgress(NamedTuple):
    """Progress of an unfinished task."""

    task_id: int
    created_at: str
    last_seq: int
    last_line: str | None


@dataclass(frozen=True, slots=True)
class TaskExtent:
    """Range of a task list, with the ids from ``newest`` down to ``oldest``.

    Attributes:
        total: Number of all tasks of the user.
        has_more: Whether there are older tasks.
    """

    newest: int
    oldest: int
    total: int
    has_more: bool


class UserDisabled(Exception):
    """The user of a new task is disabled, or being deleted."""


class TaskRepository:
    """Tasks of all users. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create(
        self,
        user_id: int,
        spec: TaskSpec,
        *,
        held: bool,
        key: IdempotencyKey | None = None,
        max_queued: int | None = None,
        initial_state: bytes | None = None,
    ) -> Task:
        """Create a task, and store its ``key`` in the same transaction.

        Args:
            user_id: User of the task.
            spec: Goal and options of the task.
            held: True if the task waits until it is released.
            key: ``Idempotency-Key`` of the request.
            max_queued: Maximum number of waiting tasks of the user, including held ones and
                this one; ``None`` means no limit.
            initial_state: Manifest of the files that the work_dir will get; recorded as a pending
                restore, which a starting server completes.

        Raises:
            IdempotencyKeyUsed: An earlier request created a task with the key.
            QueueFull: ``max_queued`` tasks of the user are already waiting.
            UserDisabled: The user was disabled or deleted after the request was authenticated.
        """
        created_at = utc_now()
        task = Task(
            user_id=user_id,
            held=held,
            status="QUEUED",
            created_at=created_at,
            **spec._asdict(),
        )
        with self._database.writing() as session:
            user = session.get(User, user_id)
            if user is None or user.disabled_at is not None:
                raise UserDisabled
            if key is not None:
                idempotency_keys.require_unused(session, user_id, key)
            if max_queued is not None:
                _require_queued_below(session, user_id, max_queued)
            session.add(task)
            session.flush()
            if key is not None:
                idempotency_keys.add(session, user_id, task.id, key, created_at)
            if initial_state is not None:
                session.add(
                    PendingRestore(
                        task_id=task.id, user_id=user_id, root=initial_state, reason="fork"
                    )
                )
        return task

    def check_unused(self, user_id: int, key: IdempotencyKey) -> None:
        """Check that an ``Idempotency-Key`` was not used.

        Raises:
            IdempotencyKeyUsed: An earlier request created a task with the key.
        """
        with self._database.reading() as session:
            idempotency_keys.check_unused(session, user_id, key)

    def get(self, task_id: int) -> Task | None:
        """Return a task or chat of any user."""
        with self._database.reading() as session:
            return session.get(Task, task_id)

    def release(self, task_id: int) -> Task | None:
        """Release a held task; return ``None`` if the task does not exist or is not held."""
        with self._database.writing() as session:
            task = session.get(Task, task_id)
            if task is None or not task.held:
                return None
            task.held = False
            task_changes.add(session, task.user_id, task_id, task.status, task.reason, utc_now())
        return task

    def delete(self, task_id: int) -> None:
        """Delete a task for its user, and record that its events and files have to be removed."""

        def remove(session: Session) -> None:
            task = session.get(Task, task_id)
            if task is not None:
                task_changes.add(session, task.user_id, task_id, None, None, utc_now())
                _remove(session, task_id)

        self._database.write_with_reserve(remove, cascade=False)

    def undo_create(self, task_id: int) -> None:
        """Delete a task that could not be created, and its ``Idempotency-Key``."""

        def undo(session: Session) -> None:
            idempotency_keys.delete_of_task(session, task_id)
            task = session.get(Task, task_id)
            if task is not None and task.last_seq:  # it was reported, because it was stopped
                task_changes.add(session, task.user_id, task_id, None, None, utc_now())
            _remove(session, task_id)

        self._database.write_with_reserve(undo, cascade=False)

    def list_deleted(self) -> list[int]:
        """Return the ids of deleted tasks whose events or files may still exist, in order."""
        deleted = select(DeletedTask.task_id).order_by(DeletedTask.task_id)
        with self._database.reading() as session:
            return list(session.scalars(deleted))

    def forget_deleted(self, task_id: int) -> None:
        """Record that all events and files of a deleted task are removed."""
        gone = delete(DeletedTask).where(DeletedTask.task_id == task_id)
        self._database.write_with_reserve(lambda session: session.execute(gone))

    def list_unfinished(self, after: int = 0) -> list[UnfinishedTask]:
        """Return a page of the tasks of all users that a starting server has to resume.

        These are the tasks without a terminal status, the chats that were answering, and the
        chats whose newest message was waiting for a slot. They are sorted by id.

        Args:
            after: Last id of the previous page.
        """
        ends_in_message = exists().where(
            StoredEvent.task_id == Task.id,
            StoredEvent.seq == Task.last_seq,
            StoredEvent.type == "USER_MESSAGE",
        )
        unfinished = (
            select(Task.id, Task.user_id, Task.chat, Task.status, Task.held, Task.last_seq)
            .where(Task.status.not_in(TERMINAL_STATUSES), Task.id > after)
            .where(Task.chat.is_(None) | (Task.status == "RUNNING") | ends_in_message)
            .order_by(Task.id)
            .limit(UNFINISHED_PAGE_SIZE)
        )
        with self._database.reading() as session:
            return [UnfinishedTask(*row) for row in session.execute(unfinished)]

    def list_running(self) -> list[int]:
        """Return the ids of the tasks and chats with the status RUNNING, in order."""
        running = select(Task.id).where(Task.status == "RUNNING").order_by(Task.id)
        with self._database.reading() as session:
            return list(session.scalars(running))

    def users_of_tasks(self) -> dict[int, int]:
        """Return the id of the user of each task, by the id of the task."""
        with self._database.reading() as session:
            rows = session.execute(select(Task.id, Task.user_id))
            return {row.id: row.user_id for row in rows}

    # Lists of one user

    def ids_of_user(self, user_id: int) -> list[int]:
        """Return the ids of all tasks and chats of a user, in order."""
        own = select(Task.id).where(Task.user_id == user_id).order_by(Task.id)
        with self._database.reading() as session:
            return list(session.scalars(own))

    def list_of_user(self, user_id: int) -> list[Task]:
        """Return all tasks and chats of a user, by id."""
        own = select(Task).where(Task.user_id == user_id).order_by(Task.id)
        with self._database.reading() as session:
            return list(session.scalars(own))

    def extent(self, user_id: int, before: int | None, limit: int) -> TaskExtent:
        """Return the extent of a user's newest ``limit`` tasks with an id below ``before``."""
        own = Task.user_id == user_id
        newest = select(Task.id).where(own).order_by(Task.id.desc()).limit(limit + 1)
        if before is not None:
            newest = newest.where(Task.id < before)
        with self._database.reading() as session:
            total = session.scalar(select(func.count()).where(own)) or 0
            ids = list(session.scalars(newest))
        selected = ids[:limit] or [0]
        return TaskExtent(selected[0], selected[-1], total, len(ids) > limit)

    @contextmanager
    def newest_first(
        self, user_id: int, *, before: int | None, oldest: int
    ) -> Iterator[Iterable[Row[Any]]]:
        """Read a user's tasks during the block, newest first; rows are fetched one by one.

        Args:
            user_id: User of the tasks.
            before: Id above those of the tasks; ``None`` starts with the newest task.
            oldest: Lowest id.
        """
        newest = (
            select(*_TASKS)
            .where(_TASKS.user_id == user_id, _TASKS.id >= oldest)
            .order_by(_TASKS.id.desc())
        )
        if before is not None:
            newest = newest.where(_TASKS.id < before)
        with self._database.reading() as session, session.execute(newest) as rows:
            yield rows

    def list_progress(self, user_id: int, after: int, limit: int) -> list[StoredProgress]:
        """Return the progress of a user's unfinished tasks with an id above ``after``, by id."""
        unfinished = (
            select(Task.id, Task.created_at, Task.last_seq, Task.last_line)
            .where(Task.user_id == user_id, Task.id > after)
            .where(Task.status.not_in(TERMINAL_STATUSES))
            .order_by(Task.id)
            .limit(limit)
        )
        with self._database.reading() as session:
            return [StoredProgress(*row) for row in session.execute(unfinished)]


def _remove(session: Session, task_id: int) -> None:
    """Delete the row of a task, and record that its events and files have to be removed."""
    session.execute(delete(Task).where(Task.id == task_id))
    deleted_at = {"deleted_at": utc_now()}
    session.execute(insert_if_missing(DeletedTask, {"task_id": task_id}, deleted_at))


def _require_queued_below(session: Session, user_id: int, limit: int) -> None:
    """Raise ``QueueFull`` if ``limit`` tasks of the user are waiting."""
    queued = (Task.user_id == user_id) & (Task.status == "QUEUED")
    counted = session.scalar(select(func.count()).select_from(Task).where(queued))
    if (counted or 0) >= limit:
        raise QueueFull("tasks", limit)
