"""uvicorn protocols with connection limits, timeouts and a strict parser.

This is the only module that uses private interfaces of uvicorn and h11. uvicorn has no hook for
the raw bytes of a request's head, and h11 accepts some invalid input (bare LF, folded headers,
repeated Content-Length). The private interfaces are
``uvicorn.protocols.http.h11_impl.H11Protocol`` (``conn``, ``cycle``, ``flow``,
``send_400_response``, ``on_response_complete``, ``handle_websocket_upgrade``),
``uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol`` (``conn``,
``queue``), ``h11.Connection._receive_buffer``, and ``h11._receivebuffer.ReceiveBuffer`` with its
methods ``maybe_extract_lines`` and ``maybe_extract_next_line``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, Final, cast

import h11
from h11._receivebuffer import ReceiveBuffer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from beray.server.connections import request_head
from beray.server.connections.request_head import CHUNK_HEADER_BYTES, HEAD_BYTES, RequestProblem
from beray.server.connections.table import ConnectionTable

ProtocolClass = type[asyncio.Protocol]

CONNECTION: Final = "beray.connection"
"""Name of the ASGI extension that contains the connection of a request, with the methods
``authenticated`` and ``end``."""
PROGRESS_BYTES: Final = 1024
"""Minimum number of bytes of a body that must arrive within ``Timeouts.body``."""
DRAIN_SECONDS: Final = 5.0
"""Time limit for reading and discarding the rest of a body after the response."""
DRAIN_BYTES: Final = 16 * 1024 * 1024
"""Maximum number of bytes that are read and discarded after the response."""
GRACE_SECONDS: Final = 0.8
"""Time limit for the response to a request that was being processed when its session ended."""
_SAFE: Final = ("GET", "HEAD")
LINGER_SECONDS: Final = 2.0
"""Time for which a rejected connection stays half open. Closing it while its client is still
sending would discard the response."""
POLICY_VIOLATION: Final = 1008
"""Status code with which a WebSocket is closed when its session ends."""


@dataclass(frozen=True)
class Timeouts:
    """Time limits of a connection, in seconds.

    Attributes:
        head: Time until the head of a request has arrived, from the opening of the connection or
            the end of the previous response.
        body: Time in which at least ``PROGRESS_BYTES`` of a body must arrive.
    """

    head: float
    body: float


def protocols(table: ConnectionTable, timeouts: Timeouts) -> tuple[ProtocolClass, ProtocolClass]:
    """Return the arguments ``http`` and ``ws`` of ``uvicorn.Config``.

    They are partial functions instead of classes, since uvicorn only calls them.

    Args:
        table: Table in which the connections are registered.
        timeouts: Time limits of the connections.
    """
    return (
        cast(ProtocolClass, partial(HttpProtocol, table=table, timeouts=timeouts)),
        cast(ProtocolClass, partial(SocketProtocol, table=table, timeouts=timeouts)),
    )


class StrictReceiveBuffer(ReceiveBuffer):
    """h11 receive buffer that rejects ambiguous lines."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines of a head or of trailers, or None while they are incomplete."""
        if self._data[:2] == b"\r\n":
            self._extract(2)
            return []
        searched = max(0, self._multiple_lines_search - 3)
        end = self._data.find(b"\r\n\r\n", searched)
        stop = len(self._data) if end < 0 else end + 4
        _reject(request_head.characters_problem(self._data, searched, stop))
        if stop > HEAD_BYTES:
            message = f"the request's head is longer than {HEAD_BYTES:,} bytes"
            _reject(RequestProblem(431, message))
        if end < 0:
            self._multiple_lines_search = stop
            return None
        lines = self._extract(stop)[:-4].split(b"\r\n")
        _reject(request_head.section_problem(lines))
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """Return the line before a chunk, or None while it is incomplete."""
        line: bytearray | None = super().maybe_extract_next_line()
        beginning = self._data[: CHUNK_HEADER_BYTES + 1] if line is None else line
        _reject(request_head.chunk_header_problem(beginning))
        return line


def _reject(problem: RequestProblem | None) -> None:
    """Raise the exception with which h11 reports an invalid request, if there is a problem."""
    if problem is not None:
        raise h11.LocalProtocolError(problem.reason, error_status_hint=problem.status)


