"""Repository of internal tokens of the gateway, of which only the SHA-256 digests are stored."""

from __future__ import annotations

import secrets
from typing import Final

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.database_errors import error_text
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import ApiKey, InternalToken, User
from beray.server.storage.times import utc_now

EXTENSION_SECONDS: Final = 60.0
"""Minimum interval between writes of the expiry of a token that is in use."""
_NEVER: Final = "9999-12-31T23:59:59.999999Z"

log = structlog.get_logger("beray.gateway")


class ApiKeyRevoked(Exception):
    """The API key of a new token does not exist any more."""


class InternalTokenRepository:
    """Internal tokens, each for a user and possibly an agent. Synchronous; called in threads.

    A token that was issued in exchange for an API key ends with that key, or some time after its
    last use. The token of a run has no API key and ends with the run.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create(
        self,
        user_id: int,
        agent_id: str | None,
        seconds: float | None = None,
        *,
        api_key_id: int | None = None,
    ) -> str:
        """Store a new token, and return it.

        Args:
            user_id: User that the token authenticates.
            agent_id: Agent that the token authenticates, if any.
            seconds: Lifetime unless ``find`` extends it; ``None`` means until ``delete``.
            api_key_id: API key that the token is issued for and ends with.

        Raises:
            ApiKeyRevoked: The API key does not exist any more.
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
        try:
            self._database.write_with_reserve(add)
        except IntegrityError:
            if api_key_id is None:
                raise
            raise ApiKeyRevoked(f"API key {api_key_id} was revoked") from None
        return token

    def find(self, token: str, idle_seconds: float | None = None) -> InternalToken | None:
        """Return a token, or ``None`` if it does not exist, has expired or was ended.

        A token is also invalid after the expiry of its API key, and while its user is disabled.

        Args:
            token: The secret itself.
            idle_seconds: Counts this call as a use of the token: a token that was issued for an
                API key stays valid for at least this long.
        """
        now = utc_now()
        alive = (
            select(InternalToken)
            .join(User, User.id == InternalToken.user_id)
            .outerjoin(ApiKey, ApiKey.id == InternalToken.api_key_id)
            .where(
                InternalToken.digest == secret_digest(token),
                InternalToken.expires_at > now,
                User.disabled_at.is_(None),
                ApiKey.expires_at.is_(None) | (ApiKey.expires_at > now),
            )
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
            log.warning("could not extend an internal token", problem=error_text(error))

    def delete_of_runs(self) -> None:
        """End the tokens of all runs. Called at startup: a killed server did not end them."""
        ended = delete(InternalToken).where(InternalToken.api_key_id.is_(None))
        self._database.write_with_reserve(lambda session: session.execute(ended))

    def delete(self, token: str) -> None:
        """End a token. Idempotent."""
        ended = delete(InternalToken).where(InternalToken.digest == secret_digest(token))
        self._database.write_with_reserve(lambda session: session.execute(ended))
