"""``ConnectionPool``: many conversations, each open for as long as somebody talks in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, Self

from beray.agent.agent_api import AgentApi
from beray.agent.exceptions import AgentBusyException, AgentException

LIMIT: Final = 100
IDLE_SECONDS: Final = 300.0
WAIT_SECONDS: Final = 60.0

ChatId = int | str


class _Key(NamedTuple):
    agent_id: str
    chat_id: ChatId


@dataclass(eq=False)
class _Place:
    """One of the connections that may be open; taken by one user at a time."""

    key: _Key
    api: AgentApi | None = None
    taken: bool = True
    closing: bool = False
    idle_since: float = 0.0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def answering(self) -> bool:
        """Whether the agent still answers somebody who has gone."""
        return self.api is not None and self.api.busy


class ConnectionPool:
    """One connection for each (agent, chat), opened on demand. An async context manager.

        pool = ConnectionPool(lambda agent_id, chat_id: AgentApi(agent_id, URL, chat_id=chat_id))
        async with pool, pool.chat("main", "alice") as agent:
            async for event in agent.send_message("Hello"): ...

    A chat belongs to one user at a time: others who ask for it wait, first come first served.

    Args:
        open: makes the ``AgentApi`` of an agent and a chat; the pool connects it.
        limit: how many are open at once. When all are, the one that has been idle for longest
            is closed; when none is idle, who asks has to wait.
        idle_seconds: an unused connection is closed after so long.
        wait_seconds: how long somebody waits for a chat or for room.
    """

    def __init__(
        self,
        open: Callable[[str, ChatId], AgentApi],
        *,
        limit: int = LIMIT,
        idle_seconds: float = IDLE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        if limit < 1:
            raise ValueError("a pool has room for one connection at least")
        self._open = open
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._wait_seconds = wait_seconds
        self._places: dict[_Key, _Place] = {}
        self._waiting: deque[tuple[_Key, asyncio.Future[_Place]]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many connections are open, being opened or being closed."""
        return len(self._places)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def chat(self, agent_id: str, chat_id: ChatId = 0) -> AsyncIterator[AgentApi]:
        """The connected ``AgentApi`` of a chat, for as long as the block runs.

        A connection that has died since its last use is opened anew.

        Raises:
            AgentBusyException: somebody else has the chat, in this pool or elsewhere.
            AgentException: as ``AgentApi.connect``; ``TIMEOUT``, nobody made room in time;
                ``NOT_CONNECTED``, the pool is closed.
        """
        place = await self._take(_Key(agent_id, chat_id))
        try:
            if place.closing:
                raise _no_pool()
            if place.api is None:
                place.api = self._open(agent_id, chat_id)
            await place.api.connect()
            yield place.api
        finally:
            self._give_back(place)

    async def aclose(self) -> None:
        """Close all connections, also those in use; who waits for one is told. Idempotent."""
        self._closed = True
        for _, promised in self._waiting:
            if not promised.done():
                promised.set_exception(_no_pool())
        self._waiting.clear()
        for place in list(self._places.values()):
            self._close(place)
        while self._closing:
            await asyncio.wait(self._closing)

    async def _take(self, key: _Key) -> _Place:
        if self._closed:
            raise _no_pool()
        promised: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, promised))
        try:
            self._deal()
            await asyncio.wait([promised], timeout=self._wait_seconds)
        except asyncio.CancelledError:
            if promised.done() and not promised.exception():
                self._give_back(promised.result())
            raise
        finally:
            promised.cancel()
        if not promised.cancelled():
            return promised.result()
        if key in self._places:
            raise AgentBusyException(f"the chat was in use for {self._wait_seconds:g} s")
        details = f"all {self._limit} connections were in use for {self._wait_seconds:g} s"
        raise AgentException("TIMEOUT", details)

    def _deal(self) -> None:
        """Give what there is to those who wait, in the order in which they came."""
        waiting, self._waiting = self._waiting, deque()
        rooms = len(self._closing)
        for key, promised in waiting:
            if promised.done():
                continue
            place = self._places.get(key)
            if place is None and len(self._places) < self._limit:
                place = self._places[key] = _Place(key)
                promised.set_result(place)
            elif place is not None and not place.taken:
                self._mark_taken(place)
                promised.set_result(place)
            else:
                self._waiting.append((key, promised))
                if place is None and rooms > 0:
                    rooms -= 1
                elif place is None and (idle := self._longest_idle()) is not None:
                    self._close(idle)

    def _longest_idle(self) -> _Place | None:
        idle = [place for place in self._places.values() if not place.taken]
        return min(idle, key=lambda place: (place.answering, place.idle_since), default=None)

    def _mark_taken(self, place: _Place) -> None:
        place.taken = True
        if place.timer is not None:
            place.timer.cancel()
            place.timer = None

    def _give_back(self, place: _Place) -> None:
        if place.closing:
            return
        if place.api is None or not place.api.connected:
            self._close(place)
            return
        place.taken = False
        place.idle_since = asyncio.get_running_loop().time()
        self._close_when_idle(place)
        self._deal()

    def _close_when_idle(self, place: _Place) -> None:
        if place.timer is not None and not place.answering:
            self._close(place)
        else:
            loop = asyncio.get_running_loop()
            place.timer = loop.call_later(self._idle_seconds, self._close_when_idle, place)

    def _close(self, place: _Place) -> None:
        if place.closing:
            return
        self._mark_taken(place)
        place.closing = True
        task = asyncio.get_running_loop().create_task(self._end(place), name="agent-pool")
        self._closing.add(task)
        task.add_done_callback(self._gone)

    async def _end(self, place: _Place) -> None:
        try:
            if place.api is not None:
                await place.api.close()
        finally:
            del self._places[place.key]

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        self._deal()


def _no_pool() -> AgentException:
    return AgentException("NOT_CONNECTED", "the pool is closed")
