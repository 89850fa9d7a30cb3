"""Repository of accounts, tasks, events and usage: the source of truth of the server.

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
"""Lifetime of an ``Idempotency-Key``."""


def utc_now(after_seconds: float = 0.0) -> str:
    """Return the time ``after_seconds`` from now: UTC, ISO 8601, microseconds, ``Z``."""
    moment = datetime.now(UTC) + timedelta(seconds=after_seconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Parse a time that ``utc_now`` returned."""
    return datetime.fromisoformat(text)


class IdempotencyKeyUsed(Exception):
    """The ``Idempotency-Key`` belongs to an earlier request.

    Attributes:
        task_id: Task that the earlier request created.
        same_request: True if both requests have the same content.
    """

    def __init__(self, task_id: int, *, same_request: bool) -> None:
        super().__init__(f"task {task_id} was created with this key")
        self.task_id = task_id
        self.same_request = same_request


class TaskSpec(NamedTuple):
    """Goal of a task with its tools, runner, model, limits and tags."""

    goal: str
    tools: list[dict[str, Any]] | None = None
    runner: str | None = None
    model: str | None = None
    limits: dict[str, Any] | None = None
    tags: list[str] | None = None


class IdempotencyKey(NamedTuple):
    """An ``Idempotency-Key`` and the SHA-256 digest of the request that has it."""

    value: str
    request_digest: str

    @classmethod
    def for_request(cls, value: str, request: Any) -> Self:
        """Return the key ``value`` for a request, which is given as decoded JSON."""
        text = json.dumps(request, sort_keys=True)
        return cls(value, hashlib.sha256(text.encode()).hexdigest())


class ResourceUsage(NamedTuple):
    """Resources that runs have used, as far as they are limited."""

    tokens: int = 0
    requests: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class LogPosition(NamedTuple):
    """End of a task's event log.

    Attributes:
        last_seq: ``seq`` of the newest event; 0 if there are none.
        ended: True if the task has a terminal status.
        user_id: User of the task.
    """

    last_seq: int
    ended: bool
    user_id: int


class UnfinishedTask(NamedTuple):
    """Facts about a task or a chat that was unfinished when an earlier server ended."""

    id: int
    user_id: int
    chat: str | None
    status: str
    held: bool
    last_seq: int


