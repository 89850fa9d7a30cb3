"""Routes of event streams: the events of one task, and the changes of all tasks of a user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException
from sse_starlette import EventSourceResponse

from beray.schema import API_PREFIX
from beray.server.api.dependencies import (
    AppServices,
    ReadableTask,
    TaskReader,
)
from beray.server.api.error_statuses import TASK, error_statuses
from beray.server.api.responses import event_stream
from beray.server.http.integers import parse_integer
from beray.server.http.strict_json import StrictRoute
from beray.server.services import Services
from beray.server.storage.database_errors import StorageError
from beray.server.tasks.event_pages import EventPage

router = APIRouter(prefix=f"{API_PREFIX}/tasks", tags=["tasks"], route_class=StrictRoute)
LastEventId = Annotated[
    str | None,
    Header(description="`id` of the last received event; the stream continues after it."),
]
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/stream", response_class=EventSourceResponse, responses=_STREAM)
async def stream_all_tasks(
    user: TaskReader,
    app: AppServices,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Stream the changes of all tasks of the user, without an end. BeRay extension.

    The stream starts with all tasks (`TASKS`, and `TASKS_MORE` for those that do not fit),
    followed by `TASK_STATUS` with a task, `TASK_DELETED`, and `TASK_PROGRESS` with the last line.
    `Last-Event-ID` resumes after that change.
    """
    after = _number(last_event_id)
    app.feed.damaged.require_sound((user.id, after))
    pieces = app.feed.tail(user.id, after, idle_seconds=app.settings.heartbeat_seconds)
    return event_stream(pieces, app.settings)


@router.get(
    "/{task_id}/stream",
    response_class=EventSourceResponse,
    responses={
        **_STREAM,
        **error_statuses(
            {
                **TASK,
                500: "The next event cannot be read, because the database is damaged.",
            }
        ),
    },
)
async def stream_task(
    task: ReadableTask,
    app: AppServices,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Stream the events of a task, each with its `seq` as id, up to a terminal status.

    `Last-Event-ID` resumes after that event. 500 with `X-Should-Retry: false` if the following
    events cannot be read because the database is damaged.
    """
    after = _number(last_event_id) or 0
    if after > task.last_seq:
        raise HTTPException(
            422,
            f"Last-Event-ID {after} is greater than the seq of the task's last event, "
            f"{task.last_seq}.",
        )
    app.event_log.damaged.require_sound((task.id, after))
    first = await app.event_log.first_page(task.id, after)
    return event_stream(_events(app, task.id, after, first), app.settings)


def _number(last_event_id: str | None) -> int | None:
    if not last_event_id:
        return None
    number = parse_integer(last_event_id)
    if number is None:
        raise HTTPException(
            422,
            f"Last-Event-ID expects the id of an event of this stream, got {last_event_id[:40]!r}.",
        )
    return number


async def _events(
    app: Services, task_id: int, after: int, first: EventPage | None
) -> AsyncIterator[bytes]:
    log = app.event_log
    idle_seconds = app.settings.heartbeat_seconds
    try:
        async for page in log.tail(task_id, after, first=first, idle_seconds=idle_seconds):
            if page.large_event is None:
                yield page.stream
            else:
                yield b"id: %d\ndata: " % page.large_event.seq
                async for piece in log.pages.body(task_id, page.large_event):
                    yield piece
                yield b"\n\n"
            if page.events:
                after = page.events[-1].seq
    except StorageError as error:
        log.damaged.note((task_id, after), error)
        raise
