"""A client that is made when it is first needed, by the thread that needs it.

What it imports takes longer than the first screen does to appear.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast


class Closable(Protocol):
    def close(self) -> None: ...


Client = TypeVar("Client", bound=Closable)


class _Later:
    def __init__(self, make: Callable[[], Closable]) -> None:
        self._make = make
        self._making = threading.Lock()
        self._made: Closable | None = None

    def __getattr__(self, name: str) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)

    def close(self) -> None:
        """Close the client, if there is one by now."""
        if self._made is not None:
            self._made.close()


def later(make: Callable[[], Client]) -> Client:
    """What ``make`` makes, which is called when something is first asked of it."""
    return cast("Client", _Later(make))
