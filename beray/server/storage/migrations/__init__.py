"""The schema of the database, step by step."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

HEAD: Final = "0010"
"""The revision of the newest step."""


class UnknownRevision(Exception):
    """The database was made by a version that is not this one or an earlier one."""


def upgrade(connection: Connection) -> None:
    """Take the steps that a database of an earlier version has not taken.

    Raises:
        UnknownRevision: its schema is not one of this version.
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
        raise UnknownRevision(f"a newer version of BeRay made it ({error})") from error
