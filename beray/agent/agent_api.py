"""Asynchronous client of a chat with an agent. The names of this module are published."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from websockets.exceptions import ConnectionClosed

from beray.agent import addresses, websocket
from beray.agent.callbacks import CallbackQueue, accepts_argument
from beray.agent.client import ClientMessage, EClientMessage, MsgUserMessage
from beray.agent.connection import AgentConnection
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.server import (
    AgentEventUnion,
    EServerMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
    MsgGracefulDisconnect,
    MsgStatus,
    ServerMessage,
)
from beray.agent.turn import Answer, Turn
from beray.agent.websocket import AgentWebSocket
from beray.events import AnyServerMessage, MsgUnknown
from beray.exceptions import ConfigurationError, InvalidArgument
from beray.sanitize import one_line

__all__ = [
    "AgentApi",
    "AgentBusyException",
    "AgentEventUnion",
    "AgentException",
    "ClientMessage",
    "EClientMessage",
    "EServerMessage",
    "MsgError",
    "MsgEventCustomUpdate",
    "MsgEventEnd",
    "MsgEventSendFile",
    "MsgEventTextChunk",
    "MsgEventToolCallChunk",
    "MsgEventToolResult",
    "MsgGracefulDisconnect",
    "MsgStatus",
    "MsgUserMessage",
    "ServerMessage",
]

Callback = Callable[[AnyServerMessage], object]
OnDisconnect = Callable[[], object] | Callable[["AgentApi"], object]

log = logging.getLogger("beray.agent")


class AgentApi:
    """Client of one chat with an agent. Also an async context manager.

    An instance belongs to the event loop in which it is connected.

    Args:
        agent_id: Name of the agent, for pools, logs and messages. Also the attribute ``id``.
        address: URL of the agent's server, with the scheme http, https, ws or wss. The client
            appends ``v1/agent_ws/{chat_id}/``. A URL whose path ends in ``/ws``, ``/ws/`` or
            ``/agent_ws/`` is used verbatim, as in version 1.0 of the published client.
        callback: Function or coroutine function that receives messages for which no request is
            waiting: messages without a request, the rest of an answer whose loop was left, and
            messages of unknown types. Calls are made one after another, in order, and may use this
            object. Exceptions that it raises are logged.
        on_disconnect: Called once for each connection that has ended, for any reason: with this
            object if it accepts an argument, otherwise without.
        chat_id: ID of the chat; each chat has its own history.
        base_url: ``address`` as a keyword, never used verbatim.
        url: URL of the WebSocket, always used verbatim. Also an attribute, without credentials.
        token: Access token, sent in the ``Authorization`` header to this server only. The user
            information of a URL (``ws://user:TOKEN@host/``) is sent there as well (Basic
            authentication).
        reconnect: Whether to reopen a lost connection, for up to five minutes with growing pauses.
            An answer in progress is never requested again; it raises. The client does not retry
            if the server's error response is permanent.
        max_frame_bytes: Maximum size of a received frame; a larger one ends the connection.
        heartbeat_seconds: Interval between pings. If no data arrives for as long after a ping,
            the connection counts as lost.
        tls: TLS configuration for ``https``, for example with custom certificates.

    Raises:
        ConfigurationError: The URL is invalid, or ``tls`` was passed for an unencrypted URL.
        InvalidArgument: No URL or more than one was passed, or another argument is invalid.

    Source: the agent WebSocket API page.
    """

    def __init__(
        self,
        agent_id: str,
        address: str | None = None,
        callback: Callback | None = None,
        on_disconnect: OnDisconnect | None = None,
        chat_id: int | str = 0,
        *,
        base_url: str | None = None,
        url: str | None = None,
        token: str | None = None,
        reconnect: bool = False,
        max_frame_bytes: int = websocket.MAX_FRAME_BYTES,
        heartbeat_seconds: float = websocket.HEARTBEAT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.agent_id: Final = agent_id
        self.chat_id: Final = chat_id
        target = addresses.resolve_address(
            address, base_url=base_url, url=url, chat_id=chat_id, token=token
        )
        self.url: Final = target.url
        if max_frame_bytes <= 0 or heartbeat_seconds <= 0:
            raise InvalidArgument("max_frame_bytes and heartbeat_seconds must be positive")
        if tls is not None and not target.url.startswith("wss:"):
            raise ConfigurationError("tls requires an https:// or wss:// URL of the agent")

        async def open_websocket() -> AgentWebSocket:
            return await websocket.open_websocket(target, max_frame_bytes=max_frame_bytes, tls=tls)

        self.callback = callback
        self.on_disconnect = on_disconnect
        self._heartbeat_seconds = heartbeat_seconds
        self._callbacks = CallbackQueue(agent_id)
        self._connection = AgentConnection(
            agent_id,
            open_websocket,
            heartbeat_seconds=heartbeat_seconds,
            reconnect=reconnect,
            on_message=self._on_message,
            on_malformed_frame=self._on_malformed_frame,
            on_disconnect=self._on_connection_ended,
            drain_callbacks=self._callbacks.drain,
        )
        self._has_warned_about_callback = False
        # The turn whose reader has not left, and the turn that the agent is answering. They differ
        # while a new request waits for the end of an abandoned answer.
        self._reading: Turn | None = None
        self._answering: Turn | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r}, chat_id={self.chat_id!r})"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def id(self) -> str:
        """Published alias of ``agent_id``."""
        return self.agent_id

    @property
    def connected(self) -> bool:
        """True if the connection is open, as far as known: a loss may not have been noticed yet."""
        return self._connection.connected

    @property
    def busy(self) -> bool:
        """True if the agent is answering, including an answer whose reader has left."""
        return self._reading is not None or self._answering is not None

    async def connect(self) -> None:
        """Open the connection.

        Do nothing if it is open. If it is being opened, wait for that.

        Raises:
            AgentBusyException: Another client is connected to the chat.
            AgentException: ``TIMEOUT``, ``INVALID_STATUS``, ``UNEXPECTED_MSG_TYPE``,
                ``PARSE_ERROR`` or ``CONNECTION_ERROR``; the code of an ``ERROR`` that the agent
                sent; or ``NOT_CONNECTED`` if ``close()`` was called meanwhile.
        """
        await self._connection.connect()

    async def close(self) -> None:
        """Close the connection. Idempotent.

        An answer in progress raises to its reader. This method returns when the connection is
        closed, and the calls of ``callback`` and ``on_disconnect`` are done or have taken 5
        seconds. Called from a callback, it does not wait for callbacks.
        """
        await self._connection.close()
        await self._callbacks.drain()

    def send_message(self, text: str, attachments: Sequence[str] | None = None) -> Answer:
        """Return an async iterator over the events of the answer to a message.

        The message is sent when the iteration (``async for event in …``) begins, or when the
        result is awaited: ``response = await api.send_message(…)``. The iteration ends after
        ``AGENT_EVENT_END``. Leaving the loop releases the answer: its remaining events are passed
        to ``callback``, and the next message is sent when the agent has finished the answer.

        Iterating and awaiting raise :class:`AgentBusyException` if another answer is in progress,
        which continues; and :class:`AgentException` for an ``ERROR`` of the agent,
        ``NOT_CONNECTED``, a connection that ended, and a malformed frame (``PARSE_ERROR``; the
        connection stays open). Its attribute ``events`` contains the events before the error.

        Args:
            text: Text of the message.
            attachments: Paths, relative to ``/workspace``, of files that were uploaded before.

        Raises:
            InvalidArgument: ``text`` or a path is not a valid Unicode string, or ``attachments``
                is a string instead of a list.
        """
        if isinstance(attachments, str):
            raise InvalidArgument("attachments must be a list of paths, not a string")
        try:
            message = MsgUserMessage(text=text, attachments=list(attachments or ()))
            frame = message.model_dump_json()
        except (ValidationError, PydanticSerializationError):
            raise InvalidArgument("text and attachments must be valid Unicode strings") from None
        return Answer(Turn(frame), self._begin, self._leave)

    # Turns

    async def _begin(self, turn: Turn) -> None:
        if self._reading is not None:
            raise AgentBusyException("an answer is in progress on this connection")
        self._reading = turn
        while True:
            connection = await self._connection.ready()
            if self._answering is None:
                break
            # The agent handles one request at a time: an abandoned answer has to end first.
            await self._wait_for_end(self._answering)
        self._answering = turn
        with suppress(ConnectionClosed):  # the task that reads the connection reports the reason
            await connection.send(turn.frame)

    async def _wait_for_end(self, turn: Turn) -> None:
        """Wait until an answer is over.

        A malformed frame may have been the end of the answer. After such a frame, the answer
        counts as over if no message arrives for ``heartbeat_seconds``.
        """
        while True:
            received_count = turn.received_count
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_seconds):
                    await turn.finished.wait()
            if turn.finished.is_set():
                return
            if turn.has_malformed_frame and turn.received_count == received_count:
                self._finish(turn)
                return

    def _leave(self, turn: Turn) -> None:
        """Release a turn whose reader has left, so that the next one may begin."""
        if self._reading is turn:
            self._reading = None
        for message in turn.abandon():
            self._add_callback(message)

    def _on_message(self, message: AnyServerMessage) -> None:
        turn = self._answering
        if turn is not None:
            turn.received_count += 1
        if (
            isinstance(message, MsgStatus | MsgGracefulDisconnect | MsgUnknown)
            or turn is None
            or turn.abandoned
        ):
            self._add_callback(message)
        else:
            turn.add(message)
        if turn is not None and isinstance(message, MsgEventEnd | MsgError):
            self._finish(turn)

    def _on_malformed_frame(self, error: AgentException, frame_type: str | None) -> None:
        turn = self._answering
        if turn is None or turn.abandoned:
            log.warning("agent %s: skipped a frame: %s", self.agent_id, one_line(str(error)))
        else:
            turn.add_error(error)
        if turn is not None:
            turn.received_count += 1
            turn.has_malformed_frame = True
            if frame_type in (EServerMessage.AGENT_EVENT_END, EServerMessage.ERROR):
                self._finish(turn)

    def _finish(self, turn: Turn) -> None:
        if self._answering is turn:
            self._answering = None
        turn.finish()

    def _on_connection_ended(self, reason: AgentException) -> None:
        turn, self._answering = self._answering, None
        if turn is not None:
            turn.finish(AgentException(reason.code, reason.details))
        if self.on_disconnect is not None:
            arguments = [self] if accepts_argument(self.on_disconnect) else []
            self._callbacks.add(self.on_disconnect, *arguments)

    def _add_callback(self, message: AnyServerMessage) -> None:
        if self.callback is not None:
            self._callbacks.add(self.callback, message)
            return
        level = logging.INFO if self._has_warned_about_callback else logging.WARNING
        self._has_warned_about_callback = True
        message_type = one_line(message.type)
        log.log(level, "agent %s: %s dropped, no callback is set", self.agent_id, message_type)
