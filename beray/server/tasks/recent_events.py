"""The newest events of watched tasks in memory, for watchers that keep up."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

TASK_BYTES: Final = 256 * 1024
"""Bytes of the newest events of one task that are kept."""
TOTAL_BYTES: Final = 8 * 1024 * 1024
"""Bytes that are kept of all tasks together."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event on disk.

    Attributes:
        body: Its JSON in UTF-8; empty for a large event that was read from disk, whose body
            is read while it is sent.
        size: Bytes of the JSON.
        last: Whether the task has ended with this event.
    """

    seq: int
    body: bytes
    size: int
    last: bool

    @property
    def has_body(self) -> bool:
        return bool(self.body)


@dataclass(slots=True)
class _TaskEvents:
    events: deque[LoggedEvent] = field(default_factory=deque)
    size: int = 0


class RecentEvents:
    """Runs of the newest events of tasks. The task that was silent longest is dropped first."""

    def __init__(self, task_bytes: int = TASK_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self.size = 0
        """Bytes that are kept now."""
        self._task_bytes = task_bytes
        self._total_bytes = total_bytes
        self._tasks: OrderedDict[int, _TaskEvents] = OrderedDict()

    def add(self, task_id: int, event: LoggedEvent) -> None:
        """Keep the event that follows the last one of the task."""
        if event.size > self._task_bytes:
            self.forget(task_id)
            return
        kept = self._tasks.setdefault(task_id, _TaskEvents())
        self._tasks.move_to_end(task_id)
        kept.events.append(event)
        added = event.size
        while kept.size + added > self._task_bytes:
            added -= kept.events.popleft().size
        kept.size += added
        self.size += added
        while self.size > self._total_bytes:
            self.forget(next(iter(self._tasks)))

    def after(self, task_id: int, seq: int) -> list[LoggedEvent] | None:
        """Return the events after ``seq``; None if the log on disk has to be asked.

        That is so if some of the events are only there, and after the last event of a task.
        """
        kept = self._tasks.get(task_id)
        if kept is None or kept.events[0].seq > seq + 1:
            return None
        if kept.events[-1].last and kept.events[-1].seq <= seq:
            return None
        # Watchers that keep up want the end of a run that may have a thousand events.
        wanted: deque[LoggedEvent] = deque()
        for event in reversed(kept.events):
            if event.seq <= seq:
                break
            wanted.appendleft(event)
        return list(wanted)

    def forget(self, task_id: int) -> None:
        """Drop the events of a task."""
        if (kept := self._tasks.pop(task_id, None)) is not None:
            self.size -= kept.size
