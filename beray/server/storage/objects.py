"""Repository of the objects of the local object store, whose contents are files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import upsert
from beray.server.storage.tables import LocalObject
from beray.server.storage.times import utc_now


class ObjectRepository:
    """Metadata of objects, by key. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> LocalObject | None:
        """Return the object with this key."""
        with self._database.reading() as session:
            return session.get(LocalObject, key)

    def put(
        self, key: str, file: str, *, size: int, sha256: str, content_type: str | None
    ) -> tuple[str, str | None]:
        """Store an object with the content ``file``, or replace it.

        Returns:
            The time of the modification, and the file of the replaced object.
        """
        last_modified = utc_now()
        values: dict[str, Any] = {
            "file": file,
            "size": size,
            "sha256": sha256,
            "content_type": content_type,
            "last_modified": last_modified,
        }
        with self._database.writing() as session:
            before = session.scalar(select(LocalObject.file).where(LocalObject.key == key))
            session.execute(upsert(LocalObject, {"key": key}, values))
        return last_modified, before

    def delete(self, keys: Collection[str]) -> list[str]:
        """Delete objects, and return the files of those that existed.

        Args:
            keys: At most a few hundred keys.
        """
        named = LocalObject.key.in_(keys)

        def remove(session: Session) -> list[str]:
            files = list(session.scalars(select(LocalObject.file).where(named)))
            session.execute(delete(LocalObject).where(named))
            return files

        return self._database.write_with_reserve(remove)

    def list_page(self, prefix: str, after: str, limit: int) -> list[LocalObject]:
        """Return the first ``limit`` objects with the prefix after the key ``after``, sorted."""
        query = select(LocalObject).where(LocalObject.key > after, LocalObject.key >= prefix)
        end = _prefix_end(prefix)
        if end is not None:
            query = query.where(LocalObject.key < end)
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(LocalObject.key).limit(limit)))

    def used_files(self, files: Collection[str]) -> set[str]:
        """Return those of the files, at most a few hundred, that are contents of objects."""
        used = select(LocalObject.file).where(LocalObject.file.in_(files))
        with self._database.reading() as session:
            return set(session.scalars(used))


def _prefix_end(prefix: str) -> str | None:
    """Return the smallest string after all that start with ``prefix``, or None."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # Surrogates are not valid in UTF-8.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)
