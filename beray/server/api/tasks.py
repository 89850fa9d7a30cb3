"""The routes of tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Header, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.api.dependencies import AppServices, CurrentUser, OwnTask, queue_full_error
from beray.server.api.responses import JsonStream
from beray.server.http.integers import CANONICAL_INTEGER
from beray.server.http.strict_json import StrictRoute
from beray.server.runners import Runners
from beray.server.runtime.fair_queue import QueueFull
from beray.server.services import Services
from beray.server.storage.events import EventRange
from beray.server.storage.json_values import check_json
from beray.server.storage.store import IdempotencyKey, IdempotencyKeyUsed, TaskSpec
from beray.server.storage.tables import Task
from beray.server.tasks.event_log import TaskClosed
from beray.server.tasks.task_pages import task_to_wire, to_json

MAX_TOOLS_BYTES = 1024 * 1024
"""Bytes of a task's ``tools`` as JSON: they are part of every list that has the task."""
MAX_TASKS = 10_000
"""Tasks in one page of ``list_tasks``."""
MAX_TASK_EVENTS = 10_000
"""Events in an answer of ``get_task``."""
MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Bytes of the events in an answer of ``get_task`` or ``list_events``."""
MAX_LISTED_EVENTS = 5000
"""Events in an answer of ``list_events``."""
DEFAULT_LISTED_EVENTS = 500

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=StrictRoute)


class TaskLimits(BaseModel):
    """What a task may take; the server's owner may allow it less."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tokens: int | None = Field(None, ge=0, lt=2**63)
    requests: int | None = Field(None, ge=0, lt=2**63)
    """To a model."""
    cost_usd: float | None = Field(None, ge=0, allow_inf_nan=False)
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    network: bool | None = None
    """Whether its shell commands may reach the network; no, unless it says so."""
    gateway: bool | None = None
    """Whether its commands and agents get access to the gateway (``X_INTERNAL_TOKEN``)."""


class NewTask(BaseModel):
    goal: str = Field(min_length=1, max_length=200_000)
    tools: list[dict[str, dict[str, Any]]] | None = Field(None, max_length=100)
    start: bool = True
    """Ours: ``false`` holds the task until it is started. So are all the following."""
    runner: str | None = Field(None, max_length=100)
    """Who does it: ``shell``, ``model``, ``acp`` or ``command``."""
    model: str | None = Field(None, min_length=1, max_length=200)
    limits: TaskLimits | None = None
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] | None = Field(
        None, max_length=50
    )

    @field_validator("goal")
    @classmethod
    def _says_something(cls, goal: str) -> str:
        if not goal.strip().removeprefix("!").strip():
            raise ValueError("the goal is empty")
        if "\0" in goal:
            raise ValueError("the goal holds a NUL character")
        return goal

    @field_validator("tools")
    @classmethod
    def _sound(
        cls, tools: list[dict[str, dict[str, Any]]] | None
    ) -> list[dict[str, dict[str, Any]]] | None:
        if any(len(tool) != 1 for tool in tools or ()):
            raise ValueError('each tool must be an object with one key: {"name": {"url": …}}')
        check_json(tools)
        size = len(to_json(tools))
        if size > MAX_TOOLS_BYTES:
            raise ValueError(
                f"the tools are {size:,} bytes of JSON; the limit is {MAX_TOOLS_BYTES:,}"
            )
        return tools

    @field_validator("runner", "model", "tags")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        check_json(value)
        return value

    def order(self, runners: Runners) -> TaskSpec:
        limits = self.limits.model_dump(exclude_none=True) if self.limits is not None else None
        runner, model = runners.settle(self.runner, self.model, self.goal)
        return TaskSpec(self.goal, self.tools, runner, model, limits or None, self.tags)

    def key(self, value: str) -> IdempotencyKey:
        asked = self.model_dump(exclude={"start"}, exclude_none=True, exclude_defaults=True)
        return IdempotencyKey.of(value, [asked, self.start])


