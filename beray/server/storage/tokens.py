"""Repository of access tokens, of which only the digests are stored."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.tables import Token, User
from beray.server.storage.times import utc_now


class ValidToken(NamedTuple):
    """User of an access token, and its expiry."""

    user: User
    expires_at: str


class TokenRepository:
    """Access tokens, by digest. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create(self, digest: str, user_id: int, seconds: float) -> None:
        """Store an access token that is valid for ``seconds``, and delete expired tokens."""
        now, expires_at = utc_now(), utc_now(seconds)

        def add(session: Session) -> None:
            session.execute(delete(Token).where(Token.expires_at <= now))
            session.add(
                Token(digest=digest, user_id=user_id, created_at=now, expires_at=expires_at)
            )

        self._database.write_with_reserve(add)

    def find(self, digest: str) -> ValidToken | None:
        """Return a token; ``None`` if it does not exist, has expired or was ended."""
        alive = (
            select(User, Token.expires_at)
            .join(Token, Token.user_id == User.id)
            .where(Token.digest == digest, Token.expires_at > utc_now())
        )
        with self._database.reading() as session:
            found = session.execute(alive).one_or_none()
        return None if found is None else ValidToken(*found)

    def delete(self, digest: str) -> None:
        """End an access token. Idempotent."""
        ended = delete(Token).where(Token.digest == digest)
        self._database.write_with_reserve(lambda session: session.execute(ended))

    def delete_all(self, user_id: int) -> None:
        """End all access tokens of a user."""
        ended = delete(Token).where(Token.user_id == user_id)
        self._database.write_with_reserve(lambda session: session.execute(ended))
