"""Local files that are sent with a message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from beray.cli import output, uploads
from beray.cli.connection import Connection
from beray.cli.progress import bars
from beray.exceptions import ConfigurationError

MOST: Final = 100
"""How many files a message may have with it. Source: the server, which refuses more."""


def plan(locals_: Sequence[Path]) -> uploads.Plan:
    """Decide what is sent; nothing is sent yet.

    Raises:
        ConfigurationError: what ``uploads.plan`` raises; or there is too much.
    """
    planned = uploads.plan(locals_)
    if len(planned.uploads) > MOST:
        raise ConfigurationError(
            f"{len(planned.uploads)} files are too many for a message, which has {MOST} at most"
        )
    return planned


def send(server: Connection, task_id: int, planned: uploads.Plan) -> list[str]:
    """Upload the files and return their paths in the work_dir."""
    for left_out in planned.left_out:
        output.note(f"-- not uploaded: {left_out}")
    with bars() as begin:
        uploads.send(server.patient, task_id, planned.uploads, begin)
    return [upload.path for upload in planned.uploads]
