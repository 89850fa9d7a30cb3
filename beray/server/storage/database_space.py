"""Space of the database file that is given back to the file system.

Databases have ``auto_vacuum=INCREMENTAL``: pages that deletions leave free are moved to the end of
the file and cut off, some at a time. A database of an earlier version is rewritten once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from beray.server.storage.disk_reserve import free_bytes

COPIES: Final = 2
"""Rewriting a database needs its size so many times: for a temporary file and the log."""
_INCREMENTAL: Final = 2
_FILE: Final = 1

log = structlog.get_logger("beray.database")


def convert(connection: sqlite3.Connection, path: Path) -> None:
    """Rewrite a database that cannot return pages yet, if there is enough free space.

    The result, and the reason why it is not possible, is logged. The database can be used in any
    case, and the next start tries again.
    """
    if _pragma(connection, "auto_vacuum") == _INCREMENTAL:
        return
    size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    needed, free = COPIES * size, free_bytes(path.parent)
    if free < needed:
        log.warning(
            "the database cannot return space to the disk yet: it has to be rewritten, which needs "
            "more free space",
            needed_bytes=needed,
            free_bytes=free,
        )
        return
    log.info("the database is rewritten once, so that it can return space", bytes=size)
    try:
        with _temporary_file_in(connection, path.parent):
            connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
            connection.execute("VACUUM")
        truncate_log(connection)
    except sqlite3.Error as error:
        log.error("the database could not be rewritten", problem=str(error))
    else:
        log.info("the database was rewritten", bytes=path.stat().st_size)


def return_pages(connection: sqlite3.Connection, pages: int) -> int:
    """Cut up to ``pages`` free pages off the file; return how many can still be cut off.

    A transaction of its own.
    """
    if _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return 0
    # ``execute`` would free a single page: it stops at the first result, which has no columns.
    connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")
    return _pragma(connection, "freelist_count")


def truncate_log(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file, whose size follows, and cut it off.

    Returns:
        False if readers, or another process, prevented it.
    """
    is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


@contextmanager
def _temporary_file_in(connection: sqlite3.Connection, folder: Path) -> Iterator[None]:
    """Have a copy of the database in a file below ``folder``, and not in memory."""
    kept = _pragma(connection, "temp_store")
    connection.execute(f"PRAGMA temp_store={_FILE}")
    # Deprecated, and ignored where it is left out: then it is the directory of the system.
    connection.execute(f"PRAGMA temp_store_directory={_quoted(str(folder))}")
    try:
        yield
    finally:
        connection.execute("PRAGMA temp_store_directory=''")
        connection.execute(f"PRAGMA temp_store={kept}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
