"""Repositories of internal tokens and API keys. Synchronous; called in threads.

Only the SHA-256 digests are stored. A slow hash is not needed for secrets with 256 random bits.
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
"""Maximum number of API keys of one user."""
EXTENSION_SECONDS: Final = 60.0
"""Minimum interval between writes of the expiry of a token that is in use."""
_NEVER: Final = "9999-12-31T23:59:59.999999Z"

log = structlog.get_logger("beray.gateway")


def secret_digest(secret: str) -> str:
    """Return the SHA-256 digest by which a token, key or code is stored and found."""
    return hashlib.sha256(secret.encode()).hexdigest()


class TooManyKeys(Exception):
    """The user already has ``MAX_API_KEYS`` keys."""


class InternalTokenStore:
    """Internal tokens of the gateway, each for a user and possibly an agent.

    A token that was issued in exchange for an API key ends with that key, or some time after its
    last use. The token of a run has no API key and ends with the run.
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
            user_id: User that the token authenticates.
            agent_id: Agent that the token authenticates, if any.
            seconds: Lifetime unless ``find`` extends it; ``None`` means until ``end``.
            api_key_id: API key that the token is issued for and ends with.
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

        # On a full disk, agents need a token in order to delete their files.
        self._database.write_with_reserve(add)
        return token

    def find(self, token: str, idle_seconds: float | None = None) -> InternalToken | None:
        """Return a token, or ``None`` if it does not exist, has expired or was ended.

        Args:
            token: The secret itself.
            idle_seconds: Counts this call as a use of the token: a token that was issued for an
                API key stays valid for at least this long.
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
        # Extended by more than needed, so that not every use is a write.
        until = utc_now(seconds + min(EXTENSION_SECONDS, seconds / 10))
        extended = update(InternalToken).where(
            InternalToken.digest == token.digest, InternalToken.expires_at < until
        )
        try:
            with self._database.writing() as session:
                session.execute(extended.values(expires_at=until))
        except OperationalError as error:
            # The disk is full, or the database is busy. The token is valid, and its next use
            # repeats the extension.
            log.warning("could not extend an internal token", problem=str(error.orig))

    def end_runs(self) -> None:
        """End the tokens of all runs. Called at startup: a killed server did not end them."""
        ended = delete(InternalToken).where(InternalToken.api_key_id.is_(None))
        self._database.write_with_reserve(lambda session: session.execute(ended))

    def end(self, token: str) -> None:
        """End a token. Idempotent."""
        ended = delete(InternalToken).where(InternalToken.digest == secret_digest(token))
        self._database.write_with_reserve(lambda session: session.execute(ended))


class ApiKeyStore:
    """API keys of users, with which their programs authenticate."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user_id: int, name: str, agent_id: str | None) -> tuple[ApiKey, str]:
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

    def keys_of(self, user_id: int) -> list[ApiKey]:
        """Return a user's keys, newest first."""
        newest = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        with self._database.reading() as session:
            return list(session.scalars(newest))

    def remove(self, user_id: int, key_id: int) -> bool:
        """Revoke a user's key, and end every internal token that was issued for it.

        Returns:
            False if the user has no such key.
        """
        own = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)
        # The foreign key deletes the tokens; the row count of the driver does not include them.
        return self._database.write_with_reserve(
            lambda session: bool(session.connection().execute(own).rowcount)
        )
