"""Route that calls functions of prefabs: a single call, optionally streamed, or several.

Source: the Gateway wire page.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from beray.server.accounts.principals import Principal
from beray.server.api.dependencies import (
    AppServices,
)
from beray.server.api.error_statuses import GATEWAY_CALLER, error_statuses
from beray.server.api.gateway_auth import CurrentPrincipal
from beray.server.api.responses import JsonStream, event_stream
from beray.server.http.gateway_errors import INVALID_INPUT, GatewayHTTPError, GatewayRoute
from beray.server.prefabs import run as runs
from beray.server.prefabs.call_request import CallRequest, PreparedCall
from beray.server.prefabs.protocol import StreamItem
from beray.server.prefabs.run import CallResult
from beray.server.prefabs.stream_buffer import StreamBuffer
from beray.server.services import Services
from beray.server.tasks.task_pages import to_json

MAX_CALLS: Final = 100
"""Maximum number of calls in one request."""
_ZERO_WEIGHT: Final = re.compile(r"(^|;)\s*q=0(\.0*)?\s*($|;)", re.IGNORECASE)
"""Weight of a media type that is not acceptable (RFC 9110, 12.4.2)."""
_EVENT_STREAM: Final = "text/event-stream"

log = structlog.get_logger("beray.prefabs")
router = APIRouter(tags=["gateway"], route_class=GatewayRoute)


class RunRequest(BaseModel):
    """Body of a request that calls functions of prefabs."""

    calls: Annotated[list[CallRequest], Field(min_length=1, max_length=MAX_CALLS)]


_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {}, _EVENT_STREAM: {}}},
    **error_statuses(
        {
            **GATEWAY_CALLER,
            400: "`MISSING_SECRET`: the prefab needs a secret that the caller has not set.",
            404: "`PREFAB_NOT_FOUND`: the prefab, the version or the function does not exist.",
            422: "`INVALID_INPUT`: `errors` has the positions and reasons.",
            429: "`QUOTA_EXCEEDED` or `QUEUE_FULL`: no call was started.",
        }
    ),
}


@router.post("/v1/run", response_model=None, responses=_RESPONSES)  # SDK 0.2.0 to 0.3.2
@router.post("/v1/internal/run", response_model=None, responses=_RESPONSES)
async def run(
    body: RunRequest, request: Request, caller: CurrentPrincipal, app: AppServices
) -> Response:
    """Call functions of prefabs; several calls run concurrently.

    A single call is streamed if `Accept` contains `text/event-stream`, or accepts any type and
    the function is a generator. A single call that cannot start gets an error response; among
    several calls it is a failed result.
    """
    if caller.run is None:
        # During maintenance, active runs and their calls may continue.
        app.maintenance.require_off()
    calls = [await _prepared(app, caller, call, at) for at, call in enumerate(body.calls)]
    if len(calls) == 1 and isinstance(calls[0], GatewayHTTPError):
        raise calls[0]
    streamed = _wants_stream(request, calls)
    if streamed and len(calls) > 1:
        raise GatewayHTTPError(
            422,
            INVALID_INPUT,
            f"Only a single call can be streamed, and the request has {len(calls)}. Send "
            "Accept: application/json.",
        )
    count = sum(isinstance(call, PreparedCall) for call in calls)
    app.gateway.prefabs.runs.require_place(caller, count)
    await _count_calls(app, caller, count)
    # Checked again, because other requests may have started calls meanwhile.
    app.gateway.prefabs.runs.require_place(caller, count)
    job = str(uuid.uuid4())
    first = calls[0]
    if streamed and isinstance(first, PreparedCall):
        return _stream(app, caller, first, job)
    results = await _results(app, caller, calls, job, request)
    status = "SUCCESS" if all(result["status"] == "SUCCESS" for result in results) else "FAILED"
    content = await run_in_threadpool(
        to_json, {"job_id": job, "status": status, "results": results}
    )
    return JsonStream(_single(content), settings=app.settings)


async def _single(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def _prepared(
    app: Services, caller: Principal, call: CallRequest, number: int
) -> PreparedCall | GatewayHTTPError:
    try:
        return await app.gateway.prefabs.preparer.prepare(caller, call, number)
    except GatewayHTTPError as error:
        return error


def _wants_stream(request: Request, calls: Sequence[PreparedCall | GatewayHTTPError]) -> bool:
    accepted = {
        kind.strip().lower()
        for line in request.headers.getlist("accept")
        for kind, _, weight in (item.partition(";") for item in line.split(","))
        if not _ZERO_WEIGHT.search(weight)
    }
    if _EVENT_STREAM in accepted:
        return True
    if accepted & {"application/json", "application/*"}:
        return False
    first = calls[0]
    return len(calls) == 1 and isinstance(first, PreparedCall) and first.function.streaming


async def _count_calls(app: Services, caller: Principal, calls: int) -> None:
    """Count calls of a principal.

    Raises:
        GatewayHTTPError: 429, the calls exceed the daily limit.
    """
    limit = app.settings.daily_prefab_calls
    if calls == 0:
        return
    used = await run_in_threadpool(app.gateway.calls.count, caller.subject, limit, calls)
    if limit is not None and used > limit:
        raise GatewayHTTPError(
            429,
            "QUOTA_EXCEEDED",
            f"The request would exceed the daily limit of {limit:,} calls, of which "
            f"{used - calls:,} are used. The count is reset at 00:00 UTC.",
            limit=limit,
            used=used - calls,
            quota_type="daily_calls",
        )


# JSON responses


async def _results(
    app: Services,
    caller: Principal,
    calls: Sequence[PreparedCall | GatewayHTTPError],
    job: str,
    request: Request,
) -> list[CallResult]:
    """Return the results in the order of the calls; cancel them if the client disconnects."""
    started: list[asyncio.Task[CallResult] | CallResult] = [
        runs.rejected_result(call.detail)
        if isinstance(call, GatewayHTTPError)
        # Each call has its own id, because two of them may produce files of the same name.
        else app.gateway.prefabs.runs.start(
            caller, call, job if len(calls) == 1 else f"{job}-{number}"
        )
        for number, call in enumerate(calls, 1)
    ]
    tasks = {task for task in started if isinstance(task, asyncio.Task)}
    disconnect = asyncio.create_task(_wait_for_disconnect(request))
    try:
        waiting = set(tasks)
        while waiting and not disconnect.done():
            await asyncio.wait({*waiting, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            waiting = {task for task in waiting if not task.done()}
    finally:
        disconnect.cancel()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    return [_result(call) if isinstance(call, asyncio.Task) else call for call in started]


def _result(task: asyncio.Task[CallResult]) -> CallResult:
    return runs.cancelled_result() if task.cancelled() else task.result()


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client disconnects. The body has already been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


# Streamed responses


def _stream(app: Services, caller: Principal, call: PreparedCall, job: str) -> Response:
    return event_stream(_events(app, caller, call, job), app.settings, retry=False)


async def _events(
    app: Services, caller: Principal, call: PreparedCall, job: str
) -> AsyncIterator[bytes]:
    buffer = StreamBuffer(app.settings.data_dir / "scratch")
    running = asyncio.create_task(_run_streamed(app, caller, call, job, buffer))
    try:
        async for message in buffer.read(app.settings.heartbeat_seconds):
            yield message
    finally:
        # The client may have disconnected. When the server stops, it waits for the run's end.
        running.cancel()
        buffer.close()


async def _run_streamed(
    app: Services, caller: Principal, call: PreparedCall, job: str, buffer: StreamBuffer
) -> None:
    """Run a call, and put its messages into ``buffer``."""

    async def emit(piece: StreamItem) -> None:
        await buffer.put(*piece)

    running: asyncio.Task[CallResult] | None = None
    try:
        await buffer.put("start", {"job_id": job})
        running = app.gateway.prefabs.runs.start(caller, call, job, emit)
        await asyncio.wait([running])
        result = _result(running)
        if result["status"] == "SUCCESS":
            output = result["output"]
            await buffer.put("done", {"job_id": job, "status": "SUCCESS", "output": output})
        else:
            await buffer.put("error", result["error"])
    except OSError as error:
        # Clients detect the failure, because the stream ends without a result.
        log.error("could not send the result of a call", job=job, exc_info=error)
    finally:
        if running is not None:
            running.cancel()
        await buffer.end()
