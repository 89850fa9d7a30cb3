"""Replay of a task's events at their original pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from tui.events.window import Event, EventWindow, NumberedEvent

MAX_GAP_SECONDS: Final = 2.0
"""Longer pauses between two events are shortened to this many seconds."""
MAX_SPEED: Final = 64
_DEFAULT_GAP_SECONDS: Final = 0.05
_MAX_EVENTS_PER_TICK: Final = 300
_MIN_QUEUED: Final = 400


class Replay:
    """Player that adds queued events to its own window as time passes.

    Args:
        end: Number of the last event of the log.

    Attributes:
        window: The events shown so far.
        speed: Factor by which time passes faster.
        paused: Whether the replay is paused.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self.window = EventWindow()
        self.speed = 1
        self.paused = False
        self._queue: deque[NumberedEvent] = deque()
        self._last_time: datetime | None = None
        self._budget_seconds = 0.0

    @property
    def number(self) -> int:
        """Number of the last event that was shown."""
        return self.window.last

    @property
    def last_queued(self) -> int:
        """Number of the last event that was added to the queue."""
        return self._queue[-1][0] if self._queue else self.window.last

    @property
    def is_over(self) -> bool:
        """True if all events were shown."""
        return self.number >= self.end

    @property
    def needs_events(self) -> bool:
        """True if more events should be added."""
        return self.last_queued < self.end and len(self._queue) < _MIN_QUEUED

    def add(self, events: Iterable[NumberedEvent]) -> None:
        """Add events to the queue; events that were added already are ignored."""
        last_queued = self.last_queued
        self._queue.extend(pair for pair in events if pair[0] > last_queued)

    def advance(self, seconds: float) -> bool:
        """Show the events of the next ``seconds`` × ``speed``; return True if there were any."""
        if self.paused:
            return False
        self._budget_seconds += seconds * self.speed
        shown: list[NumberedEvent] = []
        while self._queue and len(shown) < _MAX_EVENTS_PER_TICK:
            gap = self._gap(self._queue[0][1])
            if gap > self._budget_seconds:
                break
            self._budget_seconds -= gap
            shown.append(self._next())
        if not self._queue or len(shown) == _MAX_EVENTS_PER_TICK:
            self._budget_seconds = 0.0  # delayed events do not speed up the following ones
        self._show(shown)
        return bool(shown)

    def step(self) -> None:
        """Pause and show the next event."""
        self.paused, self._budget_seconds = True, 0.0
        if self._queue:
            self._show([self._next()])

    def faster(self) -> None:
        """Double the speed."""
        self.speed = min(MAX_SPEED, self.speed * 2)

    def slower(self) -> None:
        """Halve the speed."""
        self.speed = max(1, self.speed // 2)

    def _next(self) -> NumberedEvent:
        pair = self._queue.popleft()
        self._last_time = _timestamp(pair[1]) or self._last_time
        return pair

    def _gap(self, event: Event) -> float:
        timestamp = _timestamp(event)
        if timestamp is None or self._last_time is None:
            return 0.0 if self._last_time is None else _DEFAULT_GAP_SECONDS
        return min(MAX_GAP_SECONDS, max(0.0, (timestamp - self._last_time).total_seconds()))

    def _show(self, events: list[NumberedEvent]) -> None:
        self.window.append(events)
        if self.window.too_large:
            self.window.drop_top()


def _timestamp(event: Event) -> datetime | None:
    created_at = event.get("created_at")
    try:
        timestamp = datetime.fromisoformat(created_at) if isinstance(created_at, str) else None
    except ValueError:
        return None
    # Time zones are ignored because only differences matter.
    return timestamp.replace(tzinfo=None) if timestamp is not None else None
