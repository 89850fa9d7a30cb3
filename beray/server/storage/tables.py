"""Tables of the database: accounts, tasks, events, the gateway and the audit log.

Times are stored as the UTC strings of the wire format, whose order is chronological.
"""

from __future__ import annotations

from typing import Any, Literal

import structlog
from sqlalchemy import DDL, JSON, ForeignKey, Index, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from beray.schema import Limits, Usage

log = structlog.get_logger("beray.database")


class Base(DeclarativeBase):
    """Base class of all tables."""


class ValidatedJSON(TypeDecorator[Any]):
    """A JSON column whose values are checked when they are read.

    A value of another type is logged and read as ``None``, so that one damaged row does not
    make the user's other rows unreadable.

    Args:
        json_type: Type of the column's values.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, json_type: Literal["object", "objects", "strings"]) -> None:
        super().__init__(none_as_null=True)
        self.json_type = json_type

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        """Return ``value``, or ``None`` if it is not of the column's type."""
        if value is None or self._is_valid(value):
            return value
        log.error("a database row contains damaged JSON", expected=self.json_type)
        return None

    def _is_valid(self, value: Any) -> bool:
        if self.json_type == "object":
            return isinstance(value, dict)
        item_type = dict if self.json_type == "objects" else str
        return isinstance(value, list) and all(isinstance(item, item_type) for item in value)


class User(Base):
    """An account."""

    __tablename__ = "users"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    """Address in its canonical form; ``deleted-ID`` while the data of the account is removed."""
    password_hash: Mapped[str | None]
    """Argon2 hash; ``None`` for service accounts and the user of an embedded server."""
    created_at: Mapped[str]
    role: Mapped[str] = mapped_column(default="user", server_default="user")
    """``user``, ``administrator`` or ``service``."""
    disabled_at: Mapped[str | None]
    """Time at which an administrator disabled the account, or its deletion began."""
    deleted_at: Mapped[str | None]
    """Time at which the deletion began; the row is deleted last."""
    must_change_password: Mapped[bool] = mapped_column(default=False, server_default="0")
    last_sign_in_at: Mapped[str | None]


class Token(Base):
    """A session. Only the SHA-256 digest of its access token is stored."""

    __tablename__ = "tokens"
    __table_args__ = (Index("ix_tokens_id", "id", unique=True),)

    digest: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str | None]
    """Id by which users name the session. It is not secret."""
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[str]
    expires_at: Mapped[str]
    """Time at which an unused session ends; each use moves it, up to ``ends_at``."""
    ends_at: Mapped[str | None]
    """Time at which the session ends in any case; ``None`` if an earlier version created it."""
    last_used_at: Mapped[str | None]
    device: Mapped[str | None]
    """``User-Agent`` of the sign-in."""
    address: Mapped[str | None]
    """IP address of the sign-in."""


class VerificationCode(Base):
    """A code that was mailed to ``email`` for a purpose, requested by ``client``."""

    __tablename__ = "verification_codes"

    purpose: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    """Key of the client's address; empty if an earlier version issued the code."""
    digest: Mapped[str]
    sent_at: Mapped[str]
    expires_at: Mapped[str] = mapped_column(index=True)
    wrong_tries: Mapped[int]


class Invitation(Base):
    """Permission to register an e-mail address; deleted when it is used."""

    __tablename__ = "invitations"

    email: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    invited_by: Mapped[str]
    """Address of the administrator, or ``operator``."""
    created_at: Mapped[str]
    expires_at: Mapped[str] = mapped_column(index=True)


class AuditEntry(Base):
    """A recorded action on accounts, keys and sessions. Rows are never changed or deleted.

    Entries contain no secrets. Users are recorded as text, because entries outlive accounts.
    """

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[str] = mapped_column(index=True)
    actor: Mapped[str]
    """E-mail address of the user, ``operator`` on the server's host, or empty if unknown."""
    address: Mapped[str]
    """IP address of the client; empty on the server's host."""
    action: Mapped[str]
    object: Mapped[str]
    """Changed object, such as the address of an account; the attempted address of a failure."""
    request_id: Mapped[str]