@router.post("/")
async def create_task(
    body: NewTask,
    user: CurrentUser,
    app: AppServices,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> schema.Task:
    """Create a task. It runs when a slot is free and it is its user's turn.

    The tasks of one user run in order of creation. With an ``Idempotency-Key``, the same
    request within a day gets the same task. 429 if as many tasks of the user wait as may.
    """

    app.maintenance.require_off()
    problem = app.runners.problem(body.runner, body.model) or app.runners.network_problem(
        body.runner,
        body.model,
        body.goal,
        network=bool(body.limits and body.limits.network),
    )
    if problem is not None:
        raise HTTPException(422, problem[0].upper() + problem[1:] + ".")

    order = body.order(app.runners)
    key = body.key(idempotency_key) if idempotency_key is not None else None

    def add() -> Task:
        task = app.store.add_task(
            user.id,
            order,
            held=not body.start,
            key=key,
            most_queued=app.settings.queued_per_user,
        )
        try:
            app.workspaces.create(task.id, user.id)
        except OSError:
            # A task that cannot run must not stay, nor keep its key from the next try.
            app.store.undo_task(task.id)
            raise
        return task

    try:
        task = await run_in_threadpool(add)
    except IdempotencyKeyUsed as taken:
        return await _created_before(app, taken)
    except QueueFull as full:
        raise queue_full_error(full) from None
    try:
        await app.queue.add(task)
    except (SQLAlchemyError, TaskClosed):
        await app.deletion.discard_new(task.id)
        raise
    return task_to_wire(task)


async def _created_before(app: Services, taken: IdempotencyKeyUsed) -> schema.Task:
    if not taken.same_request:
        raise HTTPException(422, "This Idempotency-Key was used for another request.")
    task = await run_in_threadpool(app.store.task, taken.task_id)
    if task is None:
        raise HTTPException(409, f"Task {taken.task_id} was created with this key, and deleted.")
    return task_to_wire(task)


@router.get("/", response_model=list[schema.Task])
async def list_tasks(
    request: Request,
    user: CurrentUser,
    app: AppServices,
    before: Annotated[int | None, Query(ge=1, lt=2**63), CANONICAL_INTEGER] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_TASKS), CANONICAL_INTEGER] = MAX_TASKS,
) -> JsonStream:
    """Return the caller's tasks, newest first: those with an id below ``before``, up to ``limit``.

    ``X-Total-Count`` is the number of all tasks of the caller. If there are older ones,
    ``Link`` has the URL of the next page (``rel="next"``, RFC 8288).
    """
    tasks = app.feed.pages
    extent = await tasks.extent(user.id, before, limit)
    headers = {"X-Total-Count": str(extent.total)}
    if extent.has_more:
        headers["Link"] = _next_page(request, before=extent.oldest, limit=limit)
    return JsonStream(tasks.json_array(user.id, extent), app.settings, headers)


@router.get("/{task_id}", response_model=schema.Task)
async def get_task(task: OwnTask, app: AppServices) -> JsonStream:
    """Return the task with its newest ``events``, up to 10,000 or 8 MiB, at least one.

    ``first_seq`` is the ``seq`` of the first of them, or of the next event if there are
    none; ``events_truncated`` says that there are earlier ones.
    """
    extent = await app.event_log.pages.newest_extent(
        task.id, task.last_seq, max_events=MAX_TASK_EVENTS, max_bytes=MAX_EVENT_BYTES
    )
    return JsonStream(_with_events(app, task, extent), app.settings)


async def _with_events(app: Services, task: Task, extent: EventRange) -> AsyncIterator[bytes]:
    fields = dict(task_to_wire(task))
    fields |= {"first_seq": extent.first, "events_truncated": extent.first > 1}
    yield to_json(fields)[:-1] + b',"events":'
    async for piece in app.event_log.pages.json_array(task.id, extent):
        yield piece
    yield b"}"


@router.get("/{task_id}/events", response_model=list[dict[str, Any]])
async def list_events(
    request: Request,
    task: OwnTask,
    app: AppServices,
    after: Annotated[int, Query(ge=0, lt=2**63), CANONICAL_INTEGER] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LISTED_EVENTS), CANONICAL_INTEGER
    ] = DEFAULT_LISTED_EVENTS,
) -> JsonStream:
    """Return the events after the ``seq`` ``after``, up to ``limit`` or 8 MiB. BeRay extension.

    If 8 MiB are fewer than ``limit`` events, ``Link`` has the URL of the rest.
    """
    pages = app.event_log.pages
    extent, is_cut = await pages.following_extent(
        task.id, after, max_events=limit, max_bytes=MAX_EVENT_BYTES
    )
    headers = {}
    if is_cut:
        left = limit - extent.count
        headers["Link"] = _next_page(request, after=extent.last, limit=left)
    return JsonStream(pages.json_array(task.id, extent), app.settings, headers)


def _next_page(request: Request, **query: int) -> str:
    """Return a ``Link`` to the path of the request, without a host."""
    return f'<{quote(request.url.path)}?{urlencode(query)}>; rel="next"'


@router.post("/{task_id}/start")
async def start_task(task: OwnTask, app: AppServices) -> schema.Task:
    """Let a task that was created with ``"start": false`` run. Ours."""
    released = await run_in_threadpool(app.store.release_task, task.id)
    if released is None:
        raise HTTPException(409, f"Task {task.id} is not held: it is {task.status}.")
    app.queue.submit(released)
    app.feed.wake(released.user_id)
    return task_to_wire(released)


@router.post("/{task_id}/stop")
async def stop_task(task: OwnTask, app: AppServices) -> schema.Message:
    """Stop a task. Answered at once; the stream says when it has stopped."""
    if task.chat is not None:
        stopping = await app.chats.stop(task.id)
        said = "is being stopped" if stopping else "is not under way"
        return {"message": f"The answer of chat {task.chat} {said}."}
    if await app.queue.stop(task.id):
        return {"message": f"Task {task.id} is being stopped."}
    return {"message": f"Task {task.id} has ended already."}


@router.delete("/{task_id}")
async def delete_task(task: OwnTask, app: AppServices) -> schema.Deleted:
    """Delete a task, its events and its files; a running one is stopped first."""
    await (app.queue if task.chat is None else app.chats).stop_and_wait(task.id)

    await app.deletion.delete(task.id)
    app.event_log.forget(task.id)
    app.feed.wake(task.user_id)
    return {"status": "success", "message": f"Task {task.id} is deleted."}
