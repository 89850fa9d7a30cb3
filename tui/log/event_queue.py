"""Queue of live events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from beray.schema import TaskEvent
from tui.log.scheduler import Scheduler, Stoppable

_SLICE_SECONDS: Final = 0.008
_SLICE_EVENTS: Final = 100
_SLICE_PAUSE_SECONDS: Final = 0.002
_REFRESH_INTERVAL_SECONDS: Final = 0.05


class EventQueue:
    """Queue whose events are processed in time slices, to keep the keyboard responsive.

    Args:
        scheduler: Measures the slices and starts the next one.
        process: Called with some events, in order.
        refresh: Shows the processed events. Called at intervals and after the last event.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        process: Callable[[list[TaskEvent]], None],
        refresh: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._process = process
        self._refresh = refresh
        self._events: deque[TaskEvent] = deque()
        self._next_slice: Stoppable | None = None
        self._refresh_at = 0.0

    @property
    def is_empty(self) -> bool:
        """True if all events were processed."""
        return not self._events

    def add(self, events: Iterable[TaskEvent]) -> None:
        """Add events. The first slice is processed immediately, unless one is scheduled."""
        self._events.extend(events)
        if self._next_slice is None:
            self._process_slice()

    def close(self) -> None:
        """Drop the remaining events."""
        self._events.clear()
        if self._next_slice is not None:
            self._next_slice.stop()
            self._next_slice = None

    def _process_slice(self) -> None:
        self._next_slice = None
        deadline = self._scheduler.now() + _SLICE_SECONDS
        while self._events and self._scheduler.now() < deadline:
            events = list(islice(self._events, _SLICE_EVENTS))
            for _ in events:
                self._events.popleft()
            self._process(events)
        if not self._events or deadline > self._refresh_at:
            self._refresh()
            self._refresh_at = self._scheduler.now() + _REFRESH_INTERVAL_SECONDS
        if self._events:
            self._next_slice = self._scheduler.call_after(_SLICE_PAUSE_SECONDS, self._process_slice)
