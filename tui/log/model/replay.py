"""A task's events once more, in the time that they took."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from tui.log.model.window import Event, Numbered, Window

LONGEST_GAP: Final = 2.0
"""Seconds; a longer silence is cut to this."""
FASTEST: Final = 64
_UNKNOWN_GAP: Final = 0.05
_MOST_AT_ONCE: Final = 300
_ENOUGH: Final = 400


class Replay:
    """Plays events into a window of its own.

    Args:
        end: the number of the last event that there is.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self.window = Window()
        self.speed = 1
        self.paused = False
        self._coming: deque[Numbered] = deque()
        self._before: datetime | None = None
        self._time = 0.0

    @property
    def number(self) -> int:
        """The number of the last event that was shown."""
        return self.window.last

    @property
    def read(self) -> int:
        """The number of the last event that is at hand."""
        return self._coming[-1][0] if self._coming else self.window.last

    @property
    def is_over(self) -> bool:
        return self.number >= self.end

    @property
    def wants_more(self) -> bool:
        return self.read < self.end and len(self._coming) < _ENOUGH

    def add(self, events: Iterable[Numbered]) -> None:
        """Put in what follows upon ``read``."""
        read = self.read
        self._coming.extend(pair for pair in events if pair[0] > read)

    def advance(self, seconds: float) -> bool:
        """Let time pass, so many times faster; whether events were shown."""
        if self.paused:
            return False
        self._time += seconds * self.speed
        shown: list[Numbered] = []
        while self._coming and len(shown) < _MOST_AT_ONCE:
            gap = self._gap(self._coming[0][1])
            if gap > self._time:
                break
            self._time -= gap
            shown.append(self._next())
        if not self._coming or len(shown) == _MOST_AT_ONCE:
            self._time = 0.0  # what could not be shown in time is not made up for
        self._show(shown)
        return bool(shown)

    def step(self) -> None:
        """Pause, and show the next event."""
        self.paused, self._time = True, 0.0
        if self._coming:
            self._show([self._next()])

    def faster(self) -> None:
        self.speed = min(FASTEST, self.speed * 2)

    def slower(self) -> None:
        self.speed = max(1, self.speed // 2)

    def _next(self) -> Numbered:
        pair = self._coming.popleft()
        self._before = _moment(pair[1]) or self._before
        return pair

    def _gap(self, event: Event) -> float:
        moment = _moment(event)
        if moment is None or self._before is None:
            return 0.0 if self._before is None else _UNKNOWN_GAP
        return min(LONGEST_GAP, max(0.0, (moment - self._before).total_seconds()))

    def _show(self, events: list[Numbered]) -> None:
        self.window.append(events)
        if self.window.too_large:
            self.window.drop_top()


def _moment(event: Event) -> datetime | None:
    said = event.get("created_at")
    try:
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    # One zone for all: only differences count.
    return moment.replace(tzinfo=None) if moment is not None else None
