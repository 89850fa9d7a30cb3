"""What surrounds every request: its id, its limits, its last resort; and who is here."""

from __future__ import annotations

import re
import secrets
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beray.schema import IDEMPOTENCY_HEADER
from beray.server.store import KEY_SECONDS

API_PREFIX: Final = "/api/v1"
"""Of the calls of the BeRay API; those of the gateway stand beside it."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""For every call but the upload of a file, which is never held in memory."""
_UPLOADS: Final = re.compile(
    f"PUT {API_PREFIX}/tasks/[0-9]+/files/content"
    "|PUT /internal/objects/.*|POST /internal/files/upload(_temp)?",
    re.DOTALL,
)

log = structlog.get_logger("beray.http")


class _BodyTooLarge(Exception):
    pass


class Envelope:
    """Names each answer, bounds what is read into memory, turns a crash into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started = exceeded = False
        received = 0
        upload = _UPLOADS.fullmatch(f"{scope['method']} {scope['path']}") is not None

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if scope["path"].startswith(f"{API_PREFIX}/"):
                    headers[IDEMPOTENCY_HEADER] = str(KEY_SECONDS)
                if "location" in headers:
                    headers["location"] = _on_this_host(headers["location"])
            await send(message)

        async def answer(message: Message) -> None:
            # What the routes make of a body that was cut here is not the reason.
            if started or not exceeded:
                await named(message)

        async def bounded() -> Message:
            nonlocal received, exceeded
            message = await receive()
            if message["type"] == "http.request" and not upload:
                received += len(message.get("body", b""))
                if received > MAX_BODY_BYTES:
                    exceeded = True
                    raise _BodyTooLarge
            return message

        async def fail(status: int, detail: str) -> None:
            await JSONResponse({"detail": detail}, status)(scope, receive, named)

        declared = Headers(scope=scope).get("content-length", "0")
        too_large = f"A request's body is {MAX_BODY_BYTES} bytes at most."
        if not upload and declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
            await fail(413, too_large)
            return
        try:
            with suppress(_BodyTooLarge):
                await self._app(scope, bounded, answer)
            if exceeded and not started:
                await fail(413, too_large)
        except Exception as error:
            if started:
                # Too late for a status: the connection breaks, and is seen to.
                raise
            log.error("a request crashed", request_id=request_id, exc_info=error)
            await fail(500, f"The server failed; its log says why under {request_id}.")


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
