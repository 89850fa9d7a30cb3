"""The answer of an agent: as it arrives, and as its reader sees it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from beray.agent.exceptions import AgentException
from beray.events import AgentEventUnion, MsgError, MsgEventEnd


class Reply:
    """What has arrived of an answer and is not read yet. The connection's side of it.

    Attributes:
        frame: The request, as it is sent.
        over: Set after the last message of the answer, or when the connection has ended.
        left: The reader has left.
        problem: How the connection ended before the answer did.
        received: Number of messages that have arrived.
        malformed: Whether one of its frames could not be parsed, which may have been the last.
    """

    def __init__(self, frame: str) -> None:
        self.frame: Final = frame
        self.over = asyncio.Event()
        self.left = False
        self.problem: AgentException | None = None
        self.received = 0
        self.malformed = False
        self._unread: deque[AgentEventUnion | MsgError | AgentException] = deque()
        self._news = asyncio.Event()

    def take(self, message: AgentEventUnion | MsgError) -> None:
        self._unread.append(message)
        self._news.set()

    def fail(self, problem: AgentException) -> None:
        """Raise ``problem`` to the reader, after the messages that arrived before it."""
        self._unread.append(problem)
        self._news.set()

    def end(self, problem: AgentException | None = None) -> None:
        self.problem = problem
        self.over.set()
        self._news.set()

    async def next(self) -> AgentEventUnion | MsgError:
        """Wait for the next message and return it.

        Raises:
            AgentException: It could not be parsed, or the connection has ended.
        """
        while not self._unread:
            if self.problem is not None:
                raise self.problem
            self._news.clear()
            await self._news.wait()
        message = self._unread.popleft()
        if isinstance(message, AgentException):
            raise message
        return message

    def leave(self) -> list[AgentEventUnion | MsgError]:
        """Note that the reader has left, and return the messages that it has not read."""
        self.left = True
        unread, self._unread = self._unread, deque()
        return [message for message in unread if not isinstance(message, AgentException)]


class Answer:
    """The answer of an agent to one message: an async iterator of its events.

    It ends after ``AGENT_EVENT_END``. The request is sent by the first step of the iteration, or
    by ``await``, which returns the same object: ``response = await api.send_message(…)``. A
    loop that is left early releases the answer: its remaining events go to ``callback``. An
    answer in a variable is released by ``aclose()`` or at the end of ``async with``.

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
        self._read: list[AgentEventUnion] = []
        self._ended = False
        self._problem: AgentException | None = None

    def __aiter__(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._sent().__await__()

    async def _sent(self) -> Self:
        if self._problem is not None:
            raise self._problem
        with self._released_by_errors():
            await self._send_once()
        return self

    async def __anext__(self) -> AgentEventUnion:
        if self._problem is not None:
            raise self._problem
        if self._ended:
            raise StopAsyncIteration
        with self._released_by_errors():
            await self._send_once()
            message = await self._reply.next()
            if isinstance(message, MsgError):
                raise AgentException(message.code, message.details)
        self._read.append(message)
        if isinstance(message, MsgEventEnd):
            self._let_go(None)
        return message

    async def _send_once(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            await self._begin(self._reply)

    @contextmanager
    def _released_by_errors(self) -> Iterator[None]:
        try:
            yield
        except AgentException as error:
            error.events = list(self._read)
            self._let_go(error)
            raise
        except BaseException:
            self._let_go(AgentException("NOT_CONNECTED", "this answer was let go of"))
            raise

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
