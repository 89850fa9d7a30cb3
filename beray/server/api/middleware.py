"""ASGI middleware for all requests: request ids, body limits, crash handling and activity."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beray.schema import API_PREFIX, IDEMPOTENCY_HEADER
from beray.server.http.active_requests import request_state
from beray.server.http.integers import declared_size
from beray.server.storage.idempotency_keys import IDEMPOTENCY_KEY_SECONDS
from beray.server.storage.shortage import is_shortage, shortage_response

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Limit of the body of an authenticated request. It does not apply to uploads of files, which are
not held in memory."""
ANONYMOUS_BODY_BYTES: Final = 64 * 1024
"""Limit of the body of a request that is not authenticated, or not authenticated yet."""
_UPLOADS: Final = re.compile(
    f"PUT {API_PREFIX}/tasks/[0-9]+/files/content"
    "|PUT /internal/objects/.*|POST /internal/files/upload(_temp)?",
    re.DOTALL,
)

log = structlog.get_logger("beray.http")


STOPPING: Final = "The server is stopping; the request was not completed. Send it again."
STOPPING_SECONDS: Final = 5
"""Value of ``Retry-After`` while the server is stopping."""


class _BodyTooLarge(Exception):
    pass


class RequestContextMiddleware:
    """ASGI middleware that gives each response an id, limits bodies and answers crashes with 500.

    The limit of a body is checked when the application first reads it, so that a rejection that
    does not depend on the body is sent before any of it is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI specifies."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started = False
        exceeded: int | None = None
        received = 0
        state = request_state(scope)
        state.request_id = request_id
        declared = declared_size(Headers(scope=scope))
        upload = _UPLOADS.fullmatch(f"{scope['method']} {scope['path']}") is not None

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if scope["path"].startswith(f"{API_PREFIX}/"):
                    headers[IDEMPOTENCY_HEADER] = str(IDEMPOTENCY_KEY_SECONDS)
                if "location" in headers:
                    headers["location"] = _without_host(headers["location"])
            await send(message)

        async def send_unless_exceeded(message: Message) -> None:
            # A response of the routes to a truncated body would not contain the real reason.
            if started or exceeded is None:
                await send_with_headers(message)

        def check_size(size: int) -> None:
            nonlocal exceeded
            limit = MAX_BODY_BYTES if state.authenticated else ANONYMOUS_BODY_BYTES
            if size > limit and not (upload and state.authenticated):
                exceeded = limit
                raise _BodyTooLarge

        async def receive_limited() -> Message:
            nonlocal received
            if not started:
                check_size(declared)
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                check_size(received)
            return message

        async def fail(status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
            response = JSONResponse({"detail": detail}, status, headers)
            await response(scope, receive, send_with_headers)

        try:
            with suppress(_BodyTooLarge):
                await self._app(scope, receive_limited, send_unless_exceeded)
            if exceeded is not None and not started:
                await fail(413, too_large(exceeded))
        except asyncio.CancelledError:
            # The server stops, and the time limit for open requests has passed. A response that
            # has begun ends with its connection.
            if not started:
                await fail(503, STOPPING, {"Retry-After": str(STOPPING_SECONDS)})
        except Exception as error:
            if started:
                # Too late for an error status; the client sees that the connection breaks.
                raise
            if exceeded is not None:  # _BodyTooLarge in an exception group
                await fail(413, too_large(exceeded))
                return
            if is_shortage(error):
                log.error(
                    "a request failed for a shortage", request_id=request_id, error=str(error)
                )
                await fail(503, *shortage_response(error))
                return
            log.error("a request crashed", request_id=request_id, exc_info=error)
            await fail(500, f"The server failed; its log contains the cause for {request_id}.")


def too_large(limit: int) -> str:
    """Return the message of the 413 for a body of more than ``limit`` bytes."""
    return f"The request's body is too large; at most {limit} bytes are accepted."


def _without_host(location: str) -> str:
    """Return a redirect without its host, which comes from the request and is not trustworthy."""
    to = urlsplit(location)
    return urlunsplit(("", "", "/" + to.path.lstrip("/"), to.query, ""))


class Activity:
    """Activity of clients: the number of open requests, and the end of the last one."""

    def __init__(self) -> None:
        self._open = 0
        self._last = time.monotonic()

    def quiet_seconds(self) -> float:
        """Return the seconds since the last request ended; 0 while a request is open."""
        return 0.0 if self._open else time.monotonic() - self._last

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as open during the block."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._last = time.monotonic()

    class Middleware:
        """ASGI middleware that records requests and WebSockets in an ``Activity``."""

        def __init__(self, app: ASGIApp, activity: Activity) -> None:
            self._app = app
            self._activity = activity

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Handle one connection, as ASGI specifies."""
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
                return
            with self._activity.request():
                await self._app(scope, receive, send)
