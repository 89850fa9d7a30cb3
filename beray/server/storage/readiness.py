"""Repository of the readiness check, which writes and reads the database."""

from __future__ import annotations

from sqlalchemy import select

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import upsert
from beray.server.storage.tables import ReadinessCheck, User
from beray.server.storage.times import utc_now


class ReadinessRepository:
    """The row of the last readiness check. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def check(self, wait: float) -> None:
        """Check that the database can be written and read.

        Args:
            wait: Seconds to wait for the write lock.

        Raises:
            StorageError: The write or the read failed.
        """
        with self._database.writing(wait) as session:
            session.execute(upsert(ReadinessCheck, {"id": 1}, {"checked_at": utc_now()}))
        with self._database.reading() as session:
            session.execute(
                select(ReadinessCheck.checked_at, select(User.id).limit(1).scalar_subquery())
            )