class Store(Database):
    """Database with the queries and changes that the server needs."""

    # Accounts

    def user_by_email(self, email: str) -> User | None:
        """Return the user with this e-mail address in the stored spelling."""
        with self.reading() as session:
            return session.scalar(select(User).where(User.email == email))

    def add_user(self, email: str, password_hash: str | None) -> User:
        """Add a user.

        Args:
            email: Address in its canonical spelling.
            password_hash: Argon2 hash; ``None`` if the user cannot sign in with a password.

        Raises:
            sqlalchemy.exc.IntegrityError: The address is already registered.
        """
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
        """Add an access token that is valid for ``seconds``, and delete expired tokens."""
        now, expires_at = utc_now(), utc_now(seconds)

        def add(session: Session) -> None:
            session.execute(delete(Token).where(Token.expires_at <= now))
            session.add(
                Token(digest=digest, user_id=user_id, created_at=now, expires_at=expires_at)
            )

        self.write_with_reserve(add)

    def session_of_token(self, digest: str) -> tuple[User, str] | None:
        """Return the user of a valid token and its expiry; ``None`` if the token is invalid."""
        alive = (
            select(User, Token.expires_at)
            .join(Token, Token.user_id == User.id)
            .where(Token.digest == digest, Token.expires_at > utc_now())
        )
        with self.reading() as session:
            found = session.execute(alive).one_or_none()
        return None if found is None else (found[0], found[1])

    def remove_token(self, digest: str) -> None:
        """Delete an access token, given by its digest."""
        ended = delete(Token).where(Token.digest == digest)
        self.write_with_reserve(lambda session: session.execute(ended))

    def remove_tokens_of(self, user_id: int) -> None:
        """Delete all access tokens of a user."""
        ended = delete(Token).where(Token.user_id == user_id)
        self.write_with_reserve(lambda session: session.execute(ended))

    # Tasks

    def add_task(
        self,
        user_id: int,
        spec: TaskSpec,
        *,
        held: bool,
        key: IdempotencyKey | None = None,
        max_queued: int | None = None,
    ) -> Task:
        """Add a task, and store its ``key`` in the same transaction.

        Args:
            user_id: User of the task.
            spec: Goal and options of the task.
            held: True if the task waits until it is released.
            key: ``Idempotency-Key`` of the request.
            max_queued: Maximum number of waiting tasks of the user, including held ones and
                this one; ``None`` means no limit.

        Raises:
            IdempotencyKeyUsed: An earlier request created a task with the key.
            QueueFull: ``max_queued`` tasks of the user are already waiting.
        """
        created_at = utc_now()
        task = Task(
            user_id=user_id,
            held=held,
            status="QUEUED",
            created_at=created_at,
            **spec._asdict(),
        )
        with self.writing() as session:
            if key is not None:
                self._require_unused_key(session, user_id, key)
            if max_queued is not None:
                _require_queued_below(session, user_id, max_queued)
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

    def _require_unused_key(self, session: Session, user_id: int, key: IdempotencyKey) -> None:
        expired = CreationKey.created_at <= utc_now(-IDEMPOTENCY_KEY_SECONDS)
        session.execute(delete(CreationKey).where(expired))
        earlier = session.get(CreationKey, (user_id, key.value))
        if earlier is not None:
            same = earlier.request_digest == key.request_digest
            raise IdempotencyKeyUsed(earlier.task_id, same_request=same)

    def task(self, task_id: int) -> Task | None:
        """Return a task or chat of any user."""
        with self.reading() as session:
            return session.get(Task, task_id)

    def unfinished_tasks(self, after: int = 0) -> list[UnfinishedTask]:
        """Return a page of the tasks of all users that a starting server has to resume.

        These are the tasks without a terminal status, the chats that were answering, and the
        chats whose newest message was waiting for a slot. They are sorted by id.

        Args:
            after: Last id of the previous page.
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
        """Release a held task; return ``None`` if the task does not exist or is not held."""
        with self.writing() as session:
            task = session.get(Task, task_id)
            if task is None or not task.held:
                return None
            task.held = False
            task_changes.add(session, task.user_id, task_id, task.status, task.reason, utc_now())
        return task

    def chat(self, user_id: int, name: str) -> Task | None:
        """Return the user's chat with this name."""
        wanted = (Task.user_id == user_id) & (Task.chat == name)
        with self.reading() as session:
            return session.scalar(select(Task).where(wanted))

    def add_chat(self, user_id: int, name: str) -> Task:
        """Add a chat.

        Raises:
            sqlalchemy.exc.IntegrityError: The user already has a chat with this name.
        """
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
        """Remove a task that could not be created, and its ``Idempotency-Key``."""

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
        """Return the ids of deleted tasks whose events or files may still exist, in order."""
        with self.reading() as session:
            return list(session.scalars(select(DeletedTask.task_id).order_by(DeletedTask.task_id)))

    def remove_events(self, task_id: int, limit: int) -> bool:
        """Remove the first ``limit`` events of a deleted task; return whether more may follow."""

        def remove(session: Session) -> bool:
            own = StoredEvent.task_id == task_id
            first = session.scalar(select(func.min(StoredEvent.seq)).where(own))
            if first is not None:
                # Event numbers have no gaps.
                session.execute(delete(StoredEvent).where(own, StoredEvent.seq < first + limit))
            return first is not None

        return self.write_with_reserve(remove)

    def forget_deleted(self, task_id: int) -> None:
        """Record that all events and files of a deleted task are removed."""
        gone = delete(DeletedTask).where(DeletedTask.task_id == task_id)
        self.write_with_reserve(lambda session: session.execute(gone))

    # ReadinessCheck

    def check_readiness(self, wait: float) -> None:
        """Check that the database can be written and read.

        Args:
            wait: Seconds to wait for the write lock.

        Raises:
            SQLAlchemyError: The write or the read failed.
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
        """Store the usage of a task, and add to the usage of its user's current day.

        Args:
            task: The task.
            usage: Usage of the task so far, including ``added``; ``None`` leaves it unchanged.
            added: Resources used since the last call.
        """
        day = utc_now()[:10]
        row = insert(DayUsage).values(user_id=task.user_id, day=day, **added._asdict())
        sums = {name: getattr(DayUsage, name) + value for name, value in added._asdict().items()}
        with self.writing() as session:
            if usage is not None:
                session.execute(update(Task).where(Task.id == task.id).values(usage=usage))
            session.execute(row.on_conflict_do_update(index_elements=["user_id", "day"], set_=sums))

    def day_usage(self, user_id: int) -> ResourceUsage:
        """Return the resources that a user's tasks have used today (UTC)."""
        with self.reading() as session:
            found = session.get(DayUsage, (user_id, utc_now()[:10]))
        return (
            ResourceUsage()
            if found is None
            else ResourceUsage(*(getattr(found, n) for n in ResourceUsage._fields))
        )

    # Events

    def log_position(self, session: Session, task_id: int) -> LogPosition | None:
        """Return the end of a task's log; ``None`` if the task does not exist."""
        found = session.execute(
            select(Task.last_seq, Task.status, Task.user_id).where(Task.id == task_id)
        ).one_or_none()
        if found is None:
            return None
        last_seq, status, user_id = found
        return LogPosition(last_seq, status in TERMINAL_STATUSES, user_id)

    def add_events(self, session: Session, rows: list[dict[str, Any]]) -> None:
        """Insert events, given by the columns of ``StoredEvent``."""
        session.execute(insert(StoredEvent), rows)

    def set_log_ends(self, session: Session, ends: dict[int, tuple[int, str | None]]) -> None:
        """Store the ends of tasks' logs.

        Args:
            session: Session of a write transaction.
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
        """Store a new status of a task, with the time ``at``, and add it to the user's changes."""
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
        """Count the events after ``seq`` that report the end of an answer, or an error."""
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
    """Raise ``QueueFull`` if ``limit`` tasks of the user are waiting."""
    queued = (Task.user_id == user_id) & (Task.status == "QUEUED")
    counted = session.scalar(select(func.count()).select_from(Task).where(queued))
    if (counted or 0) >= limit:
        raise QueueFull("tasks", limit)
