"""Search in the log, and jumps to errors and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from tui import sanitize
from tui.log.block_view import BlockView
from tui.log.event_fetcher import EventFetcher
from tui.log.model.query import Query, parse_search
from tui.log.model.scan import LogScan
from tui.log.render.match_highlights import MatchHighlights
from tui.log.render.row_layout import RowPosition
from tui.log.scheduler import Scheduler
from tui.log.scroll_anchors import EventAnchor


@dataclass(frozen=True)
class SearchRequest:
    """Search for the next match in one direction.

    Attributes:
        highlights: Matches in the rows that are laid out.
        query: Query to match in events that are not laid out.
        noun: Word for a match in status messages.
        step: 1 to search forward, -1 to search backward.
        try_backward: Whether to search backward if there is no match.
    """

    highlights: MatchHighlights
    query: Query
    noun: str
    step: int
    try_backward: bool = False


class ShowStatus(Protocol):
    """Function that shows the state of a search in the bar."""

    def __call__(self, text: str, *, open_bar: bool = True) -> None:
        """Show ``text``; without ``open_bar`` only if the bar is open already."""


class LogSearch:
    """Search in the rows of a view and, by a scan, in the rest of the log.

    Args:
        view: View whose rows are searched first.
        fetcher: Its page reader is used by scans.
        scheduler: Runs scans.
        scan_start: Returns the number of the event at which a scan in a direction starts;
            ``None`` if there is nothing to scan.
        go_to_event: Shows a row that a scan has found, and calls a function afterwards.
        show_status: Shows the state of the search.
        on_failure: Called with the action and the error if a scan fails.

    Attributes:
        query: Query of the active search, or ``None``.
    """

    def __init__(
        self,
        *,
        view: BlockView,
        fetcher: EventFetcher,
        scheduler: Scheduler,
        scan_start: Callable[[int], int | None],
        go_to_event: Callable[[EventAnchor, Callable[[], None]], None],
        show_status: ShowStatus,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self.query: Query | None = None
        self._view = view
        self._fetcher = fetcher
        self._scheduler = scheduler
        self._scan_start = scan_start
        self._go_to_event = go_to_event
        self._show_status = show_status
        self._on_failure = on_failure
        self._block_highlights = MatchHighlights()
        self._scan: LogScan | None = None

    @property
    def is_active(self) -> bool:
        """True if a search is active."""
        return self.query is not None

    @property
    def is_scanning(self) -> bool:
        """True if events outside the view are being searched."""
        return self._scan is not None

    # The query

    def highlight(self, query: Query) -> None:
        """Highlight the matches of ``query``."""
        self._view.highlights.search(query.pattern)
        self._view.refresh()

    def start(self, text: str) -> None:
        """Search for ``text`` and jump to the next match; without text, end the search.

        Raises:
            QueryError: The text is an invalid regular expression.
        """
        query = parse_search(text)
        self.highlight(query)
        self.query = query if query.patterns else None
        if self.query is not None:
            highlights = self._view.highlights
            self._find(SearchRequest(highlights, query, "match", 1, try_backward=True))

    def end(self) -> None:
        """End the search and remove the highlights."""
        self.query = None
        self.highlight(Query())

    def restore_highlights(self) -> None:
        """Highlight the matches of the active search, after a filter has ended."""
        pattern = self.query.pattern if self.query is not None else None
        if self._view.highlights.pattern != pattern:
            self._view.highlights.search(pattern)

    # Jumps

    def next_match(self, step: int) -> None:
        """Jump to the next match, or for -1 to the previous one."""
        if self.query is not None:
            self._find(SearchRequest(self._view.highlights, self.query, "match", step))

    def next_block(self, query: Query, noun: str, step: int) -> None:
        """Jump to the next block that matches, or for -1 to the previous one.

        Args:
            query: Conditions on the block; its patterns are ignored.
            noun: Word for such a block in status messages.
            step: 1 or -1.
        """
        if self._block_highlights.accepts != query.accepts:
            self._block_highlights.search(None, query.accepts)
        self._find(SearchRequest(self._block_highlights, query, noun, step))

    def _find(self, request: SearchRequest) -> None:
        self.stop_scan()
        view, highlights = self._view, request.highlights
        highlights.lay_out(view.row_layout)
        current = highlights.current
        is_visible = current is not None and view.is_row_visible(current)
        found = highlights.step(
            request.step, None if is_visible else view.screen_edge(request.step)
        )
        if found is not None:
            self._show_match(found)
        elif (number := self._scan_start(request.step)) is not None:
            self._start_scan(request, number)
        else:
            self._handle_no_match(request)

    def _handle_no_match(self, request: SearchRequest) -> None:
        if request.try_backward:
            self._find(replace(request, step=-1, try_backward=False))
        else:
            direction = "below" if request.step > 0 else "above"
            self._show_status(f"no further {request.noun} {direction}")

    def _show_match(self, position: RowPosition, *, centre: bool = False) -> None:
        view = self._view
        view.reveal(position, centre=centre)
        number = view.row_layout.event_at(position)
        self._show_status(f"event {number:,}", open_bar=self.is_active)
        view.refresh()

    # Scans of events that are not in the rows

    def _start_scan(self, request: SearchRequest, number: int) -> None:
        scan = LogScan(
            read_page=self._fetcher.page_reader,
            query=request.query,
            step=request.step,
            number=number,
            on_progress=lambda number: self._scheduler.call_soon(
                lambda: self._show_progress(scan, number)
            ),
        )
        self._scan = scan
        self._show_status("searching …  esc stops")
        self._scheduler.run(
            scan.find,
            lambda found: self._scan_ended(scan, request, found),
            lambda error: self._scan_failed(scan, error),
        )

    def stop_scan(self) -> None:
        """Stop the scan; its result is ignored."""
        if self._scan is not None:
            self._scan.stop()
            self._scan = None

    def _show_progress(self, scan: LogScan, number: int) -> None:
        if scan is self._scan:
            self._show_status(f"searching … event {number:,}  esc stops")

    def _scan_failed(self, scan: LogScan, error: Exception) -> None:
        if scan is self._scan:
            self._scan = None
            self._show_status(sanitize.error_text(error))
            self._on_failure("search the log", error)

    def _scan_ended(self, scan: LogScan, request: SearchRequest, number: int | None) -> None:
        if scan is not self._scan:
            return
        self._scan = None
        if number is None:
            self._handle_no_match(request)
        else:
            self._go_to_event(EventAnchor(number), lambda: self._select_match(request, number))

    def _select_match(self, request: SearchRequest, number: int) -> None:
        """Select the match in the rows, now that they contain event ``number``."""
        view = self._view
        position = view.row_layout.position_of_event(number)
        if position is None:
            return
        last = RowPosition(position.block, len(view.row_layout.rows(position.block)))
        request.highlights.lay_out(view.row_layout)
        found = request.highlights.step(request.step, position if request.step > 0 else last)
        self._show_match(found or position, centre=True)
