"""Buffer for the events of one task: the newest events and the window that is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from tui.events.window import (
    Event,
    EventWindow,
    NumberedEvent,
    number_events,
    within_weight,
)

PAGE: Final = 500
"""Maximum number of events per requested page."""
_MAX_NEWEST: Final = 1000
"""Number of newest events that are kept independently of the window."""
_MAX_PAGE_WEIGHT: Final = 2500
"""Maximum number of rows that are added to the window at once; one event may exceed it."""


class PageRequest(NamedTuple):
    """Page of events to fetch: those with numbers in (after, after + limit]."""

    after: int
    limit: int
    before: bool
    """True if the page precedes the window; otherwise it follows the window."""


class EventBuffer:
    """Newest events of a task, and a window at any position of its log.

    Args:
        last_seq: Number of the newest event on the server. ``None`` if the server does not
            report it; such a server cannot return earlier events either.

    Attributes:
        pageable: Whether the server can return earlier events.
        start_after: Number of the event after which the live stream starts.
        last_number: Number of the newest event received.
        window: The events that are shown.
    """

    def __init__(self, last_seq: int | None = None) -> None:
        self.pageable = last_seq is not None
        self.start_after = max(0, (last_seq or 0) - PAGE)
        self.last_number = self.start_after
        self.window = EventWindow(self.start_after)
        self._last_seq = last_seq or 0
        self._newest: deque[NumberedEvent] = deque(maxlen=_MAX_NEWEST)

    @property
    def total(self) -> int:
        """Number of events in the log, as far as known."""
        return max(self.last_number, self._last_seq)

    @property
    def at_end(self) -> bool:
        """True if the window ends with the newest event."""
        return self.window.last >= self.last_number

    @property
    def has_earlier(self) -> bool:
        """True if there are events before the window."""
        return self.window.first > 1 or not self.window.is_first_event_complete

    def append(self, events: Iterable[Event], *, keep_window: bool = False) -> None:
        """Add live events.

        Args:
            events: The events that follow the newest event.
            keep_window: Do not remove events from the start of the window. Ignored if the
                server cannot return the omitted events later.
        """
        pairs = number_events(events, self.last_number)
        if not pairs:
            return
        at_end = self.at_end
        self._newest.extend(pairs)
        self.last_number = pairs[-1][0]
        if at_end and not (keep_window and self.pageable and self.window.too_large):
            self.window.append(pairs)
            if self.window.too_large and not (keep_window and self.pageable):
                self.window.drop_top()

    def next_page(self, *, before: bool) -> PageRequest | None:
        """Return the page to fetch before or after the window, or ``None`` if there is none."""
        if not self.pageable:
            return None
        if before:
            if not self.has_earlier:
                return None
            last = self.window.first - 1
            after = max(0, last - PAGE)
            return PageRequest(after, max(1, last - after), before=True)
        return None if self.at_end else PageRequest(self.window.last, PAGE, before=False)

    def add_page(self, request: PageRequest, events: Iterable[Event]) -> None:
        """Add the events of a requested page, unless the window has moved since the request."""
        pairs = number_events(events, request.after)
        if (
            request.before
            and request.after < self.window.first <= request.after + request.limit + 1
        ):
            first = self.window.first
            self.window.prepend(within_weight(pairs, _MAX_PAGE_WEIGHT, last=True))
            if self.window.too_large:
                self.window.drop_bottom(keep=first)  # the reader is there
        elif not request.before and request.after == self.window.last:
            self.window.append(within_weight(pairs, _MAX_PAGE_WEIGHT))
            if self.window.too_large:
                self.window.drop_top()
            self.catch_up()

    def events_after(self, number: int) -> list[NumberedEvent]:
        """Return the events after ``number``, or [] if not all of them are in the buffer."""
        if not self._newest or self._newest[0][0] > number + 1:
            return []
        return [pair for pair in self._newest if pair[0] > number]

    def catch_up(self) -> None:
        """Append the newest events to the window if they directly follow it."""
        newer = [] if self.at_end else self.events_after(self.window.last)
        if newer:
            self.window.append(within_weight(newer, _MAX_PAGE_WEIGHT))
            if self.window.too_large:
                self.window.drop_top()

    def move_to_end(self) -> None:
        """Move the window to the newest events."""
        if not self.at_end:
            newest = within_weight(list(self._newest)[-PAGE:], _MAX_PAGE_WEIGHT, last=True)
            self.window = EventWindow(newest[0][0] - 1)
            self.window.append(newest)

    def move_to(self, after: int, events: Iterable[Event], number: int = 1) -> None:
        """Move the window to event ``number``.

        Args:
            after: Number of the event before the first of ``events``.
            events: Consecutive events around event ``number``.
            number: Number of the event that the window must contain.
        """
        pairs = number_events(events, after)
        before = within_weight(
            [pair for pair in pairs if pair[0] < number], _MAX_PAGE_WEIGHT, last=True
        )
        # The following event is included because its start marks the end of this one.
        centre = [pair for pair in pairs if number <= pair[0] <= number + 1]
        rest = [pair for pair in pairs if pair[0] > number + 1]
        self.window = EventWindow(before[0][0] - 1 if before else after)
        self.window.append([*before, *centre, *within_weight(rest, _MAX_PAGE_WEIGHT)])
