"""``AgentApi``: one conversation with an agent. The names of this module are published."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from websockets.exceptions import ConnectionClosed

from beray.agent import addresses, handshake
from beray.agent.callbacks import Callbacks, takes_an_argument
from beray.agent.client import ClientMessage, EClientMessage, MsgUserMessage
from beray.agent.connection import Line
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
from beray.agent.turn import Answer, Reply
from beray.agent.websocket import Connection
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
    """A chat with an agent, on one event loop. Also an async context manager.

    Args:
        agent_id: Name of the agent; for pools, logs and messages. Also the attribute ``id``.
        address: URL of the agent's server, ``http(s)`` or ``ws(s)``, to which
            ``v1/agent_ws/{chat_id}/`` is added. A URL whose path ends in ``/ws``, ``/ws/`` or
            ``/agent_ws/`` is used verbatim, as in version 1.0 of the published client.
        callback: Receives messages that no request waits for: those without a request, the rest
            of an answer whose loop was left, and messages of unknown types. A function or a
            coroutine function; calls are made one after another, in order, and may use this
            object. What it raises is logged.
        on_disconnect: Called once for each connection that has ended, whatever ended it; with
            this object if it accepts an argument, otherwise without.
        chat_id: Keeps one conversation's history apart from another's.
        base_url: ``address`` as a keyword, never used verbatim.
        url: The WebSocket's URL, always used verbatim. Also an attribute, without credentials.
        token: Sent in the ``Authorization`` header, to this server only. The user information
            of a URL (``ws://user:TOKEN@host/``) is sent there as well (Basic authentication).
        reconnect: whether a connection that is lost is opened again, for five minutes, with
            growing pauses. An answer that was under way is never asked for again: that raises.
            Given up at once where the server's refusal is not one that time changes.
        max_frame_bytes: a longer frame ends the connection.
        heartbeat_seconds: how often it is asked whether the server is still there; without an
            answer for as long, the connection is lost.
        tls: for ``https`` with certificates of one's own.

    Raises:
        ConfigurationError: The URL is invalid.
        InvalidArgument: There is no URL or more than one, or another argument is invalid.

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
        max_frame_bytes: int = handshake.MAX_FRAME_BYTES,
        heartbeat_seconds: float = handshake.HEARTBEAT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.agent_id: Final = agent_id
        self.chat_id: Final = chat_id
        target = addresses.chosen(address, base_url=base_url, url=url, chat_id=chat_id, token=token)
        self.url: Final = target.url
        if max_frame_bytes <= 0 or heartbeat_seconds <= 0:
            raise InvalidArgument("max_frame_bytes and heartbeat_seconds must be more than 0")
        if tls is not None and not target.url.startswith("wss:"):
            raise ConfigurationError("tls is for https://; the agent's URL is not")

        async def open_one() -> Connection:
            return await handshake.opened(target, max_frame_bytes=max_frame_bytes, tls=tls)

        self.callback = callback
        self.on_disconnect = on_disconnect
        self._heartbeat_seconds = heartbeat_seconds
        self._callbacks = Callbacks(agent_id)
        self._line = Line(
            agent_id,
            open_one,
            heartbeat_seconds=heartbeat_seconds,
            reconnect=reconnect,
            hand_on=self._hand_on,
            malformed=self._malformed,
            lost=self._lost,
            settle=self._callbacks.drained,
        )
        self._told_of_no_callback = False
        # Of the request: who may make one, and whom the agent is answering. These are two where
        # an answer was left and the next one waits for its end.
        self._claimed: Reply | None = None
        self._answering: Reply | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r}, chat_id={self.chat_id!r})"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def id(self) -> str:
        """``agent_id``, under its published name."""
        return self.agent_id

    @property
    def connected(self) -> bool:
        """Whether there is a connection. One that has just died may not be known to be dead."""
        return self._line.connected

    @property
    def busy(self) -> bool:
        """Whether an answer is under way, or one that was left has not come to its end."""
        return self._claimed is not None or self._answering is not None

    async def connect(self) -> None:
        """Open the connection. Where there is one, or one is being opened, joins in.

        Raises:
            AgentBusyException: somebody else has the chat.
            AgentException: ``TIMEOUT``, ``INVALID_STATUS``, ``UNEXPECTED_MSG_TYPE``,
                ``PARSE_ERROR`` or ``CONNECTION_ERROR``; or what the agent said;
                ``NOT_CONNECTED`` where ``close()`` was called meanwhile.
        """
        await self._line.connect()

    async def close(self) -> None:
        """End the connection; an answer that is under way raises. Idempotent.

        Returns when all is gone, and ``callback`` and ``on_disconnect`` have been called; called
        from one of these, it does not wait for them.
        """
        await self._line.close()
        await self._callbacks.drained()

    def send_message(self, text: str, attachments: Sequence[str] | None = None) -> Answer:
        """Return the answer to a message, to iterate over: ``async for event in …``.

        It ends after ``AGENT_EVENT_END``. Leaving the loop releases the answer: its remaining
        events go to ``callback``, and the next message is sent when it is over. The result may
        also be awaited, which sends the message: ``response = await api.send_message(…)``.

        Args:
            attachments: Paths relative to ``/workspace`` of files that were uploaded before.

        Raises:
            InvalidArgument: ``text`` or a path cannot be sent as Unicode text.

        Raises (from the loop or ``await``):
            AgentBusyException: Another answer is under way; it continues.
            AgentException: The agent's ``ERROR``, ``NOT_CONNECTED``, the end of the connection,
                or ``PARSE_ERROR`` for a malformed frame, after which the connection stays open;
                ``events`` contains the events before it.
        """
        if isinstance(attachments, str):
            raise InvalidArgument("attachments is a list of paths, not one of them")
        try:
            message = MsgUserMessage(text=text, attachments=list(attachments or ()))
            frame = message.model_dump_json()
        except (ValidationError, PydanticSerializationError):
            raise InvalidArgument("text and attachments must be Unicode text") from None
        return Answer(Reply(frame), self._begin, self._leave)

    # Of answers

    async def _begin(self, reply: Reply) -> None:
        if self._claimed is not None:
            raise AgentBusyException("an answer is under way on this connection")
        self._claimed = reply
        while True:
            connection = await self._line.ready()
            if self._answering is None:
                break
            # The agent has one request at a time: an answer without a reader has to end first.
            await self._end_of(self._answering)
        self._answering = reply
        with suppress(ConnectionClosed):  # who reads the connection tells why
            await connection.send(reply.frame)

    async def _end_of(self, reply: Reply) -> None:
        """Wait until an answer is over.

        If one of its frames was malformed, this may have been its end: the answer then counts as
        over after a silence of ``heartbeat_seconds``.
        """
        while True:
            received = reply.received
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_seconds):
                    await reply.over.wait()
            if reply.over.is_set():
                return
            if reply.malformed and reply.received == received:
                self._finish(reply)
                return

    def _leave(self, reply: Reply) -> None:
        """Note that the reader has left; the next one may begin."""
        if self._claimed is reply:
            self._claimed = None
        for message in reply.leave():
            self._call_back(message)

    def _hand_on(self, message: AnyServerMessage) -> None:
        reply = self._answering
        if reply is not None:
            reply.received += 1
        if (
            isinstance(message, MsgStatus | MsgGracefulDisconnect | MsgUnknown)
            or reply is None
            or reply.left
        ):
            self._call_back(message)
        else:
            reply.take(message)
        if reply is not None and isinstance(message, MsgEventEnd | MsgError):
            self._finish(reply)

    def _malformed(self, problem: AgentException, kind: str | None) -> None:
        reply = self._answering
        if reply is None or reply.left:
            log.warning("agent %s: a frame was skipped: %s", self.agent_id, one_line(str(problem)))
        else:
            reply.fail(problem)
        if reply is not None:
            reply.received += 1
            reply.malformed = True
            if kind in (EServerMessage.AGENT_EVENT_END, EServerMessage.ERROR):
                self._finish(reply)

    def _finish(self, reply: Reply) -> None:
        if self._answering is reply:
            self._answering = None
        reply.end()

    def _lost(self, problem: AgentException) -> None:
        reply, self._answering = self._answering, None
        if reply is not None:
            reply.end(AgentException(problem.code, problem.details))
        if self.on_disconnect is not None:
            arguments = [self] if takes_an_argument(self.on_disconnect) else []
            self._callbacks.add(self.on_disconnect, *arguments)

    def _call_back(self, message: AnyServerMessage) -> None:
        if self.callback is not None:
            self._callbacks.add(self.callback, message)
            return
        level = logging.INFO if self._told_of_no_callback else logging.WARNING
        self._told_of_no_callback = True
        kind = one_line(message.type)
        log.log(level, "there is no callback for %s of agent %s", kind, self.agent_id)
