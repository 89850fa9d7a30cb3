"""The field ``from`` of requests that create tasks: the checkpoint from which a task continues."""

from __future__ import annotations

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from beray.server.api.checkpoints import (
    MAX_POSITION_CHARACTERS,
    find_checkpoint,
    history_errors,
)
from beray.server.api.workspace_errors import workspace_errors
from beray.server.services import Services
from beray.server.storage.tables import Task, User
from beray.server.tasks.forks import Origin
from beray.server.workspace.history.restore import RestoreCancelled


class OriginRequest(BaseModel):
    """Checkpoint from which a task continues, with its files and its conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: int = Field(ge=1, lt=2**63, description="Id of the other task.")
    seq: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="`seq` of an event of the other task, which stands for the newest checkpoint "
        "at or before it. Default: the newest checkpoint.",
    )
    checkpoint: str | None = Field(
        None, max_length=MAX_POSITION_CHARACTERS, description="Name of a checkpoint, such as `c3`."
    )

    @model_validator(mode="after")
    def _check_position(self) -> OriginRequest:
        if self.seq is not None and self.checkpoint is not None:
            raise ValueError("give seq or checkpoint, not both")
        return self

    @property
    def position(self) -> str | None:
        """Position in the other task; None for the newest checkpoint."""
        return self.checkpoint if self.seq is None else str(self.seq)


async def find_origin(
    app: Services, user: User, request: OriginRequest | None, *, continues_messages: bool
) -> Origin | None:
    """Return the requested checkpoint of a task of the user; None for no request.

    Args:
        app: Services of the server.
        user: User of both tasks.
        request: Requested checkpoint.
        continues_messages: True if the runner of the new task can continue a conversation.

    Raises:
        HTTPException: The task or the checkpoint does not exist (404), the position is invalid
            (422), or the history is turned off (409).
    """
    if request is None:
        return None
    source = await run_in_threadpool(app.task_repository.get, request.task)
    if source is None or source.user_id != user.id:
        raise HTTPException(404, f"Task {request.task} does not exist.")
    await app.checkpoints.settle(source.id)

    def find() -> Origin:
        with history_errors():
            checkpoint = find_checkpoint(app, source, request.position)
        if request.checkpoint is not None:
            seq = checkpoint.seq
        else:
            seq = source.last_seq if request.seq is None else request.seq
        conversation = continues_messages and app.forks.has_messages(source, seq)
        return Origin(task=source, checkpoint=checkpoint, seq=seq, conversation=conversation)

    return await run_in_threadpool(find)


async def populate(app: Services, task: Task, origin: Origin) -> None:
    """Copy the files of the checkpoint, and the messages up to it, to a new task.

    Raises:
        HTTPException: The files cannot be written, or the task was stopped meanwhile (409).
    """
    with workspace_errors("The task was not created"), history_errors():
        try:
            await app.forks.populate(task, origin)
        except RestoreCancelled:
            raise stopped_error(task.id) from None


def stopped_error(task_id: int) -> HTTPException:
    """Return the 409 for a task that was stopped or deleted before its creation was complete."""
    return HTTPException(409, f"Task {task_id} was stopped while it was created, and was removed.")
