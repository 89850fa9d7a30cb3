"""Repository of the secrets that users set for prefabs. The values are encrypted by the caller."""

from __future__ import annotations

from sqlalchemy import delete, select

from beray.server.storage.database import Database
from beray.server.storage.tables import PrefabSecret
from beray.server.storage.times import utc_now


class PrefabSecretRepository:
    """Encrypted values by user, prefab and name. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def put(self, user_id: int, prefab_id: str, name: str, value: str) -> None:
        """Store an encrypted value, or replace it."""
        row = PrefabSecret(
            user_id=user_id, prefab_id=prefab_id, name=name, value=value, created_at=utc_now()
        )
        with self._database.writing() as session:
            session.merge(row)

    def get(self, user_id: int, prefab_id: str, name: str) -> str | None:
        """Return an encrypted value."""
        with self._database.reading() as session:
            row = session.get(PrefabSecret, (user_id, prefab_id, name))
        return None if row is None else row.value

    def list_names(self, user_id: int, prefab_id: str) -> list[str]:
        """Return the names of a user's secrets for a prefab, sorted."""
        found = select(PrefabSecret.name).where(
            PrefabSecret.user_id == user_id, PrefabSecret.prefab_id == prefab_id
        )
        with self._database.reading() as session:
            return sorted(session.scalars(found))

    def delete(self, user_id: int, prefab_id: str, name: str) -> bool:
        """Delete a value; return False if there was none."""
        own = delete(PrefabSecret).where(
            PrefabSecret.user_id == user_id,
            PrefabSecret.prefab_id == prefab_id,
            PrefabSecret.name == name,
        )
        return self._database.write_with_reserve(
            lambda session: bool(session.connection().execute(own).rowcount)
        )
