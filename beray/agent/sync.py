"""``SyncAgentApi``: the same conversation, for scripts without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from beray.agent.agent_api import AgentApi, Callback
from beray.agent.callbacks import DRAIN_SECONDS, Function, takes_an_argument
from beray.agent.exceptions import AgentException
from beray.agent.turn import Answer
from beray.events import AgentEventUnion

T = TypeVar("T")
OnSyncDisconnect = Callable[[], object] | Callable[["SyncAgentApi"], object]
_LOOK_UP_SECONDS: Final = 0.2
"""A wait is made of pieces: on Windows none is interrupted by Ctrl-C."""


class _Loop:
    """An event loop in a daemon thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What ``coroutine`` returns; who is interrupted while waiting cancels it.

        Raises:
            AgentException: ``NOT_CONNECTED``, the loop has ended.
            RuntimeError: called from inside of the loop, which would wait for itself.
        """
        if self.is_here():
            coroutine.close()
            raise RuntimeError("a callback must not wait for the connection that calls it")
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise _closed() from None
        try:
            while True:
                concurrent.futures.wait([future], timeout=_LOOK_UP_SECONDS)
                if future.done():
                    return future.result()
                if not self._thread.is_alive():
                    coroutine.close()
                    raise _closed()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        finally:
            future.cancel()

    def end_after(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do this as the last thing, and do not wait for it."""

        async def last() -> None:
            try:
                await coroutine
            finally:
                self._loop.stop()

        # Not as a part of the callback that asks for it: it has to wait for that.
        Context().run(asyncio.run_coroutine_threadsafe, last(), self._loop)

    def end(self) -> None:
        """End the thread, and wait for it."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        while self._thread.is_alive():
            self._thread.join(_LOOK_UP_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=DRAIN_SECONDS))
            self._loop.close()


class SyncAnswer:
    """What an agent answers to one message: an iterator of messages, see ``Answer``.

    Kept in a variable it is let go of by ``close()`` or by the end of ``with``.
    """

    def __init__(self, loop: _Loop | None, answer: Answer | None) -> None:
        self._loop = loop
        self._answer = answer

    def __iter__(self) -> Iterator[AgentEventUnion]:
        return self

    def __next__(self) -> AgentEventUnion:
        """The next message.

        Raises:
            AgentBusyException, AgentException: as from the loop of ``AgentApi.send_message``.
        """
        if self._loop is None or self._answer is None:
            raise AgentException("NOT_CONNECTED", "there is no connection: connect() first")
        message = self._loop.result(_next(self._answer))
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the answer: what is left of it goes to ``callback``. Idempotent."""
        if self._loop is not None and self._answer is not None:
            with suppress(AgentException):  # it has ended with its connection
                self._loop.result(self._answer.aclose())


class SyncAgentApi:
    """A chat with an agent, for any thread. Also a context manager.

    Takes the arguments of ``AgentApi``. The connection lives in a daemon thread, which
    ``close()`` ends. ``callback`` and ``on_disconnect`` are called in that thread: they must be
    quick, may call ``close()``, and must not call anything else of this object.

    Source: the agent WebSocket API page.
    """

    def __init__(
        self,
        agent_id: str,
        address: str | None = None,
        callback: Callback | None = None,
        on_disconnect: OnSyncDisconnect | None = None,
        chat_id: int | str = 0,
        **options: Any,
    ) -> None:
        self.agent_id: Final = agent_id
        self.chat_id: Final = chat_id
        self.on_disconnect = on_disconnect

        def make() -> AgentApi:
            return AgentApi(agent_id, address, callback, self._disconnected, chat_id, **options)

        self._make: Callable[[], AgentApi] = make
        self._api = make()
        self._loop: _Loop | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r}, chat_id={self.chat_id!r})"

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """``agent_id``, under its published name."""
        return self.agent_id

    @property
    def url(self) -> str:
        """URL of the WebSocket, without credentials."""
        return self._api.url

    @property
    def connected(self) -> bool:
        return self._loop is not None and self._api.connected

    @property
    def busy(self) -> bool:
        """Whether an answer is under way, or one that was left has not come to its end."""
        return self._api.busy

    def connect(self) -> None:
        """Open the connection; see ``AgentApi.connect``."""
        with self._lock:
            if self._loop is None:
                self._api = self._make()  # one belongs to one event loop
                self._loop = _Loop(f"agent-{self.agent_id}")
            loop, api = self._loop, self._api
        try:
            loop.result(api.connect())
        except BaseException:
            if not api.connected:
                self._close(loop)
            raise

    def close(self) -> None:
        """End the connection and its thread; an answer that is under way raises. Idempotent."""
        self._close(self._loop)

    def send_message(self, text: str, attachments: Sequence[str] | None = None) -> SyncAnswer:
        """Say something, and iterate over what the agent answers; see ``AgentApi.send_message``."""
        with self._lock:
            loop, api = self._loop, self._api
        answer = api.send_message(text, attachments)
        return SyncAnswer(loop, answer if loop is not None else None)

    def _disconnected(self) -> object:
        if self.on_disconnect is None:
            return None
        arguments = [self] if takes_an_argument(self.on_disconnect) else []
        function: Function = self.on_disconnect
        return function(*arguments)

    def _close(self, loop: _Loop | None) -> None:
        with self._lock:
            if loop is None or self._loop is not loop:
                return
            self._loop = None
            api = self._api
        if loop.is_here():
            loop.end_after(api.close())
            return
        try:
            loop.result(api.close())
        finally:
            loop.end()


async def _next(answer: Answer) -> AgentEventUnion | None:
    return await anext(answer, None)


def _closed() -> AgentException:
    return AgentException("NOT_CONNECTED", "the connection was closed")
