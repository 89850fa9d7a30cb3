"""Usage limits of tasks, and daily limits of users.

A run that has reached a limit cannot make another request to a model. A request that is running
when the limit is reached may exceed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from beray.server.runners.base import BudgetExceeded, Usage
from beray.server.settings import Settings
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.usage import ResourceUsage, UsageRepository
from beray.server.tasks.run_policy import kind_of

KINDS: Final = ResourceUsage._fields
_UNITS: Final = {
    "tokens": ("{:,}", "token"),
    "requests": ("{:,}", "request"),
    "cost_usd": ("{:g}", "US dollar"),
    "seconds": ("{:g}", "second"),
}


class Budget:
    """Usage and limits of one run."""

    def __init__(self, *, repository: UsageRepository, settings: Settings, task: Task) -> None:
        self._repository = repository
        self._task = task
        self._limits = _minimum_limits(_limits(settings, "task"), task.limits or {})
        self._daily = _limits(settings, "daily")
        self._usage = Usage()
        # Each answer of a chat is a separate run with the limits of a task.
        self._scope = {"goal": "this task", "answer": "this answer"}[kind_of(task)]
        self._earlier_usage = Usage(**task.usage) if task.usage else Usage()

    async def begin(self) -> float | None:
        """Return the time limit of the run in seconds, or None.

        Raises:
            BudgetExceeded: A daily limit of the user is reached.
        """
        day = await self._day()
        left = [self._limits.get("seconds")]
        if (daily := self._daily.get("seconds")) is not None:
            left.append(daily - day.seconds)
        return min((seconds for seconds in left if seconds is not None), default=None)

    async def charge(self, usage: Usage) -> None:
        """Record the usage of the run so far, before its next request.

        Raises:
            BudgetExceeded: A limit is reached, so the request must not be made.
        """
        await self.record(usage)
        _check_limits(_amounts(usage), self._limits, self._scope)
        await self._day()

    async def record(self, usage: Usage) -> None:
        """Record the total usage of the run."""
        if usage == self._usage:
            return
        before, now = _amounts(self._usage), _amounts(usage)
        added = ResourceUsage(
            now.tokens - before.tokens,
            now.requests - before.requests,
            now.cost_usd - before.cost_usd,
        )
        self._usage = usage
        total = asdict(self._earlier_usage + usage)
        await self._add(total, added)

    async def spend(self, seconds: float) -> None:
        """Record the duration of the run."""
        if "seconds" in self._daily:
            await self._add(None, ResourceUsage(seconds=seconds))

    async def _add(self, total: dict[str, Any] | None, added: ResourceUsage) -> None:
        add = self._repository.add
        await retry_on_shortage(lambda: run_in_threadpool(add, self._task, total, added))

    async def _day(self) -> ResourceUsage:
        """Return the user's usage of today, or zero if it is not limited.

        Raises:
            BudgetExceeded: A daily limit is reached.
        """
        if not self._daily:
            return ResourceUsage()
        get = self._repository.get_today
        day = await retry_on_shortage(lambda: run_in_threadpool(get, self._task.user_id))
        _check_limits(day, self._daily, "all your tasks of today")
        return day


def _amounts(usage: Usage) -> ResourceUsage:
    return ResourceUsage(usage.tokens, usage.requests, usage.cost_usd or 0.0)


def _limits(settings: Settings, prefix: str) -> dict[str, Any]:
    limits = {kind: getattr(settings, f"{prefix}_{kind}") for kind in KINDS}
    if prefix == "task":
        limits["seconds"] = settings.max_task_seconds
    return {kind: limit for kind, limit in limits.items() if limit is not None}


def _minimum_limits(first: dict[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lower limit of each kind."""
    return first | {
        kind: min(second[kind], first.get(kind, second[kind]))
        for kind in KINDS
        if second.get(kind) is not None
    }


def _check_limits(used: ResourceUsage, limits: dict[str, Any], scope: str) -> None:
    for kind, limit in limits.items():
        if getattr(used, kind) >= limit:
            raise BudgetExceeded(f"the limit of {format_limit(kind, limit)} for {scope} is reached")


def format_limit(kind: str, limit: float) -> str:
    """Return a limit with its unit, such as ``1 request``."""
    number, unit = _UNITS[kind]
    return f"{number.format(limit)} {unit}{'' if limit == 1 else 's'}"
