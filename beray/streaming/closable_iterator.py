"""Iterator over a connection that can be closed from any thread."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar, cast

T = TypeVar("T")


class ClosableSource(Protocol):
    """Source of the values of a ``ClosableIterator``."""

    @property
    def closed(self) -> bool:
        """True once ``close`` has been called."""
        ...

    def close(self) -> None:
        """Wake a thread that waits in ``events``. Thread-safe; returns immediately."""

    def events(self) -> Generator[Any, None, None]:
        """Yield the values. Closing the generator releases the connection."""
        ...


class ClosableIterator(Iterator[T], Generic[T]):
    """Iterator over a source for one thread at a time; also a context manager.

    ``close()`` may be called from any thread and returns immediately; the iteration then stops.
    Leaving a loop with ``break`` and dropping the iterator releases the connection as well.
    """

    def __init__(self, source: ClosableSource) -> None:
        # The generator must not reference this object: only then is __del__ called, and the
        # connection released, as soon as the user drops it.
        self._source = source
        self._lock = threading.Lock()  # held by the iterating thread
        self._events = source.events()

    def __next__(self) -> T:
        with self._lock:
            if self._source.closed:
                self._events.close()
            return cast(T, next(self._events))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_events"):
            self.close()

    def close(self) -> None:
        """Stop the iteration, even if the iterating thread is blocked. Idempotent."""
        self._source.close()
        # If no thread is iterating, the connection is released here.
        if self._lock.acquire(blocking=False):
            try:
                self._events.close()
            finally:
                self._lock.release()
