"""Objects that go by themselves when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray.server.objects.store import ObjectStore
from beray.server.storage.database import Database
from beray.server.storage.store import utc_now
from beray.server.storage.tables import TemporaryObject

AT_ONCE: Final = 500
"""Objects that are removed by one request."""
UPLOAD_SECONDS: Final = 24 * 3600.0
"""How long the upload of one may take."""
RETRY_SECONDS: Final = 60.0
LONGEST_WAIT_SECONDS: Final = 300.0
"""Until the clock is looked at again: it may have been set."""

_AT_ONCE_AGAIN: Final = "9"
"""Behind every time there is."""

log = structlog.get_logger("beray.gateway")


class Temporary:
    """When objects go. What is known of that outlives the server; they go when it runs."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        self._sooner = asyncio.Event()
        self._wakes_at = _AT_ONCE_AGAIN

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Remove what is due, as it gets due."""
        loop = asyncio.create_task(self._run())
        try:
            yield
        finally:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop

    async def expect(self, key: str, seconds: float) -> None:
        """Say that an upload begins: a crash in the middle of it leaves nothing for ever."""
        await run_in_threadpool(self._set, key, utc_now(seconds + UPLOAD_SECONDS))

    async def keep(self, key: str, seconds: float) -> None:
        """Have an object removed in so many seconds."""
        expires_at = utc_now(seconds)
        await run_in_threadpool(self._set, key, expires_at)
        if expires_at < self._wakes_at:
            self._sooner.set()

    async def clean(self, prefix: str) -> int:
        """Remove all objects with that prefix, now; how many there were."""
        removed = 0
        while page := await self._objects.list(prefix, "", AT_ONCE):
            keys = [stored.key for stored in page]
            removed += await self._objects.delete(keys)
            await run_in_threadpool(self._forget, keys, "")
        return removed

    async def expire(self) -> float:
        """Remove what is due; in how many seconds the next one is.

        Raises:
            OSError, SQLAlchemyError: the store or the database cannot be reached.
        """
        while True:
            now = utc_now()
            due, following = await run_in_threadpool(self._due, now)
            if not due:
                break
            await self._objects.delete(due)
            await run_in_threadpool(self._forget, due, now)
        self._wakes_at = following or utc_now(LONGEST_WAIT_SECONDS)
        until = datetime.fromisoformat(self._wakes_at) - datetime.now(UTC)
        return max(until.total_seconds(), 0.0)

    async def _run(self) -> None:
        while True:
            self._sooner.clear()
            # What comes while it looks may come too late to be seen.
            self._wakes_at = _AT_ONCE_AGAIN
            try:
                seconds = await self.expire()
            except (OSError, SQLAlchemyError) as error:
                log.error("temporary objects cannot be removed yet", exc_info=error)
                seconds = RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, LONGEST_WAIT_SECONDS)):
                    await self._sooner.wait()

    def _set(self, key: str, expires_at: str) -> None:
        row = insert(TemporaryObject).values(key=key, expires_at=expires_at)
        with self._database.writing() as session:
            session.execute(
                row.on_conflict_do_update(index_elements=["key"], set_={"expires_at": expires_at})
            )

    def _due(self, now: str) -> tuple[list[str], str | None]:
        """Some keys of what is due, and when the next one is that is not."""
        due = (
            select(TemporaryObject.key)
            .where(TemporaryObject.expires_at <= now)
            .order_by(TemporaryObject.expires_at)
            .limit(AT_ONCE)
        )
        later = select(func.min(TemporaryObject.expires_at)).where(TemporaryObject.expires_at > now)
        with self._database.reading() as session:
            return list(session.scalars(due)), session.scalar(later)

    def _forget(self, keys: Iterable[str], due: str) -> None:
        """Forget objects that are gone; with ``due``, unless their time was put off since."""
        gone = delete(TemporaryObject).where(TemporaryObject.key.in_(keys))
        if due:
            gone = gone.where(TemporaryObject.expires_at <= due)
        self._database.write_with_reserve(lambda session: session.execute(gone))
