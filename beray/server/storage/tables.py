"""The tables of the database: accounts, tasks and what happened to them.

Times are stored as the UTC strings that the wire carries, which sort as they should.
"""

from __future__ import annotations

from typing import Any, Literal

import structlog
from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from beray.schema import Limits, Usage

log = structlog.get_logger("beray.database")


class Base(DeclarativeBase):
    pass


class ValidatedJSON(TypeDecorator[Any]):
    """A JSON column; ``None`` is read where it is not of its shape.

    One damaged row must not keep its owner from all the others.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, shape: Literal["object", "objects", "texts"]) -> None:
        super().__init__(none_as_null=True)
        self.shape = shape

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        if value is None or self._fits(value):
            return value
        log.error("a row of the database holds damaged JSON", wanted=self.shape)
        return None

    def _fits(self, value: Any) -> bool:
        if self.shape == "object":
            return isinstance(value, dict)
        item = dict if self.shape == "objects" else str
        return isinstance(value, list) and all(isinstance(one, item) for one in value)


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
    """A code that was mailed to ``email``, requested by ``client``."""

    __tablename__ = "verification_codes"

    email: Mapped[str] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    """Key of the client's address; empty if an earlier version issued the code."""
    digest: Mapped[str]
    sent_at: Mapped[str]
    expires_at: Mapped[str] = mapped_column(index=True)
    wrong_tries: Mapped[int]


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_chat", "user_id", "chat", unique=True),
        # Ids are never given twice: a link to a deleted task must not show another one.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    goal: Mapped[str]
    tools: Mapped[list[dict[str, Any]] | None] = mapped_column(ValidatedJSON("objects"))
    runner: Mapped[str | None]
    """Who was asked to do it; ``None``: whom the server chooses. So is ``model``."""
    model: Mapped[str | None]
    limits: Mapped[Limits | None] = mapped_column(ValidatedJSON("object"))
    tags: Mapped[list[str] | None] = mapped_column(ValidatedJSON("texts"))
    usage: Mapped[Usage | None] = mapped_column(ValidatedJSON("object"))
    """What it has taken from a model's provider so far."""
    chat: Mapped[str | None]
    """The name of the chat that it is; ``None``: it is none."""
    held: Mapped[bool]
    status: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str | None]
    created_at: Mapped[str]
    started_at: Mapped[str | None]
    ended_at: Mapped[str | None]
    last_seq: Mapped[int] = mapped_column(default=0, server_default="0")
    """The ``seq`` of its newest event; 0 before the first."""
    last_line: Mapped[str | None]
    """The end of what was said in it, for lists."""


class DeletedTask(Base):
    """A deleted task whose events and files are being removed; see ``task_deletion``."""

    __tablename__ = "deleted_tasks"

    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    deleted_at: Mapped[str]


class ReadinessCheck(Base):
    """The one row that a check of the server's readiness writes."""

    __tablename__ = "readiness"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    checked_at: Mapped[str]


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
    """One event of a task; ``body`` is its JSON as the wire carries it.

    ``type`` is the event's type; None for events that versions before 0009 of the schema stored.
    """

    __tablename__ = "events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    task_id: Mapped[int] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]
    type: Mapped[str | None]


class TaskChange(Base):
    """One change of one of a user's tasks: a status, being let go, being deleted.

    ``seq`` counts a user's changes without a gap. What the task says besides is in its row.
    """

    __tablename__ = "task_changes"
    __table_args__ = ({"sqlite_with_rowid": False},)

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    task_id: Mapped[int]
    status: Mapped[str | None]
    """``None``: the task was deleted."""
    reason: Mapped[str | None]
    created_at: Mapped[str]


class DayUsage(Base):
    """What all tasks of a user have taken on one day (UTC, ISO 8601)."""

    __tablename__ = "day_usage"
    __table_args__ = ({"sqlite_with_rowid": False},)

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    day: Mapped[str] = mapped_column(primary_key=True)
    tokens: Mapped[int]
    requests: Mapped[int]
    cost_usd: Mapped[float]
    seconds: Mapped[float]


class ApiKey(Base):
    """What a program of a user's has to come in with, known by the SHA-256 of it alone."""

    __tablename__ = "api_keys"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    agent_id: Mapped[str | None]
    digest: Mapped[str] = mapped_column(unique=True)
    start: Mapped[str]
    """Its first characters, to tell it from others."""
    created_at: Mapped[str]


class InternalToken(Base):
    """What the gateway is called with, known by the SHA-256 of it alone."""

    __tablename__ = "internal_tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    agent_id: Mapped[str | None]
    api_key_id: Mapped[int | None] = mapped_column(
        ForeignKey("api_keys.id", ondelete="CASCADE"), index=True
    )
    """What it was had for; it ends with that."""
    created_at: Mapped[str]
    expires_at: Mapped[str] = mapped_column(index=True)


class LocalObject(Base):
    """An object of the gateway's own store; ``file`` has its bytes."""

    __tablename__ = "objects"

    key: Mapped[str] = mapped_column(primary_key=True)
    file: Mapped[str] = mapped_column(unique=True)
    """Relative to the folder of objects. No two contents ever have the same one."""
    size: Mapped[int]
    sha256: Mapped[str]
    content_type: Mapped[str | None]
    last_modified: Mapped[str]


class TemporaryObject(Base):
    """When an object goes, whatever store it is in."""

    __tablename__ = "temporary_objects"

    key: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[str] = mapped_column(index=True)


class GatewayUsage(Base):
    """How many calls a caller has made on one day (UTC, ISO 8601)."""

    __tablename__ = "gateway_usage"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int]


class PrefabSecret(Base):
    """What a user gives to the functions of a prefab; ``value`` is encrypted."""

    __tablename__ = "prefab_secrets"
    __table_args__ = ({"sqlite_with_rowid": False},)

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    prefab_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    created_at: Mapped[str]


class PrefabAuthor(Base):
    """Who added a prefab first. Without a reference: nobody gets the id of who has left."""

    __tablename__ = "prefab_authors"
    __table_args__ = ({"sqlite_with_rowid": False},)

    prefab_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int]
