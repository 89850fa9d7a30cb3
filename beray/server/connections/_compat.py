"""uvicorn's protocols with limits, timeouts and a strict parser.

The only module that uses private interfaces of uvicorn and h11. uvicorn has no hook for the raw
bytes of a request's head, and h11 repairs what it could reject (bare LF, folded headers, repeated
Content-Length). Used are: ``uvicorn.protocols.http.h11_impl.H11Protocol`` (``conn``, ``cycle``,
``flow``, ``send_400_response``, ``on_response_complete``, ``handle_websocket_upgrade``),
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
from beray.server.connections.request_head import CHUNK_HEADER_BYTES, HEAD_BYTES, Problem
from beray.server.connections.table import ConnectionTable

ProtocolClass = type[asyncio.Protocol]

CONNECTION: Final = "beray.connection"
"""Name of the ASGI extension with the connection of a request, which has ``authenticated`` and
``end``."""
PROGRESS_BYTES: Final = 1024
"""Bytes of a body that have to arrive within ``Timeouts.body``."""
DRAIN_SECONDS: Final = 5.0
"""Time limit for reading and discarding the rest of a body after the response."""
DRAIN_BYTES: Final = 16 * 1024 * 1024
GRACE_SECONDS: Final = 0.8
"""Time for the answer to a request that was under way when its session ended."""
_SAFE: Final = ("GET", "HEAD")
LINGER_SECONDS: Final = 2.0
"""Time that a rejected connection stays half open. Closing it while its client is still sending
would discard the response."""
POLICY_VIOLATION: Final = 1008


@dataclass(frozen=True)
class Timeouts:
    """Times in seconds that a connection may take.

    Attributes:
        head: until the head of a request has arrived, counted from the opening of the connection
            or from the end of the response before.
        body: during which at least ``PROGRESS_BYTES`` of a body have to arrive.
    """

    head: float
    body: float


def protocols(table: ConnectionTable, timeouts: Timeouts) -> tuple[ProtocolClass, ProtocolClass]:
    """Return what ``uvicorn.Config`` takes as ``http`` and ``ws``, with connections in ``table``.

    uvicorn only calls them.
    """
    return (
        cast(ProtocolClass, partial(HttpProtocol, table=table, timeouts=timeouts)),
        cast(ProtocolClass, partial(SocketProtocol, table=table, timeouts=timeouts)),
    )


class StrictReceiveBuffer(ReceiveBuffer):
    """h11's buffer, which returns lines only if they can be read in one way."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines of a head or of trailers; ``None`` while they are incomplete."""
        if self._data[:2] == b"\r\n":
            self._extract(2)
            return []
        searched = max(0, self._multiple_lines_search - 3)
        end = self._data.find(b"\r\n\r\n", searched)
        stop = len(self._data) if end < 0 else end + 4
        _require(request_head.characters_problem(self._data, searched, stop))
        if stop > HEAD_BYTES:
            _require(Problem(431, f"the request's head is longer than {HEAD_BYTES:,} bytes"))
        if end < 0:
            self._multiple_lines_search = stop
            return None
        lines = self._extract(stop)[:-4].split(b"\r\n")
        _require(request_head.section_problem(lines))
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """Return the line before a chunk; ``None`` while it is incomplete."""
        line: bytearray | None = super().maybe_extract_next_line()
        beginning = self._data[: CHUNK_HEADER_BYTES + 1] if line is None else line
        _require(request_head.chunk_header_problem(beginning))
        return line


def _require(problem: Problem | None) -> None:
    if problem is not None:
        raise h11.LocalProtocolError(problem.reason, error_status_hint=problem.status)


