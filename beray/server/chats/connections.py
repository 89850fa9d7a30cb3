"""Open connections of chats: at most one client per chat."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

GOING_AWAY: Final = 1001
"""Close code of a server that shuts down (RFC 6455, section 7.4.1)."""


class ChatClientConnection(Protocol):
    """WebSocket connection of a chat's client."""

    async def send_disconnect_notice(self) -> None:
        """Notify the client that the server is stopping."""

    async def close_after_answer(self) -> None:
        """Close the connection, after the current answer if there is one."""

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection with a WebSocket close code and a reason."""


class ChatConnections:
    """Registry of the connected client of each chat. Used on one event loop."""

    def __init__(self) -> None:
        self._by_task: dict[int, ChatClientConnection] = {}

    def is_connected(self, task_id: int) -> bool:
        """Return True if a client is connected to a chat."""
        return task_id in self._by_task

    def try_add(self, task_id: int, connection: ChatClientConnection) -> bool:
        """Add a connection; return False if the chat has another one."""
        return self._by_task.setdefault(task_id, connection) is connection

    def remove(self, task_id: int, connection: ChatClientConnection) -> None:
        """Remove a connection. Idempotent."""
        if self._by_task.get(task_id) is connection:
            del self._by_task[task_id]

    async def send_disconnect_notices(self) -> None:
        """Notify all clients that the server is stopping."""
        for connection in list(self._by_task.values()):
            await connection.send_disconnect_notice()

    async def close_after_answers(self) -> None:
        """Notify all clients, and close each connection after its current answer."""
        await self.send_disconnect_notices()
        connections = list(self._by_task.values())
        await asyncio.gather(*(connection.close_after_answer() for connection in connections))

    async def close(self) -> None:
        """Close all connections."""
        for connection in list(self._by_task.values()):
            await connection.close(GOING_AWAY, "the server is going away")
