"""Routes of tasks: ``/tasks``, except for their streams and files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Header, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.api.dependencies import (
    SESSION_ENDED,
    AppServices,
    ReadableTask,
    TaskReader,
    TaskWriter,
    WritableTask,
    queue_full_error,
)
from beray.server.api.error_statuses import TASK, error_statuses
from beray.server.api.responses import JsonStream
from beray.server.api.task_origins import (
    OriginRequest,
    find_origin,
    populate,
    stopped_error,
)
from beray.server.http.integers import CANONICAL_INTEGER
from beray.server.http.strict_json import StrictRoute
from beray.server.runners import Runners, keeps_conversation
from beray.server.runtime.fair_queue import QueueFull
from beray.server.services import Services
from beray.server.storage.database_errors import StorageError
from beray.server.storage.events import EventRange
from beray.server.storage.idempotency_keys import IdempotencyKey, IdempotencyKeyUsed
from beray.server.storage.json_values import check_json
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskSpec, UserDisabled
from beray.server.tasks.event_log import TaskClosed
from beray.server.tasks.forks import Origin
from beray.server.tasks.task_pages import task_to_wire, to_json

MAX_TOOLS_BYTES = 1024 * 1024
"""Maximum size of a task's ``tools`` as JSON, because every list with the task contains them."""
MAX_TASKS = 10_000
"""Maximum number of tasks in one page of ``list_tasks``."""
MAX_TASK_EVENTS = 10_000
"""Maximum number of events in a response of ``get_task``."""
MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Maximum size of the events in a response of ``get_task`` or ``list_events``."""
MAX_LISTED_EVENTS = 5000
"""Maximum number of events in a response of ``list_events``."""
DEFAULT_LISTED_EVENTS = 500

router = APIRouter(prefix=f"{schema.API_PREFIX}/tasks", tags=["tasks"], route_class=StrictRoute)


class TaskLimits(BaseModel):
    """Limits of a task. The server's own limits apply in addition."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tokens: int | None = Field(None, ge=0, lt=2**63, description="Tokens of a model.")
    requests: int | None = Field(None, ge=0, lt=2**63, description="Requests to a model.")
    cost_usd: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Cost of a model in US dollars."
    )
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False, description="Run time.")
    network: bool | None = Field(
        None, description="Whether shell commands may use the network. Default: no."
    )
    gateway: bool | None = Field(
        None,
        description="Whether commands and agents get access to the gateway (X_INTERNAL_TOKEN).",
    )


class TaskRequest(BaseModel):
    """Body of a request that creates a task."""

    goal: str = Field(
        min_length=1,
        max_length=schema.MAX_GOAL_CHARS,
        description="Goal in natural language, or a shell command after `!`.",
    )
    tools: list[dict[str, dict[str, Any]]] | None = Field(
        None, max_length=100, description='Tools of the agent, such as `{"name": {"url": "…"}}`.'
    )
    start: bool = Field(
        True,
        description="`false` holds the task until it is started. BeRay extension, as are the "
        "following fields.",
    )
    runner: str | None = Field(
        None,
        max_length=100,
        description="Runner of the task: `shell`, `model`, `acp` or `command`.",
    )
    model: str | None = Field(
        None, min_length=1, max_length=200, description="Model of the runner `model`."
    )
    limits: TaskLimits | None = None
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] | None = Field(
        None, max_length=50, description="Labels by which clients group tasks."
    )
    origin: OriginRequest | None = Field(
        None,
        alias="from",
        description="Checkpoint of another task from which the task continues: its files, and its "
        "conversation if the runner keeps one.",
    )

    @field_validator("goal")
    @classmethod
    def _check_goal(cls, goal: str) -> str:
        if not goal.strip().removeprefix("!").strip():
            raise ValueError("must not be empty")
        if "\0" in goal:
            raise ValueError("must not contain NUL characters")
        return goal

    @field_validator("tools")
    @classmethod
    def _check_tools(
        cls, tools: list[dict[str, dict[str, Any]]] | None
    ) -> list[dict[str, dict[str, Any]]] | None:
        if any(len(tool) != 1 for tool in tools or ()):
            raise ValueError('each tool must be an object with one key: {"name": {"url": "…"}}')
        check_json(tools)
        size = len(to_json(tools))
        if size > MAX_TOOLS_BYTES:
            raise ValueError(f"may have at most {MAX_TOOLS_BYTES:,} bytes of JSON, got {size:,}")
        return tools

    @field_validator("runner", "model", "tags")
    @classmethod
    def _check_json(cls, value: Any) -> Any:
        check_json(value)
        return value

    def to_spec(self, runners: Runners, origin: Origin | None) -> TaskSpec:
        """Return the specification of the task, with the runner and model that it will have."""
        limits = self.limits.model_dump(exclude_none=True) if self.limits is not None else None
        runner, model = runners.settle(self.runner, self.model, self.goal)
        continues = origin.to_dict() if origin is not None else None
        return TaskSpec(self.goal, self.tools, runner, model, limits or None, self.tags, continues)

    def idempotency_key(self, value: str) -> IdempotencyKey:
        """Return the ``Idempotency-Key`` with this value for the request."""
        content = self.model_dump(exclude={"start"}, exclude_none=True, exclude_defaults=True)
        return IdempotencyKey.for_request(value, [content, self.start])


