"""``AgentApi``: one conversation with an agent."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from websockets.exceptions import ConnectionClosed

from beray.agent import opening
from beray.agent.answer import Answer, Reply
from beray.agent.callbacks import Callbacks
from beray.agent.connection import Connection
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.line import Line
from beray.events import (
    AnyServerMessage,
    MsgError,
    MsgEventEnd,
    MsgGracefulDisconnect,
    MsgStatus,
    MsgUserMessage,
)
from beray.exceptions import ConfigurationError, InvalidArgument
from beray.text import one_line

Callback = Callable[[AnyServerMessage], Awaitable[None] | None]
OnDisconnect = Callable[[], Awaitable[None] | None]

log = logging.getLogger("beray.agent")


class AgentApi:
    """A chat with an agent, on one event loop. Also an async context manager.

    Args:
        agent_id: what the agent is called; for pools, logs and messages.
        base_url: its server's, ``http(s)`` or ``ws(s)``.
        callback: is given what comes while nobody waits for it: messages without a request,
            and what is left of an answer whose loop was left. A function or a coroutine
            function; called one after another, in order; may use this object. What it raises is
            logged.
        on_disconnect: called, without arguments, once for each connection that has ended,
            whatever ended it.
        chat_id: keeps one conversation's history apart from another's.
        token: goes into the ``Authorization`` header, to this server only.
        reconnect: whether a connection that is lost is opened again, for five minutes, with
            growing pauses. An answer that was under way is never asked for again: that raises.
            Given up at once where the server's refusal is not one that time changes.
        max_frame_bytes: a longer frame ends the connection.
        heartbeat_seconds: how often it is asked whether the server is still there; without an
            answer for as long, the connection is lost.
        tls: for ``https`` with certificates of one's own.

    Raises:
        ConfigurationError: the base URL is none.
        InvalidArgument: another argument cannot be used.

    Source: the agent WebSocket API page.
    """

    def __init__(
        self,
        agent_id: str,
        base_url: str,
        callback: Callback | None = None,
        on_disconnect: OnDisconnect | None = None,
        chat_id: int | str = 0,
        *,
        token: str | None = None,
        reconnect: bool = False,
        max_frame_bytes: int = opening.MAX_FRAME_BYTES,
        heartbeat_seconds: float = opening.HEARTBEAT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.agent_id: Final = agent_id
        self.chat_id: Final = chat_id
        url = opening.address(base_url, chat_id)
        if token is not None and not (token and all("!" <= letter <= "~" for letter in token)):
            raise InvalidArgument("the token has characters that no token of a server has")
        if max_frame_bytes <= 0 or heartbeat_seconds <= 0:
            raise InvalidArgument("max_frame_bytes and heartbeat_seconds must be more than 0")
        if tls is not None and not url.startswith("wss:"):
            raise ConfigurationError("tls is for https://; the agent's URL is not")

        async def open_one() -> Connection:
            return await opening.opened(url, token=token, max_frame_bytes=max_frame_bytes, tls=tls)

        self._callback = callback
        self._on_disconnect = on_disconnect
        self._callbacks = Callbacks(agent_id)
        self._line = Line(
            agent_id,
            open_one,
            heartbeat_seconds=heartbeat_seconds,
            reconnect=reconnect,
            hand_on=self._hand_on,
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
        """Say something, and iterate over what the agent answers: ``async for event in …``.

        Ends behind ``AGENT_EVENT_END``. Leaving the loop lets go of the answer: what is left
        of it goes to ``callback``, and the next message is sent when it is over.

        Args:
            attachments: paths relative to ``/workspace`` of files that were uploaded before.

        Raises:
            InvalidArgument: what cannot be sent as text.

        Raises (from the loop):
            AgentBusyException: an answer is under way; it goes on untouched.
            AgentException: the agent's ``ERROR``, ``NOT_CONNECTED``, or how the connection
                ended; ``events`` has what had come.
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
            # The agent has one request at a time: what nobody waits for has to end first.
            await self._answering.over.wait()
        self._answering = reply
        with suppress(ConnectionClosed):  # who reads the connection tells why
            await connection.send(reply.frame)

    def _leave(self, reply: Reply) -> None:
        """Its reader is gone; who is next may begin."""
        if self._claimed is reply:
            self._claimed = None
        for message in reply.leave():
            self._call_back(message)

    def _hand_on(self, message: AnyServerMessage) -> None:
        reply = self._answering
        if reply is None or reply.left or isinstance(message, MsgStatus | MsgGracefulDisconnect):
            self._call_back(message)
        else:
            reply.take(message)
        if reply is not None and isinstance(message, MsgEventEnd | MsgError):
            self._answering = None
            reply.end()

    def _lost(self, problem: AgentException) -> None:
        reply, self._answering = self._answering, None
        if reply is not None:
            reply.end(AgentException(problem.code, problem.details))
        if self._on_disconnect is not None:
            self._callbacks.add(self._on_disconnect)

    def _call_back(self, message: AnyServerMessage) -> None:
        if self._callback is not None:
            self._callbacks.add(self._callback, message)
            return
        level = logging.INFO if self._told_of_no_callback else logging.WARNING
        self._told_of_no_callback = True
        kind = one_line(message.type)
        log.log(level, "there is no callback for %s of agent %s", kind, self.agent_id)
