"""Errors of the database: their type, classification by SQLite's result code, and messages."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

StorageError = SQLAlchemyError
"""Base class of the errors that all operations of the repositories can raise."""
LOCK_RETRY_SECONDS: Final = 1
LOCKED_MESSAGE: Final = (
    "The server's database is locked by another process, so nothing was done. Try again later."
)
FULL_MESSAGE: Final = (
    "The server's disk is full, so nothing was written. Delete tasks or files, or try again later."
)
DAMAGED_MESSAGE: Final = (
    "The server's database is damaged and the requested data cannot be read. The operator has to "
    "restore the database from a backup."
)
_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def error_text(error: BaseException) -> str:
    """Return the message of an error, without the statement that failed."""
    return str(getattr(error, "orig", error))


def is_full(error: BaseException) -> bool:
    """Return True if no disk space is left, for the database or for other files."""
    if isinstance(error, OSError):
        return error.errno in _FULL_ERRNOS
    # SQLite has another code if the index of the write-ahead log (-shm) cannot grow.
    return _primary(error) == sqlite3.SQLITE_FULL or _code(error) == sqlite3.SQLITE_IOERR_SHMSIZE


def is_locked(error: BaseException) -> bool:
    """Return True if another connection held a lock for longer than the transaction waited."""
    return _primary(error) in _LOCKED


def is_damaged(error: BaseException) -> bool:
    """Return True if the content of the database file is invalid."""
    return _primary(error) in _DAMAGED


def locked_error() -> OperationalError:
    """Return the error of a transaction that did not get the write lock in time."""
    return _operational("database is locked", sqlite3.SQLITE_BUSY)


def full_error() -> OperationalError:
    """Return the error of a transaction that must not begin because the disk is full."""
    return _operational("database or disk is full", sqlite3.SQLITE_FULL)


def _operational(text: str, code: int) -> OperationalError:
    cause = sqlite3.OperationalError(text)
    cause.sqlite_errorcode = code
    return OperationalError("BEGIN IMMEDIATE", None, cause)


def _code(error: BaseException) -> int | None:
    cause = error.orig if isinstance(error, DatabaseError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return code if isinstance(code, int) else None


def _primary(error: BaseException) -> int | None:
    code = _code(error)
    return None if code is None else code & 0xFF
