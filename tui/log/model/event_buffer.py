"""What is known of one task's log: its newest events, and the window that is looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from tui.log.model.window import Event, Numbered, Window, lightest, numbered

PAGE: Final = 500
_NEWEST: Final = 1000
_PAGE_WEIGHT: Final = 2500
"""Rows that are put into the window at once, unless one event has more."""


class Wanted(NamedTuple):
    """Events that should be fetched: those in (after, after + limit]."""

    after: int
    limit: int
    before: bool
    """Whether they belong before the window, or else behind it."""


class Record:
    """The live events come in at the end; the window may be anywhere.

    Args:
        last_seq: how many events the server says there are; ``None`` where it does not,
            and so has no way to give earlier ones again.
    """

    def __init__(self, last_seq: int | None = None) -> None:
        self.pageable = last_seq is not None
        """Whether the server gives events a second time."""
        self.begin = max(0, (last_seq or 0) - PAGE)
        """The number behind which the stream begins."""
        self.end = self.begin
        """The number of the newest event that has come."""
        self.window = Window(self.begin)
        self._last_seq = last_seq or 0
        self._newest: deque[Numbered] = deque(maxlen=_NEWEST)

    @property
    def total(self) -> int:
        return max(self.end, self._last_seq)

    @property
    def attached(self) -> bool:
        """Whether the window reaches to the newest event."""
        return self.window.last >= self.end

    @property
    def has_earlier(self) -> bool:
        return self.window.first > 1 or not self.window.is_whole

    def take(self, events: Iterable[Event], *, held: bool = False) -> None:
        """Add live events. A window that is ``held`` is not moved, where that can be undone."""
        pairs = numbered(events, self.end)
        if not pairs:
            return
        attached = self.attached
        self._newest.extend(pairs)
        self.end = pairs[-1][0]
        if attached and not (held and self.pageable and self.window.too_large):
            self.window.append(pairs)
            if self.window.too_large and not (held and self.pageable):
                self.window.drop_top()

    def wanted(self, *, before: bool) -> Wanted | None:
        """What to fetch for a reader who comes to an end of the window."""
        if not self.pageable:
            return None
        if before:
            if not self.has_earlier:
                return None
            last = self.window.first - 1
            after = max(0, last - PAGE)
            return Wanted(after, max(1, last - after), before=True)
        return None if self.attached else Wanted(self.window.last, PAGE, before=False)

    def arrived(self, wanted: Wanted, events: Iterable[Event]) -> None:
        """Take over what was ``wanted``, unless the window has moved since."""
        pairs = numbered(events, wanted.after)
        if wanted.before and wanted.after < self.window.first <= wanted.after + wanted.limit + 1:
            first = self.window.first
            self.window.prepend(lightest(pairs, _PAGE_WEIGHT, last=True))
            if self.window.too_large:
                self.window.drop_bottom(keep=first)  # which the reader is near
        elif not wanted.before and wanted.after == self.window.last:
            self.window.append(lightest(pairs, _PAGE_WEIGHT))
            if self.window.too_large:
                self.window.drop_top()
            self.catch_up()

    def newer_than(self, number: int) -> list[Numbered]:
        """The events behind ``number``, where they are among the newest; else none."""
        if not self._newest or self._newest[0][0] > number + 1:
            return []
        return [pair for pair in self._newest if pair[0] > number]

    def catch_up(self) -> None:
        """Go on with the newest events, where they follow upon the window."""
        newer = [] if self.attached else self.newer_than(self.window.last)
        if newer:
            self.window.append(lightest(newer, _PAGE_WEIGHT))
            if self.window.too_large:
                self.window.drop_top()

    def show_end(self) -> None:
        """Let the window be at the newest events."""
        if not self.attached:
            newest = lightest(list(self._newest)[-PAGE:], _PAGE_WEIGHT, last=True)
            self.window = Window(newest[0][0] - 1)
            self.window.append(newest)

    def show(self, after: int, events: Iterable[Event], number: int = 1) -> None:
        """Let the window be around event ``number``, of these that begin behind ``after``."""
        pairs = numbered(events, after)
        before = lightest([pair for pair in pairs if pair[0] < number], _PAGE_WEIGHT, last=True)
        # With the event behind it: where that begins is where this one ends.
        at = [pair for pair in pairs if number <= pair[0] <= number + 1]
        behind = lightest([pair for pair in pairs if pair[0] > number + 1], _PAGE_WEIGHT)
        self.window = Window(before[0][0] - 1 if before else after)
        self.window.append([*before, *at, *behind])
