"""Source of the blocks that match a filter."""

from __future__ import annotations

from beray.schema import TaskEvent
from tui.events.blocks import Block
from tui.events.event_buffer import PAGE, EventBuffer
from tui.events.window import number_events
from tui.log.block_view import Viewport
from tui.log.event_fetcher import EventFetcher
from tui.log.model.filtered_log import SCAN_PAGE, FilteredLog, blocks_before, gap_block
from tui.log.model.query import FILTER_PROMPT, Query
from tui.log.model.scan import PageReader
from tui.log.sources.live import event_position
from tui.log.sources.source import AFTER_LAST_EVENT, OnChange


class FilteredSource:
    """Blocks that match a query. Events are read until the matches fill the screen.

    Reading starts with the window of the buffer and continues in both directions.

    Args:
        query: The filter.
        buffer: Events of the task.
        fetcher: Fetches pages of events.
        on_change: Called after fetched events were filtered.
    """

    prompt = FILTER_PROMPT
    status_text = "esc removes the filter"
    is_live = True
    return_position = None

    def __init__(
        self, *, query: Query, buffer: EventBuffer, fetcher: EventFetcher, on_change: OnChange
    ) -> None:
        self._buffer = buffer
        self._fetcher = fetcher
        self._on_change = on_change
        self._filtered = FilteredLog(query, buffer.window)

    @property
    def at_newest(self) -> bool:
        """True if the newest event was read."""
        return self._filtered.last >= self._buffer.last_number

    def blocks(self) -> list[Block]:
        """Return the matching blocks with their context."""
        filtered, buffer = self._filtered, self._buffer
        blocks = filtered.blocks()
        if filtered.has_earlier:
            text = f"… {filtered.first - 1:,} earlier events not searched yet"
            if not buffer.pageable:
                text = "earlier events are not available"
            blocks.insert(0, gap_block(text, 0))
        if not self.at_newest:
            text = f"… {buffer.last_number - filtered.last:,} later events not searched yet"
            blocks.append(gap_block(text, AFTER_LAST_EVENT))
        return blocks

    def append(self, events: list[TaskEvent], *, following: bool) -> None:
        """Add live events to the buffer, and read them unless the reader is elsewhere."""
        self._buffer.append(events, keep_window=not following)
        filtered = self._filtered
        if following or not filtered.too_large:
            filtered.append(self._buffer.events_after(filtered.last))
            if filtered.too_large and following:
                filtered.drop_top()

    # Pages

    def prefetch(self, viewport: Viewport) -> None:
        """Read more events if an end of the matches is near the screen."""
        if not self._buffer.pageable or not self._fetcher.is_ready:
            return
        if viewport.is_near_start and self._filtered.has_earlier:
            self._fetch_earlier(keep_end=viewport.following)
        elif viewport.is_near_end and not self.at_newest:
            self._fetch_later()

    def _fetch_earlier(self, *, keep_end: bool) -> None:
        filtered, start_key = self._filtered, self._filtered.start_key
        after = max(0, start_key[0] - SCAN_PAGE)

        def work(read_page: PageReader) -> list[Block]:
            # Includes the first event that was read: its start is known only after it.
            events = read_page(after, start_key[0] - after)
            return blocks_before(number_events(events, after), start_key)

        def received(blocks: list[Block]) -> None:
            if filtered.start_key == start_key:
                filtered.prepend(blocks)
                if filtered.too_large and not keep_end:
                    filtered.drop_bottom()
            self._on_change(None)

        self._fetcher.request(work, received)

    def _fetch_later(self) -> None:
        filtered, last = self._filtered, self._filtered.last

        def received(events: list[TaskEvent]) -> None:
            if filtered.last == last:
                filtered.append(number_events(events, last))
                if filtered.too_large:
                    filtered.drop_top()
            self._on_change(None)

        self._fetcher.fetch(last, PAGE, received)

    def scan_start(self, step: int) -> int | None:
        """Return ``None``: searches cover the matches only."""
        return None

    # Positions

    def position_text(self, number: int) -> str:
        """Return a description of the reading position at event ``number``."""
        return event_position(number, self._buffer.total)

    def go_to_start(self) -> bool:
        """Return True: reading continues when the first match is on the screen."""
        return True

    def go_to_end(self) -> None:
        """Start again from the newest events, unless they were read."""
        self._fetcher.discard_responses()
        if not self.at_newest:
            self._buffer.move_to_end()
            self._filtered = FilteredLog(self._filtered.query, self._buffer.window)

    def stop(self) -> None:
        """Do nothing: a filter has no timers."""
