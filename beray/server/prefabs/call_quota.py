"""How often a caller has called on a day. Synchronous; called in threads."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.dialects.sqlite import insert

from beray.server.storage.database import Database
from beray.server.storage.store import utc_now
from beray.server.storage.tables import GatewayUsage


class Quotas:
    """Calls by caller and day (UTC)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count_call(self, subject: str, limit: int | None, calls: int = 1) -> int:
        """Count ``calls`` of ``subject``, all of them or, where there are too many, none.

        Calls side by side are counted one after another: never more than ``limit`` in all.

        Returns:
            how many there are today with these. Where that is more than ``limit``, they were
            not counted and must not be made.
        """
        day = utc_now()[:10]
        with self._database.writing() as session:
            found = session.get(GatewayUsage, (subject, day))
            used = calls + (found.calls if found is not None else 0)
            if limit is None or used <= limit:
                # Days that are over are asked for by nobody.
                session.execute(delete(GatewayUsage).where(GatewayUsage.day < day))
                row = insert(GatewayUsage).values(subject=subject, day=day, calls=used)
                session.execute(
                    row.on_conflict_do_update(
                        index_elements=["subject", "day"], set_={"calls": used}
                    )
                )
        return used
