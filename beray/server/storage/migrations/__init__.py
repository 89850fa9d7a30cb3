"""Migrations of the database schema."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

HEAD: Final = "0013"
"""Newest revision."""


class UnknownRevision(Exception):
    """The database was created by a newer version of BeRay."""


def upgrade(connection: Connection) -> None:
    """Apply the migrations that are missing in a database.

    Raises:
        UnknownRevision: The database has a revision that this version does not know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "beray.server.storage:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UnknownRevision(f"it was written by a newer version of BeRay ({error})") from error
