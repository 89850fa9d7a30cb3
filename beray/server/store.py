"""The record of truth: accounts, tasks and events in SQL.

Synchronous; the server calls it in threads. Times are stored as the UTC strings that
the wire carries, which sort as they should. SQLite runs in WAL mode with full syncs:
what a transaction has committed survives a killed server and a lost power supply.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    ForeignKey,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from beray.schema import TERMINAL_STATUSES
from beray.server import migrations
from beray.server.json_values import stored_tools

LOCAL_EMAIL = "local@localhost"
KEY_SECONDS = 24 * 3600
"""How long an ``Idempotency-Key`` is remembered."""


def utc_now(after_seconds: float = 0.0) -> str:
    """The time in so many seconds: UTC, ISO 8601, microseconds, ``Z``."""
    moment = datetime.now(UTC) + timedelta(seconds=after_seconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    created_at: Mapped[str]


class Token(Base):
    """An access token, known by the SHA-256 of it alone."""

    __tablename__ = "tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[str]
    expires_at: Mapped[str]


class VerificationCode(Base):
    __tablename__ = "verification_codes"

    email: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    sent_at: Mapped[str]
    expires_at: Mapped[str]
    wrong_tries: Mapped[int]


class Task(Base):
    __tablename__ = "tasks"
    # Ids are never given twice: a link to a deleted task must not show another one.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    goal: Mapped[str]
    tools: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    held: Mapped[bool]
    status: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str | None]
    created_at: Mapped[str]
    started_at: Mapped[str | None]
    ended_at: Mapped[str | None]


class CreationKey(Base):
    """The ``Idempotency-Key`` of a task's creation, for a day."""

    __tablename__ = "creation_keys"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[str]
    task_id: Mapped[int]
    created_at: Mapped[str] = mapped_column(index=True)


