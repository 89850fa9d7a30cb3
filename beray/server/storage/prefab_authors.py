"""Repository of the users who added the first version of a prefab."""

from __future__ import annotations

from sqlalchemy import delete

from beray.server.storage.database import Database
from beray.server.storage.tables import PrefabAuthor


class PrefabAuthorRepository:
    """Authors by id of the prefab. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, prefab_id: str) -> int | None:
        """Return the id of the user who added a prefab."""
        with self._database.reading() as session:
            row = session.get(PrefabAuthor, prefab_id)
        return None if row is None else row.user_id

    def create(self, prefab_id: str, user_id: int) -> None:
        """Store the author of a prefab that has none."""
        with self._database.writing() as session:
            session.add(PrefabAuthor(prefab_id=prefab_id, user_id=user_id))

    def delete(self, prefab_id: str) -> None:
        """Delete the author of a prefab. Idempotent."""
        released = delete(PrefabAuthor).where(PrefabAuthor.prefab_id == prefab_id)
        self._database.write_with_reserve(lambda session: session.execute(released))
