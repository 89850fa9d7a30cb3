"""Readiness of the server: database, disk and sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio
from anyio.to_thread import run_sync

from beray.server.sandbox import detection
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage import database_errors
from beray.server.storage.disk_reserve import DiskReserve, free_bytes
from beray.server.storage.readiness import ReadinessRepository

CHECK_SECONDS: Final = 5.0
"""Time limit of each readiness check."""
LOCK_SECONDS: Final = 2.0
"""Time limit for the write lock in the database check."""
CACHE_SECONDS: Final = 1.0
"""Time during which a readiness result is reused."""
MIN_FREE_BYTES: Final = 4 * 1024 * 1024
"""Free space, in addition to the reserve, below which the server is not ready."""


class Readiness:
    """Checks whether requests can be served. Used on one event loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        repository: ReadinessRepository,
        reserve: DiskReserve,
        sandbox: Sandbox,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._reserve = reserve
        self._sandbox = sandbox
        # Separate threads, because those of requests may all be waiting for the database.
        self._threads = anyio.CapacityLimiter(4)
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")
        self._failing: dict[str, str] = {}

    async def failing(self) -> dict[str, str]:
        """Return the reasons of failed checks, by the name of the check."""
        async with self._checking:
            if time.monotonic() - self._checked_at > CACHE_SECONDS:
                checks: dict[str, Callable[[], Awaitable[str | None]]] = {
                    "database": partial(self._in_thread, self._database),
                    "disk": partial(self._in_thread, self._disk),
                    "sandbox": self._commands,
                }
                problems = await asyncio.gather(*map(_with_time_limit, checks.values()))
                self._failing = {
                    name: problem
                    for name, problem in zip(checks, problems, strict=True)
                    if problem is not None
                }
                self._checked_at = time.monotonic()
            return self._failing

    async def _in_thread(self, check: Callable[[], str | None]) -> str | None:
        return await run_sync(check, abandon_on_cancel=True, limiter=self._threads)

    def _database(self) -> str | None:
        try:
            self._repository.check(LOCK_SECONDS)
        except database_errors.StorageError as error:
            if database_errors.is_full(error):
                return "the disk is full"
            if database_errors.is_locked(error):
                return "another process has locked the database"
            if database_errors.is_damaged(error):
                return "the database is damaged"
            return database_errors.error_text(error)
        return None

    def _disk(self) -> str | None:
        if not self._reserve.refill():
            return "the disk is full, and the space reserve is incomplete; free some space"
        free = free_bytes(self._settings.data_dir)
        if free < MIN_FREE_BYTES:
            return f"only {free:,} bytes are free; at least {MIN_FREE_BYTES:,} are needed"
        return None

    async def _commands(self) -> str | None:
        if self._sandbox.kind != "bubblewrap":
            return None
        return await detection.problem_of_commands(self._settings)


async def _with_time_limit(check: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no result within {CHECK_SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error)
