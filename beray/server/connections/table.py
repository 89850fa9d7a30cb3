"""Limits of open connections, for all clients together and for each client address.

If a limit is reached, the connection that has waited longest for a request is closed in favour of
the new one. A new connection is rejected only if no connection is waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from beray.server.http.client_address import Client


@dataclass(slots=True)
class _Entry:
    """Open connection: the key of its group, and the function that closes it."""

    group: str | None
    evict: Callable[[], None]


@dataclass(slots=True)
class _Group:
    """Connections of one client address."""

    count: int = 0
    waiting: dict[Hashable, None] = field(default_factory=dict)


class ConnectionTable:
    """Open connections by their keys. Used on one event loop.

    Args:
        max_connections: Limit of all connections.
        max_per_client: Limit of the connections of one client that is not local.
        client_at: Returns the client with an address.
    """

    def __init__(
        self, *, max_connections: int, max_per_client: int, client_at: Callable[[str], Client]
    ) -> None:
        self.max_connections = max_connections
        self.max_per_client = max_per_client
        self._client_at = client_at
        self._entries: dict[Hashable, _Entry] = {}
        self._groups: dict[str, _Group] = {}
        self._waiting: dict[Hashable, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def admit(self, key: Hashable, address: str, evict: Callable[[], None]) -> bool:
        """Add a connection that waits for a request; return False if it is rejected.

        Args:
            key: Key of the connection until ``release``.
            address: Address of the client.
            evict: Closes the connection immediately. It is called after the connection has been
                removed from the table.
        """
        client = self._client_at(address)
        name = None if client.local else client.key
        group = self._groups.get(name) if name is not None else None
        if (
            group is not None
            and group.count >= self.max_per_client
            and not self._evict_first(group.waiting)
        ):
            return False
        if len(self._entries) >= self.max_connections and not self._evict_first(self._waiting):
            return False
        self._entries[key] = _Entry(name, evict)
        if name is not None:
            self._groups.setdefault(name, _Group()).count += 1
        self.set_waiting(key, True)
        return True

    def set_waiting(self, key: Hashable, waiting: bool) -> None:
        """Set the state of a connection.

        Args:
            key: Key of the connection; unknown keys are ignored.
            waiting: True if the connection waits for a request, and may be closed in favour of
                another one.
        """
        entry = self._entries.get(key)
        if entry is None:
            return
        group = self._groups[entry.group].waiting if entry.group is not None else {}
        for connections in (self._waiting, group):
            connections.pop(key, None)
            if waiting:
                connections[key] = None

    def release(self, key: Hashable) -> None:
        """Remove a connection. Does nothing if it has already been removed."""
        self.set_waiting(key, False)
        entry = self._entries.pop(key, None)
        if entry is not None and entry.group is not None:
            group = self._groups[entry.group]
            group.count -= 1
            if group.count == 0:
                del self._groups[entry.group]

    def shed(self, count: int) -> None:
        """Close up to ``count`` connections that wait for a request, longest waiting first."""
        for _ in range(count):
            if not self._evict_first(self._waiting):
                return

    def _evict_first(self, waiting: dict[Hashable, None]) -> bool:
        """Close the first of the ``waiting`` connections; return False if there are none."""
        key = next(iter(waiting), None)
        if key is None:
            return False
        evict = self._entries[key].evict
        self.release(key)
        evict()
        return True
