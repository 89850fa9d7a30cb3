"""What a run may take: of its task, and of its user's day.

A limit that is reached refuses the next request to a model; what is under way when it
is reached may go beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from beray.server.runners.base import OverBudget, Usage
from beray.server.runtime.shortage import patiently
from beray.server.settings import Settings
from beray.server.storage.store import ResourceUsage, Store
from beray.server.storage.tables import Task

KINDS: Final = ResourceUsage._fields
_UNITS: Final = {
    "tokens": "{:,} tokens",
    "requests": "{:,} requests",
    "cost_usd": "{:g} US dollars",
    "seconds": "{:g} seconds",
}


class Budget:
    """What one run takes, and whether it may go on."""

    def __init__(self, store: Store, settings: Settings, task: Task) -> None:
        self._store = store
        self._task = task
        self._limits = _lower(_limits(settings, "task"), task.limits or {})
        self._daily = _limits(settings, "daily")
        self._usage = Usage()
        # A chat's answers are runs of their own, each with all that a task may take.
        self._whose = "this task" if task.chat is None else "this answer"
        self._before = Usage(**task.usage) if task.usage else Usage()

    async def begin(self) -> float | None:
        """Return how long the run may take, where there is a limit.

        Raises:
            OverBudget: the day's budget is spent already.
        """
        day = await self._day()
        left = [self._limits.get("seconds")]
        if (daily := self._daily.get("seconds")) is not None:
            left.append(daily - day.seconds)
        return min((seconds for seconds in left if seconds is not None), default=None)

    async def charge(self, usage: Usage) -> None:
        """Note what the run has taken so far.

        Raises:
            OverBudget: no further request may be made.
        """
        await self.record(usage)
        _require_below(_taken(usage), self._limits, self._whose)
        await self._day()

    async def record(self, usage: Usage) -> None:
        """Note what the run has taken in all."""
        if usage == self._usage:
            return
        before, now = _taken(self._usage), _taken(usage)
        added = ResourceUsage(
            now.tokens - before.tokens,
            now.requests - before.requests,
            now.cost_usd - before.cost_usd,
        )
        self._usage = usage
        whole = asdict(self._before + usage)
        await self._add(whole, added)

    async def spend(self, seconds: float) -> None:
        """Note how long the run took."""
        if "seconds" in self._daily:
            taken = ResourceUsage(seconds=seconds)
            await self._add(None, taken)

    async def _add(self, whole: dict[str, Any] | None, added: ResourceUsage) -> None:
        add = self._store.add_usage
        await patiently(lambda: run_in_threadpool(add, self._task, whole, added))

    async def _day(self) -> ResourceUsage:
        """What was taken today, which is looked up where that is limited.

        Raises:
            OverBudget: no more may be.
        """
        if not self._daily:
            return ResourceUsage()
        day_usage = self._store.day_usage
        day = await patiently(lambda: run_in_threadpool(day_usage, self._task.user_id))
        _require_below(day, self._daily, "today, all your tasks together")
        return day


def _taken(usage: Usage) -> ResourceUsage:
    return ResourceUsage(usage.tokens, usage.requests, usage.cost_usd or 0.0)


def _limits(settings: Settings, of: str) -> dict[str, Any]:
    given = {kind: getattr(settings, f"{of}_{kind}") for kind in KINDS}
    if of == "task":
        given["seconds"] = settings.max_task_seconds
    return {kind: limit for kind, limit in given.items() if limit is not None}


def _lower(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The lower of both limits of each kind."""
    return one | {
        kind: min(other[kind], one.get(kind, other[kind]))
        for kind in KINDS
        if other.get(kind) is not None
    }


def _require_below(taken: ResourceUsage, limits: dict[str, Any], whose: str) -> None:
    for kind, limit in limits.items():
        if getattr(taken, kind) >= limit:
            allowed = _UNITS[kind].format(limit)
            raise OverBudget(f"the limit is reached: {allowed} for {whose}")
