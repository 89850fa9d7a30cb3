"""Health and readiness, for process supervisors and load balancers.

``/healthz`` reports that the process works: its event loop answers, and the thread of the event
log reacts. If that fails, a restart may help. ``/readyz`` reports that requests can be served now:
the database can be read and written, there is space on the disk, and commands get their sandbox.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from beray.server.api.dependencies import AppServices
from beray.server.sandbox import detection
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage import database_errors
from beray.server.storage.disk_reserve import free_bytes
from beray.server.storage.store import Store
from beray.version import __version__

EVENT_LOG_SECONDS: Final = 5.0
"""Time within which the thread of the event log has to react."""
CHECK_SECONDS: Final = 5.0
"""Time limit of each check of readiness."""
LOCK_SECONDS: Final = 2.0
"""Time that the check of the database waits for the write lock."""
CACHE_SECONDS: Final = 1.0
LEAST_FREE_BYTES: Final = 4 * 1024 * 1024
"""With less free space, besides the reserve, the server is not ready."""

router = APIRouter(tags=["server"])


@router.get("/healthz")
async def health(app: AppServices) -> JSONResponse:
    """Report whether the server works, and its version. 503 with ``failing`` if it does not."""
    failing = {}
    if not await app.event_log.responds(EVENT_LOG_SECONDS):
        failing["event_log"] = f"no reaction within {EVENT_LOG_SECONDS:g} s"
    return _answer("ok", failing)


@router.get("/readyz")
async def readiness(app: AppServices) -> JSONResponse:
    """Report whether requests can be served now. 503 with the ``failing`` parts and reasons if not.

    The parts are ``database``, ``disk`` and ``sandbox``. A result is used for one second.
    """
    return _answer("ready", await app.readiness.failing())


def _answer(status: str, failing: dict[str, str]) -> JSONResponse:
    if not failing:
        return JSONResponse({"status": status, "version": __version__})
    content = {"status": "failing", "version": __version__, "failing": failing}
    return JSONResponse(content, 503)


class Readiness:
    """Checks whether requests can be served. Used on one event loop."""

    def __init__(self, settings: Settings, store: Store, sandbox: Sandbox) -> None:
        self._settings = settings
        self._store = store
        self._sandbox = sandbox
        # Threads of its own: those of requests may all be waiting for the database.
        self._threads = anyio.CapacityLimiter(4)
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")
        self._failing: dict[str, str] = {}

    async def failing(self) -> dict[str, str]:
        """Return the parts that do not work, each with the reason."""
        async with self._checking:
            if time.monotonic() - self._checked_at > CACHE_SECONDS:
                checks: dict[str, Callable[[], Awaitable[str | None]]] = {
                    "database": partial(self._in_thread, self._database),
                    "disk": partial(self._in_thread, self._disk),
                    "sandbox": self._commands,
                }
                found = await asyncio.gather(*map(_in_time, checks.values()))
                self._failing = {
                    name: problem
                    for name, problem in zip(checks, found, strict=True)
                    if problem is not None
                }
                self._checked_at = time.monotonic()
            return self._failing

    async def _in_thread(self, check: Callable[[], str | None]) -> str | None:
        return await run_sync(check, abandon_on_cancel=True, limiter=self._threads)

    def _database(self) -> str | None:
        try:
            self._store.check_readiness(LOCK_SECONDS)
        except SQLAlchemyError as error:
            if database_errors.is_full(error):
                return "the disk is full"
            if database_errors.is_locked(error):
                return "another process has locked the database"
            if database_errors.is_damaged(error):
                return "the database is damaged"
            return str(getattr(error, "orig", error))
        return None

    def _disk(self) -> str | None:
        reserve = self._store.reserve
        if not reserve.refill():
            return "the disk is full, and a part of the reserve is missing"
        free = free_bytes(self._settings.data_dir)
        if free < LEAST_FREE_BYTES:
            return f"only {free:,} bytes are free; {LEAST_FREE_BYTES:,} are needed"
        return None

    async def _commands(self) -> str | None:
        if self._sandbox.kind != "bubblewrap":
            return None
        return await detection.problem_of_commands(self._settings)


async def _in_time(check: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no result within {CHECK_SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error)
