"""Repository of API keys, with which programs of users authenticate.

Only the SHA-256 digests are stored.
"""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import delete, func, select

from beray.server.storage.database import Database
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import ApiKey
from beray.server.storage.times import utc_now

API_KEY_PREFIX: Final = "sk-"
SHOWN_CHARACTERS: Final = 8
MAX_API_KEYS: Final = 100
"""Maximum number of API keys of one user."""


class TooManyKeys(Exception):
    """The user already has ``MAX_API_KEYS`` keys."""


class ApiKeyRepository:
    """API keys of all users. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create(self, user_id: int, name: str, agent_id: str | None) -> tuple[ApiKey, str]:
        """Create a key; return its row and the secret, which cannot be read back later.

        Raises:
            TooManyKeys: The user has ``MAX_API_KEYS`` keys and has to revoke one first.
        """
        key = API_KEY_PREFIX + secrets.token_urlsafe(32)
        row = ApiKey(
            user_id=user_id,
            name=name,
            agent_id=agent_id,
            digest=secret_digest(key),
            start=key[:SHOWN_CHARACTERS],
            created_at=utc_now(),
        )
        with self._database.writing() as session:
            counted = select(func.count()).where(ApiKey.user_id == user_id)
            if (session.scalar(counted) or 0) >= MAX_API_KEYS:
                raise TooManyKeys
            session.add(row)
        return row, key

    def find(self, key: str) -> ApiKey | None:
        """Return the API key with the secret ``key``; ``None`` if it is unknown or revoked."""
        with self._database.reading() as session:
            return session.scalar(select(ApiKey).where(ApiKey.digest == secret_digest(key)))

    def list_all(self, user_id: int) -> list[ApiKey]:
        """Return a user's keys, newest first."""
        newest = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        with self._database.reading() as session:
            return list(session.scalars(newest))

    def delete(self, user_id: int, key_id: int) -> bool:
        """Revoke a user's key, and end every internal token that was issued for it.

        Returns:
            False if the user has no such key.
        """
        own = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)
        # The foreign key deletes the tokens; the row count of the driver does not include them.
        return self._database.write_with_reserve(
            lambda session: bool(session.connection().execute(own).rowcount)
        )