class _Phase(Enum):
    """Phase of a connection, named after the data that it waits for."""

    HEAD = auto()
    BODY = auto()
    RESPONSE = auto()
    DRAIN = auto()
    """The rest of a body, after the response."""


class HttpProtocol(H11Protocol):
    """One HTTP connection."""

    def __init__(
        self, *args: Any, table: ConnectionTable, timeouts: Timeouts, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.conn._receive_buffer = StrictReceiveBuffer()
        self._table = table
        self._timeouts = timeouts
        self._application: ASGIApp = self.app
        self.app = self._run
        self._phase: _Phase | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0
        self._is_authenticated = False
        self._is_closing = False
        self._upgraded = False

    # Interface for the application, through the extension CONNECTION

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self.cycle

        async def send_or_close(message: Message) -> None:
            # A client that did not receive "100 Continue" may omit the body or send it, so that
            # the beginning of the next request is unknown.
            if message["type"] == "http.response.start" and cycle.waiting_for_100_continue:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        scope.setdefault("extensions", {})[CONNECTION] = self
        try:
            await self._application(scope, receive, send_or_close)
        finally:
            # uvicorn would close the connection only after the client has read the buffered data.
            if cycle.response_started and not cycle.response_complete:
                self._close(None)

    def authenticated(self) -> None:
        """Protect the connection from being closed for another one until its request has ended."""
        self._is_authenticated = True
        self._table.set_waiting(self.transport, False)

    def end(self, detail: object) -> None:
        """End the current request, as if its client had disconnected.

        If no response has begun and the request had no effect, because its body is incomplete or
        its method is safe, a 401 is sent. Otherwise the application has ``GRACE_SECONDS`` to
        complete the response.

        Args:
            detail: Detail of the 401.
        """
        cycle = self.cycle
        if cycle.response_started:
            self._close(None)
        elif self._phase is _Phase.BODY or cycle.scope["method"] in _SAFE:
            self._close(401, detail, {"WWW-Authenticate": "Bearer"})
        else:
            self.loop.call_later(GRACE_SECONDS, self._close_incomplete, cycle)

    def _close_incomplete(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is cycle and not cycle.response_complete:
            self._close(None)

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if self._table.admit(transport, address, transport.abort):
            self._update_phase()
            return
        detail = "The server has too many open connections; try again later."
        self._close(503, detail, {"Retry-After": "5"})
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if not self._upgraded:
            self._table.release(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._is_closing:
            if self._received_bytes > DRAIN_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        self._update_phase()

    def pause_writing(self) -> None:
        """Set a time limit for an unauthenticated client that does not read the response."""
        super().pause_writing()
        if self._phase is _Phase.RESPONSE and not self._is_authenticated:
            self._table.set_waiting(self.transport, True)
            self._timer = self.loop.call_later(self._timeouts.body, self._close, None)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._phase is _Phase.RESPONSE:
            self._table.set_waiting(self.transport, False)
            self._stop_timer()

    # Methods of uvicorn's protocol

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_phase()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        names = {name for name, _ in self.headers}
        if event.method != b"GET" or names & {b"content-length", b"transfer-encoding"}:
            # The WebSocket library cannot parse such requests, and would not close the connection.
            self._close(400, "A WebSocket must be opened with a GET request without a body.")
            return
        self._upgraded = True
        self._stop_timer()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Reject a request that h11 could not parse."""
        error = sys.exc_info()[1]
        hint = getattr(error, "error_status_hint", 400)
        # h11 uses 431 for any line that is too long, and appends the invalid data to its messages.
        status = hint if hint == 505 or (hint == 431 and self._phase is _Phase.HEAD) else 400
        reason = str(error or msg).partition(": bytearray")[0]
        self._close(status, f"The request is invalid: {reason}.")

    # Phases and their deadlines

    def _update_phase(self) -> None:
        """Set the deadline of the new phase, if the phase has changed."""
        if self._is_closing or self._upgraded:
            return
        if self.transport.is_closing():
            self._limit_closing()
            return
        phase = self._current_phase()
        if phase is self._phase:
            if phase is _Phase.DRAIN and self._received_bytes > DRAIN_BYTES:
                self.transport.abort()
            return
        self._phase = phase
        if phase is _Phase.HEAD:
            self._is_authenticated = False
        self._table.set_waiting(self.transport, phase in (_Phase.HEAD, _Phase.BODY))
        self._begin_wait()

    def _current_phase(self) -> _Phase:
        if self.conn.their_state is h11.IDLE:
            return _Phase.HEAD
        if self.conn.their_state is not h11.SEND_BODY:
            return _Phase.RESPONSE
        return _Phase.DRAIN if self.cycle.response_complete else _Phase.BODY

    def _begin_wait(self) -> None:
        """Start the timer of the current phase."""
        self._received_bytes = 0
        self._stop_timer()
        match self._phase:
            case _Phase.HEAD:
                seconds = self._timeouts.head
            case _Phase.BODY:
                seconds = self._timeouts.body
            case _Phase.DRAIN:
                seconds = DRAIN_SECONDS
            case _:
                return
        self._timer = self.loop.call_later(seconds, self._on_deadline)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._phase is _Phase.BODY:
            # While the application does not read, the client cannot send.
            if self.flow.read_paused or self._received_bytes >= PROGRESS_BYTES:
                self._begin_wait()
            elif self.cycle.response_started:
                self._close(None)
            else:
                seconds = f"{self._timeouts.body:g}"
                self._close(
                    408,
                    f"The request's body is incomplete: less than {PROGRESS_BYTES} bytes arrived "
                    f"within {seconds} seconds.",
                )
        elif self._phase is _Phase.DRAIN:
            self._close(None)
        elif self.conn.trailing_data[0]:
            self._close(
                408,
                f"The request's head did not arrive within {self._timeouts.head:g} seconds.",
            )
        else:
            # Let the end of the previous response be sent first.
            self.transport.close()
            self._limit_closing()

    # Closing

    def _limit_closing(self) -> None:
        """Limit the time in which a client can read the rest of the last response."""
        self._stop_timer()
        self._timer = self.loop.call_later(self._timeouts.body, self.transport.abort)

    def _close(
        self, status: int | None, detail: object = "", headers: dict[str, str] | None = None
    ) -> None:
        """Close the connection, after an error response if no response has begun.

        Args:
            status: Status of the response; None closes the connection immediately.
            detail: Detail of the response.
            headers: Further headers of the response.
        """
        if self._is_closing or self.transport.is_closing():
            return
        self._is_closing = True
        self._received_bytes = 0
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if status is None or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        self._respond(status, detail, headers or {})
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _respond(self, status: int, detail: object, headers: dict[str, str]) -> None:
        body = json.dumps({"detail": detail}).encode()
        fields = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        response = h11.Response(
            status_code=status,
            headers=list((headers | fields).items()),
            reason=STATUS_PHRASES[status],
        )
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))


class SocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket connection, upgraded from a connection of ``HttpProtocol``."""

    def __init__(
        self, *args: Any, table: ConnectionTable, timeouts: Timeouts, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._table = table
        self._opening = self.loop.call_later(timeouts.head, self._on_deadline)
        self._application: ASGIApp = self.app
        self.app = self._run

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The request is complete: the rest of the handshake depends on the application only.
        self._opening.cancel()
        scope.setdefault("extensions", {})[CONNECTION] = self
        await self._application(scope, receive, send)

    def authenticated(self) -> None:
        """Protect the WebSocket from being closed in favour of another connection."""
        self._table.set_waiting(self.transport, False)

    def _on_deadline(self) -> None:
        if not self.handshake_complete:
            self.transport.abort()

    def end(self, detail: object) -> None:
        """Close the WebSocket with ``POLICY_VIOLATION`` and ``detail`` as the reason."""
        if self.close_sent or self.transport.is_closing():
            return
        if not self.handshake_complete:
            self.transport.abort()
            return
        self.stop_keepalive()
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": POLICY_VIOLATION})
        self.conn.send_close(POLICY_VIOLATION, str(detail))
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opening.cancel()
        self._table.release(self.transport)
        super().connection_lost(exc)
