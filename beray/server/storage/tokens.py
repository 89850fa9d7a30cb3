"""Internal tokens and API keys, as far as they are kept. Synchronous; called in threads.

Of either only a SHA-256 is kept, which suffices for what has 256 random bits.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.store import utc_now
from beray.server.storage.tables import ApiKey, InternalToken

API_KEY_PREFIX: Final = "sk-"
SHOWN_CHARACTERS: Final = 8
MAX_API_KEYS: Final = 100
"""Of one user."""
EXTENSION_SECONDS: Final = 60.0
"""How often the expiry of a token that is in use is written."""
_NEVER: Final = "9999-12-31T23:59:59.999999Z"

log = structlog.get_logger("beray.gateway")


def secret_digest(secret: str) -> str:
    """Return the SHA-256 digest by which a token, key or code is stored and found."""
    return hashlib.sha256(secret.encode()).hexdigest()


class TooManyKeys(Exception):
    """A user has ``MAX_API_KEYS`` already."""


class InternalTokenStore:
    """Credentials of the gateway, each for a user and possibly an agent.

    A token that an API key was exchanged for ends with that key, or some time after its last
    use. A token of a run has no API key and ends with the run.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def issue(
        self,
        user_id: int,
        agent_id: str | None,
        seconds: float | None = None,
        *,
        api_key_id: int | None = None,
    ) -> str:
        """Return a new token.

        Args:
            seconds: Its lifetime unless ``find`` extends it; ``None``: until ``end``.
            api_key_id: API key that it is issued for; it ends with that.
        """
        token = secrets.token_urlsafe(32)
        now = utc_now()
        expires_at = _NEVER if seconds is None else utc_now(seconds)

        def add(session: Session) -> None:
            session.execute(delete(InternalToken).where(InternalToken.expires_at <= now))
            session.add(
                InternalToken(
                    digest=secret_digest(token),
                    user_id=user_id,
                    agent_id=agent_id,
                    api_key_id=api_key_id,
                    created_at=now,
                    expires_at=expires_at,
                )
            )

        # Agents need one in order to delete their files.
        self._database.write_with_reserve(add)
        return token

    def find(self, token: str, idle_seconds: float | None = None) -> InternalToken | None:
        """Return a token, or ``None`` if it does not exist, has expired or was ended.

        Args:
            idle_seconds: This is a use of the token: if it was issued for an API key, it lives
                at least this long from now on.
        """
        alive = select(InternalToken).where(
            InternalToken.digest == secret_digest(token), InternalToken.expires_at > utc_now()
        )
        with self._database.reading() as session:
            found = session.scalar(alive)
        if found is not None and found.api_key_id is not None and idle_seconds is not None:
            self._extend(found, idle_seconds)
        return found

    def _extend(self, token: InternalToken, seconds: float) -> None:
        if token.expires_at >= utc_now(seconds):
            return
        # Not each use is a write.
        until = utc_now(seconds + min(EXTENSION_SECONDS, seconds / 10))
        extended = update(InternalToken).where(
            InternalToken.digest == token.digest, InternalToken.expires_at < until
        )
        try:
            with self._database.writing() as session:
                session.execute(extended.values(expires_at=until))
        except OperationalError as error:
            # The disk is full, or the database busy. The token is valid; only its extension
            # is missing, and the next use repeats it.
            log.warning("an internal token was not extended", problem=str(error.orig))

    def end_runs(self) -> None:
        """End the tokens of all runs. For the start: a killed server did not end them."""
        ended = delete(InternalToken).where(InternalToken.api_key_id.is_(None))
        self._database.write_with_reserve(lambda session: session.execute(ended))

    def end(self, token: str) -> None:
        """End a token. Idempotent."""
        ended = delete(InternalToken).where(InternalToken.digest == secret_digest(token))
        self._database.write_with_reserve(lambda session: session.execute(ended))


class ApiKeyStore:
    """What programs of a user's are given, to come in with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user_id: int, name: str, agent_id: str | None) -> tuple[ApiKey, str]:
        """Make a key; it itself is known to nobody afterwards.

        Raises:
            TooManyKeys: the user has to revoke one first.
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
        with self._database.reading() as session:
            return session.scalar(select(ApiKey).where(ApiKey.digest == secret_digest(key)))

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
        return self._database.write_with_reserve(
            lambda session: bool(session.connection().execute(own).rowcount)
        )
