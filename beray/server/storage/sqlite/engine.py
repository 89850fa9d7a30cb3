"""Connections to an SQLite file: settings, begin of transactions, access to the driver.

SQLite runs in WAL mode with full syncs: committed transactions survive a killed server and a
loss of power.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from beray.server.storage.json_values import decode_stored_json

WAIT_SECONDS: Final = 30.0
"""Maximum wait of a read for a lock."""
WAL_BYTES: Final = 64 * 1024 * 1024
"""Size to which the write-ahead log is truncated after a large transaction, such as the deletion
of a task with millions of events."""
DriverError = sqlite3.Error
"""Base class of the errors of the driver, which ``wrapped_errors`` converts."""
_DEADLINE: Final = "beray_deadline"


def create(path: Path) -> Engine:
    """Return an engine for the database in the file ``path``."""
    engine = create_engine(
        # Not a formatted string: "?" and "#" in a path would be read as parts of the URL.
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": WAIT_SECONDS},
        json_deserializer=decode_stored_json,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver would begin transactions itself, too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        # Damaged text is shown with U+FFFD; an exception would hide the user's other rows.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        # Only for a new database, and before anything else: it writes to an existing one.
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for pragma in _pragmas():
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        deadline = connection.get_execution_options().get(_DEADLINE)
        if deadline is None:
            connection.exec_driver_sql("BEGIN")
            return
        with busy_timeout(driver(connection), max(deadline - time.monotonic(), 0.0)):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def with_write_lock(connection: Connection, deadline: float) -> Connection:
    """Return the connection, whose next transaction takes the write lock when it begins.

    Args:
        connection: Connection without a transaction.
        deadline: Monotonic time until which the transaction waits for the lock.
    """
    return connection.execution_options(**{_DEADLINE: deadline})


def driver(connection: Connection) -> sqlite3.Connection:
    """Return the connection of the driver."""
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


@contextmanager
def wrapped_errors() -> Iterator[None]:
    """Convert errors of the driver to those that statements in sessions raise."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OperationalError(None, None, error) from error
    except sqlite3.DatabaseError as error:
        raise DatabaseError(None, None, error) from error


@contextmanager
def busy_timeout(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Wait at most ``seconds`` for locks during the block."""
    connection.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout={round(WAIT_SECONDS * 1000)}")


@contextmanager
def without_foreign_keys(connection: Connection) -> Iterator[None]:
    """Do not delete rows that refer to deleted rows in the transactions of the block."""
    # SQLite ignores this pragma within transactions.
    opened = driver(connection)
    opened.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        opened.execute("PRAGMA foreign_keys=ON")


def _pragmas() -> Iterable[str]:
    yield "PRAGMA journal_mode=WAL"
    yield "PRAGMA synchronous=FULL"
    yield "PRAGMA foreign_keys=ON"
    # A deletion must not need temporary files on a disk that is full.
    yield "PRAGMA temp_store=MEMORY"
    yield f"PRAGMA journal_size_limit={WAL_BYTES}"
