"""Rate limits: events per key within a moving time window, in bounded memory.

``limits.storage.MemoryStorage`` is not used: it keeps an entry for every key that it has ever
received, and starts a thread that scans all of them. A client with many addresses could fill the
memory of the server.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MAX_KEYS: Final = 10_000


class SlidingWindow:
    """Limit of ``limit`` events per key within ``seconds``. Thread-safe.

    Args:
        limit: Maximum number of events; at least 1.
        seconds: Length of the window.
        max_keys: Maximum number of stored keys. Beyond it, the key whose last event is the
            oldest is dropped.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        limit: int,
        seconds: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self._max_keys = max_keys
        self._clock = clock
        # The key with the newest event is the last one.
        self._events: OrderedDict[Hashable, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of stored keys."""
        with self._lock:
            self._evict(self._clock())
            return len(self._events)

    def remaining(self, key: Hashable) -> int:
        """Return the number of events that the key may still have now."""
        with self._lock:
            return self.limit - len(self._current(key, self._clock()))

    def wait_seconds(self, key: Hashable) -> int:
        """Return the whole seconds until the key may have another event; 0 if it may now."""
        with self._lock:
            return self._wait(key, self._clock())

    def add(self, key: Hashable) -> None:
        """Count an event, even if the key has reached the limit."""
        with self._lock:
            self._add(key, self._clock())

    def try_add(self, key: Hashable) -> int:
        """Count an event unless the key has reached the limit; return ``wait_seconds``."""
        with self._lock:
            now = self._clock()
            wait = self._wait(key, now)
            if not wait:
                self._add(key, now)
            return wait

    def undo(self, key: Hashable) -> None:
        """Remove the newest event of the key, if any."""
        with self._lock:
            events = self._events.get(key)
            if events:
                events.pop()

    def clear(self, key: Hashable) -> None:
        """Remove all events of the key."""
        with self._lock:
            self._events.pop(key, None)

    def _current(self, key: Hashable, now: float) -> list[float]:
        events = self._events.get(key, [])
        while events and events[0] <= now - self.seconds:
            events.pop(0)
        return events

    def _wait(self, key: Hashable, now: float) -> int:
        events = self._current(key, now)
        if len(events) < self.limit:
            return 0
        return max(1, math.ceil(events[0] + self.seconds - now))

    def _add(self, key: Hashable, now: float) -> None:
        events = self._events.setdefault(key, [])
        events.append(now)
        del events[: -self.limit]
        self._events.move_to_end(key)
        self._evict(now)

    def _evict(self, now: float) -> None:
        while self._events:
            events = next(iter(self._events.values()))
            expired = not events or events[-1] <= now - self.seconds
            if not expired and len(self._events) <= self._max_keys:
                return
            self._events.popitem(last=False)
