"""Database connections, transactions and schema migration.

SQLite runs in WAL mode with full syncs: committed transactions survive a killed server and a
loss of power.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from beray.server.storage import database_space, migrations
from beray.server.storage.database_errors import locked_error
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve
from beray.server.storage.json_values import decode_stored_json
from beray.server.storage.shortage import is_shortage, retry_delays
from beray.server.storage.tables import Base

WAIT_SECONDS: Final = 30.0
"""Maximum wait of a new connection for a file descriptor, and of a read for a lock."""
LOCK_SECONDS: Final = 10.0
"""Default maximum wait of a transaction for the write lock."""
SPACE_SECONDS: Final = 0.1
"""Maximum wait of space reclamation for readers and other processes; writers wait meanwhile."""
WAL_BYTES: Final = 64 * 1024 * 1024
"""Size to which the write-ahead log is truncated after a large transaction, such as the deletion
of a task with millions of events."""

T = TypeVar("T")


class UnusableDatabase(Exception):
    """The database cannot be opened; the message contains the reason."""


class Database:
    """Sessions of one SQLite database, whose schema is migrated when it is opened.

    Args:
        path: The file; it is created if it does not exist.
        reserve: Reserved disk space for ``write_with_reserve``; by default none.

    Raises:
        UnusableDatabase: The file is not an SQLite database, is damaged, or was written by a
            newer version of BeRay.
    """

    def __init__(self, path: Path, reserve: DiskReserve | None = None) -> None:
        self.reserve = reserve or DiskReserve(path.with_name(FILE_NAME), 0)
        self._engine = _opened(path, self.reserve)
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
    def writing(self, wait: float = LOCK_SECONDS) -> Iterator[Session]:
        """Open a transaction that holds the write lock from its start, so none fails half-way.

        Args:
            wait: Maximum seconds to wait for the lock.

        Raises:
            OperationalError: Another process held the lock for longer than ``wait``
                (``is_locked``), or the disk has no space left besides the reserve (``is_full``).
        """
        self.reserve.require_complete()
        with self._transaction(wait) as session:
            yield session

    def write_with_reserve(
        self,
        work: Callable[[Session], T],
        wait: float = LOCK_SECONDS,
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

    def free_pages(self) -> int:
        """Return the number of unused pages of the file."""
        with self.reading() as session:
            return int(session.connection().exec_driver_sql("PRAGMA freelist_count").scalar_one())

    def return_pages(self, pages: int) -> int:
        """Return up to ``pages`` unused pages to the file system; return the number left."""

        def attempt() -> int:
            with self._without_transaction() as driver:
                return database_space.return_pages(driver, pages)

        return self.reserve.use(attempt)

    def truncate_log(self) -> bool:
        """Write the write-ahead log into the database file, and truncate both.

        Returns:
            False if a reader prevented it.
        """

        def attempt() -> bool:
            with self._without_transaction() as driver:
                return database_space.truncate_log(driver)

        return self.reserve.use(attempt)

    @contextmanager
    def _without_transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock of this process, and yield a connection of the driver."""
        with self._held(LOCK_SECONDS), self._connected() as connection:
            driver = _driver(connection)
            driver.execute(_busy_timeout(SPACE_SECONDS))
            try:
                yield driver
            except sqlite3.OperationalError as error:
                raise OperationalError(None, None, error) from error
            except sqlite3.DatabaseError as error:
                raise DatabaseError(None, None, error) from error
            finally:
                driver.execute(_busy_timeout(WAIT_SECONDS))

    @contextmanager
    def _transaction(self, wait: float, *, cascade: bool = True) -> Iterator[Session]:
        with (
            self._held(wait) as deadline,
            self._connected().execution_options(beray_deadline=deadline) as connection,
            nullcontext() if cascade else _without_foreign_keys(connection),
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
    # Not a formatted string: "?" and "#" in a path would be read as parts of the URL.
    engine = _engine(URL.create("sqlite", database=str(path)))

    def prepare() -> list[str]:
        _migrate(engine)
        with engine.connect() as connection:
            database_space.convert(_driver(connection), path)
        return _missing(engine)

    try:
        missing = reserve.use(prepare)
    except (SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        problem = str(getattr(error, "orig", error))
        raise UnusableDatabase(f"{path} cannot be used: {problem}") from error
    except migrations.UnknownRevision as error:
        engine.dispose()
        raise UnusableDatabase(f"{path} cannot be used: {error}") from error
    if missing:
        engine.dispose()
        raise UnusableDatabase(
            f"{path} cannot be used: the schema was changed; missing: {', '.join(missing)}. "
            "Restore the file from a backup"
        )
    return engine


def _missing(engine: Engine) -> list[str]:
    """Return the tables and columns of the current schema that the database lacks."""
    with engine.connect() as connection:
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


def _engine(url: URL) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": WAIT_SECONDS}, json_deserializer=decode_stored_json
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
        deadline = connection.get_execution_options().get("beray_deadline")
        if deadline is None:
            connection.exec_driver_sql("BEGIN")
            return
        left = max(deadline - time.monotonic(), 0.0)
        connection.exec_driver_sql(_busy_timeout(left))
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            connection.exec_driver_sql(_busy_timeout(WAIT_SECONDS))

    return engine


def _driver(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    # SQLite ignores this pragma within transactions.
    driver = _driver(connection)
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _busy_timeout(seconds: float) -> str:
    return f"PRAGMA busy_timeout={round(seconds * 1000)}"


def _pragmas() -> Iterable[str]:
    yield "PRAGMA journal_mode=WAL"
    yield "PRAGMA synchronous=FULL"
    yield "PRAGMA foreign_keys=ON"
    # A deletion must not need temporary files on a disk that is full.
    yield "PRAGMA temp_store=MEMORY"
    yield f"PRAGMA journal_size_limit={WAL_BYTES}"


def _migrate(engine: Engine) -> None:
    """Migrate the schema to the current revision.

    A new database is created with the current schema. alembic is imported only if there is
    something to migrate, because its import takes longer than the rest of a start.
    """
    with engine.connect() as connection:
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
