"""A filter over the log: what it lets through, from wherever in the log that is."""

from __future__ import annotations

from beray.schema import TaskEvent
from tui.log.bar import FILTER
from tui.log.model import query as queries
from tui.log.model.blocks import Block
from tui.log.model.event_buffer import PAGE
from tui.log.model.filtered_log import SCAN_PAGE, Sieve, blocks_before, note
from tui.log.model.query import Query
from tui.log.model.window import numbered
from tui.log.search_mode import Finding

_LAST = 1 << 62


class Filtering(Finding):
    """Adds a filter to the log. It reads as much of it as fills the screen."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sieve: Sieve | None = None

    @property
    def is_filtering(self) -> bool:
        return self._sieve is not None

    def reset(self) -> None:
        self._sieve = None
        super().reset()

    # The bar

    def action_filter(self) -> None:
        """Ask what to show alone."""
        self.ask_in_bar(FILTER)

    def action_filter_errors(self) -> None:
        """Show errors alone."""
        self._typed[FILTER] = "errors"
        self.filter(queries.ERRORS)

    def typed(self, prompt: str, text: str) -> None:
        super().typed(prompt, text)
        if prompt == FILTER:
            queries.filtering(text)

    def entered(self, prompt: str, text: str) -> None:
        super().entered(prompt, text)
        if prompt == FILTER:
            self.filter(queries.filtering(text))

    def restore_bar(self) -> None:
        super().restore_bar()
        if not self.is_searching and self._sieve is not None:
            self._prompt = FILTER
            self.bar.show(FILTER, self._typed.get(FILTER, ""))
            self.bar.say("esc shows all")

    def can_leave(self) -> bool:
        return super().can_leave() or self.is_filtering

    def action_leave(self) -> None:
        """End what was begun last; the filter after what was done in it."""
        if self.is_filtering and not super().can_leave():
            self.end_filter()
        else:
            super().action_leave()

    # The filter

    def filter(self, query: Query) -> None:
        """Show what ``query`` lets through; one that asks for nothing shows everything."""
        if query == Query():
            self.end_filter()
            return
        self.end_filter()
        spot = self.reader().spot
        self._sieve = Sieve(query, self.record.window)
        self.view.marks.search(query.pattern)
        self.view.clear_place()
        self.restore_bar()
        self.screen.set_focus(self.view)
        self.refresh_view()
        place = self.view.sheet.place_of(spot.number) if spot is not None else None
        if place is not None:
            self.view.point_at(place)

    def end_filter(self) -> None:
        """Show everything again, around what was on the screen."""
        if self._sieve is None:
            return
        reader = self.reader()
        self._sieve = None
        self.view.marks.search(self._search.pattern if self._search is not None else None)
        self.view.clear_place()
        self.restore_bar()
        self.go_back(reader)

    def can_scan(self) -> bool:
        return super().can_scan() and not self.is_filtering

    def blocks(self) -> list[Block]:
        sieve = self._sieve
        if sieve is None:
            return super().blocks()
        blocks = sieve.blocks()
        if sieve.has_earlier:
            words = f"… {sieve.first - 1:,} earlier events not looked at yet"
            if not self.record.pageable:
                words = "earlier events are not kept"
            blocks.insert(0, note(words, 0))
        if not self.at_newest():
            later = self.record.end - sieve.last
            blocks.append(note(f"… {later:,} later events not looked at yet", _LAST))
        return blocks

    def at_newest(self) -> bool:
        if self._sieve is None:
            return super().at_newest()
        return self._sieve.last >= self.record.end

    def took(self, events: list[TaskEvent]) -> None:
        super().took(events)
        sieve = self._sieve
        if sieve is not None and (self.view.following or not sieve.too_large):
            sieve.append(self.record.newer_than(sieve.last))
            if sieve.too_large and self.view.following:
                sieve.drop_top()

    def look_ahead(self) -> None:
        sieve, view = self._sieve, self.view
        if sieve is None:
            super().look_ahead()
            return
        if not self.can_ask():
            return
        top, height = view.scroll_offset.y, max(1, view.size.height)
        if top < 2 * height and sieve.has_earlier:
            self._sift_before(sieve)
        elif view.sheet.total - top - height < 2 * height and not self.at_newest():
            self._sift_after(sieve)

    def _sift_before(self, sieve: Sieve) -> None:
        client, task_id, begin = self._client, self._task_id, sieve.begin
        if client is None or task_id is None:
            return
        after = max(0, begin[0] - SCAN_PAGE)

        def work() -> list[Block]:
            # With the event that it ends in: where that begins is known only behind it.
            events = client.list_events(task_id, after=after, limit=begin[0] - after)
            return blocks_before(numbered(events, after), begin)

        def arrived(blocks: list[Block]) -> None:
            if sieve.begin == begin:
                sieve.prepend(blocks)
                if sieve.too_large and not self.view.following:
                    sieve.drop_bottom()
            self.refresh_view()

        self.ask(work, arrived)

    def _sift_after(self, sieve: Sieve) -> None:
        last = sieve.last

        def arrived(events: list[TaskEvent]) -> None:
            if sieve.last == last:
                sieve.append(numbered(events, last))
                if sieve.too_large:
                    sieve.drop_top()
            self.refresh_view()

        self.fetch(last, PAGE, arrived)

    # What the reader does

    def action_home(self) -> None:
        if self._sieve is None:
            super().action_home()
        else:
            self.view.go_to_beginning()

    def action_end(self) -> None:
        sieve = self._sieve
        if sieve is not None and not self.at_newest():
            self.record.show_end()
            self._sieve = Sieve(sieve.query, self.record.window)
        super().action_end()
