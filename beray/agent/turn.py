"""One turn of a chat: a request, the messages received for it, and the reader's iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from beray.agent.exceptions import AgentException
from beray.events import AgentEventUnion, MsgError, MsgEventEnd


class Turn:
    """Request and received messages of one answer, as seen by the connection.

    Attributes:
        frame: The serialised request.
        finished: Set after the last message of the answer, or when the connection has ended.
        abandoned: True after the reader has left.
        error: Exception that ended the connection before the answer was complete.
        received_count: Number of received messages.
        has_malformed_frame: True if a frame could not be parsed, which may have been the last one.
    """

    def __init__(self, frame: str) -> None:
        self.frame: Final = frame
        self.finished = asyncio.Event()
        self.abandoned = False
        self.error: AgentException | None = None
        self.received_count = 0
        self.has_malformed_frame = False
        self._unread: deque[AgentEventUnion | MsgError | AgentException] = deque()
        self._changed = asyncio.Event()

    def add(self, message: AgentEventUnion | MsgError) -> None:
        """Append a message for the reader."""
        self._unread.append(message)
        self._changed.set()

    def add_error(self, error: AgentException) -> None:
        """Raise ``error`` to the reader, after the messages that arrived before it."""
        self._unread.append(error)
        self._changed.set()

    def finish(self, error: AgentException | None = None) -> None:
        """Mark the answer as over.

        Args:
            error: Raised to the reader if the answer is not complete.
        """
        self.error = error
        self.finished.set()
        self._changed.set()

    async def next(self) -> AgentEventUnion | MsgError:
        """Wait for the next message and return it.

        Raises:
            AgentException: The message could not be parsed, or the connection has ended.
        """
        while not self._unread:
            if self.error is not None:
                raise self.error
            self._changed.clear()
            await self._changed.wait()
        message = self._unread.popleft()
        if isinstance(message, AgentException):
            raise message
        return message

    def abandon(self) -> list[AgentEventUnion | MsgError]:
        """Mark the reader as gone and return the unread messages."""
        self.abandoned = True
        unread, self._unread = self._unread, deque()
        return [message for message in unread if not isinstance(message, AgentException)]


class Answer:
    """Answer of an agent to one message: an async iterator over its events.

    It ends after ``AGENT_EVENT_END``. The request is sent by the first step of the iteration, or
    by ``await``, which returns the same object: ``response = await api.send_message(…)``. Leaving
    a loop early releases the answer: its remaining events are passed to ``callback``. An answer in
    a variable is released by ``aclose()`` or at the end of ``async with``.

    Args:
        turn: Request and received messages.
        begin: Sends the request.
        leave: Called once the reader needs no further messages.

    Source: the agent WebSocket API page, "What the documents promise of the Python client".
    """

    def __init__(
        self,
        turn: Turn,
        begin: Callable[[Turn], Awaitable[None]],
        leave: Callable[[Turn], None],
    ) -> None:
        self._turn = turn
        self._begin = begin
        self._leave = leave
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: list[AgentEventUnion] = []
        self._ended = False
        self._error: AgentException | None = None

    def __aiter__(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._send().__await__()

    async def _send(self) -> Self:
        if self._error is not None:
            raise self._error
        with self._released_on_error():
            await self._send_once()
        return self

    async def __anext__(self) -> AgentEventUnion:
        if self._error is not None:
            raise self._error
        if self._ended:
            raise StopAsyncIteration
        with self._released_on_error():
            await self._send_once()
            message = await self._turn.next()
            if isinstance(message, MsgError):
                raise AgentException(message.code, message.details)
        self._events.append(message)
        if isinstance(message, MsgEventEnd):
            self._release(None)
        return message

    async def _send_once(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            await self._begin(self._turn)

    @contextmanager
    def _released_on_error(self) -> Iterator[None]:
        try:
            yield
        except AgentException as error:
            error.events = list(self._events)
            self._release(error)
            raise
        except BaseException:
            self._release(AgentException("NOT_CONNECTED", "the answer was released before its end"))
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Release the answer: its remaining events are passed to ``callback``. Idempotent."""
        if not self._ended:
            self._release(AgentException("NOT_CONNECTED", "the answer was released before its end"))

    def __del__(self) -> None:
        # After a break, no code refers to this object that could close it.
        if self._ended or self._loop is None:
            return
        try:
            in_own_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            in_own_loop = False
        if in_own_loop:
            self._leave(self._turn)
        else:
            with suppress(RuntimeError):  # the event loop is closed, and the connection with it
                self._loop.call_soon_threadsafe(self._leave, self._turn)

    def _release(self, error: AgentException | None) -> None:
        self._ended = True
        self._error = error
        if self._loop is not None:
            self._leave(self._turn)
