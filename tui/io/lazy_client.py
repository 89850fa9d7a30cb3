"""Clients that are created on first use.

The modules that a client imports take longer to load than the first screen to appear.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast


class Closable(Protocol):
    """Object with a ``close`` method."""

    def close(self) -> None:
        """Release the resources."""


Client = TypeVar("Client", bound=Closable)


class _LazyClient:
    def __init__(self, make: Callable[[], Closable]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client: Closable | None = None

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
        return getattr(self._client, name)

    def close(self) -> None:
        """Close the client if it has been created."""
        if self._client is not None:
            self._client.close()


def lazy_client(make: Callable[[], Client]) -> Client:
    """Return a proxy that calls ``make`` when an attribute is first used."""
    return cast("Client", _LazyClient(make))
