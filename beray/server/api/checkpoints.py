"""Positions of checkpoints in requests, and responses to errors of the history."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import structlog
from fastapi import Depends, HTTPException, Query

from beray.schema import SHOULD_RETRY_HEADER
from beray.server.api.dependencies import AppServices, TaskOfFiles
from beray.server.services import Services
from beray.server.storage.database_errors import is_full
from beray.server.storage.tables import StoredCheckpoint, Task
from beray.server.workspace.history.checkpoint_files import CheckpointFiles
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.positions import UnknownCheckpoint, parse_position
from beray.server.workspace.history.restore import ChangeFailed, ContentNotStored
from beray.server.workspace.history.restores import UndoFailed

MAX_POSITION_CHARACTERS = 20
RETRY_SECONDS = 60
"""Value of ``Retry-After`` if the store of the history does not respond."""
_UNAVAILABLE = (None, errno.EAGAIN)
"""Numbers of errors of a store on the network, and of a store that failed a short time ago."""

log = structlog.get_logger("beray.history")


async def _position(
    task: TaskOfFiles,
    app: AppServices,
    at: Annotated[
        str | None,
        Query(
            max_length=MAX_POSITION_CHARACTERS,
            description="State of the work_dir: the `seq` of an event, which stands for the newest "
            "checkpoint at or before it, or a checkpoint such as `c3`. Default: the current files. "
            "BeRay extension.",
        ),
    ] = None,
) -> str | None:
    if at is not None:
        await app.checkpoints.settle(task.id)
    return at


At = Annotated[str | None, Depends(_position)]
"""Position of the requested state; uploads before the request are recorded."""


def find_checkpoint(app: Services, task: Task, position: str | None) -> StoredCheckpoint:
    """Return the checkpoint of a task at a position, the newest one for None. Blocks.

    Raises:
        HTTPException: The position is invalid (422) or out of range (404), or the history is
            turned off (409).
        UnknownCheckpoint: The task has no checkpoint at the position.
    """
    require_history(app)
    if position is None:
        return app.history.positions.find(task.id, None)
    try:
        parsed = parse_position(position)
    except ValueError as error:
        raise HTTPException(422, f"{error}.") from None
    if isinstance(parsed, int) and parsed > task.last_seq:
        raise HTTPException(
            404, f"Event {parsed} does not exist: task {task.id} has events 1 to {task.last_seq}."
        )
    return app.history.positions.find(task.id, parsed)


def require_history(app: Services) -> None:
    """Raise an error if the operator has turned the history off.

    Raises:
        HTTPException: It is off (409).
    """
    if not app.history.is_on:
        raise HTTPException(
            409,
            "This server records no history of work_dirs: its operator has set "
            "BERAY_HISTORY_BYTES to 0.",
        )


def checkpoint_files(app: Services, task: Task, position: str) -> CheckpointFiles:
    """Return the files of the checkpoint at a position; see ``find_checkpoint``. Blocks."""
    checkpoint = find_checkpoint(app, task, position)
    return CheckpointFiles(app.history.reader(task.user_id), checkpoint)


@contextmanager
def history_errors() -> Iterator[None]:
    """Convert errors of the history to error responses."""
    try:
        yield
    except UnknownCheckpoint as error:
        raise HTTPException(404, error.reason) from None
    except ContentNotStored as error:
        raise HTTPException(409, _not_stored(error)) from None
    except ChangeFailed as error:
        if is_full(error):
            raise
        raise HTTPException(
            409, f"{error.path!r} cannot be changed: {error.strerror}. Nothing was changed."
        ) from None
    except UndoFailed as error:
        raise HTTPException(
            500,
            f"The restore failed ({error}), and some files were changed. Restore the newest "
            "checkpoint to return to the state before.",
            {SHOULD_RETRY_HEADER: "false"},
        ) from None
    except DamagedContent as error:
        message = f"{error.reason[0].upper()}{error.reason[1:]}. Other files can still be read."
        raise HTTPException(500, message, {SHOULD_RETRY_HEADER: "false"}) from None
    except OSError as error:
        if error.errno not in _UNAVAILABLE:
            raise
        log.error("the history is not available", problem=str(error))
        raise HTTPException(
            503,
            "The store of the history does not respond. Nothing was changed; try again later.",
            {"Retry-After": str(RETRY_SECONDS)},
        ) from None


def _not_stored(error: ContentNotStored) -> str:
    limits = "BERAY_HISTORY_BYTES, BERAY_HISTORY_FILE_BYTES"
    if error.is_current:
        return (
            f"The current content of {error.path!r} is not in the history ({limits}), so the "
            "restore could not be undone. Restore other paths, or remove the file first."
        )
    return (
        f"The content of {error.path!r} was not stored ({limits}). Other files of the checkpoint "
        "are available."
    )
