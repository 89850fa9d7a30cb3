"""Places in the log of the events that a run emits, for retractions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

MAX_POSITIONS: Final = 10_000
"""Events of which each position is known; an agent on another server can retract so many."""


class _LoggedPosition(NamedTuple):
    number: int
    """Number of the last event of the runner that is in the logged one."""
    seq: asyncio.Future[int]


class EventPositions:
    """Maps a number of a runner's latest events to the events in the log.

    The two differ: pieces of a text are joined, the filter of secrets keeps some of them back,
    and the log has events that are not the runner's.
    """

    def __init__(self) -> None:
        self._emitted = 0
        self._is_held = False
        """Whether the last events of the runner are kept back."""
        self._newest: deque[_LoggedPosition] = deque(maxlen=MAX_POSITIONS)
        self._first: _LoggedPosition | None = None
        """The first position since ``begin``."""
        self._last: asyncio.Future[int] | None = None

    def begin(self) -> None:
        """Forget the events so far: what follows retracts none of them."""
        self._newest.clear()
        self._is_held = False
        self._first = self._last = None

    def add(self, count: int, positions: list[asyncio.Future[int]]) -> None:
        """Take note of ``count`` events of the runner, and of where the log has them.

        ``positions`` is empty if they are kept back; then they are part of a later event.
        """
        held = self._emitted if self._is_held else None
        self._emitted += count
        if not positions:
            self._is_held = self._is_held or count > 0
            return
        self._is_held = False
        self._last = positions[-1]
        if held is not None:
            # What was kept back comes first.
            self._add(_LoggedPosition(held, positions[0]))
        if count:
            self._add(_LoggedPosition(self._emitted, positions[-1]))

    def _add(self, position: _LoggedPosition) -> None:
        self._first = self._first or position
        self._newest.append(position)

    async def span(self, count: int) -> list[int] | None:
        """Return the first and the last ``seq`` of the ``count`` newest events of the runner.

        Returns None if they are unknown. All of them must have been logged.
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
