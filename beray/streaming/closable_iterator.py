"""What reads from a connection and is iterated: closed from any thread, or by being left."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

T = TypeVar("T")


class Source(Protocol):
    """Where the values come from."""

    @property
    def closed(self) -> bool: ...

    def close(self) -> None:
        """Wake whoever waits in ``events``; from any thread, and at once."""

    def events(self) -> Generator[Any, None, None]: ...


class Iteration(Iterator[T], Generic[T]):
    """Iterate over a source, in one thread at a time; also a context manager.

    ``close()`` may be called from any thread and returns at once; the iteration then
    stops. A loop that is left with ``break`` gives the connection back by itself.
    """

    def __init__(self, source: Source) -> None:
        # Apart from this object, so that nothing but its user holds it: when it is
        # dropped, in the middle of a loop for one, it closes.
        self._source = source
        self._turn = threading.Lock()  # for one thread that iterates at a time
        self._events = source.events()

    def __next__(self) -> T:
        with self._turn:
            if self._source.closed:
                self._events.close()
            return cast(T, next(self._events))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_events"):
            self.close()

    def close(self) -> None:
        """Stop iterating, wherever the iterating thread is blocked. Idempotent."""
        self._source.close()
        # Where nobody is iterating, nobody else would give the connection back.
        if self._turn.acquire(blocking=False):
            try:
                self._events.close()
            finally:
                self._turn.release()
