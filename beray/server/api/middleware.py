"""ASGI middleware around every request: its id, its limits, crashes, and whether any is open."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beray.schema import IDEMPOTENCY_HEADER
from beray.server.http.active_requests import request_state
from beray.server.http.integers import declared_size
from beray.server.runtime.shortage import is_shortage, refusal
from beray.server.storage.store import IDEMPOTENCY_KEY_SECONDS

API_PREFIX: Final = "/api/v1"
"""Of the calls of the BeRay API; those of the gateway stand beside it."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Limit of the body of an authenticated request. Uploads of files, which are never held in
memory, have none."""
ANONYMOUS_BODY_BYTES: Final = 64 * 1024
"""Limit of the body of a request whose sender is not known, or not known yet."""
_UPLOADS: Final = re.compile(
    f"PUT {API_PREFIX}/tasks/[0-9]+/files/content"
    "|PUT /internal/objects/.*|POST /internal/files/upload(_temp)?",
    re.DOTALL,
)

log = structlog.get_logger("beray.http")


STOPPING: Final = "The server is stopping; the request was not completed. Send it again."
STOPPING_SECONDS: Final = 5


class _BodyTooLarge(Exception):
    pass


class RequestContextMiddleware:
    """ASGI middleware that gives each response an id, limits bodies and answers crashes with 500.

    The limit of a body is checked when the application first reads it, so that a refusal that
    needs no body comes before any of it is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started = False
        exceeded: int | None = None
        received = 0
        state = request_state(scope)
        declared = declared_size(Headers(scope=scope))
        upload = _UPLOADS.fullmatch(f"{scope['method']} {scope['path']}") is not None

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if scope["path"].startswith(f"{API_PREFIX}/"):
                    headers[IDEMPOTENCY_HEADER] = str(IDEMPOTENCY_KEY_SECONDS)
                if "location" in headers:
                    headers["location"] = _on_this_host(headers["location"])
            await send(message)

        async def answer(message: Message) -> None:
            # What the routes make of a body that was cut here is not the reason.
            if started or exceeded is None:
                await named(message)

        def require_fit(size: int) -> None:
            nonlocal exceeded
            most = MAX_BODY_BYTES if state.authenticated else ANONYMOUS_BODY_BYTES
            if size > most and not (upload and state.authenticated):
                exceeded = most
                raise _BodyTooLarge

        async def bounded() -> Message:
            nonlocal received
            if not started:
                require_fit(declared)
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                require_fit(received)
            return message

        async def fail(status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
            await JSONResponse({"detail": detail}, status, headers)(scope, receive, named)

        try:
            with suppress(_BodyTooLarge):
                await self._app(scope, bounded, answer)
            if exceeded is not None and not started:
                await fail(413, too_large(exceeded))
        except asyncio.CancelledError:
            # The server stops, and the time for requests under way has passed. A response that
            # has begun ends with its connection.
            if not started:
                await fail(503, STOPPING, {"Retry-After": str(STOPPING_SECONDS)})
        except Exception as error:
            if started:
                # Too late for a status: the connection breaks, and is seen to.
                raise
            if exceeded is not None:  # in a group of exceptions
                await fail(413, too_large(exceeded))
                return
            if is_shortage(error):
                log.error("a request met a shortage", request_id=request_id, error=str(error))
                await fail(503, *refusal(error))
                return
            log.error("a request crashed", request_id=request_id, exc_info=error)
            await fail(500, f"The server failed; its log says why under {request_id}.")


def too_large(most: int) -> str:
    return f"A request's body is {most} bytes at most."


def _on_this_host(location: str) -> str:
    """A redirect without its host, which was taken from the request and may be anybody's."""
    to = urlsplit(location)
    return urlunsplit(("", "", "/" + to.path.lstrip("/"), to.query, ""))


class Activity:
    """Whether anybody is here: requests under way, and when the last one ended."""

    def __init__(self) -> None:
        self._under_way = 0
        self._last = time.monotonic()

    def quiet_seconds(self) -> float:
        return 0.0 if self._under_way else time.monotonic() - self._last

    class Middleware:
        def __init__(self, app: ASGIApp, activity: Activity) -> None:
            self._app = app
            self._activity = activity

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
                return
            activity = self._activity
            activity._under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                activity._under_way -= 1
                activity._last = time.monotonic()
