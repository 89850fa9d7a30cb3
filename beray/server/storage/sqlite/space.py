"""Return of unused space from the database file to the file system.

Databases have ``auto_vacuum=INCREMENTAL``: pages that deletions free are moved to the end of the
file, which is then truncated, some pages at a time. A database of an earlier version is rewritten
once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection

from beray.server.storage.disk_reserve import free_bytes

COPIES: Final = 2
"""Free space that a rewrite needs, as a multiple of the database's size: a temporary file and the
write-ahead log."""
_INCREMENTAL: Final = 2
_FILE: Final = 1

log = structlog.get_logger("beray.database")


def convert(connection: sqlite3.Connection, path: Path) -> None:
    """Enable ``auto_vacuum`` in a database of an earlier version, if there is enough free space.

    This rewrites the database. The result is logged. If it fails, the database can still be
    used, and the next start tries again.
    """
    if _pragma(connection, "auto_vacuum") == _INCREMENTAL:
        return
    size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    needed, free = COPIES * size, free_bytes(path.parent)
    if free < needed:
        log.warning(
            "the database cannot return unused space to the disk before it is rewritten once; free "
            "more space and restart the server",
            needed_bytes=needed,
            free_bytes=free,
        )
        return
    log.info("rewriting the database once, so that it can return unused space", bytes=size)
    try:
        with _temporary_file_in(connection, path.parent):
            connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
            connection.execute("VACUUM")
        truncate_log(connection)
    except sqlite3.Error as error:
        log.error("could not rewrite the database", problem=str(error))
    else:
        log.info("rewrote the database", bytes=path.stat().st_size)


def free_pages(connection: Connection) -> int:
    """Return the number of unused pages of the file."""
    return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def return_pages(connection: sqlite3.Connection, pages: int) -> int:
    """Truncate the file by up to ``pages`` unused pages; return the number left."""
    if _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return 0
    # ``execute`` would return a single page, because it stops after the first result.
    connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")
    return _pragma(connection, "freelist_count")


def truncate_log(connection: sqlite3.Connection) -> bool:
    """Write the write-ahead log into the database file, and truncate the log.

    Returns:
        False if readers or another process prevented it.
    """
    is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


@contextmanager
def _temporary_file_in(connection: sqlite3.Connection, directory: Path) -> Iterator[None]:
    """Make VACUUM copy the database to a file in ``directory``, and not to memory."""
    previous = _pragma(connection, "temp_store")
    connection.execute(f"PRAGMA temp_store={_FILE}")
    # Deprecated: builds of SQLite without this pragma use the system's temporary directory.
    connection.execute(f"PRAGMA temp_store_directory={_quoted(str(directory))}")
    try:
        yield
    finally:
        connection.execute("PRAGMA temp_store_directory=''")
        connection.execute(f"PRAGMA temp_store={previous}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
