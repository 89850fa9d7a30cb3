"""Route of the differences between two checkpoints: ``/tasks/{task_id}/diff``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from beray.history_schema import Diff
from beray.schema import API_PREFIX
from beray.server.api.checkpoints import (
    MAX_POSITION_CHARACTERS,
    find_checkpoint,
    history_errors,
    require_history,
)
from beray.server.api.dependencies import AppServices, TaskOfFiles
from beray.server.api.error_statuses import error_statuses
from beray.server.api.workspace_errors import workspace_errors
from beray.server.files.file_response import ThreadedResponse
from beray.server.http.integers import CANONICAL_INTEGER
from beray.server.http.strict_json import StrictRoute
from beray.server.services import Services
from beray.server.storage.tables import StoredCheckpoint, Task
from beray.server.tasks.task_pages import to_json
from beray.server.workspace.history.file_diffs import FileDiffs
from beray.server.workspace.history.path_selection import PathSelection
from beray.server.workspace.history.positions import position_to_wire
from beray.server.workspace.history.reader import Change
from beray.server.workspace.history.restores import parse_paths, require_path
from beray.server.workspace.history.unified import unified_diff

MAX_PATHS = 1000
"""Maximum number of paths of a diff."""
_DOCS = "the `seq` of an event, or a checkpoint such as `c3`."

router = APIRouter(
    prefix=f"{API_PREFIX}/tasks/{{task_id}}", tags=["history"], route_class=StrictRoute
)


@router.get(
    "/diff",
    response_model=Diff,
    responses={
        **error_statuses(
            {
                404: "The task, a checkpoint or a path does not exist.",
                409: "The history is turned off.",
                422: "A value is invalid.",
                500: "A stored manifest is damaged.",
            }
        ),
        200: {"content": {"text/x-diff": {"schema": {"type": "string"}}}},
    },
)
async def get_diff(
    task: TaskOfFiles,
    app: AppServices,
    from_: Annotated[
        str | None,
        Query(
            alias="from",
            max_length=MAX_POSITION_CHARACTERS,
            description=f"State before: {_DOCS} Default: the first checkpoint.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        Query(
            max_length=MAX_POSITION_CHARACTERS,
            description=f"State after: {_DOCS} Default: the newest checkpoint.",
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        Query(max_length=MAX_PATHS, description="Files and directories to compare; repeatable."),
    ] = None,
    context: Annotated[
        int,
        Query(ge=0, le=1000, description="Number of unchanged lines around changes."),
        CANONICAL_INTEGER,
    ] = 3,
    format_: Annotated[
        Literal["json", "unified"],
        Query(alias="format", description="`unified`: a patch that `git apply` accepts."),
    ] = "json",
) -> Response:
    """Return the differences of the files between two checkpoints.

    Renamed files are detected. Files that are binary, damaged, not stored or too large are listed
    without their contents, which `omitted` explains. BeRay extension.
    """
    require_history(app)
    await app.checkpoints.settle(task.id)

    def respond() -> Response:
        with workspace_errors(), history_errors():
            old, new = _checkpoints(app, task, from_, to)
            changes = _changes(app, task, old, new, path or [])
            read = app.history.reader(task.user_id).read
            if format_ == "unified":
                return ThreadedResponse(
                    unified_diff(changes, read, context=context),
                    ExitStack(),
                    headers={},
                    media_type="text/x-diff; charset=utf-8",
                )
            differences = FileDiffs(changes, read, context=context)
            files = list(differences)
        diff: dict[str, Any] = {
            "from": position_to_wire(old),
            "to": position_to_wire(new),
            "files": files,
            "lines_added": differences.lines_added,
            "lines_deleted": differences.lines_deleted,
            "truncated": differences.truncated,
        }
        return Response(to_json(diff), media_type="application/json")

    return await run_in_threadpool(respond)


def _checkpoints(
    app: Services, task: Task, old: str | None, new: str | None
) -> tuple[StoredCheckpoint, StoredCheckpoint]:
    before = (
        app.history.positions.first(task.id) if old is None else find_checkpoint(app, task, old)
    )
    return before, find_checkpoint(app, task, new)


def _changes(
    app: Services, task: Task, old: StoredCheckpoint, new: StoredCheckpoint, paths: list[str]
) -> list[Change]:
    """Return the changes at and below some paths, or all."""
    reader = app.history.reader(task.user_id)
    selected = parse_paths(paths)
    for parts in selected:
        require_path(reader, parts, old, new)
    selection = PathSelection(selected)
    return [
        change
        for change in reader.changes(old.root, new.root, selection)
        if selection.relation(change.path) == "inside"
    ]
