"""Retries during a shortage of descriptors, processes, threads or memory, or a database lock.

Both conditions are temporary, so that work waits until they end.
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
    "The server is short of descriptors, processes or memory; the request had no effect. "
    "Try again later."
)
"""Message of the error response for a shortage."""
_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})
_SQLITE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM})
_MIN_SECONDS: Final = 0.1
_MAX_SECONDS: Final = 5.0

log = structlog.get_logger("beray.shortage")


def is_shortage(error: BaseException) -> bool:
    """Return True if ``error`` reports an exhausted resource of the machine, or a database lock."""
    if is_locked(error):
        return True
    if isinstance(error, OperationalError):
        code = getattr(error.orig, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _SQLITE
    if isinstance(error, RuntimeError):
        return str(error) == "can't start new thread"
    return isinstance(error, OSError) and error.errno in _ERRNOS


def shortage_response(error: BaseException) -> tuple[str, dict[str, str]]:
    """Return the message and the headers of the 503 for a shortage."""
    text = LOCKED_MESSAGE if is_locked(error) else SHORTAGE
    return text, {"Retry-After": str(LOCK_RETRY_SECONDS)}


async def retry_on_shortage(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``call``, which is repeated after each shortage.

    Args:
        call: Function that has no effect if it raises because of a shortage.
    """
    for seconds in retry_delays():
        try:
            return await call()
        except (OSError, RuntimeError, OperationalError) as error:
            if not is_shortage(error):
                raise
            log.warning("waiting for the end of a shortage", error=str(error), seconds=seconds)
        await asyncio.sleep(seconds)
    raise AssertionError("delays is infinite")


def retry_delays() -> Iterator[float]:
    """Yield the seconds to wait between attempts, without end."""
    seconds = _MIN_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, _MAX_SECONDS)
