"""Local files that are sent with a message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beray.cli import output, uploads
from beray.cli.context import Connection
from beray.cli.progress import bars
from beray.exceptions import ConfigurationError
from beray.schema import MAX_ATTACHMENTS


def plan(locals_: Sequence[Path]) -> uploads.Plan:
    """Decide what is sent; nothing is sent yet.

    Raises:
        ConfigurationError: what ``uploads.plan`` raises; or there is too much.
    """
    planned = uploads.plan(locals_)
    if len(planned.uploads) > MAX_ATTACHMENTS:
        raise ConfigurationError(
            f"{len(planned.uploads)} files are too many for a message, "
            f"which has {MAX_ATTACHMENTS} at most"
        )
    return planned


def send(server: Connection, task_id: int, planned: uploads.Plan) -> list[str]:
    """Upload the files and return their paths in the work_dir."""
    for left_out in planned.left_out:
        output.note(f"-- not uploaded: {left_out}")
    with bars() as begin:
        uploads.send(server.patient, task_id, planned, begin)
    return [upload.path for upload in planned.uploads]
