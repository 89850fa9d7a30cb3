"""Shortage of descriptors, processes, threads or memory, and locks that other processes hold.

Both pass, so work waits for their end.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from beray.server.storage.database_errors import LOCK_RETRY_SECONDS, LOCKED_MESSAGE, is_locked

T = TypeVar("T")

SHORTAGE: Final = (
    "The server is short of descriptors, processes or memory; nothing was done. Try again later."
)
_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})
_SQLITE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM})
_FIRST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 5.0

log = structlog.get_logger("beray.shortage")


def is_shortage(error: BaseException) -> bool:
    """Return whether a resource of the machine is used up, or the database locked, for now."""
    if is_locked(error):
        return True
    if isinstance(error, OperationalError):
        code = getattr(error.orig, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _SQLITE
    if isinstance(error, RuntimeError):
        return str(error) == "can't start new thread"
    return isinstance(error, OSError) and error.errno in _ERRNOS


def refusal(error: BaseException) -> tuple[str, dict[str, str]]:
    """Return the message and the headers of the 503 for a shortage."""
    text = LOCKED_MESSAGE if is_locked(error) else SHORTAGE
    return text, {"Retry-After": str(LOCK_RETRY_SECONDS)}


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return what ``call`` returns, calling it again after each shortage.

    Args:
        call: has no effect where it raises for a shortage.
    """
    for seconds in delays():
        try:
            return await call()
        except (OSError, RuntimeError, OperationalError) as error:
            if not is_shortage(error):
                raise
            log.warning("waiting for the end of a shortage", error=str(error), seconds=seconds)
        await asyncio.sleep(seconds)
    raise AssertionError("delays have no end")


def delays() -> Iterator[float]:
    """Yield the seconds to wait between attempts, without an end."""
    seconds = _FIRST_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, _MOST_SECONDS)
