"""The schema of the database, step by step."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

HEAD: Final = "0001"
"""The revision of the newest step."""


def upgrade(connection: Connection) -> None:
    """Take the steps that a database of an earlier version has not taken."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "beray.server:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
