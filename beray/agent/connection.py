"""The way to an agent: opened, kept, and opened again where that is wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from beray.agent import handshake
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.websocket import Connection
from beray.events import AnyServerMessage
from beray.http import retry
from beray.sanitize import one_line

RECONNECT_SECONDS: Final = 300.0
"""How long a lost connection is tried for again."""
BUSY_SECONDS: Final = 90.0
"""How long of these a busy chat is; its server may not have noticed that its client is gone."""
_LONGEST_DELAY: Final = 15.0
_LIVED_SECONDS: Final = 10.0

log = logging.getLogger("beray.agent")


class Line:
    """At most one connection at a time, and the one task that reads it.

    Args:
        name: for logs and names of tasks.
        open_one: opens a connection; raises AgentException.
        heartbeat_seconds: how often the other end is asked whether it is there.
        reconnect: whether a connection that was lost is opened again.
        hand_on: is given every message, in order.
        malformed: is given what is wrong with a frame that is no message, and its ``type`` if it
            has one. The connection stays open.
        lost: is told why, once for each connection that has ended.
        settle: waits for what ``lost`` has set going; where the event loop ends.
    """

    def __init__(
        self,
        name: str,
        open_one: Callable[[], Coroutine[Any, Any, Connection]],
        *,
        heartbeat_seconds: float,
        reconnect: bool,
        hand_on: Callable[[AnyServerMessage], None],
        malformed: Callable[[AgentException, str | None], None],
        lost: Callable[[AgentException], None],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._open_one = open_one
        self._heartbeat_seconds = heartbeat_seconds
        self._reconnect = reconnect
        self._hand_on = hand_on
        self._malformed = malformed
        self._lost = lost
        self._settle = settle
        self._opening: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._closes = 0
        self._attempts = 0
        self._why_not = AgentException("NOT_CONNECTED", "connect() first")
        self._change = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.state is State.OPEN

    async def connect(self) -> None:
        """Open the connection, or join in where somebody does. See ``AgentApi.connect``."""
        closes, opened = self._closes, False
        while not (opened or self.connected):
            if self._keeping is not None:
                await self._change.wait()  # it ends, or opens another one
            elif self._opening is not None:
                opened = await _succeeds(self._opening)
            else:
                opened = await self._open_first()
            if self._closes != closes:
                raise AgentException("NOT_CONNECTED", "it was closed while it was being opened")

    async def close(self) -> None:
        """End the connection, also one that is being opened. Idempotent."""
        self._closes += 1
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        keeping = self._keeping
        if keeping is not None:
            if self._connection is not None:
                await self._connection.finish()
            else:
                keeping.cancel()  # it is between two connections
            await asyncio.wait([keeping])

    async def ready(self) -> Connection:
        """The connection; waits where it is being opened again.

        Raises:
            AgentException: ``NOT_CONNECTED``, and why.
        """
        while self._connection is None or not self.connected:
            if self._connection is None and self._keeping is None:
                why = self._why_not
                raise AgentException(
                    "NOT_CONNECTED",
                    f"there is no connection: {why.details}",
                    status_code=why.status_code,
                    lasting=why.lasting,
                ) from why
            await self._change.wait()
        return self._connection

    async def _open_first(self) -> bool:
        current = asyncio.create_task(self._open_and_keep(), name=f"agent-{self._name}-opening")
        self._opening = current
        current.add_done_callback(self._opening_is_over)
        try:
            succeeds = await _succeeds(current)
        except asyncio.CancelledError:
            current.cancel()
            if await _succeeds(current):
                await self.close()  # it came about in the same moment
            raise
        if not succeeds and not current.cancelled():
            current.result()
        return succeeds

    async def _open_and_keep(self) -> None:
        connection = await self._open_one()
        self._come(connection)
        keeping = self._keep(connection, self._closes)
        self._keeping = asyncio.create_task(keeping, name=f"agent-{self._name}")

    def _opening_is_over(self, task: asyncio.Task[None]) -> None:
        self._opening = None

    async def _keep(self, connection: Connection, closes: int) -> None:
        """Read until the end, and where that is wanted from a new connection again."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began_at = loop.time()
                problem = AgentException("NOT_CONNECTED", "the event loop has ended")
                try:
                    problem = await self._read(connection)
                finally:
                    if self._closes != closes:
                        problem = AgentException("NOT_CONNECTED", "it was closed")
                    self._go(problem)
                if not self._reconnect or self._closes != closes:
                    break
                if loop.time() - began_at > _LIVED_SECONDS:
                    self._attempts = 0
                connection = await self._opened_again()
                self._come(connection)
        except AgentException as error:
            log.warning("agent %s is given up: %s", self._name, one_line(str(error)))
            self._why_not = error.with_traceback(None)
        except asyncio.CancelledError:
            if self._closes == closes:
                await self._settle()  # the event loop ends: nobody else waits for it
            else:
                self._why_not = AgentException("NOT_CONNECTED", "it was closed")
            raise
        finally:
            self._keeping = None
            self._tell_change()

    async def _read(self, connection: Connection) -> AgentException:
        """Hand on what comes; how it ended."""
        beating = asyncio.create_task(
            connection.beat(self._heartbeat_seconds), name=f"agent-{self._name}-heartbeat"
        )
        try:
            while True:
                frame = await connection.recv()
                try:
                    message = handshake.parsed(frame)
                except AgentException as error:
                    self._malformed(error.with_traceback(None), handshake.type_of(frame))
                else:
                    self._hand_on(message)
        except ConnectionClosed as error:
            return handshake.ended(connection, error)
        finally:
            connection.transport.abort()
            beating.cancel()
            await asyncio.wait([beating])

    async def _opened_again(self) -> Connection:
        """Another connection.

        Raises:
            AgentException: why there will be none.
        """
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while True:
            self._attempts += 1
            await asyncio.sleep(retry.backoff(self._attempts, maximum=_LONGEST_DELAY))
            try:
                return await self._open_one()
            except AgentException as error:
                busy = isinstance(error, AgentBusyException)
                allowed = BUSY_SECONDS if busy else RECONNECT_SECONDS
                if error.lasting or loop.time() - began_at >= allowed:
                    raise
                said = one_line(str(error))
                log.info("agent %s cannot be reached yet: %s", self._name, said)

    def _come(self, connection: Connection) -> None:
        self._connection = connection
        self._tell_change()

    def _go(self, problem: AgentException) -> None:
        self._connection = None
        self._why_not = problem
        self._lost(problem)
        self._tell_change()

    def _tell_change(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


async def _succeeds(task: asyncio.Task[None]) -> bool:
    await asyncio.wait([task])
    return not task.cancelled() and task.exception() is None
