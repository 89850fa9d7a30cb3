"""Synchronous client of a chat with an agent."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, Self, TypeVar

from beray.agent.agent_api import AgentApi, Callback
from beray.agent.callbacks import DRAIN_SECONDS, Function, accepts_argument
from beray.agent.exceptions import AgentException
from beray.agent.turn import Answer
from beray.events import AgentEventUnion

T = TypeVar("T")
OnSyncDisconnect = Callable[[], object] | Callable[["SyncAgentApi"], object]
_POLL_SECONDS: Final = 0.2
"""Interval of polling while waiting, because Ctrl-C does not interrupt a wait on Windows."""


class _LoopThread:
    """Event loop that runs in its own daemon thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name=name, daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        """Return True if the current thread is that of the event loop."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the event loop and return its result.

        An exception while waiting, such as KeyboardInterrupt, cancels the coroutine.

        Raises:
            AgentException: ``NOT_CONNECTED`` if the event loop has stopped.
            RuntimeError: Called from the loop's own thread, which would wait for itself.
        """
        if self.is_current():
            coroutine.close()
            raise RuntimeError("a callback of SyncAgentApi may only call close()")
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise _closed() from None
        try:
            while True:
                concurrent.futures.wait([future], timeout=_POLL_SECONDS)
                if future.done():
                    return future.result()
                if not self._thread.is_alive():
                    coroutine.close()
                    raise _closed()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        finally:
            future.cancel()

    def stop_after(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine``, then stop the event loop; return without waiting."""

        async def run_and_stop() -> None:
            try:
                await coroutine
            finally:
                self._loop.stop()

        # In the context of the calling callback, close() would not wait for callbacks.
        Context().run(asyncio.run_coroutine_threadsafe, run_and_stop(), self._loop)

    def stop(self) -> None:
        """Stop the event loop and wait for its thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)

    def _run_loop(self) -> None:
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
    """Answer of an agent to one message: an iterator over its events, see ``Answer``.

    Leaving a loop early releases the answer. An answer in a variable is released by ``close()`` or
    at the end of ``with``.

    Args:
        loop: The thread of the connection; None if not connected.
        answer: The asynchronous answer; None if not connected.
    """

    def __init__(self, loop: _LoopThread | None, answer: Answer | None) -> None:
        self._loop = loop
        self._answer = answer

    def __iter__(self) -> Iterator[AgentEventUnion]:
        return self

    def __next__(self) -> AgentEventUnion:
        """Return the next event.

        Raises:
            AgentBusyException: Another answer is in progress; it continues.
            AgentException: See ``AgentApi.send_message``.
        """
        if self._loop is None or self._answer is None:
            raise AgentException("NOT_CONNECTED", "not connected: call connect() first")
        message = self._loop.run(_next(self._answer))
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the answer: its remaining events are passed to ``callback``. Idempotent."""
        if self._loop is not None and self._answer is not None:
            with suppress(AgentException):  # the connection has ended, and the answer with it
                self._loop.run(self._answer.aclose())


class SyncAgentApi:
    """Synchronous client of one chat with an agent. Also a context manager.

    It may be used from any thread. The connection runs in a daemon thread, which ``close()``
    stops. ``callback`` and ``on_disconnect`` are called in that thread. They must return quickly,
    and may call ``close()``, but no other method of this object.

    Args:
        agent_id: Name of the agent.
        address: URL of the agent's server, as for ``AgentApi``.
        callback: Receives messages for which no request is waiting, as for ``AgentApi``.
        on_disconnect: Called once for each connection that has ended: with this object if it
            accepts an argument, otherwise without.
        chat_id: ID of the chat; each chat has its own history.
        options: Further keyword arguments of ``AgentApi``.

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
        on_disconnect: OnSyncDisconnect | None = None,
        chat_id: int | str = 0,
        **options: Any,
    ) -> None:
        self.agent_id: Final = agent_id
        self.chat_id: Final = chat_id
        self.on_disconnect = on_disconnect

        def new_api() -> AgentApi:
            return AgentApi(agent_id, address, callback, self._on_disconnect, chat_id, **options)

        self._new_api: Callable[[], AgentApi] = new_api
        self._api = new_api()
        self._loop: _LoopThread | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r}, chat_id={self.chat_id!r})"

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def id(self) -> str:
        """Published alias of ``agent_id``."""
        return self.agent_id

    @property
    def url(self) -> str:
        """URL of the WebSocket, without credentials."""
        return self._api.url

    @property
    def connected(self) -> bool:
        """True if the connection is open, as far as known."""
        return self._loop is not None and self._api.connected

    @property
    def busy(self) -> bool:
        """True if the agent is answering, including an answer whose reader has left."""
        return self._api.busy

    def connect(self) -> None:
        """Open the connection; see ``AgentApi.connect``.

        Raises:
            AgentBusyException: Another client is connected to the chat.
            AgentException: See ``AgentApi.connect``.
        """
        with self._lock:
            if self._loop is None:
                self._api = self._new_api()  # an AgentApi belongs to one event loop
                self._loop = _LoopThread(f"agent-{self.agent_id}")
            loop, api = self._loop, self._api
        try:
            loop.run(api.connect())
        except BaseException:
            if not api.connected:
                self._close(loop)
            raise

    def close(self) -> None:
        """Close the connection and stop its thread. Idempotent.

        An answer in progress raises to its reader.
        """
        self._close(self._loop)

    def send_message(self, text: str, attachments: Sequence[str] | None = None) -> SyncAnswer:
        """Return an iterator over the events of the answer to a message.

        The message is sent when the iteration begins. See ``AgentApi.send_message``.

        Args:
            text: Text of the message.
            attachments: Paths, relative to ``/workspace``, of files that were uploaded before.

        Raises:
            InvalidArgument: ``text`` or a path is not a valid Unicode string, or ``attachments``
                is a string instead of a list.
        """
        with self._lock:
            loop, api = self._loop, self._api
        answer = api.send_message(text, attachments)
        return SyncAnswer(loop, answer if loop is not None else None)

    def _on_disconnect(self) -> object:
        if self.on_disconnect is None:
            return None
        arguments = [self] if accepts_argument(self.on_disconnect) else []
        function: Function = self.on_disconnect
        return function(*arguments)

    def _close(self, loop: _LoopThread | None) -> None:
        with self._lock:
            if loop is None or self._loop is not loop:
                return
            self._loop = None
            api = self._api
        if loop.is_current():
            loop.stop_after(api.close())
            return
        try:
            loop.run(api.close())
        finally:
            loop.stop()


async def _next(answer: Answer) -> AgentEventUnion | None:
    return await anext(answer, None)


def _closed() -> AgentException:
    return AgentException("NOT_CONNECTED", "the connection was closed")
