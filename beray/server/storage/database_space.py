"""Unused space of the database, and its return to the file system."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from beray.server.storage.database import Database
from beray.server.storage.sqlite import engine, space

LOCK_SECONDS: Final = 0.1
"""Maximum wait for readers and other processes; the writers of this process wait meanwhile."""

T = TypeVar("T")


class DatabaseSpace:
    """Unused pages of a database. Synchronous; called in threads.

    All operations may use the reserved disk space, because they free space.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def free_pages(self) -> int:
        """Return the number of unused pages of the file."""
        with self._database.reading() as session:
            return space.free_pages(session.connection())

    def return_pages(self, pages: int) -> int:
        """Return up to ``pages`` unused pages to the file system; return the number left."""
        return self._run(lambda driver: space.return_pages(driver, pages))

    def truncate_log(self) -> bool:
        """Write the write-ahead log into the database file, and truncate both.

        Returns:
            False if a reader prevented it.
        """
        return self._run(space.truncate_log)

    def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        def attempt() -> T:
            with self._database.outside_transactions() as connection, engine.wrapped_errors():
                driver = engine.driver(connection)
                with engine.busy_timeout(driver, LOCK_SECONDS):
                    return operation(driver)

        return self._database.reserve.use(attempt)
