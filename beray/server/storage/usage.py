"""Repository of the resources that tasks and users have used."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import update

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import upsert
from beray.server.storage.tables import DayUsage, Task
from beray.server.storage.times import utc_now


class ResourceUsage(NamedTuple):
    """Resources that runs have used, as far as they are limited."""

    tokens: int = 0
    requests: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class UsageRepository:
    """Usage of tasks, and of users by day (UTC). Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def add(self, task: Task, usage: dict[str, Any] | None, added: ResourceUsage) -> None:
        """Store the usage of a task, and add to the usage of its user's current day.

        Args:
            task: The task.
            usage: Usage of the task so far, including ``added``; ``None`` leaves it unchanged.
            added: Resources used since the last call.
        """
        key = {"user_id": task.user_id, "day": utc_now()[:10]}
        amounts = added._asdict()
        sums = {name: getattr(DayUsage, name) + value for name, value in amounts.items()}
        with self._database.writing() as session:
            if usage is not None:
                session.execute(update(Task).where(Task.id == task.id).values(usage=usage))
            session.execute(upsert(DayUsage, key, amounts, changes=sums))

    def get_today(self, user_id: int) -> ResourceUsage:
        """Return the resources that a user's tasks have used today (UTC)."""
        with self._database.reading() as session:
            found = session.get(DayUsage, (user_id, utc_now()[:10]))
        if found is None:
            return ResourceUsage()
        return ResourceUsage(*(getattr(found, name) for name in ResourceUsage._fields))
