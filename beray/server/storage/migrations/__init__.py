"""Migrations of the database schema (alembic)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

HEAD: Final = "0010"
"""Current revision of the schema."""


class UnknownRevision(Exception):
    """The database has a schema revision that this version does not know."""


def upgrade(connection: Connection) -> None:
    """Migrate a database of an earlier version to the current revision.

    Raises:
        UnknownRevision: A newer version of BeRay wrote the database.
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
