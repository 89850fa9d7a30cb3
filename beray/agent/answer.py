"""An answer of an agent: as it comes in, and as somebody reads it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from beray.agent.exceptions import AgentException
from beray.events import AnyServerMessage, MsgError, MsgEventEnd


class Reply:
    """What has come of an answer and is not read yet. The connection's side of it.

    Attributes:
        frame: the request, as it is sent.
        over: set when the agent has said the last of it, or the connection has ended.
        left: nobody reads any more.
        problem: how the connection ended before the answer did.
    """

    def __init__(self, frame: str) -> None:
        self.frame: Final = frame
        self.over = asyncio.Event()
        self.left = False
        self.problem: AgentException | None = None
        self._unread: deque[AnyServerMessage] = deque()
        self._news = asyncio.Event()

    def take(self, message: AnyServerMessage) -> None:
        self._unread.append(message)
        self._news.set()

    def end(self, problem: AgentException | None = None) -> None:
        self.problem = problem
        self.over.set()
        self._news.set()

    async def next(self) -> AnyServerMessage:
        """The next message; waits for it.

        Raises:
            AgentException: there will be none, because the connection has ended.
        """
        while not self._unread:
            if self.problem is not None:
                raise self.problem
            self._news.clear()
            await self._news.wait()
        return self._unread.popleft()

    def leave(self) -> list[AnyServerMessage]:
        """What is left unread by the reader, who goes."""
        self.left = True
        leftovers, self._unread = list(self._unread), deque()
        return leftovers


class Answer:
    """What an agent answers to one message: an async iterator of messages.

    Ends behind ``AGENT_EVENT_END``. The request is sent with the first step. Whoever leaves the
    loop lets go of the answer: what is left of it goes to ``callback``. Kept in a variable it is
    let go of by ``aclose()`` or by the end of ``async with``.

    Source: the agent WebSocket API page, "What the documents promise of the Python client".
    """

    def __init__(
        self,
        reply: Reply,
        begin: Callable[[Reply], Awaitable[None]],
        leave: Callable[[Reply], None],
    ) -> None:
        self._reply = reply
        self._begin = begin
        self._leave = leave
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read: list[AnyServerMessage] = []
        self._ended = False
        self._problem: AgentException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyServerMessage:
        if self._problem is not None:
            raise self._problem
        if self._ended:
            raise StopAsyncIteration
        try:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                await self._begin(self._reply)
            message = await self._reply.next()
            if isinstance(message, MsgError):
                raise AgentException(message.code, message.details)
        except AgentException as error:
            error.events = list(self._read)
            self._let_go(error)
            raise
        except BaseException:
            self._let_go(AgentException("NOT_CONNECTED", "this answer was let go of"))
            raise
        self._read.append(message)
        if isinstance(message, MsgEventEnd):
            self._let_go(None)
        return message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the answer: what is left of it goes to ``callback``. Idempotent."""
        if not self._ended:
            self._let_go(AgentException("NOT_CONNECTED", "this answer was let go of"))

    def __del__(self) -> None:
        # A loop that was left by break: there is nobody any more who could close it.
        if self._ended or self._loop is None:
            return
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._leave(self._reply)
        else:
            with suppress(RuntimeError):  # its event loop has ended, and all of it with it
                self._loop.call_soon_threadsafe(self._leave, self._reply)

    def _let_go(self, problem: AgentException | None) -> None:
        self._ended = True
        self._problem = problem
        if self._loop is not None:
            self._leave(self._reply)
