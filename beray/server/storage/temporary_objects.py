"""Repository of the times at which temporary objects expire."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, func, select

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import upsert
from beray.server.storage.tables import TemporaryObject


class TemporaryObjectRepository:
    """Times of expiry, by key of the object. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def put(self, key: str, expires_at: str) -> None:
        """Store the time of expiry of an object, or replace it."""
        with self._database.writing() as session:
            session.execute(upsert(TemporaryObject, {"key": key}, {"expires_at": expires_at}))

    def list_due(self, now: str, limit: int) -> tuple[list[str], str | None]:
        """Return up to ``limit`` expired keys, and the earliest later time of expiry."""
        due = (
            select(TemporaryObject.key)
            .where(TemporaryObject.expires_at <= now)
            .order_by(TemporaryObject.expires_at)
            .limit(limit)
        )
        later = select(func.min(TemporaryObject.expires_at)).where(TemporaryObject.expires_at > now)
        with self._database.reading() as session:
            return list(session.scalars(due)), session.scalar(later)

    def delete(self, keys: Collection[str], *, expired_at: str | None = None) -> None:
        """Delete the rows of removed objects.

        Args:
            keys: Keys of the objects.
            expired_at: Keep rows with a later time of expiry; ``None`` deletes all.
        """
        rows = delete(TemporaryObject).where(TemporaryObject.key.in_(keys))
        if expired_at is not None:
            rows = rows.where(TemporaryObject.expires_at <= expired_at)
        self._database.write_with_reserve(lambda session: session.execute(rows))