@router.post(
    "/",
    responses=error_statuses(
        {
            404: "The task or the checkpoint of `from` does not exist.",
            409: "The task of this `Idempotency-Key` has been deleted, or the checkpoint of `from` "
            "cannot be used.",
            422: "A value is invalid, or the key was used for another request.",
            429: "As many tasks of the user wait as `BERAY_USER_QUEUED` permits.",
            503: "The server is being maintained, or `BERAY_SANDBOX_UIDS` has no uid for the user.",
            507: "The disk or a quota has no space for the files of the checkpoint.",
        }
    ),
)
async def create_task(
    body: TaskRequest,
    user: TaskWriter,
    app: AppServices,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Key of the request; repeated within a day, it returns the same task.",
        ),
    ] = None,
) -> schema.Task:
    """Create a task. It starts when a slot is free and it is the user's turn.

    The tasks of one user start in order of creation. With `from`, the task starts with the files
    of a checkpoint of another task, which are copied before the response. With an
    `Idempotency-Key`, repeating the same request within a day returns the same task. 429 if the
    maximum number of the user's tasks is already waiting.
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

    key = body.idempotency_key(idempotency_key) if idempotency_key is not None else None
    if key is not None and body.origin is not None:
        # The other task may have been deleted since the first request.
        try:
            await run_in_threadpool(app.task_repository.check_unused, user.id, key)
        except IdempotencyKeyUsed as used:
            return await _created_before(app, used)
    runner = app.runners.settle(body.runner, body.model, body.goal).runner
    origin = await find_origin(
        app, user, body.origin, continues_messages=keeps_conversation(runner)
    )
    spec = body.to_spec(app.runners, origin)

    def add() -> Task:
        task = app.task_repository.create(
            user.id,
            spec,
            held=not body.start,
            key=key,
            max_queued=app.settings.queued_per_user,
            initial_state=origin.checkpoint.root if origin is not None else None,
        )
        try:
            app.conversations.prepare(task.id)
            app.workspaces.create(task.id, user.id)
        except OSError:
            # A task that cannot run is removed, and its key is free for the next attempt.
            app.task_repository.undo_create(task.id)
            raise
        return task

    try:
        task = await run_in_threadpool(add)
    except IdempotencyKeyUsed as used:
        return await _created_before(app, used)
    except QueueFull as full:
        raise queue_full_error(full) from None
    except UserDisabled:
        raise HTTPException(401, SESSION_ENDED, {"WWW-Authenticate": "Bearer"}) from None
    try:
        if origin is not None:
            await populate(app, task, origin)
        await app.tasks.add(task)
    except (StorageError, TaskClosed, HTTPException, OSError) as error:
        await app.deletion.discard_new(task.id)
        if isinstance(error, TaskClosed):
            raise stopped_error(task.id) from None
        raise
    return task_to_wire(task)


async def _created_before(app: Services, used: IdempotencyKeyUsed) -> schema.Task:
    if not used.same_request:
        raise HTTPException(
            422, "This Idempotency-Key was used for another request. Send a new key."
        )
    task = await run_in_threadpool(app.task_repository.get, used.task_id)
    if task is None:
        raise HTTPException(
            409,
            f"Task {used.task_id} was created with this Idempotency-Key and has been deleted. Send "
            "a new key.",
        )
    return task_to_wire(task)


@router.get("/", response_model=list[schema.Task])
async def list_tasks(
    request: Request,
    user: TaskReader,
    app: AppServices,
    before: Annotated[
        int | None,
        Query(ge=1, lt=2**63, description="Id above those of the page; null: newest tasks."),
        CANONICAL_INTEGER,
    ] = None,
    limit: Annotated[
        int,
        Query(ge=1, le=MAX_TASKS, description="Maximum number of tasks."),
        CANONICAL_INTEGER,
    ] = MAX_TASKS,
) -> JsonStream:
    """List up to `limit` tasks of the user with an id below `before`, newest first.

    `X-Total-Count` is the number of all tasks of the user. If there are older ones, `Link` has
    the URL of the next page (`rel="next"`, RFC 8288).
    """
    tasks = app.feed.pages
    extent = await tasks.extent(user.id, before, limit)
    headers = {"X-Total-Count": str(extent.total)}
    if extent.has_more:
        headers["Link"] = next_page(request, before=extent.oldest, limit=limit)
    return JsonStream(tasks.json_array(user.id, extent), settings=app.settings, headers=headers)


@router.get("/{task_id}", response_model=schema.Task, responses=error_statuses(TASK))
async def get_task(task: ReadableTask, app: AppServices) -> JsonStream:
    """Return a task with its newest `events`: up to 10,000 or 8 MiB, at least one.

    `first_seq` is the `seq` of the first of them, or of the next event if there are none.
    `events_truncated` is true if there are earlier ones.
    """
    extent = await app.event_log.pages.newest_extent(
        task.id, task.last_seq, max_events=MAX_TASK_EVENTS, max_bytes=MAX_EVENT_BYTES
    )
    return JsonStream(_with_events(app, task, extent), settings=app.settings)


async def _with_events(app: Services, task: Task, extent: EventRange) -> AsyncIterator[bytes]:
    fields = dict(task_to_wire(task))
    fields |= {"first_seq": extent.first, "events_truncated": extent.first > 1}
    yield to_json(fields)[:-1] + b',"events":'
    async for piece in app.event_log.pages.json_array(task.id, extent):
        yield piece
    yield b"}"


@router.get(
    "/{task_id}/events", response_model=list[dict[str, Any]], responses=error_statuses(TASK)
)
async def list_events(
    request: Request,
    task: ReadableTask,
    app: AppServices,
    after: Annotated[
        int,
        Query(ge=0, lt=2**63, description="`seq` after which the page starts."),
        CANONICAL_INTEGER,
    ] = 0,
    limit: Annotated[
        int,
        Query(ge=1, le=MAX_LISTED_EVENTS, description="Maximum number of events."),
        CANONICAL_INTEGER,
    ] = DEFAULT_LISTED_EVENTS,
) -> JsonStream:
    """Return the events of a task after the `seq` `after`: up to `limit` or 8 MiB.

    If 8 MiB contain fewer than `limit` events, `Link` has the URL of the rest. BeRay extension.
    """
    pages = app.event_log.pages
    extent, is_cut = await pages.following_extent(
        task.id, after, max_events=limit, max_bytes=MAX_EVENT_BYTES
    )
    headers = {}
    if is_cut:
        left = limit - extent.count
        headers["Link"] = next_page(request, after=extent.last, limit=left)
    return JsonStream(pages.json_array(task.id, extent), settings=app.settings, headers=headers)


def next_page(request: Request, **query: int) -> str:
    """Return a ``Link`` to the path of the request with another query, without a host."""
    return f'<{quote(request.url.path)}?{urlencode(query)}>; rel="next"'


@router.post("/{task_id}/start", responses=error_statuses({**TASK, 409: "The task is not held."}))
async def start_task(task: WritableTask, app: AppServices) -> schema.Task:
    """Start a task that was created with `"start": false`. BeRay extension."""
    released = await app.tasks.release(task.id)
    if released is None:
        raise HTTPException(
            409, f"Task {task.id} is not held and cannot be started; its status is {task.status}."
        )
    return task_to_wire(released)


@router.post("/{task_id}/stop", responses=error_statuses(TASK))
async def stop_task(task: WritableTask, app: AppServices) -> schema.Message:
    """Stop a task. The response is immediate; the task's stream reports when it has stopped."""
    is_stopping = await app.executor.stop(task)
    if task.chat is not None:
        if is_stopping:
            return {"message": f"The answer of chat {task.chat} is being stopped."}
        return {"message": f"Chat {task.chat} is not writing an answer."}
    if is_stopping:
        return {"message": f"Task {task.id} is being stopped."}
    return {"message": f"Task {task.id} has already ended."}


@router.delete("/{task_id}", responses=error_statuses(TASK))
async def delete_task(task: WritableTask, app: AppServices) -> schema.Deleted:
    """Delete a task, its events and its files. A running task is stopped first."""
    await app.executor.stop_and_wait(task)
    await app.deletion.delete(task.id)
    app.event_log.forget(task.id)
    app.feed.wake(task.user_id)
    return {"status": "success", "message": f"Task {task.id} was deleted."}