# SQLite rejects changes of the audit log.
for _operation in ("UPDATE", "DELETE"):
    _trigger = DDL(
        f"CREATE TRIGGER audit_{_operation.lower()} BEFORE {_operation} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    )  # type: ignore[no-untyped-call]
    event.listen(AuditEntry.__table__, "after_create", _trigger.execute_if(dialect="sqlite"))


class Task(Base):
    """A task or a chat."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_chat", "user_id", "chat", unique=True),
        # Ids are never reused: a link to a deleted task must not lead to another one.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    goal: Mapped[str]
    tools: Mapped[list[dict[str, Any]] | None] = mapped_column(ValidatedJSON("objects"))
    runner: Mapped[str | None]
    """Requested runner; ``None`` lets the server choose, as for ``model``."""
    model: Mapped[str | None]
    limits: Mapped[Limits | None] = mapped_column(ValidatedJSON("object"))
    tags: Mapped[list[str] | None] = mapped_column(ValidatedJSON("strings"))
    usage: Mapped[Usage | None] = mapped_column(ValidatedJSON("object"))
    """Usage of a model provider so far."""
    chat: Mapped[str | None]
    """Name of the chat; ``None`` for tasks."""
    origin: Mapped[dict[str, Any] | None] = mapped_column(ValidatedJSON("object"))
    """Checkpoint of another task from which the task continues; see ``TaskOrigin``."""
    held: Mapped[bool]
    status: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str | None]
    created_at: Mapped[str]
    started_at: Mapped[str | None]
    ended_at: Mapped[str | None]
    last_seq: Mapped[int] = mapped_column(default=0, server_default="0")
    """``seq`` of the newest event; 0 before the first."""
    last_line: Mapped[str | None]
    """Last line of output, shown in task lists."""


class DeletedTask(Base):
    """A deleted task whose events and files are being removed; see ``TaskDeletion``."""

    __tablename__ = "deleted_tasks"

    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    deleted_at: Mapped[str]


class ReadinessCheck(Base):
    """The single row that each readiness check writes."""

    __tablename__ = "readiness"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    checked_at: Mapped[str]


class CreationKey(Base):
    """``Idempotency-Key`` of a request that created a task, kept for a day."""

    __tablename__ = "creation_keys"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[str]
    task_id: Mapped[int]
    created_at: Mapped[str] = mapped_column(index=True)


class StoredEvent(Base):
    """One event of a task; ``body`` is its JSON in the wire format.

    ``type`` is ``None`` for events that were stored before revision 0009 of the schema.
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
    """One change of one of a user's tasks: a new status, a release or a deletion.

    ``seq`` numbers the changes of a user without gaps. Other properties of the task are read
    from its row.
    """

    __tablename__ = "task_changes"
    __table_args__ = ({"sqlite_with_rowid": False},)

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    task_id: Mapped[int]
    status: Mapped[str | None]
    """``None`` if the task was deleted."""
    reason: Mapped[str | None]
    created_at: Mapped[str]


class DayUsage(Base):
    """Resources that all tasks of a user used on one day (UTC, ISO 8601)."""

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
    """An API key. Only its SHA-256 digest is stored."""

    __tablename__ = "api_keys"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    agent_id: Mapped[str | None]
    digest: Mapped[str] = mapped_column(unique=True)
    start: Mapped[str]
    """First characters of the key, by which users distinguish their keys."""
    created_at: Mapped[str]
    scopes: Mapped[list[str] | None] = mapped_column(ValidatedJSON("strings"))
    """Operations that the key permits; ``None`` is the scope ``gateway`` of earlier versions."""
    expires_at: Mapped[str | None]
    last_used_at: Mapped[str | None]


class InternalToken(Base):
    """An internal token of the gateway. Only its SHA-256 digest is stored."""

    __tablename__ = "internal_tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    agent_id: Mapped[str | None]
    api_key_id: Mapped[int | None] = mapped_column(
        ForeignKey("api_keys.id", ondelete="CASCADE"), index=True
    )
    """API key that the token was issued for and is deleted with; ``None`` for runs."""
    created_at: Mapped[str]
    expires_at: Mapped[str] = mapped_column(index=True)


class LocalObject(Base):
    """An object of the server's own object store; its content is in ``file``."""

    __tablename__ = "objects"

    key: Mapped[str] = mapped_column(primary_key=True)
    file: Mapped[str] = mapped_column(unique=True)
    """Path relative to the directory of objects. It is never reused for other content."""
    size: Mapped[int]
    sha256: Mapped[str]
    content_type: Mapped[str | None]
    last_modified: Mapped[str]


class TemporaryObject(Base):
    """Expiry of a temporary object, in any object store."""

    __tablename__ = "temporary_objects"

    key: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[str] = mapped_column(index=True)


class GatewayUsage(Base):
    """Number of prefab calls of a principal on one day (UTC, ISO 8601)."""

    __tablename__ = "gateway_usage"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int]


