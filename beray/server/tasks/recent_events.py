"""In-memory cache of the newest events of watched tasks, for watchers that keep up."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

TASK_BYTES: Final = 256 * 1024
"""Maximum size of the cached events of one task."""
TOTAL_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of the cached events of all tasks."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """Event that is stored in the database.

    Attributes:
        body: JSON in UTF-8. Empty for a large event that was read from the database, whose body
            is read while it is sent.
        size: Size of the JSON in bytes.
        last: Whether this event ends the task.
    """

    seq: int
    body: bytes
    size: int
    last: bool

    @property
    def has_body(self) -> bool:
        """False for a large event whose body must be read."""
        return bool(self.body)


@dataclass(slots=True)
class _TaskEvents:
    events: deque[LoggedEvent] = field(default_factory=deque)
    size: int = 0


class RecentEvents:
    """Consecutive newest events of each task.

    If the total size exceeds the limit, the tasks without new events for the longest time are
    removed.

    Attributes:
        size: Bytes of all cached events.
    """

    def __init__(self, task_bytes: int = TASK_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self.size = 0
        self._task_bytes = task_bytes
        self._total_bytes = total_bytes
        self._tasks: OrderedDict[int, _TaskEvents] = OrderedDict()

    def add(self, task_id: int, event: LoggedEvent) -> None:
        """Add the next event of a task."""
        if event.size > self._task_bytes:
            self.forget(task_id)
            return
        cached = self._tasks.setdefault(task_id, _TaskEvents())
        self._tasks.move_to_end(task_id)
        cached.events.append(event)
        added = event.size
        while cached.size + added > self._task_bytes:
            added -= cached.events.popleft().size
        cached.size += added
        self.size += added
        while self.size > self._total_bytes:
            self.forget(next(iter(self._tasks)))

    def after(self, task_id: int, seq: int) -> list[LoggedEvent] | None:
        """Return the events after ``seq``, or None if they must be read from the database.

        They must be if some of them are not cached, and after the last event of a task.
        """
        cached = self._tasks.get(task_id)
        if cached is None or cached.events[0].seq > seq + 1:
            return None
        if cached.events[-1].last and cached.events[-1].seq <= seq:
            return None
        # Searched from the end: watchers that keep up need a few of possibly many events.
        wanted: deque[LoggedEvent] = deque()
        for event in reversed(cached.events):
            if event.seq <= seq:
                break
            wanted.appendleft(event)
        return list(wanted)

    def forget(self, task_id: int) -> None:
        """Remove the events of a task."""
        if (cached := self._tasks.pop(task_id, None)) is not None:
            self.size -= cached.size
