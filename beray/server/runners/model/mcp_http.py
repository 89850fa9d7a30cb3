"""Connections to MCP servers over HTTP: streamable HTTP, and HTTP with SSE.

The SDK's transport for streamable HTTP ends as a whole, with all calls under way, if one request
fails to connect. ``McpHttpClient`` therefore answers such a request itself, with a JSON-RPC error
that describes the failure: it concerns that request only, and the session continues.

Source: Model Context Protocol 2025-11-25, "Transports": session management; 2024-11-05 for SSE.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from beray.server.outbound import transport as outbound
from beray.server.outbound.policy import ForbiddenDestination, OutboundPolicy
from beray.server.runners.mcp.config import McpServer

MESSAGE_BYTES: Final = 16 * 1024**2
"""Limit of one message, decompressed."""
_ERROR_BYTES: Final = 64 * 1024
"""Limit of the part of an error response that is examined."""
_FAILURE_CODE: Final = 1
"""JSON-RPC code of failures. Codes outside -32768 to -32000 are free for applications."""
_SESSION_HEADER: Final = "mcp-session-id"


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """Why a request has no response of the server that can be used.

    Attributes:
        reason: For messages; without credentials and without parts of responses.
        processed: Whether the server may have processed the request.
        session_lost: The server does not know the session any more, and a new one is needed.
    """

    reason: str
    processed: bool = False
    session_lost: bool = False


class HttpFailures:
    """Failures of one connection on their way through the SDK, as JSON-RPC errors."""

    def __init__(self, server: McpServer) -> None:
        self._server = server
        # A server cannot know it, so it cannot imitate a failure.
        self._token = secrets.token_hex(8)
        self.redirect_status: int | None = None
        """Status of the last redirect. The SDK follows those within the server's origin."""

    def response(self, request: httpx2.Request, failure: HttpFailure) -> httpx2.Response:
        """Return a response from which the SDK makes an ``MCPError`` for ``find``."""
        data = {"token": self._token, "failure": asdict(failure)}
        error = {"code": _FAILURE_CODE, "message": failure.reason, "data": data}
        body = {"jsonrpc": "2.0", "id": None, "error": error}
        return httpx2.Response(502, json=body, request=request)

    def find(self, error: BaseException | None) -> HttpFailure | None:
        """Return the failure that ``error`` stands for, None if it is another error."""
        if isinstance(error, MCPError):
            if isinstance(error.data, dict) and error.data.get("token") == self._token:
                return HttpFailure(**error.data["failure"])
            if self.redirect_status is not None and error.message.startswith("Redirect to "):
                return HttpFailure(
                    f"it answered with HTTP status {self.redirect_status}, a redirect to another "
                    "server or path"
                )
        if isinstance(error, httpx2.HTTPStatusError):
            return self.of_status(error.request, error.response)
        if isinstance(error, httpx2.RequestError | ForbiddenDestination):
            return self.of_error(error)
        return None

    def of_error(self, error: Exception) -> HttpFailure:
        match error:
            case ForbiddenDestination():
                return HttpFailure(str(error))
            case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return HttpFailure("it did not accept a connection in time")
            case httpx2.ConnectError() | httpx2.UnsupportedProtocol():
                return HttpFailure(self._server.safe(f"it cannot be reached: {error}"))
            case httpx2.TimeoutException():
                return HttpFailure("it did not answer in time", processed=True)
            case httpx2.TransportError():
                return HttpFailure("it closed the connection", processed=True)
        return HttpFailure("its response cannot be decoded", processed=True)

    def of_status(self, request: httpx2.Request, response: httpx2.Response) -> HttpFailure:
        status = response.status_code
        if status == 404 and _SESSION_HEADER in request.headers:
            return HttpFailure("it does not know the session any more", session_lost=True)
        if status in (401, 403):
            return HttpFailure(self._unauthorized(status))
        redirect = ", a redirect to another server or path" if response.is_redirect else ""
        return HttpFailure(
            f"it answered with HTTP status {status}{redirect}", processed=status >= 500
        )

    def _unauthorized(self, status: int) -> str:
        """Return what the server requires, and the setting to change."""
        names = ", ".join(self._server.headers)
        example = '{"url": "…", "headers": {"Authorization": "Bearer …"}}'
        if not names:
            return (
                f"{_origin(self._server.url)} requires authorization (HTTP status {status}): set "
                f"the header that it expects in the task's tools, such as {example}"
            )
        if status == 401:
            return (
                f"{_origin(self._server.url)} rejected the credentials (HTTP status 401): the "
                f"value of a header may be wrong or expired, or another header is expected; the "
                f"task's tools set {names}"
            )
        return (
            f"{_origin(self._server.url)} denies access (HTTP status 403): the credentials lack "
            f"permission, or another header is expected; the task's tools set {names}"
        )


