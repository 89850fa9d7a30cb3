"""Open connections of chats: one client per chat at a time."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

GOING_AWAY: Final = 1001
"""Close code of a server that shuts down (RFC 6455, section 7.4.1)."""


class ChatConnection(Protocol):
    """WebSocket of a chat's client."""

    async def farewell(self) -> None:
        """Tell the client that the server is going away."""

    async def let_go(self) -> None:
        """Close the connection, after the answer if one is being produced."""

    async def close(self, code: int, reason: str) -> None:
        """Close the connection with a WebSocket close code and a reason."""


class ChatConnections:
    """Connections by the id of their chat. Used on one event loop."""

    def __init__(self) -> None:
        self._connections: dict[int, ChatConnection] = {}

    def is_open(self, task_id: int) -> bool:
        """Return True if the chat has a connected client."""
        return task_id in self._connections

    def add(self, task_id: int, connection: ChatConnection) -> bool:
        """Register a connection; return False if another client has the chat."""
        return self._connections.setdefault(task_id, connection) is connection

    def remove(self, task_id: int, connection: ChatConnection) -> None:
        """Remove a connection, if it is the registered one."""
        if self._connections.get(task_id) is connection:
            del self._connections[task_id]

    async def farewell(self) -> None:
        """Tell all clients that the server is going away."""
        for connection in list(self._connections.values()):
            await connection.farewell()

    async def let_go_all(self) -> None:
        """Tell all clients that the server is going away, and close their connections.

        A connection whose answer is being produced is closed after the answer.
        """
        await self.farewell()
        connections = list(self._connections.values())
        await asyncio.gather(*(connection.let_go() for connection in connections))

    async def close(self) -> None:
        """Close all connections at once."""
        for connection in list(self._connections.values()):
            await connection.close(GOING_AWAY, "the server is going away")
