"""The routes of tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.dependencies import (
    AppServices,
    CurrentUser,
    OwnTask,
    Services,
    too_many_queued,
)
from beray.server.event_log import PAGE_EVENTS, TaskEnded
from beray.server.fair_queue import QueueFull
from beray.server.json_values import require_plain
from beray.server.runners import Runners
from beray.server.store import Key, KeyTaken, Order, Store
from beray.server.strict_route import StrictRoute
from beray.server.tables import Task
from beray.server.task_feed import public

MOST_EVENTS = 5000
"""In one answer of ``list_events``."""

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=StrictRoute)


class Limits(BaseModel):
    """What a task may take; the server's owner may allow it less."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tokens: int | None = Field(None, ge=0, lt=2**63)
    requests: int | None = Field(None, ge=0, lt=2**63)
    """To a model."""
    cost_usd: float | None = Field(None, ge=0, allow_inf_nan=False)
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    network: bool | None = None
    """Whether its shell commands may reach the network; no, unless it says so."""


class NewTask(BaseModel):
    goal: str = Field(min_length=1, max_length=200_000)
    tools: list[dict[str, dict[str, Any]]] | None = Field(None, max_length=100)
    start: bool = True
    """Ours: ``false`` holds the task until it is started. So are all the following."""
    runner: str | None = Field(None, max_length=100)
    """Who does it: ``shell``, ``model``, ``acp`` or ``command``."""
    model: str | None = Field(None, min_length=1, max_length=200)
    limits: Limits | None = None
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
        require_plain(tools)
        return tools

    @field_validator("runner", "model", "tags")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        require_plain(value)
        return value

    def order(self, runners: Runners) -> Order:
        limits = self.limits.model_dump(exclude_none=True) if self.limits is not None else None
        runner, model = runners.settle(self.runner, self.model, self.goal)
        return Order(self.goal, self.tools, runner, model, limits or None, self.tags)

    def key(self, value: str) -> Key:
        asked = self.model_dump(exclude={"start"}, exclude_none=True, exclude_defaults=True)
        return Key.of(value, [asked, self.start])


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
    if (problem := app.runners.problem(body.runner, body.model)) is not None:
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
            app.workspaces.create(task.id)
        except OSError:
            # A task that cannot run must not stay, nor keep its key from the next try.
            app.store.undo_task(task.id)
            raise
        return task

    def undo(task_id: int) -> None:
        app.store.undo_task(task_id)
        app.workspaces.remove(task_id)

    try:
        task = await run_in_threadpool(add)
    except KeyTaken as taken:
        return await _created_before(app, taken)
    except QueueFull as full:
        raise too_many_queued(full) from None
    try:
        await app.queue.created(task)
    except (SQLAlchemyError, TaskEnded):
        await run_in_threadpool(undo, task.id)
        raise
    return public(task)


async def _created_before(app: Services, taken: KeyTaken) -> schema.Task:
    if not taken.same_request:
        raise HTTPException(422, "This Idempotency-Key was used for another request.")
    task = await run_in_threadpool(app.store.task, taken.task_id)
    if task is None:
        raise HTTPException(409, f"Task {taken.task_id} was created with this key, and deleted.")
    return public(task)


@router.get("/")
async def list_tasks(user: CurrentUser, app: AppServices) -> list[schema.Task]:
    """The caller's tasks, the newest first."""
    tasks = await run_in_threadpool(app.store.tasks_of, user.id)
    return [public(task) for task in tasks]


@router.get("/{task_id}", response_model=schema.Task)
async def get_task(task: OwnTask, app: AppServices) -> StreamingResponse:
    """The task with its ``events``."""
    return StreamingResponse(_with_events(app.store, task), media_type="application/json")


@router.get("/{task_id}/events", response_model=list[schema.TaskEvent])
async def list_events(
    task: OwnTask,
    app: AppServices,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = PAGE_EVENTS,
) -> Response:
    """The events behind the ``seq`` ``after``, as many as there are up to ``limit``. Ours."""
    rows = await run_in_threadpool(app.store.events_after, task.id, after, limit)
    return Response("[" + ",".join(body for _, body in rows) + "]", media_type="application/json")


@router.post("/{task_id}/start")
async def start_task(task: OwnTask, app: AppServices) -> schema.Task:
    """Let a task that was created with ``"start": false`` run. Ours."""
    released = await run_in_threadpool(app.store.release_task, task.id)
    if released is None:
        raise HTTPException(409, f"Task {task.id} is not held: it is {task.status}.")
    app.queue.submit(released)
    app.feed.wake(released.user_id)
    return public(released)


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
    await (app.queue if task.chat is None else app.chats).stopped(task.id)

    def remove() -> None:
        app.store.remove_task(task.id)
        app.workspaces.remove(task.id)
        app.chats.forget(task.id)

    await run_in_threadpool(remove)
    app.event_log.forget(task.id)
    app.feed.wake(task.user_id)
    return {"status": "success", "message": f"Task {task.id} is deleted."}


def _with_events(store: Store, task: Task) -> Iterator[str]:
    """The JSON of a task with its events up to its ``last_seq``, a page at a time."""
    yield json.dumps(public(task), ensure_ascii=False)[:-1] + ', "events": ['
    for number, rows in enumerate(store.pages(task, PAGE_EVENTS)):
        yield ("," if number else "") + ",".join(body for _, body in rows)
    yield "]}"