class McpHttpClient(httpx2.AsyncClient):
    """HTTP client of one connection to an MCP server.

    Args:
        failures: Makes responses of failures.
        ended: Called at the end of a stream that the client opened by GET, and after a failed
            POST; None: not called.
        options: Arguments of ``httpx2.AsyncClient``.
    """

    def __init__(
        self, *, failures: HttpFailures, ended: Callable[[], None] | None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._failures = failures
        self._ended = ended

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.method == "GET" and self._ended is not None:
            response = await super().send(request, **options)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Watched(response.stream, self._ended)
            return response
        if request.method != "POST":
            return await super().send(request, **options)
        answer = await self._post(request, options)
        if not isinstance(answer, HttpFailure):
            return answer
        if self._ended is not None:
            self._ended()
        return self._failures.response(request, answer)

    async def _post(
        self, request: httpx2.Request, options: dict[str, Any]
    ) -> httpx2.Response | HttpFailure:
        try:
            response = await super().send(request, **options)
            if response.has_redirect_location:
                self._failures.redirect_status = response.status_code
                return response
            if not response.is_success:
                return await self._refused(request, response)
            if not _is_json(response):
                return response
            body = await _body(response, MESSAGE_BYTES)
        except (httpx2.RequestError, ForbiddenDestination) as error:
            return self._failures.of_error(error)
        if len(body) > MESSAGE_BYTES:
            reason = f"its message is larger than {MESSAGE_BYTES:,} bytes"
            return HttpFailure(reason, processed=True)
        return _with_body(response, body)

    async def _refused(
        self, request: httpx2.Request, response: httpx2.Response
    ) -> httpx2.Response | HttpFailure:
        """Return the response if it contains a JSON-RPC error, which the SDK interprets."""
        failure = self._failures.of_status(request, response)
        has_session = _SESSION_HEADER in request.headers
        if failure.session_lost or response.status_code in (401, 403) or failure.processed:
            await response.aclose()
            return failure
        body = await _body(response, _ERROR_BYTES)
        if response.status_code == 400 and has_session and b"session" in body.lower():
            # Servers made after an early example of the TypeScript SDK answer so instead of 404.
            return HttpFailure(failure.reason, session_lost=True)
        return _with_body(response, body) if _is_error(body) else failure


class _Watched(httpx2.AsyncByteStream):
    """Body of a response that reports its end."""

    def __init__(self, stream: httpx2.AsyncByteStream, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        finally:
            self._ended()

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def over_http(
    server: McpServer,
    policy: OutboundPolicy,
    failures: HttpFailures,
    ended: Callable[[], None],
    *,
    connect_seconds: float,
    read_seconds: float,
) -> AsyncIterator[TransportStreams]:
    """Open the two streams of a session. The headers of ``server`` reach no other origin.

    Args:
        ended: Called when a session over HTTP with SSE has ended: its messages arrive on one
            connection, without which none can be answered.
    """
    timeout = httpx2.Timeout(connect_seconds, read=read_seconds)

    def new_client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = timeout,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return outbound.client(
            policy,
            factory=partial(McpHttpClient, failures=failures, ended=ended if server.sse else None),
            headers={**server.headers, **(headers or {})},
            timeout=timeout,
            auth=auth,
        )

    if server.sse:
        async with sse_client(
            server.url,
            timeout=connect_seconds,
            sse_read_timeout=read_seconds,
            httpx_client_factory=new_client,
        ) as streams:
            yield streams
        return
    async with (
        new_client() as client,
        streamable_http_client(
            server.url, http_client=client, max_sse_event_size=MESSAGE_BYTES
        ) as streams,
    ):
        yield streams


def _origin(url: str) -> str:
    """Return scheme, host and port. The path of a URL may contain its credential."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _is_json(response: httpx2.Response) -> bool:
    return bool(response.headers.get("content-type", "").lower().startswith("application/json"))


async def _body(response: httpx2.Response, most: int) -> bytes:
    """Return the decoded body, more than ``most`` bytes if it is longer."""
    body = bytearray()
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > most:
                break
    finally:
        await response.aclose()
    return bytes(body)


def _with_body(response: httpx2.Response, body: bytes) -> httpx2.Response:
    """Return the response with a body that has been read and decoded."""
    left_out = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in left_out]
    return httpx2.Response(
        response.status_code, headers=headers, content=body, request=response.request
    )


def _is_error(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and isinstance(message.get("error"), dict)
