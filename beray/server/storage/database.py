"""Database of the server: connections, transactions, write lock and schema migration.

Repositories open the transactions; services and routes do not use sessions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from beray.server.storage import migrations
from beray.server.storage.database_errors import StorageError, error_text, locked_error
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve
from beray.server.storage.shortage import is_shortage, retry_delays
from beray.server.storage.sqlite import engine, space
from beray.server.storage.tables import Base

WAIT_SECONDS: Final = 30.0
"""Maximum wait of a new connection for a file descriptor."""
LOCK_SECONDS: Final = 10.0
"""Default maximum wait of a transaction for the write lock."""

T = TypeVar("T")


class UnusableDatabase(Exception):
    """The database cannot be opened; the message contains the reason."""


class Database:
    """Sessions of one SQLite database, whose schema is migrated when it is opened.

    Args:
        path: The file; it is created if it does not exist.
        reserve: Reserved disk space for ``write_with_reserve``; by default none.
        lock_seconds: Default maximum wait of a transaction for the write lock.

    Raises:
        UnusableDatabase: The file is not an SQLite database, is damaged, or was written by a
            newer version of BeRay.
    """

    def __init__(
        self, path: Path, reserve: DiskReserve | None = None, *, lock_seconds: float = LOCK_SECONDS
    ) -> None:
        self.reserve = reserve or DiskReserve(path.with_name(FILE_NAME), 0)
        self._engine = _opened(path, self.reserve)
        self._lock_seconds = lock_seconds
        # SQLite has its waiting writers poll. This lock wakes those of this process at once.
        self._turn = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that reads a consistent state."""
        with (
            self._connected() as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def writing(self, wait: float | None = None) -> Iterator[Session]:
        """Open a transaction that holds the write lock from its start, so none fails half-way.

        Args:
            wait: Maximum seconds to wait for the lock; ``None`` waits as long as by default.

        Raises:
            StorageError: Another process held the lock for longer than ``wait``
                (``is_locked``), or the disk has no space left besides the reserve (``is_full``).
        """
        self.reserve.require_complete()
        with self._transaction(wait) as session:
            yield session

    def write_with_reserve(
        self,
        work: Callable[[Session], T],
        wait: float | None = None,
        *,
        cascade: bool = True,
    ) -> T:
        """Return the result of ``work`` in a transaction that may use the reserved disk space.

        Used for operations that free space, or that users need in order to free space.

        Args:
            work: Changes the database only: it is called again if the disk was full.
            wait: Maximum seconds to wait for the write lock, as in ``writing``.
            cascade: Whether rows that refer to deleted rows are deleted as well.
        """

        def attempt() -> T:
            with self._transaction(wait, cascade=cascade) as session:
                return work(session)

        return self.reserve.use(attempt)

    @contextmanager
    def outside_transactions(self) -> Iterator[Connection]:
        """Hold the write lock of this process, and yield a connection without a transaction.

        Used for statements that are not allowed in transactions.
        """
        with self._held(self._lock_seconds), self._connected() as connection:
            yield connection

    @contextmanager
    def _transaction(self, wait: float | None, *, cascade: bool = True) -> Iterator[Session]:
        with (
            self._held(self._lock_seconds if wait is None else wait) as deadline,
            engine.with_write_lock(self._connected(), deadline) as connection,
            nullcontext() if cascade else engine.without_foreign_keys(connection),
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _held(self, wait: float) -> Iterator[float]:
        """Hold the write lock of this process; yield the monotonic time at which ``wait`` ends."""
        deadline = time.monotonic() + wait
        if not self._turn.acquire(timeout=wait):
            raise locked_error()
        try:
            yield deadline
        finally:
            self._turn.release()

    def _connected(self) -> Connection:
        """Return a connection of the pool; retry while the process is short of descriptors."""
        deadline = time.monotonic() + WAIT_SECONDS
        for seconds in retry_delays():
            try:
                return self._engine.connect()
            except OperationalError as error:
                if not is_shortage(error) or time.monotonic() + seconds > deadline:
                    raise
            time.sleep(seconds)
        raise AssertionError("delays have no end")


def _opened(path: Path, reserve: DiskReserve) -> Engine:
    opened = engine.create(path)

    def prepare() -> list[str]:
        _migrate(opened)
        with opened.connect() as connection:
            space.convert(engine.driver(connection), path)
        return _missing(opened)

    try:
        missing = reserve.use(prepare)
    except (StorageError, engine.DriverError) as error:
        opened.dispose()
        raise UnusableDatabase(f"{path} cannot be used: {error_text(error)}") from error
    except migrations.UnknownRevision as error:
        opened.dispose()
        raise UnusableDatabase(f"{path} cannot be used: {error}") from error
    if missing:
        opened.dispose()
        raise UnusableDatabase(
            f"{path} cannot be used: the schema was changed; missing: {', '.join(missing)}. "
            "Restore the file from a backup"
        )
    return opened


def _missing(opened: Engine) -> list[str]:
    """Return the tables and columns of the current schema that the database lacks."""
    with opened.connect() as connection:
        inspector = inspect(connection)
        tables = set(inspector.get_table_names())
        missing = []
        for table in Base.metadata.sorted_tables:
            if table.name not in tables:
                missing.append(f"table {table.name}")
                continue
            columns = {column["name"] for column in inspector.get_columns(table.name)}
            missing += [
                f"column {table.name}.{column.name}"
                for column in table.columns
                if column.name not in columns
            ]
    return missing


def _migrate(opened: Engine) -> None:
    """Migrate the schema to the current revision.

    A new database is created with the current schema. alembic is imported only if there is
    something to migrate, because its import takes longer than the rest of a start.
    """
    with opened.connect() as connection:
        revision = _revision(connection)
        if revision is None:
            Base.metadata.create_all(connection)
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            stamp = text("INSERT INTO alembic_version VALUES (:head)")
            connection.execute(stamp, {"head": migrations.HEAD})
        elif revision != migrations.HEAD:
            migrations.upgrade(connection)
        connection.commit()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
