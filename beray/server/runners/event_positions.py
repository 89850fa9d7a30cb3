"""Positions in the event log of the events that a runner emits, for retractions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

MAX_POSITIONS: Final = 10_000
"""Number of latest events with a known position; a remote agent can retract as many."""


class _LoggedPosition(NamedTuple):
    number: int
    """Number of the runner's last event that is part of the logged event."""
    seq: asyncio.Future[int]


class EventPositions:
    """Mapping of a runner's latest events to the events in the log.

    The two differ: chunks of text are joined, the redaction of secrets delays some of them, and
    the log has events that are not from the runner.
    """

    def __init__(self) -> None:
        self._emitted = 0
        self._is_held = False
        """True while the last events of the runner are delayed by the redaction."""
        self._newest: deque[_LoggedPosition] = deque(maxlen=MAX_POSITIONS)
        self._first: _LoggedPosition | None = None
        """First position since ``begin``."""
        self._last: asyncio.Future[int] | None = None

    def begin(self) -> None:
        """Discard the positions so far; later events do not retract earlier ones."""
        self._newest.clear()
        self._is_held = False
        self._first = self._last = None

    def add(self, count: int, positions: list[asyncio.Future[int]]) -> None:
        """Add the positions of ``count`` events of the runner.

        Args:
            count: Number of events of the runner.
            positions: Futures of the ``seq`` of the logged events. Empty if the events are
                delayed; they are then part of a later logged event.
        """
        held = self._emitted if self._is_held else None
        self._emitted += count
        if not positions:
            self._is_held = self._is_held or count > 0
            return
        self._is_held = False
        self._last = positions[-1]
        if held is not None:
            # The delayed events precede the new ones.
            self._add(_LoggedPosition(held, positions[0]))
        if count:
            self._add(_LoggedPosition(self._emitted, positions[-1]))

    def _add(self, position: _LoggedPosition) -> None:
        self._first = self._first or position
        self._newest.append(position)

    async def span(self, count: int) -> list[int] | None:
        """Return the first and last ``seq`` of the runner's ``count`` newest events.

        All of them must have been logged.

        Returns:
            The range, or None if the positions are unknown.
        """
        number = self._emitted - count + 1
        if count < 1 or self._first is None or self._last is None:
            return None
        if number <= self._first.number:
            first = self._first
        elif number <= self._newest[0].number and len(self._newest) == MAX_POSITIONS:
            return None
        else:
            later = (position for position in self._newest if position.number >= number)
            first = next(later, self._first)
        return [await first.seq, await self._last]