class _Phase(Enum):
    """Stage of a connection, named after the thing that it waits for."""

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
        self._arrived = 0
        self._is_authenticated = False
        self._leaving = False
        self._upgraded = False

    # For the application, as the extension CONNECTION

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self.cycle

        async def send_or_close(message: Message) -> None:
            # A client that was not told to continue may leave out the body or send it: where the
            # next request begins is not known.
            if message["type"] == "http.response.start" and cycle.waiting_for_100_continue:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        scope.setdefault("extensions", {})[CONNECTION] = self
        try:
            await self._application(scope, receive, send_or_close)
        finally:
            # uvicorn would close the connection only after the client has read what is buffered.
            if cycle.response_started and not cycle.response_complete:
                self._leave(None)

    def authenticated(self) -> None:
        """Keep the connection until its request has ended, even if others need the place."""
        self._is_authenticated = True
        self._table.set_waiting(self.transport, False)

    def end(self, detail: object) -> None:
        """End the request under way, as if its client had left.

        Args:
            detail: sent with status 401 if no response has begun and the request had no effect:
                its body is incomplete, or its method is safe. Otherwise it may still be answered
                for ``GRACE_SECONDS``.
        """
        cycle = self.cycle
        if cycle.response_started:
            self._leave(None)
        elif self._phase is _Phase.BODY or cycle.scope["method"] in _SAFE:
            self._leave(401, detail, {"WWW-Authenticate": "Bearer"})
        else:
            self.loop.call_later(GRACE_SECONDS, self._break_off, cycle)

    def _break_off(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is cycle and not cycle.response_complete:
            self._leave(None)

    # Of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if self._table.admit(transport, address, transport.abort):
            self._look()
            return
        detail = "The server has too many open connections; try again later."
        self._leave(503, detail, {"Retry-After": "5"})
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if not self._upgraded:
            self._table.release(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._arrived += len(data)
        if self._leaving:
            if self._arrived > DRAIN_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        self._look()

    def pause_writing(self) -> None:
        """Give a client that is not known, and does not read, a time limit as well."""
        super().pause_writing()
        if self._phase is _Phase.RESPONSE and not self._is_authenticated:
            self._table.set_waiting(self.transport, True)
            self._timer = self.loop.call_later(self._timeouts.body, self._leave, None)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._phase is _Phase.RESPONSE:
            self._table.set_waiting(self.transport, False)
            self._stop_timer()

    # Of uvicorn

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        names = {name for name, _ in self.headers}
        if event.method != b"GET" or names & {b"content-length", b"transfer-encoding"}:
            # The WebSocket library cannot read it, and would leave the connection open.
            self._leave(400, "A WebSocket is opened by a GET request without a body.")
            return
        self._upgraded = True
        self._stop_timer()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Reject the request that h11 could not read."""
        error = sys.exc_info()[1]
        hint = getattr(error, "error_status_hint", 400)
        # h11 has the status 431 for every line that is too long, and quotes what it cannot read.
        status = hint if hint == 505 or (hint == 431 and self._phase is _Phase.HEAD) else 400
        reason = str(error or msg).partition(": bytearray")[0]
        self._leave(status, f"The request is invalid: {reason}.")

    # Phases and their deadlines

    def _look(self) -> None:
        """Set the deadline of the phase that has begun, if one has."""
        if self._leaving or self._upgraded:
            return
        if self.transport.is_closing():
            self._limit_closing()
            return
        phase = self._current_phase()
        if phase is self._phase:
            if phase is _Phase.DRAIN and self._arrived > DRAIN_BYTES:
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
        self._arrived = 0
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
            if self.flow.read_paused or self._arrived >= PROGRESS_BYTES:
                self._begin_wait()
            elif self.cycle.response_started:
                self._leave(None)
            else:
                seconds = f"{self._timeouts.body:g}"
                self._leave(408, f"The body did not arrive: nothing came for {seconds} seconds.")
        elif self._phase is _Phase.DRAIN:
            self._leave(None)
        elif self.conn.trailing_data[0]:
            self._leave(408, f"The head did not arrive within {self._timeouts.head:g} seconds.")
        else:
            # The end of the response before may still be on its way.
            self.transport.close()
            self._limit_closing()

    # The end

    def _limit_closing(self) -> None:
        """Limit the time in which a client has to read the rest of the last response."""
        self._stop_timer()
        self._timer = self.loop.call_later(self._timeouts.body, self.transport.abort)

    def _leave(
        self, status: int | None, detail: object = "", headers: dict[str, str] | None = None
    ) -> None:
        """Close the connection, after a response if none has begun.

        Args:
            status: of that response; ``None`` closes the connection at once.
        """
        if self._leaving or self.transport.is_closing():
            return
        self._leaving = True
        self._arrived = 0
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
    """One WebSocket, which a connection of ``HttpProtocol`` has become."""

    def __init__(
        self, *args: Any, table: ConnectionTable, timeouts: Timeouts, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._table = table
        self._opening = self.loop.call_later(timeouts.head, self._on_deadline)
        self._application: ASGIApp = self.app
        self.app = self._run

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[CONNECTION] = self
        await self._application(scope, receive, send)

    def authenticated(self) -> None:
        """Keep the WebSocket, even if others need its place."""
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
