"""From an address to a WebSocket that an agent has said to be there on.

Source: the agent WebSocket API page; RFC 6455, 7.4 (close codes).
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from typing import Any, Final

from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.typing import Data
from websockets.uri import parse_uri

from beray.agent.addresses import Address
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.websocket import Connection
from beray.config import is_loopback
from beray.events import AnyServerMessage, MsgError, MsgStatus, ServerMessage

OPEN_SECONDS: Final = 10.0
STATUS_SECONDS: Final = 5.0
HEARTBEAT_SECONDS: Final = 30.0
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_GOODBYE_SECONDS: Final = 0.25
_PROTOCOL_ERROR, _INVALID_DATA, _POLICY_VIOLATION, _TOO_BIG = 1002, 1007, 1008, 1009
_MAY_PASS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MEANINGS: Final = {
    401: "the token is missing or invalid",
    404: "there is no agent at this URL",
    422: "the chat id is invalid",
}
"""Meanings of refused handshakes without a body, other than 403, "another client has this chat"."""

# The library's debug log has the headers of the handshake, the token among them.
_wire_log = logging.getLogger("beray.agent.wire")
_wire_log.setLevel(logging.WARNING)


class _Connect(connect):
    """Follows a redirect only to where it was sent in the first place."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        here = parse_uri(self.uri)
        try:
            target = super().process_redirect(exc)
        except InvalidURI:
            return exc
        if isinstance(target, str):
            there = parse_uri(target)
            if (there.secure, there.host, there.port) == (here.secure, here.host, here.port):
                return target
        return exc


async def opened(
    address: Address,
    *,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    tls: ssl.SSLContext | None = None,
) -> Connection:
    """A connection whose agent has said ``STATUS``. Cancelled, it leaves nothing open.

    Raises:
        AgentBusyException: somebody else has the chat.
        AgentException: ``TIMEOUT``, ``INVALID_STATUS``, ``UNEXPECTED_MSG_TYPE``,
            ``PARSE_ERROR`` or ``CONNECTION_ERROR``; or what the agent said instead.
    """
    options: dict[str, Any] = {}
    if tls is not None:
        options["ssl"] = tls
    if is_loopback(address.url):
        # What the environment names as a proxy is not meant for this machine's own.
        options["proxy"] = None
    connecting = _Connect(
        address.url,
        additional_headers=(
            {"Authorization": address.authorization} if address.authorization else None
        ),
        max_size=max_frame_bytes,
        open_timeout=OPEN_SECONDS,
        close_timeout=None,  # Connection has its own
        ping_interval=None,
        create_connection=Connection,
        logger=_wire_log,
        **options,
    )
    try:
        connection = await connecting
    except InvalidStatus as error:
        raise _refused(error) from None
    except TimeoutError:
        raise AgentException("TIMEOUT", f"no connection within {OPEN_SECONDS:g} s") from None
    except (OSError, WebSocketException, EOFError, ImportError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        lasting = isinstance(error, ssl.SSLCertVerificationError | ImportError | UnicodeError)
        details = f"the agent cannot be reached: {said}"
        raise AgentException("CONNECTION_ERROR", details, lasting=lasting) from None
    assert isinstance(connection, Connection)
    try:
        await _greeted(connection)
    except AgentException:
        await connection.finish(seconds=_GOODBYE_SECONDS)
        raise
    except BaseException:
        connection.transport.abort()
        raise
    return connection


async def _greeted(connection: Connection) -> None:
    try:
        async with asyncio.timeout(STATUS_SECONDS):
            first = parsed(await connection.recv())
    except TimeoutError:
        details = f"the agent did not say STATUS within {STATUS_SECONDS:g} s"
        raise AgentException("TIMEOUT", details) from None
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code == _POLICY_VIOLATION:
            raise AgentBusyException(error.rcvd.reason or "another client has this chat") from None
        raise ended(connection, error) from None
    except AgentException as error:
        error.lasting = True
        raise
    if isinstance(first, MsgError):
        raise AgentException(first.code, first.details)
    if not isinstance(first, MsgStatus):
        details = f"the agent began with {first.type}, not STATUS"
        raise AgentException("INVALID_STATUS", details, lasting=True)


def parsed(frame: Data) -> AnyServerMessage:
    """The message of a frame.

    Raises:
        AgentException: ``UNEXPECTED_MSG_TYPE`` for a binary one, ``PARSE_ERROR`` for what is
            no message.
    """
    if not isinstance(frame, str):
        raise AgentException("UNEXPECTED_MSG_TYPE", f"a binary frame of {len(frame)} bytes")
    try:
        return ServerMessage.validate_json(frame)
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
    raise AgentException("PARSE_ERROR", f"a frame could not be parsed as a message: {why}")


def type_of(frame: Data) -> str | None:
    """Return the ``type`` of a frame that is no message, if it has one."""
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    kind = message.get("type") if isinstance(message, dict) else None
    return kind if isinstance(kind, str) else None


def ended(connection: Connection, error: ConnectionClosed) -> AgentException:
    """What it means that ``connection`` has ended: ``CONNECTION_ERROR``, or ``PARSE_ERROR``."""
    received, sent = error.rcvd, error.sent
    code = "CONNECTION_ERROR"
    if connection.lost_because:
        said = f"the connection is dead: {connection.lost_because}"
    elif received is not None and (sent is None or error.rcvd_then_sent):
        reason = f", {received.reason}" if received.reason else ""
        said = f"the agent closed the connection ({received.code}{reason})"
    elif sent is None:
        said = "the connection broke"
    elif sent.code == _TOO_BIG:
        said = "the agent sent a frame that is larger than allowed"
    elif sent.code == _INVALID_DATA:
        code, said = "PARSE_ERROR", "the agent sent text that is not UTF-8"
    elif sent.code == _PROTOCOL_ERROR:
        said = f"the agent broke the WebSocket protocol: {sent.reason}"
    else:
        said = f"the connection had to be closed ({sent.code})"
    return AgentException(code, said)


def _refused(error: InvalidStatus) -> AgentException:
    status = error.response.status_code
    if status == 403:
        return AgentBusyException("another client has this chat", status_code=status)
    body = (error.response.body or b"")[:200].decode("utf-8", "replace").strip()
    body = body or _MEANINGS.get(status, "")
    said = f"the server answered {status}{f': {body}' if body else ''}"
    lasting = status not in _MAY_PASS
    return AgentException("CONNECTION_ERROR", said, status_code=status, lasting=lasting)
