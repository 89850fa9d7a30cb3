"""Buffer between a background thread and a screen."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

FLUSH_SECONDS: Final = 0.05
MAX_WAITING: Final = 4000
"""Items that are buffered before ``put`` blocks, which slows the server down."""

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Ordered buffer that announces new items at most once in ``FLUSH_SECONDS``.

    One announcement covers all items that have not been taken.

    Args:
        announce: Called in a separate thread when items are available.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._announced = False
        self.closed = False
        threading.Thread(target=self._run, name="beray-mailbox", daemon=True).start()

    def put(self, item: T) -> bool:
        """Add an item, waiting while the buffer is full; return False if it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or len(self._items) < MAX_WAITING)
            if self.closed:
                return False
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify_all()
        return True

    def take(self) -> list[T]:
        """Return the items since the last call. Never blocks."""
        with self._changed:
            taken = list(self._items)
            self._items.clear()
            self._announced = False
            self._changed.notify_all()
        return taken

    def close(self) -> list[T]:
        """Reject further items and return the remaining ones. Returns at once."""
        with self._changed:
            self.closed = True
            rest = list(self._items)
            self._items.clear()
            self._changed.notify_all()
        return rest

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.closed or (self._items and not self._announced))
                if self.closed:
                    return
                self._announced = True
            self._announce()
            time.sleep(FLUSH_SECONDS)
