"""What a background thread has for a screen, until the screen takes it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

FLUSH_SECONDS: Final = 0.05
MOST_WAITING: Final = 4000
"""Items that are held before ``put`` waits: the server's turn to wait."""

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds items in order. However fast they come, one announcement stands for all that
    have not been taken, and there is at most one in ``FLUSH_SECONDS``.

    Args:
        announce: says that there is something to take; called in a thread of its own.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._announced = False
        self.closed = False
        threading.Thread(target=self._run, name="beray-mailbox", daemon=True).start()

    def put(self, item: T) -> bool:
        """Add an item, once there is room; ``False`` where nobody will take it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or len(self._items) < MOST_WAITING)
            if self.closed:
                return False
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify_all()
        return True

    def take(self) -> list[T]:
        """What has come since the last time. Never blocks."""
        with self._changed:
            taken = list(self._items)
            self._items.clear()
            self._announced = False
            self._changed.notify_all()
        return taken

    def close(self) -> list[T]:
        """Take nothing more in; give what was not taken yet. Returns at once."""
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
