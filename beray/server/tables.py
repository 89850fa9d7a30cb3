"""The tables of the database: accounts, tasks and what happened to them.

Times are stored as the UTC strings that the wire carries, which sort as they should.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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
    last_seq: Mapped[int] = mapped_column(default=0, server_default="0")
    """The ``seq`` of its newest event; 0 before the first."""
    last_line: Mapped[str | None]
    """The end of what was said in it, for lists."""


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
