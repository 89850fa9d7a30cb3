"""Connections to MCP servers over HTTP: streamable HTTP, and HTTP with SSE.

If one request fails to connect, the SDK's transport for streamable HTTP ends together with all
pending calls. ``McpHttpClient`` therefore responds to such a request with a JSON-RPC error that
describes the failure, so that only this request fails and the session continues.

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
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from beray.server.outbound import transport as outbound
from beray.server.outbound.policy import ForbiddenDestination, OutboundPolicy
from beray.server.runners.mcp.config import McpServer
from beray.server.runners.model._mcp_compat import TransportStreams

MESSAGE_BYTES: Final = 16 * 1024**2
"""Maximum size of one message, decompressed."""
_ERROR_BYTES: Final = 64 * 1024
"""Maximum size of the part of an error response that is examined."""
_FAILURE_CODE: Final = 1
"""JSON-RPC code of failures. Codes outside -32768 to -32000 are free for applications."""
_SESSION_HEADER: Final = "mcp-session-id"


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """Failure of a request without a usable response.

    Attributes:
        reason: Reason for messages, without credentials and without parts of responses.
        processed: Whether the server may have processed the request.
        session_lost: Whether the server has ended the session, so that a new one is needed.
    """

    reason: str
    processed: bool = False
    session_lost: bool = False


class HttpFailures:
    """Conversion of failures of one connection to JSON-RPC errors and back.

    The SDK passes JSON-RPC errors from the HTTP client to the caller.

    Attributes:
        redirect_status: Status of the last redirect. The SDK follows redirects within the
            server's origin.
    """

    def __init__(self, server: McpServer) -> None:
        self._server = server
        # Marks own errors. A server does not know it and cannot imitate them.
        self._token = secrets.token_hex(8)
        self.redirect_status: int | None = None

    def response(self, request: httpx2.Request, failure: HttpFailure) -> httpx2.Response:
        """Return a response that the SDK converts to an ``MCPError`` for ``find``."""
        data = {"token": self._token, "failure": asdict(failure)}
        error = {"code": _FAILURE_CODE, "message": failure.reason, "data": data}
        body = {"jsonrpc": "2.0", "id": None, "error": error}
        return httpx2.Response(502, json=body, request=request)

    def find(self, error: BaseException | None) -> HttpFailure | None:
        """Return the failure that ``error`` represents, or None if it is another error."""
        if isinstance(error, MCPError):
            if isinstance(error.data, dict) and error.data.get("token") == self._token:
                return HttpFailure(**error.data["failure"])
            if self.redirect_status is not None and error.message.startswith("Redirect to "):
                return HttpFailure(
                    f"it responded with HTTP status {self.redirect_status}, a redirect to another "
                    "server or path"
                )
        if isinstance(error, httpx2.HTTPStatusError):
            return self.of_status(error.request, error.response)
        if isinstance(error, httpx2.RequestError | ForbiddenDestination):
            return self.of_error(error)
        return None

    def of_error(self, error: Exception) -> HttpFailure:
        """Return the failure for an exception of the HTTP client or the outbound policy."""
        match error:
            case ForbiddenDestination():
                return HttpFailure(str(error))
            case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return HttpFailure("it did not accept a connection in time")
            case httpx2.ConnectError() | httpx2.UnsupportedProtocol():
                return HttpFailure(self._server.redacted_line(f"it cannot be reached: {error}"))
            case httpx2.TimeoutException():
                return HttpFailure("it did not respond in time", processed=True)
            case httpx2.TransportError():
                return HttpFailure("it closed the connection", processed=True)
        return HttpFailure("its response cannot be decoded", processed=True)

    def of_status(self, request: httpx2.Request, response: httpx2.Response) -> HttpFailure:
        """Return the failure for a response with an error status."""
        status = response.status_code
        if status == 404 and _SESSION_HEADER in request.headers:
            return HttpFailure("it has ended the session", session_lost=True)
        if status in (401, 403):
            return HttpFailure(self._unauthorized(status))
        redirect = ", a redirect to another server or path" if response.is_redirect else ""
        return HttpFailure(
            f"it responded with HTTP status {status}{redirect}", processed=status >= 500
        )

    def _unauthorized(self, status: int) -> str:
        """Return the reason of a 401 or 403, with the option to change."""
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
        failures: Converter of failures to responses.
        on_end: Called at the end of a stream that the client opened by GET, and after a failed
            POST; None: not called.
        options: Arguments of ``httpx2.AsyncClient``.
    """

    def __init__(
        self, *, failures: HttpFailures, on_end: Callable[[], None] | None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._failures = failures
        self._on_end = on_end

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; return a JSON-RPC error response if a POST fails."""
        if request.method == "GET" and self._on_end is not None:
            response = await super().send(request, **options)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _ObservedStream(response.stream, self._on_end)
            return response
        if request.method != "POST":
            return await super().send(request, **options)
        result = await self._post(request, options)
        if not isinstance(result, HttpFailure):
            return result
        if self._on_end is not None:
            self._on_end()
        return self._failures.response(request, result)

    async def _post(
        self, request: httpx2.Request, options: dict[str, Any]
    ) -> httpx2.Response | HttpFailure:
        try:
            response = await super().send(request, **options)
            if response.has_redirect_location:
                self._failures.redirect_status = response.status_code
                return response
            if not response.is_success:
                return await self._error_response(request, response)
            if not _is_json(response):
                return response
            body = await _body(response, MESSAGE_BYTES)
        except (httpx2.RequestError, ForbiddenDestination) as error:
            return self._failures.of_error(error)
        if len(body) > MESSAGE_BYTES:
            reason = f"its message is larger than {MESSAGE_BYTES:,} bytes"
            return HttpFailure(reason, processed=True)
        return _with_body(response, body)

    async def _error_response(
        self, request: httpx2.Request, response: httpx2.Response
    ) -> httpx2.Response | HttpFailure:
        """Return the response if it contains a JSON-RPC error, otherwise the failure."""
        failure = self._failures.of_status(request, response)
        has_session = _SESSION_HEADER in request.headers
        if failure.session_lost or response.status_code in (401, 403) or failure.processed:
            await response.aclose()
            return failure
        body = await _body(response, _ERROR_BYTES)
        if response.status_code == 400 and has_session and b"session" in body.lower():
            # Servers based on an early example of the TypeScript SDK respond with 400, not 404.
            return HttpFailure(failure.reason, session_lost=True)
        return _with_body(response, body) if _is_error(body) else failure


class _ObservedStream(httpx2.AsyncByteStream):
    """Body of a response that reports its end."""

    def __init__(self, stream: httpx2.AsyncByteStream, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        finally:
            self._on_end()

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def http_transport(
    server: McpServer,
    policy: OutboundPolicy,
    failures: HttpFailures,
    on_end: Callable[[], None],
    *,
    connect_seconds: float,
    read_seconds: float,
) -> AsyncIterator[TransportStreams]:
    """Open the two streams of a session. The headers of ``server`` reach no other origin.

    Args:
        server: The MCP server.
        policy: Destinations that may be reached.
        failures: Converter of failures to responses.
        on_end: Called when a session over HTTP with SSE has ended. All its responses arrive on
            one connection, so the session cannot continue without it.
        connect_seconds: Timeout of connecting.
        read_seconds: Timeout between parts of a response.
    """
    timeout = httpx2.Timeout(connect_seconds, read=read_seconds)

    def new_client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = timeout,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return outbound.client(
            policy,
            factory=partial(
                McpHttpClient, failures=failures, on_end=on_end if server.sse else None
            ),
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
    """Return scheme, host and port of a URL. The rest may contain credentials."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _is_json(response: httpx2.Response) -> bool:
    return bool(response.headers.get("content-type", "").lower().startswith("application/json"))


async def _body(response: httpx2.Response, limit: int) -> bytes:
    """Return the decoded body. If it is longer than ``limit`` bytes, reading stops after them."""
    body = bytearray()
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > limit:
                break
    finally:
        await response.aclose()
    return bytes(body)


def _with_body(response: httpx2.Response, body: bytes) -> httpx2.Response:
    """Return the response with its decoded body."""
    omitted = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in omitted]
    return httpx2.Response(
        response.status_code, headers=headers, content=body, request=response.request
    )


def _is_error(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and isinstance(message.get("error"), dict)
