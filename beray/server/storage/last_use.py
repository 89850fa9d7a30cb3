"""Recording of the last use of sessions and API keys."""

from __future__ import annotations

import time
from typing import Final

import structlog
from sqlalchemy import Update
from sqlalchemy.exc import OperationalError

from beray.server.storage.database import Database
from beray.server.storage.database_errors import error_text
from beray.server.storage.times import utc_now

USE_INTERVAL_SECONDS: Final = 60.0
"""Minimum interval between writes of the last use of a credential."""
LOCK_SECONDS: Final = 1.0
"""Maximum wait for the write lock: a request that only reads must not wait for long."""

log = structlog.get_logger("beray.accounts")


class LastUse:
    """Writes of the last use of credentials. Thread-safe.

    Args:
        database: The database.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._paused_until = 0.0

    def is_due(self, last_used_at: str | None) -> bool:
        """Return True if a use now has to be written."""
        if time.monotonic() < self._paused_until:
            return False
        return last_used_at is None or last_used_at <= utc_now(-USE_INTERVAL_SECONDS)

    def write(self, statement: Update) -> bool:
        """Execute a statement that records a use.

        Returns:
            False if the disk is full or the database is busy. Uses are then not recorded for some
            time, so that other requests do not wait as well.
        """
        try:
            with self._database.writing(wait=LOCK_SECONDS) as session:
                session.execute(statement)
        except OperationalError as error:
            self._paused_until = time.monotonic() + USE_INTERVAL_SECONDS
            log.warning("could not record the use of a credential", problem=error_text(error))
            return False
        return True
