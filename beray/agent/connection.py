"""Connection to an agent: opening, reading, reconnecting and closing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from beray.agent import websocket
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.websocket import AgentWebSocket
from beray.events import AnyServerMessage
from beray.http import retry
from beray.sanitize import one_line

RECONNECT_SECONDS: Final = 300.0
"""Maximum time for reopening a lost connection."""
BUSY_SECONDS: Final = 90.0
"""Maximum time for reopening if the chat is busy.

The server may not have noticed yet that this client's previous connection is lost.
"""
_MAX_DELAY_SECONDS: Final = 15.0
_STABLE_SECONDS: Final = 10.0
"""Duration of a connection after which the delay starts from its minimum again."""

log = logging.getLogger("beray.agent")


class AgentConnection:
    """At most one open WebSocket of an agent, and the task that reads it.

    Args:
        name: Name of the agent, for logs and names of tasks.
        open_websocket: Opens a WebSocket; raises AgentException.
        heartbeat_seconds: Interval between pings.
        reconnect: Whether to reopen a lost connection.
        on_message: Called with each message, in order.
        on_malformed_frame: Called with the exception for a frame that is not a valid message, and
            with its ``type`` if it has one. The connection stays open.
        on_disconnect: Called with the reason, once for each connection that has ended.
        drain_callbacks: Waits for the callbacks that ``on_disconnect`` has started. Used if the
            event loop is closing.
    """

    def __init__(
        self,
        name: str,
        open_websocket: Callable[[], Coroutine[Any, Any, AgentWebSocket]],
        *,
        heartbeat_seconds: float,
        reconnect: bool,
        on_message: Callable[[AnyServerMessage], None],
        on_malformed_frame: Callable[[AgentException, str | None], None],
        on_disconnect: Callable[[AgentException], None],
        drain_callbacks: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._open_websocket = open_websocket
        self._heartbeat_seconds = heartbeat_seconds
        self._reconnect = reconnect
        self._on_message = on_message
        self._on_malformed_frame = on_malformed_frame
        self._on_disconnect = on_disconnect
        self._drain_callbacks = drain_callbacks
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._connection: AgentWebSocket | None = None
        self._close_count = 0
        self._attempts = 0
        self._disconnect_reason = AgentException("NOT_CONNECTED", "call connect() first")
        self._state_changed = asyncio.Event()

    @property
    def connected(self) -> bool:
        """True if the WebSocket is open."""
        return self._connection is not None and self._connection.state is State.OPEN

    async def connect(self) -> None:
        """Open the connection; see ``AgentApi.connect``. Concurrent calls share one attempt."""
        close_count, opened = self._close_count, False
        while not (opened or self.connected):
            if self._reader is not None:
                await self._state_changed.wait()  # until it ends, or has reconnected
            elif self._opening is not None:
                opened = await _succeeded(self._opening)
            else:
                opened = await self._start_opening()
            if self._close_count != close_count:
                raise AgentException(
                    "NOT_CONNECTED", "the connection was closed while it was being opened"
                )

    async def close(self) -> None:
        """Close the connection, or cancel its opening. Idempotent."""
        self._close_count += 1
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        reader = self._reader
        if reader is not None:
            if self._connection is not None:
                await self._connection.finish()
            else:
                reader.cancel()  # it is waiting to reconnect
            await asyncio.wait([reader])

    async def ready(self) -> AgentWebSocket:
        """Return the open WebSocket; wait while it is being reopened.

        Raises:
            AgentException: ``NOT_CONNECTED``, with the reason for the missing connection.
        """
        while self._connection is None or not self.connected:
            if self._connection is None and self._reader is None:
                reason = self._disconnect_reason
                raise AgentException(
                    "NOT_CONNECTED",
                    f"not connected: {reason.details}",
                    status_code=reason.status_code,
                    lasting=reason.lasting,
                ) from reason
            await self._state_changed.wait()
        return self._connection

    async def _start_opening(self) -> bool:
        opening = asyncio.create_task(self._open(), name=f"agent-{self._name}-opening")
        self._opening = opening
        opening.add_done_callback(self._opening_done)
        try:
            succeeded = await _succeeded(opening)
        except asyncio.CancelledError:
            opening.cancel()
            if await _succeeded(opening):
                await self.close()  # it was opened before the cancellation took effect
            raise
        if not succeeded and not opening.cancelled():
            opening.result()
        return succeeded

    async def _open(self) -> None:
        connection = await self._open_websocket()
        self._set_connection(connection)
        reading = self._read_and_reconnect(connection, self._close_count)
        self._reader = asyncio.create_task(reading, name=f"agent-{self._name}")

    def _opening_done(self, task: asyncio.Task[None]) -> None:
        self._opening = None

    async def _read_and_reconnect(self, connection: AgentWebSocket, close_count: int) -> None:
        """Read the connection, and those that replace it, until it is closed or reconnecting fails.

        Args:
            connection: The open WebSocket.
            close_count: Value of ``_close_count`` when it was opened; a later value means that
                ``close()`` was called.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                started_at = loop.time()
                reason = AgentException("NOT_CONNECTED", "the event loop is closing")
                try:
                    reason = await self._read(connection)
                finally:
                    if self._close_count != close_count:
                        reason = AgentException("NOT_CONNECTED", "the connection was closed")
                    self._clear_connection(reason)
                if not self._reconnect or self._close_count != close_count:
                    break
                if loop.time() - started_at > _STABLE_SECONDS:
                    self._attempts = 0
                connection = await self._reopen()
                self._set_connection(connection)
        except AgentException as error:
            log.warning("reconnecting to agent %s failed: %s", self._name, one_line(str(error)))
            self._disconnect_reason = error.with_traceback(None)
        except asyncio.CancelledError:
            if self._close_count == close_count:
                await (
                    self._drain_callbacks()
                )  # the event loop is closing: no other task waits for them
            else:
                self._disconnect_reason = AgentException(
                    "NOT_CONNECTED", "the connection was closed"
                )
            raise
        finally:
            self._reader = None
            self._notify_state_change()

    async def _read(self, connection: AgentWebSocket) -> AgentException:
        """Pass on all messages, and return the exception with which the connection ended."""
        heartbeat = asyncio.create_task(
            connection.send_heartbeats(self._heartbeat_seconds),
            name=f"agent-{self._name}-heartbeat",
        )
        try:
            while True:
                frame = await connection.recv()
                try:
                    message = websocket.parse_frame(frame)
                except AgentException as error:
                    self._on_malformed_frame(
                        error.with_traceback(None), websocket.frame_type(frame)
                    )
                else:
                    self._on_message(message)
        except ConnectionClosed as error:
            return websocket.closed_error(connection, error)
        finally:
            connection.transport.abort()
            heartbeat.cancel()
            await asyncio.wait([heartbeat])

    async def _reopen(self) -> AgentWebSocket:
        """Open a new connection, with growing pauses between the attempts.

        Raises:
            AgentException: The last attempt failed, and another one is pointless or too late.
        """
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        while True:
            self._attempts += 1
            await asyncio.sleep(retry.backoff(self._attempts, maximum=_MAX_DELAY_SECONDS))
            try:
                return await self._open_websocket()
            except AgentException as error:
                is_busy = isinstance(error, AgentBusyException)
                max_seconds = BUSY_SECONDS if is_busy else RECONNECT_SECONDS
                if error.lasting or loop.time() - started_at >= max_seconds:
                    raise
                reason = one_line(str(error))
                log.info("could not reconnect to agent %s yet: %s", self._name, reason)

    def _set_connection(self, connection: AgentWebSocket) -> None:
        self._connection = connection
        self._notify_state_change()

    def _clear_connection(self, reason: AgentException) -> None:
        self._connection = None
        self._disconnect_reason = reason
        self._on_disconnect(reason)
        self._notify_state_change()

    def _notify_state_change(self) -> None:
        self._state_changed.set()
        self._state_changed = asyncio.Event()


async def _succeeded(task: asyncio.Task[None]) -> bool:
    await asyncio.wait([task])
    return not task.cancelled() and task.exception() is None
