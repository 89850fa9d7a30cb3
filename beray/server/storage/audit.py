"""Repository of the audit log, to which entries are only added."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.tables import AuditEntry
from beray.server.storage.times import utc_now


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An action that is recorded in the transaction that performs it.

    Attributes:
        actor: E-mail address of the user, ``operator``, or empty if unknown.
        address: IP address of the client; empty on the server's host.
        action: Name of the action, such as ``sign-in``.
        object: What was changed.
        request_id: ``X-Request-ID`` of the response; empty on the server's host.
    """

    actor: str
    address: str
    action: str
    object: str
    request_id: str

    def add_to(self, session: Session) -> None:
        """Add the entry to an open transaction."""
        session.add(
            AuditEntry(
                created_at=utc_now(),
                actor=self.actor,
                address=self.address,
                action=self.action,
                object=self.object,
                request_id=self.request_id,
            )
        )


class AuditRepository:
    """Entries of the audit log. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def add(self, record: AuditRecord) -> None:
        """Record an action that changes nothing else, such as a failed sign-in."""
        self._database.write_with_reserve(record.add_to)

    def page(self, after: int, limit: int) -> list[AuditEntry]:
        """Return up to ``limit`` entries with an id above ``after``, oldest first."""
        entries = (
            select(AuditEntry).where(AuditEntry.id > after).order_by(AuditEntry.id).limit(limit)
        )
        with self._database.reading() as session:
            return list(session.scalars(entries))

    def newest_id(self) -> int:
        """Return the id of the newest entry; 0 if the log is empty."""
        with self._database.reading() as session:
            return session.scalar(select(func.max(AuditEntry.id))) or 0
