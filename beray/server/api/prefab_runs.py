"""The route that runs functions of prefabs: one, streamed or not, or many side by side.

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
from beray.server.api.dependencies import AppServices
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

MOST_CALLS: Final = 100
"""In one request."""
_ZERO: Final = re.compile(r"(^|;)\s*q=0(\.0*)?\s*($|;)", re.IGNORECASE)
"""What is not acceptable at all (RFC 9110, 12.4.2)."""
_EVENTS: Final = "text/event-stream"

log = structlog.get_logger("beray.prefabs")
router = APIRouter(tags=["gateway"], route_class=GatewayRoute)


class RunRequest(BaseModel):
    calls: Annotated[list[CallRequest], Field(min_length=1, max_length=MOST_CALLS)]


_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {}, _EVENTS: {}}}
}


@router.post("/v1/run", response_model=None, responses=_RESPONSES)  # SDK 0.2.0 to 0.3.2
@router.post("/v1/internal/run", response_model=None, responses=_RESPONSES)
async def run(
    body: RunRequest, request: Request, caller: CurrentPrincipal, app: AppServices
) -> Response:
    """Run functions of prefabs; several run side by side.

    One call is streamed where ``Accept`` names ``text/event-stream``, or says nothing and the
    function streams. What cannot begin is refused; among several it is a failed result.
    """
    if caller.run is None:
        # The calls of a run are part of it, and runs under way may end.
        app.maintenance.require_off()
    calls = [await _prepared(app, caller, call, at) for at, call in enumerate(body.calls)]
    if len(calls) == 1 and isinstance(calls[0], GatewayHTTPError):
        raise calls[0]
    streamed = _wants_stream(request, calls)
    if streamed and len(calls) > 1:
        raise GatewayHTTPError(422, INVALID_INPUT, "One call alone can be streamed.")
    count = sum(isinstance(call, PreparedCall) for call in calls)
    app.gateway.prefabs.runs.require_place(caller, count)
    await _count(app, caller, count)
    # Other requests may have begun calls meanwhile.
    app.gateway.prefabs.runs.require_place(caller, count)
    job = str(uuid.uuid4())
    first = calls[0]
    if streamed and isinstance(first, PreparedCall):
        return _stream(app, caller, first, job)
    results = await _results(app, caller, calls, job, request)
    status = "SUCCESS" if all(one["status"] == "SUCCESS" for one in results) else "FAILED"
    answer = await run_in_threadpool(to_json, {"job_id": job, "status": status, "results": results})
    return JsonStream(_whole(answer), app.settings)


async def _whole(answer: bytes) -> AsyncIterator[bytes]:
    yield answer


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
        if not _ZERO.search(weight)
    }
    if _EVENTS in accepted:
        return True
    if accepted & {"application/json", "application/*"}:
        return False
    first = calls[0]
    return len(calls) == 1 and isinstance(first, PreparedCall) and first.function.streaming


async def _count(app: Services, caller: Principal, calls: int) -> None:
    """Raises GatewayHTTPError: 429, the caller has no more calls today."""
    limit = app.settings.daily_prefab_calls
    if calls == 0:
        return
    used = await run_in_threadpool(app.gateway.quotas.count_calls, caller.subject, limit, calls)
    if limit is not None and used > limit:
        raise GatewayHTTPError(
            429,
            "QUOTA_EXCEEDED",
            f"This would be more than the {limit:,} calls of a day; it begins anew at 00:00 UTC.",
            limit=limit,
            used=used - calls,
            quota_type="daily_calls",
        )


# Plain


async def _results(
    app: Services,
    caller: Principal,
    calls: Sequence[PreparedCall | GatewayHTTPError],
    job: str,
    request: Request,
) -> list[CallResult]:
    """The results in the order of the calls. Whoever leaves meanwhile ends them all."""
    begun: list[asyncio.Task[CallResult] | CallResult] = [
        runs.rejected_result(call.detail)
        if isinstance(call, GatewayHTTPError)
        # Two calls may make files of the same name.
        else app.gateway.prefabs.runs.start(
            caller, call, job if len(calls) == 1 else f"{job}-{number}"
        )
        for number, call in enumerate(calls, 1)
    ]
    tasks = {task for task in begun if isinstance(task, asyncio.Task)}
    leaving = asyncio.create_task(_gone(request))
    try:
        waiting = set(tasks)
        while waiting and not leaving.done():
            await asyncio.wait({*waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            waiting = {task for task in waiting if not task.done()}
    finally:
        leaving.cancel()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    return [_result(one) if isinstance(one, asyncio.Task) else one for one in begun]


def _result(task: asyncio.Task[CallResult]) -> CallResult:
    return runs.cancelled_result() if task.cancelled() else task.result()


async def _gone(request: Request) -> None:
    """Return once the caller has left. The body has been read whole."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


# Streamed


def _stream(app: Services, caller: Principal, call: PreparedCall, job: str) -> Response:
    return event_stream(_events(app, caller, call, job), app.settings, retry=False)


async def _events(
    app: Services, caller: Principal, call: PreparedCall, job: str
) -> AsyncIterator[bytes]:
    buffer = StreamBuffer(app.settings.data_dir / "scratch")
    telling = asyncio.create_task(_tell(app, caller, call, job, buffer))
    try:
        async for message in buffer.read(app.settings.heartbeat_seconds):
            yield message
    finally:
        # The reader may have left. The end of the run is awaited when the server stops.
        telling.cancel()
        buffer.close()


async def _tell(
    app: Services, caller: Principal, call: PreparedCall, job: str, buffer: StreamBuffer
) -> None:
    """Run a call, and put what comes of it into ``buffer``."""

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
        # A stream that ends without its result says that it was cut.
        log.error("the result of a call cannot be sent", job=job, exc_info=error)
    finally:
        if running is not None:
            running.cancel()
        await buffer.end()
