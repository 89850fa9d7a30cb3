"""Internal tokens and API keys, as far as they are kept. Synchronous; called in threads.

Of either only a SHA-256 is kept, which suffices for what has 256 random bits.
"""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from beray.server.database import Database
from beray.server.dependencies import digest
from beray.server.store import utc_now
from beray.server.tables import ApiKey, InternalToken

KEY_START: Final = "sk-"
SHOWN_CHARACTERS: Final = 8
MOST_KEYS: Final = 100
"""Of one user."""


class TooManyKeys(Exception):
    """A user has ``MOST_KEYS`` already."""


class InternalTokens:
    """What the gateway is called with: a user, maybe an agent, for a short while."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def issue(
        self, user_id: int, agent_id: str | None, seconds: float, *, api_key_id: int | None = None
    ) -> str:
        """Return a new token, which is good for ``seconds``, or until ``end``.

        Args:
            api_key_id: what it is had for; it ends with that.
        """
        token = secrets.token_urlsafe(32)
        now, expires_at = utc_now(), utc_now(seconds)

        def add(session: Session) -> None:
            session.execute(delete(InternalToken).where(InternalToken.expires_at <= now))
            session.add(
                InternalToken(
                    digest=digest(token),
                    user_id=user_id,
                    agent_id=agent_id,
                    api_key_id=api_key_id,
                    created_at=now,
                    expires_at=expires_at,
                )
            )

        # Agents need one in order to delete their files.
        self._database.recovering(add)
        return token

    def find(self, token: str) -> InternalToken | None:
        """Return a token; ``None`` if it does not exist, has expired or ended."""
        alive = select(InternalToken).where(
            InternalToken.digest == digest(token), InternalToken.expires_at > utc_now()
        )
        with self._database.reading() as session:
            return session.scalar(alive)

    def end(self, token: str) -> None:
        """From now on it is none. Does nothing where it is none already."""
        ended = delete(InternalToken).where(InternalToken.digest == digest(token))
        self._database.recovering(lambda session: session.execute(ended))


class ApiKeys:
    """What programs of a user's are given, to come in with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user_id: int, name: str, agent_id: str | None) -> tuple[ApiKey, str]:
        """Make a key; it itself is known to nobody afterwards.

        Raises:
            TooManyKeys: the user has to revoke one first.
        """
        key = KEY_START + secrets.token_urlsafe(32)
        row = ApiKey(
            user_id=user_id,
            name=name,
            agent_id=agent_id,
            digest=digest(key),
            start=key[:SHOWN_CHARACTERS],
            created_at=utc_now(),
        )
        with self._database.writing() as session:
            counted = select(func.count()).where(ApiKey.user_id == user_id)
            if (session.scalar(counted) or 0) >= MOST_KEYS:
                raise TooManyKeys
            session.add(row)
        return row, key

    def find(self, key: str) -> ApiKey | None:
        with self._database.reading() as session:
            return session.scalar(select(ApiKey).where(ApiKey.digest == digest(key)))

    def of(self, user_id: int) -> list[ApiKey]:
        """A user's keys, the newest first."""
        newest = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        with self._database.reading() as session:
            return list(session.scalars(newest))

    def remove(self, user_id: int, key_id: int) -> bool:
        """End a user's key, and every internal token that was had for it.

        Returns:
            whether there was such a key.
        """
        own = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)
        # The row count is of the driver; the tokens go by the foreign key.
        return self._database.recovering(
            lambda session: bool(session.connection().execute(own).rowcount)
        )
