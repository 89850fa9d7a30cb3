"""Routes of the history of a work_dir: ``/tasks/{task_id}/checkpoints`` and ``/restore``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from beray.history_schema import Checkpoint, RestoredFile, RestoreResult
from beray.schema import API_PREFIX
from beray.server.api.checkpoints import (
    MAX_POSITION_CHARACTERS,
    find_checkpoint,
    history_errors,
    require_history,
)
from beray.server.api.dependencies import AppServices, ReadableTask, TaskOfFiles
from beray.server.api.error_statuses import TASK, error_statuses
from beray.server.api.tasks import next_page
from beray.server.api.workspace_errors import workspace_errors
from beray.server.http.integers import CANONICAL_INTEGER
from beray.server.http.strict_json import StrictRoute
from beray.server.tasks.work_dir_access import RunActive
from beray.server.workspace.history.positions import checkpoint_to_wire, position_to_wire
from beray.server.workspace.history.reader import Change
from beray.server.workspace.history.restore import RestoreCancelled
from beray.server.workspace.history.restores import Restored
from beray.transfers import wire_names

MAX_CHECKPOINTS = 1000
"""Maximum number of checkpoints in a response."""
MAX_PATHS = 10_000
"""Maximum number of paths of a restore."""

router = APIRouter(
    prefix=f"{API_PREFIX}/tasks/{{task_id}}", tags=["history"], route_class=StrictRoute
)


@router.get("/checkpoints", responses=error_statuses(TASK))
async def list_checkpoints(
    request: Request,
    response: Response,
    task: ReadableTask,
    app: AppServices,
    after: Annotated[
        int,
        Query(ge=0, lt=2**63, description="Number of the checkpoint after which the page starts."),
        CANONICAL_INTEGER,
    ] = 0,
    limit: Annotated[
        int,
        Query(ge=1, le=MAX_CHECKPOINTS, description="Maximum number of checkpoints."),
        CANONICAL_INTEGER,
    ] = MAX_CHECKPOINTS,
) -> list[Checkpoint]:
    """List the recorded states of the work_dir, oldest first.

    A checkpoint is recorded at the start of a run, after each step and each upload that changed
    files, at the end, and by a restore. `Link` has the URL of the next page, if any.
    BeRay extension.
    """
    await app.checkpoints.settle(task.id)
    rows = await run_in_threadpool(app.history.positions.list_page, task.id, after, limit + 1)
    if len(rows) > limit:
        response.headers["Link"] = next_page(request, after=rows[limit - 1].number, limit=limit)
    return [checkpoint_to_wire(row) for row in rows[:limit]]


class RestoreRequest(BaseModel):
    """Body of a restore."""

    # An unknown field such as "path" would restore everything.
    model_config = ConfigDict(extra="forbid", strict=True)

    to: int | str = Field(
        description="State to restore: the `seq` of an event, which stands for the newest "
        "checkpoint at or before it, or a checkpoint such as `c3`.",
    )
    paths: list[str] = Field(
        default=[],
        max_length=MAX_PATHS,
        description="Files and directories to restore; empty for the whole work_dir.",
    )
    dry_run: bool = Field(default=False, description="Return the changes without making them.")

    @property
    def position(self) -> str:
        """Position as a string."""
        return str(self.to)[: MAX_POSITION_CHARACTERS + 1]


@router.post(
    "/restore",
    responses=error_statuses(
        {
            404: "The task, the checkpoint or a path does not exist.",
            409: "A run of the task is active, a content is not stored, or the history is turned "
            "off.",
            413: "The content is larger than a work_dir may be; nothing was changed.",
            422: "A value is invalid.",
            500: "A stored content is damaged; nothing was changed.",
            507: "The space in the work_dir or on the disk is insufficient; nothing was changed.",
        }
    ),
)
async def restore(task: TaskOfFiles, app: AppServices, body: RestoreRequest) -> RestoreResult:
    """Restore files of the work_dir, or all of it, to the state of a checkpoint.

    The state before and the result are recorded as checkpoints, so a restore can be undone.
    BeRay extension.
    """
    require_history(app)
    await app.checkpoints.settle(task.id)
    if app.executor.has_run(task.id):
        raise _active_error(task.id)

    def change() -> RestoreResult:
        with workspace_errors("Nothing was changed"), history_errors():
            target = find_checkpoint(app, task, body.position)
            restored = app.history.restores.restore(
                task.id,
                task.user_id,
                target,
                seq=task.last_seq,
                paths=body.paths,
                dry_run=body.dry_run,
                is_cancelled=lambda: app.task_repository.get(task.id) is None,
            )
        result: RestoreResult = {
            "dry_run": body.dry_run,
            "to": position_to_wire(target),
            "files": _restored_files(restored),
            "before": position_to_wire(restored.before),
        }
        if restored.checkpoint is not None:
            result["checkpoint"] = f"c{restored.checkpoint.number}"
        return result

    try:
        async with app.checkpoints.access.restore(task.id):
            return await run_in_threadpool(change)
    except RunActive:
        raise _active_error(task.id) from None
    except RestoreCancelled:
        raise HTTPException(404, f"Task {task.id} was deleted. Nothing was changed.") from None


def _active_error(task_id: int) -> HTTPException:
    return HTTPException(
        409,
        f"Task {task_id} is running or waiting, so its files cannot be restored. Stop it, or wait "
        "for its end.",
    )


def _restored_files(restored: Restored) -> list[RestoredFile]:
    """Return the changes; changes of the contents of directories are listed by their entries."""
    return [_restored_file(change) for change in restored.changes]


def _restored_file(change: Change) -> RestoredFile:
    kind = "added" if change.old is None else "deleted" if change.new is None else "modified"
    file: RestoredFile = {"path": wire_names.encode(change.path), "change": kind}
    if change.old is not None:
        file["old"] = change.old.to_wire()
    if change.new is not None:
        file["new"] = change.new.to_wire()
    return file
