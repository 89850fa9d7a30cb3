"""Limit of open connections, of all clients together and of each client address.

Where a limit is reached, the connection that has waited longest for a request is closed, and
its place given to the new one. A new connection is refused only if none is waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from beray.server.http.client_address import Client


@dataclass(slots=True)
class _Entry:
    group: str | None
    evict: Callable[[], None]


@dataclass(slots=True)
class _Group:
    """Connections of one client address."""

    count: int = 0
    waiting: dict[Hashable, None] = field(default_factory=dict)


class ConnectionTable:
    """Connections by their keys. Used on one event loop.

    Args:
        most: limit of all connections.
        most_per_client: limit of the connections of one client that is not local.
        client_at: returns the client with an address.
    """

    def __init__(self, most: int, most_per_client: int, client_at: Callable[[str], Client]) -> None:
        self.most = most
        self.most_per_client = most_per_client
        self._client_at = client_at
        self._entries: dict[Hashable, _Entry] = {}
        self._groups: dict[str, _Group] = {}
        self._waiting: dict[Hashable, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def admit(self, key: Hashable, address: str, evict: Callable[[], None]) -> bool:
        """Add a connection that waits for a request; return ``False`` if it is refused.

        Args:
            key: of the connection, until ``release``.
            address: of the client, as text.
            evict: closes the connection at once. Its place is free by then.
        """
        client = self._client_at(address)
        name = None if client.local else client.key
        group = self._groups.get(name) if name is not None else None
        if (
            group is not None
            and group.count >= self.most_per_client
            and not self._evict_first(group.waiting)
        ):
            return False
        if len(self._entries) >= self.most and not self._evict_first(self._waiting):
            return False
        self._entries[key] = _Entry(name, evict)
        if name is not None:
            self._groups.setdefault(name, _Group()).count += 1
        self.set_waiting(key, True)
        return True

    def set_waiting(self, key: Hashable, waiting: bool) -> None:
        """Record whether a connection waits for a request, and may be closed for another."""
        entry = self._entries.get(key)
        if entry is None:
            return
        group = self._groups[entry.group].waiting if entry.group is not None else {}
        for places in (self._waiting, group):
            places.pop(key, None)
            if waiting:
                places[key] = None

    def release(self, key: Hashable) -> None:
        """Remove a connection. Does nothing if it has been removed already."""
        self.set_waiting(key, False)
        entry = self._entries.pop(key, None)
        if entry is not None and entry.group is not None:
            group = self._groups[entry.group]
            group.count -= 1
            if group.count == 0:
                del self._groups[entry.group]

    def shed(self, count: int) -> None:
        """Close up to ``count`` connections that wait for a request, the longest first."""
        for _ in range(count):
            if not self._evict_first(self._waiting):
                return

    def _evict_first(self, waiting: dict[Hashable, None]) -> bool:
        key = next(iter(waiting), None)
        if key is None:
            return False
        evict = self._entries[key].evict
        self.release(key)
        evict()
        return True
