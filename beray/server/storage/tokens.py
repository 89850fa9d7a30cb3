"""Repository of sessions: access tokens, of which only the digests are stored."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from beray.server.storage.audit import AuditRecord
from beray.server.storage.database import Database
from beray.server.storage.last_use import LastUse
from beray.server.storage.tables import Token, User
from beray.server.storage.times import utc_now


class SessionLifetime(NamedTuple):
    """Durations of a session: unused, and in any case."""

    idle_seconds: float
    max_seconds: float


class ValidToken(NamedTuple):
    """User of an access token, and the session."""

    user: User
    session: Token


class SessionOrigin(NamedTuple):
    """``User-Agent`` and IP address of a sign-in."""

    device: str = ""
    address: str = ""


class PasswordChanged(Exception):
    """The password or the state of the account changed while it was verified."""


class TokenRepository:
    """Access tokens, by digest. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._last_use = LastUse(database=database)

    def create(
        self,
        digest: str,
        user: User,
        lifetime: SessionLifetime,
        origin: SessionOrigin,
        record: AuditRecord | None = None,
    ) -> None:
        """Start a session, and delete expired ones.

        Args:
            digest: Digest of the access token.
            user: The user as read when the password was verified.
            lifetime: Durations of the session.
            origin: Device and address.
            record: Entry of the audit log.

        Raises:
            PasswordChanged: The account was changed after ``user`` was read.
        """
        now = utc_now()

        def add(session: Session) -> None:
            session.execute(delete(Token).where(Token.expires_at <= now))
            current = session.get(User, user.id)
            if (
                current is None
                or current.disabled_at is not None
                or current.password_hash != user.password_hash
            ):
                raise PasswordChanged
            session.add(
                Token(
                    digest=digest,
                    id=secrets.token_hex(8),
                    user_id=user.id,
                    created_at=now,
                    expires_at=utc_now(min(lifetime)),
                    ends_at=utc_now(lifetime.max_seconds),
                    last_used_at=now,
                    device=origin.device,
                    address=origin.address,
                )
            )
            current.last_sign_in_at = now
            if record is not None:
                record.add_to(session)

        self._database.write_with_reserve(add)

    def find(self, digest: str, idle_seconds: float | None = None) -> ValidToken | None:
        """Return a session; ``None`` if it has expired or was ended, or the user is disabled.

        Args:
            digest: Digest of the access token.
            idle_seconds: Counts this call as a use: the session stays valid for at least this
                long, up to its end.
        """
        alive = (
            select(User, Token)
            .join(Token, Token.user_id == User.id)
            .where(Token.digest == digest, Token.expires_at > utc_now(), User.disabled_at.is_(None))
        )
        with self._database.reading() as session:
            found = session.execute(alive).one_or_none()
        if found is None:
            return None
        valid = ValidToken(*found)
        if idle_seconds is not None:
            self._extend(valid.session, idle_seconds)
        return valid

    def list_all(self, user_id: int) -> list[Token]:
        """Return a user's sessions, most recently used first."""
        alive = select(Token).where(Token.user_id == user_id, Token.expires_at > utc_now())
        with self._database.reading() as session:
            found = list(session.scalars(alive))
        return sorted(found, key=lambda token: token.last_used_at or token.created_at, reverse=True)

    def delete(self, digest: str, record: AuditRecord | None = None) -> None:
        """End a session. Idempotent."""

        def end(session: Session) -> None:
            session.execute(delete(Token).where(Token.digest == digest))
            if record is not None:
                record.add_to(session)

        self._database.write_with_reserve(end)

    def delete_one(self, user_id: int, session_id: str, record: AuditRecord) -> str | None:
        """End a user's session; return its digest, or ``None`` if it does not exist."""

        def end(session: Session) -> str | None:
            wanted = (Token.user_id == user_id) & (Token.id == session_id)
            digest = session.scalar(select(Token.digest).where(wanted))
            if digest is not None:
                session.execute(delete(Token).where(wanted))
                record.add_to(session)
            return digest

        return self._database.write_with_reserve(end)

    def delete_all(
        self, user_id: int, *, keep: str = "", record: AuditRecord | None = None
    ) -> list[str]:
        """End a user's sessions, except the one with the digest ``keep``; return the digests."""

        def end(session: Session) -> list[str]:
            ended = delete_of_user(session, user_id, keep)
            if record is not None:
                record.add_to(session)
            return ended

        return self._database.write_with_reserve(end)

    def digests(self, user_id: int) -> list[str]:
        """Return the digests of a user's sessions."""
        with self._database.reading() as session:
            return list(session.scalars(select(Token.digest).where(Token.user_id == user_id)))

    def _extend(self, token: Token, idle_seconds: float) -> None:
        """Record the use of a session, and extend it up to its end."""
        if not self._last_use.is_due(token.last_used_at):
            return
        now, until = utc_now(), utc_now(idle_seconds)
        until = max(token.expires_at, until if token.ends_at is None else min(until, token.ends_at))
        used = update(Token).where(Token.digest == token.digest)
        if self._last_use.write(used.values(last_used_at=now, expires_at=until)):
            token.last_used_at, token.expires_at = now, until


def delete_of_user(session: Session, user_id: int, keep: str = "") -> list[str]:
    """End a user's sessions in an open transaction, except ``keep``; return their digests."""
    ended = (Token.user_id == user_id) & (Token.digest != keep)
    digests = list(session.scalars(select(Token.digest).where(ended)))
    session.execute(delete(Token).where(ended))
    return digests
