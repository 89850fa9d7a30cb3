"""The record of truth: accounts, tasks and events in SQL.

Synchronous; the server calls it in threads.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from sqlalchemy import String, bindparam, delete, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from beray.schema import TERMINAL_STATUSES
from beray.server.runtime.fair_queue import QueueFull
from beray.server.storage import task_changes
from beray.server.storage.database import Database
from beray.server.storage.tables import (
    CreationKey,
    DayUsage,
    DeletedTask,
    ReadinessCheck,
    StoredEvent,
    Task,
    Token,
    User,
)

LOCAL_EMAIL = "local@localhost"
UNFINISHED_PAGE_SIZE = 1000
IDEMPOTENCY_KEY_SECONDS = 24 * 3600
"""How long an ``Idempotency-Key`` is remembered."""


def utc_now(after_seconds: float = 0.0) -> str:
    """The time in so many seconds: UTC, ISO 8601, microseconds, ``Z``."""
    moment = datetime.now(UTC) + timedelta(seconds=after_seconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """A time as it is stored."""
    return datetime.fromisoformat(text)


class IdempotencyKeyUsed(Exception):
    """There was a creation with this key; ``same_request`` says whether it was the same one."""

    def __init__(self, task_id: int, *, same_request: bool) -> None:
        super().__init__(f"task {task_id} was created with this key")
        self.task_id = task_id
        self.same_request = same_request


class TaskSpec(NamedTuple):
    """What a task is asked to do, by whom, and within which limits."""

    goal: str
    tools: list[dict[str, Any]] | None = None
    runner: str | None = None
    model: str | None = None
    limits: dict[str, Any] | None = None
    tags: list[str] | None = None


class IdempotencyKey(NamedTuple):
    """An ``Idempotency-Key``, and what tells the request that has it from others."""

    value: str
    request_digest: str

    @classmethod
    def of(cls, value: str, request: Any) -> Self:
        """Of a request that is JSON."""
        text = json.dumps(request, sort_keys=True)
        return cls(value, hashlib.sha256(text.encode()).hexdigest())


class ResourceUsage(NamedTuple):
    """What runs have taken of what is limited."""

    tokens: int = 0
    requests: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class LogPosition(NamedTuple):
    """Where a task's log ends, and whose it is."""

    last_seq: int
    ended: bool
    user_id: int


class UnfinishedTask(NamedTuple):
    """What is needed of a task, or a chat, that an earlier server has left."""

    id: int
    user_id: int
    chat: str | None
    status: str
    held: bool
    last_seq: int


