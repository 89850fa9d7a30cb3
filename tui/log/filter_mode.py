"""Filter mode of the log."""

from __future__ import annotations

from beray.schema import TaskEvent
from tui.events.blocks import Block
from tui.events.event_buffer import PAGE
from tui.events.window import number_events
from tui.log.bar import FILTER
from tui.log.model import query as queries
from tui.log.model.filtered_log import SCAN_PAGE, FilteredLog, blocks_before, gap_block
from tui.log.model.query import Query
from tui.log.search_mode import SearchMode

_AFTER_LAST_EVENT = 1 << 62


class FilterMode(SearchMode):
    """Log that can be filtered. Events are read until the matches fill the screen."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._filtered: FilteredLog | None = None

    @property
    def is_filtering(self) -> bool:
        """True if a filter is active."""
        return self._filtered is not None

    def reset(self) -> None:
        self._filtered = None
        super().reset()

    # The bar

    def action_filter(self) -> None:
        """Open the bar to enter a filter."""
        self.open_bar(FILTER)

    def action_filter_errors(self) -> None:
        """Show only errors."""
        self._bar_texts[FILTER] = "errors"
        self.filter(queries.ERRORS)

    def query_changed(self, prompt: str, text: str) -> None:
        super().query_changed(prompt, text)
        if prompt == FILTER:
            queries.parse_filter(text)

    def query_submitted(self, prompt: str, text: str) -> None:
        super().query_submitted(prompt, text)
        if prompt == FILTER:
            self.filter(queries.parse_filter(text))

    def restore_bar(self) -> None:
        super().restore_bar()
        if not self.is_searching and self._filtered is not None:
            self._prompt = FILTER
            self.bar.show(FILTER, self._bar_texts.get(FILTER, ""))
            self.bar.show_status("esc removes the filter")

    def can_leave(self) -> bool:
        return super().can_leave() or self.is_filtering

    def action_leave(self) -> None:
        """End the most recent of search and filter."""
        if self.is_filtering and not super().can_leave():
            self.end_filter()
        else:
            super().action_leave()

    # The filter

    def filter(self, query: Query) -> None:
        """Show only the blocks that match ``query``; an empty query shows all blocks."""
        if query == Query():
            self.end_filter()
            return
        self.end_filter()
        anchor = self.reading_position().anchor
        self._filtered = FilteredLog(query, self.buffer.window)
        self.view.highlights.search(query.pattern)
        self.view.clear_rows()
        self.restore_bar()
        self.screen.set_focus(self.view)
        self.refresh_view()
        position = (
            self.view.row_layout.position_of_event(anchor.number) if anchor is not None else None
        )
        if position is not None:
            self.view.reveal(position)

    def end_filter(self) -> None:
        """Remove the filter and show the events around the current position."""
        if self._filtered is None:
            return
        position = self.reading_position()
        self._filtered = None
        self.view.highlights.search(self._search.pattern if self._search is not None else None)
        self.view.clear_rows()
        self.restore_bar()
        self.restore_position(position)

    def can_scan(self) -> bool:
        return super().can_scan() and not self.is_filtering

    def visible_blocks(self) -> list[Block]:
        filtered = self._filtered
        if filtered is None:
            return super().visible_blocks()
        blocks = filtered.blocks()
        if filtered.has_earlier:
            text = f"… {filtered.first - 1:,} earlier events not searched yet"
            if not self.buffer.pageable:
                text = "earlier events are not available"
            blocks.insert(0, gap_block(text, 0))
        if not self.at_newest():
            later = self.buffer.last_number - filtered.last
            blocks.append(
                gap_block(f"… {later:,} later events not searched yet", _AFTER_LAST_EVENT)
            )
        return blocks

    def at_newest(self) -> bool:
        if self._filtered is None:
            return super().at_newest()
        return self._filtered.last >= self.buffer.last_number

    def process_events(self, events: list[TaskEvent]) -> None:
        super().process_events(events)
        filtered = self._filtered
        if filtered is not None and (self.view.following or not filtered.too_large):
            filtered.append(self.buffer.events_after(filtered.last))
            if filtered.too_large and self.view.following:
                filtered.drop_top()

    def prefetch(self) -> None:
        filtered, view = self._filtered, self.view
        if filtered is None:
            super().prefetch()
            return
        if not self.can_fetch():
            return
        top, height = view.scroll_offset.y, max(1, view.size.height)
        if top < 2 * height and filtered.has_earlier:
            self._filter_earlier(filtered)
        elif view.row_layout.total - top - height < 2 * height and not self.at_newest():
            self._filter_later(filtered)

    def _filter_earlier(self, filtered: FilteredLog) -> None:
        client, task_id, start_key = self._client, self._task_id, filtered.start_key
        if client is None or task_id is None:
            return
        after = max(0, start_key[0] - SCAN_PAGE)

        def work() -> list[Block]:
            # Includes the first event that was read: its start is known only after it.
            events = client.list_events(task_id, after=after, limit=start_key[0] - after)
            return blocks_before(number_events(events, after), start_key)

        def received(blocks: list[Block]) -> None:
            if filtered.start_key == start_key:
                filtered.prepend(blocks)
                if filtered.too_large and not self.view.following:
                    filtered.drop_bottom()
            self.refresh_view()

        self.run_request(work, received)

    def _filter_later(self, filtered: FilteredLog) -> None:
        last = filtered.last

        def received(events: list[TaskEvent]) -> None:
            if filtered.last == last:
                filtered.append(number_events(events, last))
                if filtered.too_large:
                    filtered.drop_top()
            self.refresh_view()

        self.fetch(last, PAGE, received)

    # Actions of the user

    def action_home(self) -> None:
        if self._filtered is None:
            super().action_home()
        else:
            self.view.go_to_beginning()

    def action_end(self) -> None:
        filtered = self._filtered
        if filtered is not None and not self.at_newest():
            self.buffer.move_to_end()
            self._filtered = FilteredLog(filtered.query, self.buffer.window)
        super().action_end()
