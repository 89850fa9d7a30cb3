"""WebSocket of an agent: opening handshake, frames, heartbeat and closing.

Source: the agent WebSocket API page; RFC 6455, 7.4 (close codes).
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from contextlib import suppress
from typing import Any, Final

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Data

from beray.agent._websockets_compat import SameOriginConnect
from beray.agent.addresses import AgentAddress
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.config import is_loopback
from beray.events import AnyServerMessage, MsgError, MsgStatus, ServerMessage

OPEN_SECONDS: Final = 10.0
"""Timeout of TCP connection, TLS and HTTP handshake together."""
STATUS_SECONDS: Final = 5.0
"""Timeout for the first frame, ``STATUS``."""
HEARTBEAT_SECONDS: Final = 30.0
"""Interval between pings, and timeout for data after each."""
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
CLOSE_SECONDS: Final = 2.0
"""Timeout of the closing handshake; the connection is then aborted."""
_FAILED_OPENING_CLOSE_SECONDS: Final = 0.25
_PROTOCOL_ERROR, _INVALID_DATA, _POLICY_VIOLATION, _TOO_BIG = 1002, 1007, 1008, 1009
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a rejected handshake after which trying again may help."""
_STATUS_MESSAGES: Final = {
    401: "the token is missing or invalid",
    404: "no agent at this URL",
    422: "the chat ID is invalid",
}
"""Messages for rejected handshakes without a body. (403 means that the chat is in use.)"""
_BUSY_MESSAGE: Final = "another client is connected to this chat"

# The library's debug log contains the headers of the handshake, including the token.
_wire_log = logging.getLogger("beray.agent.wire")
_wire_log.setLevel(logging.WARNING)


class AgentWebSocket(ClientConnection):
    """WebSocket whose waits all end, even if the peer violates the protocol or stops reading.

    Attributes:
        abort_reason: Reason why this side aborted the connection; "" if it did not.
    """

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self.abort_reason = ""
        self._received_at = self.loop.time()
        self._abort_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Note the time of the data, and limit the time of a closing handshake."""
        self._received_at = self.loop.time()
        super().data_received(data)
        # After a close frame, the library would notice only by a later ping that the peer does not
        # close the TCP connection.
        if self._abort_timer is None and self.protocol.close_expected():
            self._abort_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer of the closing handshake."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)

    async def send_heartbeats(self, seconds: float) -> None:
        """Send a ping every ``seconds``, and abort the connection if nothing arrives afterwards.

        The library's own heartbeat waits for writing without a timeout if the peer has stopped
        reading. Any received data counts as a response, because the pong may be queued after a
        long frame.
        """
        while True:
            await asyncio.sleep(seconds)
            pinged_at = self.loop.time()
            try:
                async with asyncio.timeout(seconds):
                    await (await self.ping())
            except ConnectionClosed:
                return
            except TimeoutError:
                if self._received_at < pinged_at:
                    self.abort_reason = f"no data was received for {seconds:g} s"
                    self.transport.abort()
                    return

    async def finish(self, code: int = 1000, seconds: float = CLOSE_SECONDS) -> None:
        """Close the connection; abort it after ``seconds`` without a response. Idempotent."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.close(code)
        finally:
            self.transport.abort()
        await self.wait_closed()