class Store(Database):
    """What the server keeps, by what it is asked for."""

    # Accounts

    def user_by_email(self, email: str) -> User | None:
        with self.reading() as session:
            return session.scalar(select(User).where(User.email == email))

    def add_user(self, email: str, password_hash: str | None) -> User:
        """Raises sqlalchemy's ``IntegrityError`` where the e-mail is registered already."""
        user = User(email=email, password_hash=password_hash, created_at=utc_now())
        with self.writing() as session:
            session.add(user)
        return user

    def replace_password(self, user_id: int, old_hash: str, new_hash: str) -> None:
        """Replace the hash of a password, unless it has changed in the meantime."""
        unchanged = (User.id == user_id) & (User.password_hash == old_hash)
        replaced = update(User).where(unchanged).values(password_hash=new_hash)
        self.write_with_reserve(lambda session: session.execute(replaced))

    def add_token(self, digest: str, user_id: int, seconds: float) -> None:
        now, expires_at = utc_now(), utc_now(seconds)

        def add(session: Session) -> None:
            session.execute(delete(Token).where(Token.expires_at <= now))
            session.add(
                Token(digest=digest, user_id=user_id, created_at=now, expires_at=expires_at)
            )

        self.write_with_reserve(add)

    def session_of_token(self, digest: str) -> tuple[User, str] | None:
        """Return the user of a token and when it expires; ``None`` if there is no such token."""
        alive = (
            select(User, Token.expires_at)
            .join(Token, Token.user_id == User.id)
            .where(Token.digest == digest, Token.expires_at > utc_now())
        )
        with self.reading() as session:
            found = session.execute(alive).one_or_none()
        return None if found is None else (found[0], found[1])

    def remove_token(self, digest: str) -> None:
        ended = delete(Token).where(Token.digest == digest)
        self.write_with_reserve(lambda session: session.execute(ended))

    def remove_tokens_of(self, user_id: int) -> None:
        ended = delete(Token).where(Token.user_id == user_id)
        self.write_with_reserve(lambda session: session.execute(ended))

    # Tasks

    def add_task(
        self,
        user_id: int,
        order: TaskSpec,
        *,
        held: bool,
        key: IdempotencyKey | None = None,
        most_queued: int | None = None,
    ) -> Task:
        """Add a task; the transaction also takes its ``key``, where there is one.

        Args:
            most_queued: how many tasks of the user may wait, held ones included, with this one.

        Raises:
            IdempotencyKeyUsed: an earlier creation had the key.
            QueueFull: as many tasks wait already.
        """
        created_at = utc_now()
        task = Task(
            user_id=user_id,
            held=held,
            status="QUEUED",
            created_at=created_at,
            **order._asdict(),
        )
        with self.writing() as session:
            if key is not None:
                self._refuse_taken(session, user_id, key)
            if most_queued is not None:
                _require_queued_below(session, user_id, most_queued)
            session.add(task)
            session.flush()
            if key is not None:
                session.add(
                    CreationKey(
                        user_id=user_id,
                        key=key.value,
                        request_digest=key.request_digest,
                        task_id=task.id,
                        created_at=created_at,
                    )
                )
        return task

    def _refuse_taken(self, session: Session, user_id: int, key: IdempotencyKey) -> None:
        expired = CreationKey.created_at <= utc_now(-IDEMPOTENCY_KEY_SECONDS)
        session.execute(delete(CreationKey).where(expired))
        taken = session.get(CreationKey, (user_id, key.value))
        if taken is not None:
            same = taken.request_digest == key.request_digest
            raise IdempotencyKeyUsed(taken.task_id, same_request=same)

    def task(self, task_id: int) -> Task | None:
        with self.reading() as session:
            return session.get(Task, task_id)

    def unfinished_tasks(self, after: int = 0) -> list[UnfinishedTask]:
        """Return some tasks of all users that a starting server has to take up.

        Those are the tasks that have not ended and the chats that were answering, or whose
        newest message waited for a slot. They come in order of creation,
        ``UNFINISHED_PAGE_SIZE`` at most.

        Args:
            after: The id of the last one that was returned before.
        """
        ends_in_message = exists().where(
            StoredEvent.task_id == Task.id,
            StoredEvent.seq == Task.last_seq,
            (StoredEvent.type == "USER_MESSAGE")
            | StoredEvent.type.is_(None) & StoredEvent.body.contains('"type":"USER_MESSAGE"'),
        )
        unfinished = (
            select(Task.id, Task.user_id, Task.chat, Task.status, Task.held, Task.last_seq)
            .where(Task.status.not_in(TERMINAL_STATUSES), Task.id > after)
            .where(Task.chat.is_(None) | (Task.status == "RUNNING") | ends_in_message)
            .order_by(Task.id)
            .limit(UNFINISHED_PAGE_SIZE)
        )
        with self.reading() as session:
            return [UnfinishedTask(*row) for row in session.execute(unfinished)]

    def users_of_tasks(self) -> dict[int, int]:
        """Return the id of the user of each task, by the id of the task."""
        with self.reading() as session:
            rows = session.execute(select(Task.id, Task.user_id))
            return {row.id: row.user_id for row in rows}

    def release_task(self, task_id: int) -> Task | None:
        """Let go of a held task; ``None`` where it was not held."""
        with self.writing() as session:
            task = session.get(Task, task_id)
            if task is None or not task.held:
                return None
            task.held = False
            task_changes.add(session, task.user_id, task_id, task.status, task.reason, utc_now())
        return task

    def chat(self, user_id: int, name: str) -> Task | None:
        wanted = (Task.user_id == user_id) & (Task.chat == name)
        with self.reading() as session:
            return session.scalar(select(Task).where(wanted))

    def add_chat(self, user_id: int, name: str) -> Task:
        """Add a chat; sqlalchemy's ``IntegrityError`` where there is one of this name."""
        task = Task(
            user_id=user_id,
            goal=name,
            chat=name,
            held=False,
            status="INPUT_REQUIRED",
            created_at=utc_now(),
        )
        with self.writing() as session:
            session.add(task)
        return task

    def undo_task(self, task_id: int) -> None:
        """Remove a task as if it had never been added: its key is free again."""

        def undo(session: Session) -> None:
            session.execute(delete(CreationKey).where(CreationKey.task_id == task_id))
            _remove(session, task_id)

        self.write_with_reserve(undo, cascade=False)

    def remove_task(self, task_id: int) -> None:
        """Remove a task for its user; its events remain until ``remove_events``."""

        def remove(session: Session) -> None:
            task = session.get(Task, task_id)
            if task is not None:
                task_changes.add(session, task.user_id, task_id, None, None, utc_now())
                _remove(session, task_id)

        self.write_with_reserve(remove, cascade=False)

    def deleted_tasks(self) -> list[int]:
        """Return the ids of the deleted tasks of which something may be left, oldest first."""
        with self.reading() as session:
            return list(session.scalars(select(DeletedTask.task_id).order_by(DeletedTask.task_id)))

    def remove_events(self, task_id: int, limit: int) -> bool:
        """Remove the first ``limit`` events of a deleted task; return whether more may follow."""

        def remove(session: Session) -> bool:
            own = StoredEvent.task_id == task_id
            first = session.scalar(select(func.min(StoredEvent.seq)).where(own))
            if first is not None:
                # There are no gaps.
                session.execute(delete(StoredEvent).where(own, StoredEvent.seq < first + limit))
            return first is not None

        return self.write_with_reserve(remove)

    def forget_deleted(self, task_id: int) -> None:
        """Note that nothing is left of a deleted task."""
        gone = delete(DeletedTask).where(DeletedTask.task_id == task_id)
        self.write_with_reserve(lambda session: session.execute(gone))

    # ReadinessCheck

    def check_readiness(self, wait: float) -> None:
        """Write to the database, and read it back.

        Args:
            wait: seconds to wait for the write lock.

        Raises:
            SQLAlchemyError: this does not work.
        """
        now = utc_now()
        row = insert(ReadinessCheck).values(id=1, checked_at=now)
        with self.writing(wait) as session:
            session.execute(
                row.on_conflict_do_update(index_elements=["id"], set_={"checked_at": now})
            )
        with self.reading() as session:
            session.execute(
                select(ReadinessCheck.checked_at, select(User.id).limit(1).scalar_subquery())
            )

    # Usage

    def add_usage(self, task: Task, usage: dict[str, Any] | None, added: ResourceUsage) -> None:
        """Set what a task has taken, and add to its user's day."""
        day = utc_now()[:10]
        row = insert(DayUsage).values(user_id=task.user_id, day=day, **added._asdict())
        sums = {name: getattr(DayUsage, name) + value for name, value in added._asdict().items()}
        with self.writing() as session:
            if usage is not None:
                session.execute(update(Task).where(Task.id == task.id).values(usage=usage))
            session.execute(row.on_conflict_do_update(index_elements=["user_id", "day"], set_=sums))

    def day_usage(self, user_id: int) -> ResourceUsage:
        """What a user's tasks have taken today."""
        with self.reading() as session:
            found = session.get(DayUsage, (user_id, utc_now()[:10]))
        return (
            ResourceUsage()
            if found is None
            else ResourceUsage(*(getattr(found, n) for n in ResourceUsage._fields))
        )

    # Events

    def log_position(self, session: Session, task_id: int) -> LogPosition | None:
        """Where a task's log ends; ``None``: no such task."""
        found = session.execute(
            select(Task.last_seq, Task.status, Task.user_id).where(Task.id == task_id)
        ).one_or_none()
        if found is None:
            return None
        last_seq, status, user_id = found
        return LogPosition(last_seq, status in TERMINAL_STATUSES, user_id)

    def add_events(self, session: Session, rows: list[dict[str, Any]]) -> None:
        session.execute(insert(StoredEvent), rows)

    def set_log_ends(self, session: Session, ends: dict[int, tuple[int, str | None]]) -> None:
        """Move the ends of tasks' logs: the last ``seq`` and, if there is a new one, line."""
        moved = (
            update(Task.__table__)  # type: ignore[arg-type]
            .where(Task.id == bindparam("task"))
            .values(
                last_seq=bindparam("seq"),
                last_line=func.coalesce(bindparam("line", type_=String), Task.last_line),
            )
        )
        rows = [{"task": task, "seq": seq, "line": line} for task, (seq, line) in ends.items()]
        session.connection().execute(moved, rows)

    def set_status(
        self,
        session: Session,
        user_id: int,
        task_id: int,
        status: str,
        reason: str | None,
        at: str,
    ) -> None:
        values: dict[str, Any] = {"status": status, "reason": reason}
        if status == "RUNNING":
            values["started_at"] = at
        elif status in TERMINAL_STATUSES:
            values |= {"ended_at": at, "held": False}
        session.execute(update(Task).where(Task.id == task_id).values(values))
        task_changes.add(session, user_id, task_id, status, reason, at)

    def user_messages(self, task_id: int, after: int, last: int) -> list[tuple[int, str]]:
        """Return ``seq`` and stored JSON of the user's messages after ``after``, up to ``last``."""
        wanted = (StoredEvent.task_id == task_id) & StoredEvent.seq.between(after + 1, last)
        messages = (
            select(StoredEvent.seq, StoredEvent.body)
            .where(wanted, StoredEvent.type == "USER_MESSAGE")
            .order_by(StoredEvent.seq)
        )
        with self.reading() as session:
            return [(seq, body) for seq, body in session.execute(messages)]

    def count_end_events_after(self, task_id: int, seq: int) -> int:
        """Return how many events after ``seq`` report the end of an answer, or an error."""
        ends = StoredEvent.type.in_(("AGENT_EVENT_END", "ERROR"))
        of_answer = (StoredEvent.task_id == task_id) & (StoredEvent.seq > seq)
        with self.reading() as session:
            return session.scalar(select(func.count()).where(of_answer, ends)) or 0


def _remove(session: Session, task_id: int) -> None:
    """Delete the row of a task, and record that its events and files have to be removed."""
    session.execute(delete(Task).where(Task.id == task_id))
    session.execute(
        insert(DeletedTask)
        .values(task_id=task_id, deleted_at=utc_now())
        .on_conflict_do_nothing(index_elements=["task_id"])
    )


def _require_queued_below(session: Session, user_id: int, limit: int) -> None:
    """Raise ``QueueFull`` if ``limit`` tasks of the user wait."""
    queued = (Task.user_id == user_id) & (Task.status == "QUEUED")
    counted = session.scalar(select(func.count()).select_from(Task).where(queued))
    if (counted or 0) >= limit:
        raise QueueFull("tasks", limit)
