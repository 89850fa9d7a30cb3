"""Pool of connections to agents: one for each chat, opened on demand and closed when idle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from beray.agent.agent_api import AgentApi
from beray.agent.exceptions import AgentBusyException, AgentException

DEFAULT_LIMIT: Final = 100
"""Maximum number of open connections."""
IDLE_SECONDS: Final = 300.0
WAIT_SECONDS: Final = 60.0

ChatId = int | str


class _ChatKey(NamedTuple):
    agent_id: str
    chat_id: ChatId


@dataclass(eq=False)
class _PooledConnection:
    """Entry of the pool, which one block uses at a time.

    Attributes:
        key: Agent and chat.
        api: The client; None before it is created.
        in_use: True while a block uses the connection.
        closing: True while the connection is being closed.
        idle_since: Time of the event loop at the end of the last use.
        timer: Closes the connection after ``idle_seconds``.
    """

    key: _ChatKey
    api: AgentApi | None = None
    in_use: bool = True
    closing: bool = False
    idle_since: float = 0.0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def answering(self) -> bool:
        """True if the agent is still answering a request whose reader has left."""
        return self.api is not None and self.api.busy


class ConnectionPool:
    """Pool with one connection for each agent and chat. An async context manager.

    Example::

        pool = ConnectionPool(lambda agent_id, chat_id: AgentApi(agent_id, URL, chat_id=chat_id))
        async with pool, pool.chat("main", "alice") as agent:
            async for event in agent.send_message("Hello"): ...

    One block uses a chat at a time. Others that request it wait, in the order of their requests.

    Args:
        open: Creates the ``AgentApi`` of an agent and a chat; the pool connects it.
        limit: Maximum number of open connections. If it is reached, the pool closes the connection
            that has been idle for the maximum time; if none is idle, requests wait.
        idle_seconds: Time after which an unused connection is closed.
        wait_seconds: Maximum time that a request waits for a chat or a connection.

    Raises:
        ValueError: ``limit`` is not positive.
    """

    def __init__(
        self,
        open: Callable[[str, ChatId], AgentApi],
        *,
        limit: int = DEFAULT_LIMIT,
        idle_seconds: float = IDLE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._open = open
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._wait_seconds = wait_seconds
        self._connections: dict[_ChatKey, _PooledConnection] = {}
        self._waiting: deque[tuple[_ChatKey, asyncio.Future[_PooledConnection]]] = deque()
        self._closing_tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """Return the number of connections that are open, being opened or being closed."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def chat(self, agent_id: str, chat_id: ChatId = 0) -> AsyncIterator[AgentApi]:
        """Provide the connected ``AgentApi`` of a chat to an ``async with`` block.

        A connection that was lost since its last use is reopened.

        Args:
            agent_id: Name of the agent.
            chat_id: ID of the chat.

        Raises:
            AgentBusyException: The chat is in use, by another block for longer than
                ``wait_seconds`` or by a client outside of this pool.
            AgentException: As ``AgentApi.connect``; ``TIMEOUT`` if all connections were in use for
                ``wait_seconds``; ``NOT_CONNECTED`` if the pool is closed.
        """
        connection = await self._acquire(_ChatKey(agent_id, chat_id))
        try:
            if connection.closing:
                raise _pool_closed()
            if connection.api is None:
                connection.api = self._open(agent_id, chat_id)
            await connection.api.connect()
            yield connection.api
        finally:
            self._release(connection)

    async def aclose(self) -> None:
        """Close all connections, including those in use. Idempotent.

        Requests that are waiting for a connection raise ``NOT_CONNECTED``.
        """
        self._closed = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(_pool_closed())
        self._waiting.clear()
        for connection in list(self._connections.values()):
            self._close(connection)
        while self._closing_tasks:
            await asyncio.wait(self._closing_tasks)

    async def _acquire(self, key: _ChatKey) -> _PooledConnection:
        if self._closed:
            raise _pool_closed()
        future: asyncio.Future[_PooledConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        try:
            self._assign()
            await asyncio.wait([future], timeout=self._wait_seconds)
        except asyncio.CancelledError:
            if future.done() and not future.exception():
                self._release(future.result())
            raise
        finally:
            future.cancel()
        if not future.cancelled():
            return future.result()
        if key in self._connections:
            raise AgentBusyException(f"the chat was in use for {self._wait_seconds:g} s")
        details = f"all {self._limit} connections were in use for {self._wait_seconds:g} s"
        raise AgentException("TIMEOUT", details)

    def _assign(self) -> None:
        """Assign free connections to waiting requests, in their order."""
        waiting, self._waiting = self._waiting, deque()
        closing_count = len(self._closing_tasks)
        for key, future in waiting:
            if future.done():
                continue
            connection = self._connections.get(key)
            if connection is None and len(self._connections) < self._limit:
                connection = self._connections[key] = _PooledConnection(key)
                future.set_result(connection)
            elif connection is not None and not connection.in_use:
                self._mark_in_use(connection)
                future.set_result(connection)
            else:
                self._waiting.append((key, future))
                if connection is None and closing_count > 0:
                    closing_count -= 1
                elif connection is None and (idle := self._longest_idle()) is not None:
                    self._close(idle)

    def _longest_idle(self) -> _PooledConnection | None:
        idle = [connection for connection in self._connections.values() if not connection.in_use]
        return min(
            idle, key=lambda connection: (connection.answering, connection.idle_since), default=None
        )

    def _mark_in_use(self, connection: _PooledConnection) -> None:
        connection.in_use = True
        if connection.timer is not None:
            connection.timer.cancel()
            connection.timer = None

    def _release(self, connection: _PooledConnection) -> None:
        if connection.closing:
            return
        if connection.api is None or not connection.api.connected:
            self._close(connection)
            return
        connection.in_use = False
        connection.idle_since = asyncio.get_running_loop().time()
        self._close_when_idle(connection)
        self._assign()

    def _close_when_idle(self, connection: _PooledConnection) -> None:
        if connection.timer is not None and not connection.answering:
            self._close(connection)
        else:
            loop = asyncio.get_running_loop()
            connection.timer = loop.call_later(
                self._idle_seconds, self._close_when_idle, connection
            )

    def _close(self, connection: _PooledConnection) -> None:
        if connection.closing:
            return
        self._mark_in_use(connection)
        connection.closing = True
        task = asyncio.get_running_loop().create_task(
            self._close_connection(connection), name="agent-pool"
        )
        self._closing_tasks.add(task)
        task.add_done_callback(self._on_closed)

    async def _close_connection(self, connection: _PooledConnection) -> None:
        try:
            if connection.api is not None:
                await connection.api.close()
        finally:
            del self._connections[connection.key]

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        self._closing_tasks.discard(task)
        self._assign()


def _pool_closed() -> AgentException:
    return AgentException("NOT_CONNECTED", "the pool is closed")
