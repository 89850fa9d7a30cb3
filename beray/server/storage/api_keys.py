"""Repository of API keys, with which programs of users authenticate.

Only the SHA-256 digests are stored.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from beray.server.storage.audit import AuditRecord
from beray.server.storage.database import Database
from beray.server.storage.digests import secret_digest
from beray.server.storage.last_use import LastUse
from beray.server.storage.tables import ApiKey, User
from beray.server.storage.times import utc_now

API_KEY_PREFIX: Final = "sk-"
SHOWN_CHARACTERS: Final = 8
MAX_API_KEYS: Final = 100
"""Maximum number of API keys of one user."""
GATEWAY_SCOPE: Final = "gateway"
"""Scope of the keys that earlier versions created."""


class TooManyKeys(Exception):
    """The user already has ``MAX_API_KEYS`` keys."""


class NewApiKey(NamedTuple):
    """Properties of a key to be created.

    Attributes:
        name: Name by which the user recognizes the key.
        agent_id: Agent that the key authenticates, if any.
        scopes: Operations that the key permits.
        expires_at: UTC, ISO 8601; ``None`` if it does not expire.
    """

    name: str
    agent_id: str | None
    scopes: tuple[str, ...] = (GATEWAY_SCOPE,)
    expires_at: str | None = None


class ValidApiKey(NamedTuple):
    """A key that can be used, and its user."""

    key: ApiKey
    user: User


class ApiKeyRepository:
    """API keys of all users. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._last_use = LastUse(database=database)

    def create(
        self, user_id: int, new: NewApiKey, record: AuditRecord | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key; return its row and the secret, which cannot be read back later.

        Raises:
            TooManyKeys: The user has ``MAX_API_KEYS`` keys and has to revoke one first.
        """
        key = API_KEY_PREFIX + secrets.token_urlsafe(32)
        row = ApiKey(
            user_id=user_id,
            name=new.name,
            agent_id=new.agent_id,
            digest=secret_digest(key),
            start=key[:SHOWN_CHARACTERS],
            created_at=utc_now(),
            scopes=list(new.scopes),
            expires_at=new.expires_at,
        )
        with self._database.writing() as session:
            counted = select(func.count()).where(ApiKey.user_id == user_id)
            if (session.scalar(counted) or 0) >= MAX_API_KEYS:
                raise TooManyKeys
            session.add(row)
            session.flush()
            if record is not None:
                replace(record, object=f"{record.object} (key {row.id})").add_to(session)
        return row, key

    def find(self, key: str) -> ValidApiKey | None:
        """Return the API key with the secret ``key``, and record its use.

        Returns:
            ``None`` if the key is unknown, revoked or expired, or its user is disabled.
        """
        valid = (
            select(ApiKey, User)
            .join(User, User.id == ApiKey.user_id)
            .where(ApiKey.digest == secret_digest(key), User.disabled_at.is_(None))
            .where(ApiKey.expires_at.is_(None) | (ApiKey.expires_at > utc_now()))
        )
        with self._database.reading() as session:
            found = session.execute(valid).one_or_none()
        if found is None:
            return None
        valid_key = ValidApiKey(*found)
        if self._last_use.is_due(valid_key.key.last_used_at):
            used = update(ApiKey).where(ApiKey.id == valid_key.key.id)
            self._last_use.write(used.values(last_used_at=utc_now()))
        return valid_key

    def list_all(self, user_id: int) -> list[ApiKey]:
        """Return a user's keys, newest first."""
        newest = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        with self._database.reading() as session:
            return list(session.scalars(newest))

    def delete(self, user_id: int, key_id: int, record: AuditRecord | None = None) -> bool:
        """Revoke a user's key, and end every internal token that was issued for it.

        Returns:
            False if the user has no such key.
        """
        own = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)

        def revoke(session: Session) -> bool:
            # The foreign key deletes the tokens; the driver's row count does not include them.
            revoked = bool(session.connection().execute(own).rowcount)
            if revoked and record is not None:
                record.add_to(session)
            return revoked

        return self._database.write_with_reserve(revoke)


def scopes_of(row: ApiKey) -> tuple[str, ...]:
    """Return the scopes of a key; keys of earlier versions have the scope ``gateway``."""
    return tuple(row.scopes) if row.scopes is not None else (GATEWAY_SCOPE,)