class StoredEvent(Base):
    """One event of a task; ``body`` is its JSON as the wire carries it."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    task_id: Mapped[int] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class KeyTaken(Exception):
    """There was a creation with this key; ``same_request`` says whether it was the same one."""

    def __init__(self, task_id: int, *, same_request: bool) -> None:
        super().__init__(f"task {task_id} was created with this key")
        self.task_id = task_id
        self.same_request = same_request


class UnusableDatabase(Exception):
    """The database cannot be opened; the text says why."""


class Store:
    """Opens the database and brings its schema up to date.

    Raises:
        UnusableDatabase: the file is no database, is damaged, or a newer version's.
    """

    def __init__(self, path: Path) -> None:
        self._engine = _engine(f"sqlite:///{path}")
        try:
            _migrate(self._engine)
        except (SQLAlchemyError, sqlite3.Error) as error:
            self.close()
            problem = str(getattr(error, "orig", error))
            raise UnusableDatabase(f"{path} cannot be used: {problem}") from error
        except migrations.UnknownRevision as error:
            self.close()
            raise UnusableDatabase(f"{path} cannot be used: {error}") from error

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that holds the write lock from its start, so none fails half-way."""
        with (
            self._engine.connect().execution_options(beray_write=True) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

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

    def add_token(self, digest: str, user_id: int, seconds: float) -> None:
        now = utc_now()
        with self.writing() as session:
            session.execute(delete(Token).where(Token.expires_at <= now))
            session.add(
                Token(digest=digest, user_id=user_id, created_at=now, expires_at=utc_now(seconds))
            )

    def user_of_token(self, digest: str) -> User | None:
        alive = (
            select(User)
            .join(Token, Token.user_id == User.id)
            .where(Token.digest == digest, Token.expires_at > utc_now())
        )
        with self.reading() as session:
            return session.scalar(alive)

    def remove_token(self, digest: str) -> None:
        with self.writing() as session:
            session.execute(delete(Token).where(Token.digest == digest))

    def remove_tokens_of(self, user_id: int) -> None:
        with self.writing() as session:
            session.execute(delete(Token).where(Token.user_id == user_id))

    # Tasks

    def add_task(
        self,
        user_id: int,
        goal: str,
        tools: list[dict[str, Any]] | None,
        *,
        held: bool,
        key: str | None = None,
    ) -> Task:
        """Add a task; the transaction also takes its ``key``, where there is one.

        Raises:
            KeyTaken: an earlier creation had the key.
        """
        created_at = utc_now()
        task = Task(
            user_id=user_id,
            goal=goal,
            tools=tools,
            held=held,
            status="QUEUED",
            created_at=created_at,
        )
        with self.writing() as session:
            if key is not None:
                request = _request_digest(goal, tools, held)
                self._refuse_taken(session, user_id, key, request)
            session.add(task)
            session.flush()
            if key is not None:
                session.add(
                    CreationKey(
                        user_id=user_id,
                        key=key,
                        request_digest=request,
                        task_id=task.id,
                        created_at=created_at,
                    )
                )
        return task

    def _refuse_taken(self, session: Session, user_id: int, key: str, request: str) -> None:
        expired = CreationKey.created_at <= utc_now(-KEY_SECONDS)
        session.execute(delete(CreationKey).where(expired))
        taken = session.get(CreationKey, (user_id, key))
        if taken is not None:
            raise KeyTaken(taken.task_id, same_request=taken.request_digest == request)

    def task(self, task_id: int) -> Task | None:
        with self.reading() as session:
            return session.get(Task, task_id)

    def tasks_of(self, user_id: int) -> list[Task]:
        """A user's tasks, the newest first."""
        newest = select(Task).where(Task.user_id == user_id).order_by(Task.id.desc())
        with self.reading() as session:
            return list(session.scalars(newest))

    def unfinished_tasks(self) -> list[Task]:
        """Tasks of everybody that have not ended, in order of creation."""
        unfinished = select(Task).where(Task.status.not_in(TERMINAL_STATUSES)).order_by(Task.id)
        with self.reading() as session:
            return list(session.scalars(unfinished))

    def release_task(self, task_id: int) -> Task | None:
        """Let go of a held task; ``None`` where it was not held."""
        with self.writing() as session:
            task = session.get(Task, task_id)
            if task is None or not task.held:
                return None
            task.held = False
        return task

    def undo_task(self, task_id: int) -> None:
        """Remove a task as if it had never been added: its key is free again."""
        with self.writing() as session:
            session.execute(delete(CreationKey).where(CreationKey.task_id == task_id))
            session.execute(delete(Task).where(Task.id == task_id))

    def remove_task(self, task_id: int) -> None:
        with self.writing() as session:
            session.execute(delete(Task).where(Task.id == task_id))

    # Events

    def position(self, session: Session, task_id: int) -> tuple[int, bool] | None:
        """The last ``seq`` of a task and whether it has ended; ``None``: no such task."""
        status = session.scalar(select(Task.status).where(Task.id == task_id))
        if status is None:
            return None
        last = session.scalar(
            select(func.max(StoredEvent.seq)).where(StoredEvent.task_id == task_id)
        )
        return last or 0, status in TERMINAL_STATUSES

    def add_events(self, session: Session, rows: list[dict[str, Any]]) -> None:
        session.execute(insert(StoredEvent), rows)

    def set_status(
        self, session: Session, task_id: int, status: str, reason: str | None, at: str
    ) -> None:
        changes: dict[str, Any] = {"status": status, "reason": reason}
        if status == "RUNNING":
            changes["started_at"] = at
        elif status in TERMINAL_STATUSES:
            changes |= {"ended_at": at, "held": False}
        session.execute(update(Task).where(Task.id == task_id).values(changes))

    def task_with_last_seq(self, task_id: int) -> tuple[Task, int] | None:
        """A task and the ``seq`` of its last event, as they were at one moment."""
        with self.reading() as session:
            task = session.get(Task, task_id)
            place = self.position(session, task_id)
        return (task, place[0]) if task is not None and place is not None else None

    def events_after(self, task_id: int, after: int, limit: int) -> list[tuple[int, str]]:
        """``(seq, body)`` of the events behind ``after``, in order."""
        following = (
            select(StoredEvent.seq, StoredEvent.body)
            .where(StoredEvent.task_id == task_id, StoredEvent.seq > after)
            .order_by(StoredEvent.seq)
            .limit(limit)
        )
        with self.reading() as session:
            return [(seq, body) for seq, body in session.execute(following)]


def _request_digest(goal: str, tools: list[dict[str, Any]] | None, held: bool) -> str:
    request = json.dumps([goal, tools, held], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()


def _engine(url: str) -> Engine:
    # Tools are the only JSON column.
    engine = create_engine(url, connect_args={"timeout": 30.0}, json_deserializer=stored_tools)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver's own transactions begin too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        # Damaged text is shown as such; it must not keep its owner from all the other rows.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        for pragma in _pragmas():
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("beray_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _pragmas() -> Iterable[str]:
    yield "PRAGMA journal_mode=WAL"
    yield "PRAGMA synchronous=FULL"
    yield "PRAGMA foreign_keys=ON"


def _migrate(engine: Engine) -> None:
    """Bring the schema up to date.

    alembic takes longer to import than the rest of a start, so it is asked only where
    there is something to migrate; a new database is made as it has to be at once.
    """
    with engine.connect() as connection:
        revision = _revision(connection)
        if revision is None:
            Base.metadata.create_all(connection)
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            stamp = text("INSERT INTO alembic_version VALUES (:head)")
            connection.execute(stamp, {"head": migrations.HEAD})
        elif revision != migrations.HEAD:
            migrations.upgrade(connection)
        connection.commit()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
