"""Repository of the numbers of prefab calls, by caller and day (UTC)."""

from __future__ import annotations

from sqlalchemy import delete

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import upsert
from beray.server.storage.tables import GatewayUsage
from beray.server.storage.times import utc_now


class PrefabCallRepository:
    """Numbers of calls. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def count(self, subject: str, limit: int | None, calls: int = 1) -> int:
        """Count ``calls`` of ``subject``: all of them, or none if they exceed ``limit``.

        Concurrent calls are counted one after another, so their sum never exceeds ``limit``.

        Returns:
            The number of calls today, including these. If it is larger than ``limit``, these
            calls were not counted and must not be made.
        """
        day = utc_now()[:10]
        with self._database.writing() as session:
            found = session.get(GatewayUsage, (subject, day))
            used = calls + (found.calls if found is not None else 0)
            if limit is None or used <= limit:
                # Earlier days are never read again.
                session.execute(delete(GatewayUsage).where(GatewayUsage.day < day))
                key = {"subject": subject, "day": day}
                session.execute(upsert(GatewayUsage, key, {"calls": used}))
        return used