class StoredCheckpoint(Base):
    """State of a work_dir; ``root`` is the digest of the manifest of its top directory.

    ``task_id`` and ``user_id`` are not foreign keys: the rows of a deleted task are removed in the
    background, like its events.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (
        Index("ix_checkpoints_user_id", "user_id", "task_id"),
        {"sqlite_with_rowid": False},
    )

    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_id: Mapped[int]
    seq: Mapped[int]
    """``seq`` of the last event before the checkpoint."""
    created_at: Mapped[str]
    reason: Mapped[str]
    root: Mapped[bytes]
    files: Mapped[int]
    bytes: Mapped[int]
    added: Mapped[int]
    modified: Mapped[int]
    deleted: Mapped[int]
    lines_added: Mapped[int | None]
    """``None`` if the lines were not counted, as for ``lines_deleted``."""
    lines_deleted: Mapped[int | None]
    not_stored: Mapped[int]


class BlobPack(Base):
    """An object of the object store with the contents of many blobs of one user.

    The row exists before the object is written and until the object is removed.
    """

    __tablename__ = "blob_packs"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    key: Mapped[str]
    """Key in the object store."""
    size: Mapped[int]
    """Bytes of the object."""
    stored: Mapped[bool]
    """False while the object is written or removed."""


class StoredBlob(Base):
    """Location of a blob in a pack. ``digest`` is the SHA-256 of its content."""

    __tablename__ = "blobs"
    __table_args__ = (
        Index("ix_blobs_pack_id", "pack_id"),
        {"sqlite_with_rowid": False},
    )

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    pack_id: Mapped[int]
    start: Mapped[int]
    """Position in the pack."""
    length: Mapped[int]
    """Bytes in the pack."""
    compressed: Mapped[bool]
    """True if the bytes in the pack are a zstd frame."""


class PendingRestore(Base):
    """A restore or fork that has begun to change a work_dir, for completion after a crash."""

    __tablename__ = "pending_restores"

    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_id: Mapped[int]
    root: Mapped[bytes]
    """Manifest of the checkpoint to restore."""
    paths: Mapped[list[str] | None] = mapped_column(ValidatedJSON("strings"))
    """Paths to restore; ``None`` for the whole work_dir."""
    reason: Mapped[str]


class PrefabSecret(Base):
    """A user's secret for the functions of a prefab; ``value`` is encrypted."""

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
    """User who added the first version of a prefab.

    ``user_id`` is not a foreign key: after the user is deleted, the prefab id stays reserved.
    """

    __tablename__ = "prefab_authors"
    __table_args__ = ({"sqlite_with_rowid": False},)

    prefab_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int]
