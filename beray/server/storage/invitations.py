"""Repository of invitations, by e-mail address."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from beray.server.storage.audit import AuditRecord
from beray.server.storage.database import Database
from beray.server.storage.tables import Invitation
from beray.server.storage.times import utc_now


class InvitationRepository:
    """Invitations that were not used yet. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def put(
        self, email: str, role: str, invited_by: str, seconds: float, record: AuditRecord
    ) -> Invitation:
        """Store an invitation that is valid for ``seconds``; replace an earlier one."""
        invitation = Invitation(
            email=email,
            role=role,
            invited_by=invited_by,
            created_at=utc_now(),
            expires_at=utc_now(seconds),
        )
        with self._database.writing() as session:
            session.execute(delete(Invitation).where(Invitation.expires_at <= utc_now()))
            stored = session.merge(invitation)
            record.add_to(session)
        return stored

    def find(self, email: str) -> Invitation | None:
        """Return the valid invitation of an address in its canonical form."""
        with self._database.reading() as session:
            return _valid(session, email)

    def list_all(self) -> list[Invitation]:
        """Return all valid invitations, newest first."""
        valid = (
            select(Invitation)
            .where(Invitation.expires_at > utc_now())
            .order_by(Invitation.created_at.desc(), Invitation.email)
        )
        with self._database.reading() as session:
            return list(session.scalars(valid))

    def delete(self, email: str, record: AuditRecord) -> bool:
        """Withdraw an invitation; return False if it does not exist."""

        def withdraw(session: Session) -> bool:
            invitation = _valid(session, email)
            if invitation is None:
                return False
            session.delete(invitation)
            record.add_to(session)
            return True

        return self._database.write_with_reserve(withdraw)


def take(session: Session, email: str) -> Invitation | None:
    """Delete and return the valid invitation of an address, in an open transaction."""
    invitation = _valid(session, email)
    if invitation is not None:
        session.delete(invitation)
    return invitation


def _valid(session: Session, email: str) -> Invitation | None:
    invitation = session.get(Invitation, email)
    if invitation is None or invitation.expires_at <= utc_now():
        return None
    return invitation
