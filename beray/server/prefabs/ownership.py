"""Whose prefabs are: an id belongs to the user who first added it.

A function gets its caller's secrets, which were given to a prefab by its id. So nobody else
may put a version of it there. Synchronous; called in threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import delete

from beray.server.storage.database import Database
from beray.server.storage.tables import PrefabAuthor


class NotTheAuthor(Exception):
    """The id is somebody else's."""


class Authors:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()

    @contextmanager
    def adding(self, prefab_id: str, user_id: int, *, is_there: bool) -> Iterator[None]:
        """Around adding a version: the id is the user's, and stays it where that succeeds.

        Args:
            is_there: a version of it is on the server already.

        Raises:
            NotTheAuthor: also where the owner of the server put it there by hand.
        """
        with self._lock:
            author = self._author(prefab_id)
            if author != user_id and (is_there or author is not None):
                raise NotTheAuthor
            if author is None:
                self._claim(prefab_id, user_id)
            try:
                yield
            except BaseException:
                if author is None:
                    self._release(prefab_id)
                raise

    def _claim(self, prefab_id: str, user_id: int) -> None:
        with self._database.writing() as session:
            session.add(PrefabAuthor(prefab_id=prefab_id, user_id=user_id))

    def _release(self, prefab_id: str) -> None:
        released = delete(PrefabAuthor).where(PrefabAuthor.prefab_id == prefab_id)
        self._database.write_with_reserve(lambda session: session.execute(released))

    def _author(self, prefab_id: str) -> int | None:
        with self._database.reading() as session:
            row = session.get(PrefabAuthor, prefab_id)
            return None if row is None else row.user_id