async def open_websocket(
    address: AgentAddress,
    *,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    tls: ssl.SSLContext | None = None,
) -> AgentWebSocket:
    """Connect to an agent and wait for its ``STATUS`` frame.

    If this coroutine is cancelled, the connection is closed.

    Args:
        address: URL and credentials.
        max_frame_bytes: Maximum size of a received frame.
        tls: TLS configuration for ``wss``; by default that of the system.

    Raises:
        AgentBusyException: Another client is connected to the chat.
        AgentException: ``TIMEOUT``, ``INVALID_STATUS``, ``UNEXPECTED_MSG_TYPE``, ``PARSE_ERROR``
            or ``CONNECTION_ERROR``; or the code of an ``ERROR`` frame that the agent sent.
    """
    options: dict[str, Any] = {}
    if tls is not None:
        options["ssl"] = tls
    if is_loopback(address.url):
        # Proxies of the environment do not apply to this machine.
        options["proxy"] = None
    connecting = SameOriginConnect(
        address.url,
        additional_headers=(
            {"Authorization": address.authorization} if address.authorization else None
        ),
        max_size=max_frame_bytes,
        open_timeout=OPEN_SECONDS,
        close_timeout=None,  # AgentWebSocket has its own
        ping_interval=None,
        create_connection=AgentWebSocket,
        logger=_wire_log,
        **options,
    )
    try:
        connection = await connecting
    except InvalidStatus as error:
        raise _rejection(error) from None
    except TimeoutError:
        raise AgentException("TIMEOUT", f"no connection within {OPEN_SECONDS:g} s") from None
    except (OSError, WebSocketException, EOFError, ImportError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        lasting = isinstance(error, ssl.SSLCertVerificationError | ImportError | UnicodeError)
        details = f"could not reach the agent: {reason}"
        raise AgentException("CONNECTION_ERROR", details, lasting=lasting) from None
    assert isinstance(connection, AgentWebSocket)
    try:
        await _receive_status(connection)
    except AgentException:
        await connection.finish(seconds=_FAILED_OPENING_CLOSE_SECONDS)
        raise
    except BaseException:
        connection.transport.abort()
        raise
    return connection


async def _receive_status(connection: AgentWebSocket) -> None:
    try:
        async with asyncio.timeout(STATUS_SECONDS):
            first = parse_frame(await connection.recv())
    except TimeoutError:
        details = f"the agent did not send STATUS within {STATUS_SECONDS:g} s"
        raise AgentException("TIMEOUT", details) from None
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code == _POLICY_VIOLATION:
            raise AgentBusyException(error.rcvd.reason or _BUSY_MESSAGE) from None
        raise closed_error(connection, error) from None
    except AgentException as error:
        error.lasting = True
        raise
    if isinstance(first, MsgError):
        raise AgentException(first.code, first.details)
    if not isinstance(first, MsgStatus):
        details = f"the first frame of the agent is {first.type}, expected STATUS"
        raise AgentException("INVALID_STATUS", details, lasting=True)


def parse_frame(frame: Data) -> AnyServerMessage:
    """Return the message of a frame.

    Raises:
        AgentException: ``UNEXPECTED_MSG_TYPE`` for a binary frame, ``PARSE_ERROR`` for text that
            is not a valid message.
    """
    if not isinstance(frame, str):
        raise AgentException(
            "UNEXPECTED_MSG_TYPE", f"received a binary frame of {len(frame)} bytes, expected text"
        )
    try:
        return ServerMessage.validate_json(frame)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
    reason = errors[0]["msg"]
    raise AgentException("PARSE_ERROR", f"a frame could not be parsed as a message: {reason}")


def frame_type(frame: Data) -> str | None:
    """Return the ``type`` of an invalid frame, or None if it has none."""
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    type_field = message.get("type") if isinstance(message, dict) else None
    return type_field if isinstance(type_field, str) else None


def closed_error(connection: AgentWebSocket, error: ConnectionClosed) -> AgentException:
    """Return the exception for a closed connection: ``CONNECTION_ERROR`` or ``PARSE_ERROR``."""
    received, sent = error.rcvd, error.sent
    code = "CONNECTION_ERROR"
    if connection.abort_reason:
        details = f"the connection timed out: {connection.abort_reason}"
    elif received is not None and (sent is None or error.rcvd_then_sent):
        reason = f", {received.reason}" if received.reason else ""
        details = f"the agent closed the connection ({received.code}{reason})"
    elif sent is None:
        details = "the connection was lost"
    elif sent.code == _TOO_BIG:
        details = "the agent sent a frame larger than max_frame_bytes"
    elif sent.code == _INVALID_DATA:
        code, details = "PARSE_ERROR", "the agent sent text that is not UTF-8"
    elif sent.code == _PROTOCOL_ERROR:
        details = f"the agent violated the WebSocket protocol: {sent.reason}"
    else:
        details = f"this client closed the connection ({sent.code})"
    return AgentException(code, details)


def _rejection(error: InvalidStatus) -> AgentException:
    status = error.response.status_code
    if status == 403:
        return AgentBusyException(_BUSY_MESSAGE, status_code=status)
    body = (error.response.body or b"")[:200].decode("utf-8", "replace").strip()
    body = body or _STATUS_MESSAGES.get(status, "")
    details = f"the server responded with {status}{f': {body}' if body else ''}"
    lasting = status not in _TRANSIENT_STATUSES
    return AgentException("CONNECTION_ERROR", details, status_code=status, lasting=lasting)
