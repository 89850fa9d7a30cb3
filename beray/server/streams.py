"""The streams: of one task's events, and of what happens to all tasks of a user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException
from sse_starlette import EventSourceResponse, ServerSentEvent

from beray.server.dependencies import AppServices, CurrentUser, OwnTask
from beray.server.event_log import LoggedEvent
from beray.server.settings import Settings
from beray.server.task_feed import FeedMessage

RETRY_MILLISECONDS = 1000

router = APIRouter(prefix="/tasks", tags=["tasks"])
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/stream", response_class=EventSourceResponse, responses=_STREAM)
async def stream_all_tasks(
    user: CurrentUser,
    app: AppServices,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventSourceResponse:
    """What happens to the caller's tasks, without an end. Ours.

    Begins with all of them (``TASKS``); then come ``TASK_STATUS`` with the task,
    ``TASK_DELETED``, and ``TASK_PROGRESS`` with the last line. ``Last-Event-ID`` resumes
    behind that change.
    """
    after = _number(last_event_id)
    return _stream(_changes(app.feed.tail(user.id, after)), app.settings)


@router.get("/{task_id}/stream", response_class=EventSourceResponse, responses=_STREAM)
async def stream_task(
    task: OwnTask,
    app: AppServices,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventSourceResponse:
    """The task's events, each with its ``seq`` as id; ends after a terminal status.

    ``Last-Event-ID`` resumes behind that event.
    """
    after = _number(last_event_id) or 0
    if after > task.last_seq:
        raise HTTPException(
            422, f"Last-Event-ID {after} is behind the task's last event, {task.last_seq}."
        )
    return _stream(_events(app.event_log.tail(task.id, after)), app.settings)


def _number(last_event_id: str | None) -> int | None:
    if not last_event_id:
        return None
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        raise HTTPException(422, "Last-Event-ID is not the id of an event of this stream.")
    return int(last_event_id)


def _stream(pieces: AsyncIterator[str], settings: Settings) -> EventSourceResponse:
    return EventSourceResponse(
        _encoded(pieces),
        sep="\n",
        ping=settings.heartbeat_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="alive", sep="\n"),
        send_timeout=settings.send_timeout_seconds,
    )


async def _encoded(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    async for piece in pieces:
        yield piece.encode()


async def _events(batches: AsyncIterator[list[LoggedEvent]]) -> AsyncIterator[str]:
    """Each batch as one piece of text/event-stream."""
    async for batch in batches:
        yield "".join(f"id: {event.seq}\ndata: {event.body}\n\n" for event in batch)


async def _changes(batches: AsyncIterator[list[FeedMessage]]) -> AsyncIterator[str]:
    async for batch in batches:
        yield "".join(
            f"data: {body}\n\n" if seq is None else f"id: {seq}\ndata: {body}\n\n"
            for seq, body in batch
        )
