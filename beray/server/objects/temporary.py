"""Removal of temporary objects when their time to live has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.objects.store import ObjectStore
from beray.server.storage.database_errors import StorageError
from beray.server.storage.temporary_objects import TemporaryObjectRepository
from beray.server.storage.times import utc_now

BATCH_KEYS: Final = 500
"""Maximum number of objects that one request removes."""
UPLOAD_SECONDS: Final = 24 * 3600.0
"""Maximum duration of an upload."""
RETRY_SECONDS: Final = 60.0
MAX_WAIT_SECONDS: Final = 300.0
"""Maximum time between two checks, because the system clock may have been set."""

_NEVER: Final = "9"
"""Sorts after every time."""

log = structlog.get_logger("beray.gateway")


class TemporaryObjects:
    """Times of expiry in the database, and the task that removes expired objects."""

    def __init__(self, *, times: TemporaryObjectRepository, objects: ObjectStore) -> None:
        self._times = times
        self._objects = objects
        self._rescheduled = asyncio.Event()
        self._wakes_at = _NEVER

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Remove objects in the background as they expire."""
        loop = asyncio.create_task(self._run())
        try:
            yield
        finally:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop

    async def expect(self, key: str, seconds: float) -> None:
        """Record an upload that starts, so that its object is removed even after a crash."""
        await run_in_threadpool(self._times.put, key, utc_now(seconds + UPLOAD_SECONDS))

    async def keep(self, key: str, seconds: float) -> None:
        """Schedule the removal of an object after ``seconds``."""
        expires_at = utc_now(seconds)
        await run_in_threadpool(self._times.put, key, expires_at)
        if expires_at < self._wakes_at:
            self._rescheduled.set()

    async def clean(self, prefix: str) -> int:
        """Remove all objects with the prefix now and return their number."""
        removed = 0
        while page := await self._objects.list(prefix, "", BATCH_KEYS):
            keys = [stored.key for stored in page]
            removed += await self._objects.delete(keys)
            await run_in_threadpool(self._times.delete, keys)
        return removed

    async def expire(self) -> float:
        """Remove expired objects and return the seconds until the next one expires.

        Raises:
            OSError: The store cannot be reached.
            StorageError: The database cannot be read or written.
        """
        while True:
            now = utc_now()
            due, following = await run_in_threadpool(self._times.list_due, now, BATCH_KEYS)
            if not due:
                break
            await self._objects.delete(due)
            await run_in_threadpool(partial(self._times.delete, due, expired_at=now))
        self._wakes_at = following or utc_now(MAX_WAIT_SECONDS)
        until = datetime.fromisoformat(self._wakes_at) - datetime.now(UTC)
        return max(until.total_seconds(), 0.0)

    async def _run(self) -> None:
        while True:
            self._rescheduled.clear()
            # An object that is scheduled during the check may not be included in its result.
            self._wakes_at = _NEVER
            try:
                seconds = await self.expire()
            except (OSError, StorageError) as error:
                log.error(
                    "expired objects could not be removed; this will be repeated", exc_info=error
                )
                seconds = RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, MAX_WAIT_SECONDS)):
                    await self._rescheduled.wait()
