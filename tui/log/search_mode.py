"""Search mode of the log, and jumps to errors and files."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input

from tui import messages, sanitize
from tui.log.bar import FIND, LogBar
from tui.log.live_log import LiveLog
from tui.log.model import query as queries
from tui.log.model.query import Query, QueryError
from tui.log.model.scan import LogScan, ScanAdvanced, ScanEnded
from tui.log.render.match_highlights import MatchHighlights
from tui.log.render.row_layout import RowPosition
from tui.log.scroll_anchors import EventAnchor

_STATUS_SECONDS = 4.0


class _SearchRequest:
    """Search for the next match in one direction.

    Args:
        highlights: Matches in the rows that are laid out.
        query: Query to match in events that are not laid out.
        noun: Word for a match in status messages.
        step: 1 to search forward, -1 to search backward.
        try_backward: Whether to search backward if there is no match.
    """

    def __init__(
        self, highlights: MatchHighlights, query: Query, noun: str, step: int, try_backward: bool
    ) -> None:
        self.highlights = highlights
        self.query = query
        self.noun = noun
        self.step = step
        self.try_backward = try_backward


class SearchMode(LiveLog):
    """Log that can be searched."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._search: Query | None = None
        self._prompt = FIND
        self._bar_texts: dict[str, str] = {}
        self._block_highlights = MatchHighlights()
        self._scan: LogScan | None = None
        self._request: _SearchRequest | None = None

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield LogBar(id="log-bar")

    @property
    def bar(self) -> LogBar:
        """Bar in which a query is entered."""
        return self.query_one(LogBar)

    @property
    def is_searching(self) -> bool:
        """True if a search is active."""
        return self._search is not None

    @property
    def is_typing(self) -> bool:
        """True if the input of the bar has the focus."""
        return self.screen.focused is self.bar.input

    def reset(self) -> None:
        super().reset()
        self._search = None
        self.view.highlights.search(None)
        self._block_highlights.search(None)
        self.restore_bar()

    def leave(self) -> None:
        self._stop_scan()
        super().leave()

    # The bar

    def open_bar(self, prompt: str) -> None:
        """Open the bar with the last query for ``prompt``."""
        self._prompt = prompt
        self.bar.open_input(prompt, self._bar_texts.get(prompt, ""))

    def restore_bar(self) -> None:
        """Show the active mode in the bar, and move the focus from the bar to the log."""
        if self._search is not None:
            self._prompt = FIND
            self.bar.show(FIND, self._bar_texts.get(FIND, ""))
        else:
            self.bar.hide()
        if self.is_typing:
            self.screen.set_focus(self.view)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.try_parse(lambda: self.query_changed(self._prompt, event.value)):
            self.bar.show_status("")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._bar_texts[self._prompt] = event.value
        self.try_parse(lambda: self.query_submitted(self._prompt, event.value))

    def try_parse(self, query: Callable[[], object]) -> bool:
        """Call ``query``; show the message of a ``QueryError`` and return False."""
        try:
            query()
        except QueryError as error:
            self.bar.show_status(str(error), problem=True)
            return False
        return True

    def query_changed(self, prompt: str, text: str) -> None:
        """Handle a change of the input: highlight the matches."""
        if prompt == FIND:
            self._highlight(queries.parse_search(text))

    def query_submitted(self, prompt: str, text: str) -> None:
        """Handle a submitted query: jump to the next match."""
        if prompt != FIND:
            return
        query = queries.parse_search(text)
        self._highlight(query)
        self._search = query if query.patterns else None
        self.restore_bar()
        self.screen.set_focus(self.view)
        if self._search is not None:
            self._find_next(
                _SearchRequest(self.view.highlights, query, "match", 1, try_backward=True)
            )

    def _highlight(self, query: Query) -> None:
        self.view.highlights.search(query.pattern)
        self.view.refresh()

    def show_status(self, text: str) -> None:
        """Show a status in the bar. A bar that was hidden is hidden again after some seconds."""
        if not self.bar.display:
            self.bar.show("", None)
            self.set_timer(_STATUS_SECONDS, self._hide_status)
        self.bar.show_status(text)

    def _hide_status(self) -> None:
        if self._scan is None and not self.bar.input.display:
            self.bar.hide()

    # Actions

    def action_find(self) -> None:
        """Open the bar to enter a search."""
        self.open_bar(FIND)

    def action_next_match(self) -> None:
        self._repeat_search(1)

    def action_previous_match(self) -> None:
        self._repeat_search(-1)

    def _repeat_search(self, step: int) -> None:
        if self._search is not None:
            self._find_next(
                _SearchRequest(
                    self.view.highlights, self._search, "match", step, try_backward=False
                )
            )

    def action_next_error(self) -> None:
        self._find_block(queries.ERRORS, "error", 1)

    def action_previous_error(self) -> None:
        self._find_block(queries.ERRORS, "error", -1)

    def action_next_file(self) -> None:
        self._find_block(queries.FILES, "file", 1)

    def action_previous_file(self) -> None:
        self._find_block(queries.FILES, "file", -1)

    def _find_block(self, query: Query, noun: str, step: int) -> None:
        if self._block_highlights.accepts != query.accepts:
            self._block_highlights.search(None, query.accepts)
        self._find_next(
            _SearchRequest(self._block_highlights, query, noun, step, try_backward=False)
        )

    def can_leave(self) -> bool:
        """Return True if there is a mode that ``escape`` can end."""
        return self._scan is not None or self.is_typing or self.is_searching

    def action_leave(self) -> None:
        """End the scan, or else the input and the search."""
        if self._scan is not None:
            self._stop_scan()
            self.show_status("search stopped")
        elif self.is_typing or self.is_searching:
            self._search = None
            self.view.highlights.search(None)
            self.view.refresh()
            self.restore_bar()

    # Jumps

    def can_scan(self) -> bool:
        """Return True if events outside the window can be searched."""
        return self.buffer.pageable

    def _find_next(self, request: _SearchRequest) -> None:
        self._stop_scan()
        view, highlights = self.view, request.highlights
        highlights.lay_out(view.row_layout)
        current = highlights.current
        is_visible = current is not None and view.is_row_visible(current)
        found = highlights.step(
            request.step, None if is_visible else view.screen_edge(request.step)
        )
        window = self.buffer.window
        if found is not None:
            self._show_match(found)
        elif self.can_scan() and request.step > 0 and not self.buffer.at_end:
            self._start_scan(request, window.last)
        elif self.can_scan() and request.step < 0 and self.buffer.has_earlier:
            self._start_scan(request, window.first + (not window.is_first_event_complete))
        else:
            self._handle_no_match(request)

    def _handle_no_match(self, request: _SearchRequest) -> None:
        if request.try_backward:
            self._find_next(
                _SearchRequest(
                    request.highlights, request.query, request.noun, -1, try_backward=False
                )
            )
        else:
            self.show_status(
                f"no further {request.noun} {'below' if request.step > 0 else 'above'}"
            )

    def _show_match(self, position: RowPosition, *, centre: bool = False) -> None:
        view = self.view
        view.reveal(position, centre=centre)
        number = view.row_layout.event_at(position)
        if self.bar.display or self._search is not None:
            self.show_status(f"event {number:,}")
        view.refresh()

    def _start_scan(self, request: _SearchRequest, number: int) -> None:
        client, task_id = self._client, self._task_id
        if client is not None and task_id is not None:
            self._request = request
            self._scan = LogScan(client, task_id, request.query, request.step, number, self)
            self.show_status("searching …  esc stops")

    def _stop_scan(self) -> None:
        if self._scan is not None:
            self._scan.close()
            self._scan = None

    def on_scan_advanced(self, message: ScanAdvanced) -> None:
        message.stop()
        if message.scan is self._scan:
            self.show_status(f"searching … event {message.number:,}  esc stops")

    def on_scan_ended(self, message: ScanEnded) -> None:
        message.stop()
        if message.scan is not self._scan or self._request is None:
            return
        self._scan, request, number = None, self._request, message.number
        if message.error is not None:
            self.show_status(sanitize.error_text(message.error))
            self.post_message(messages.OperationFailed("search the log", message.error))
        elif number is None:
            self._handle_no_match(request)
        else:
            self.go_to_event(EventAnchor(number), lambda: self._select_match(request, number))

    def _select_match(self, request: _SearchRequest, number: int) -> None:
        """Select the match in the rows, now that the window contains event ``number``."""
        view = self.view
        position = view.row_layout.position_of_event(number)
        if position is None:
            return
        last = RowPosition(position.block, len(view.row_layout.rows(position.block)))
        request.highlights.lay_out(view.row_layout)
        found = request.highlights.step(request.step, position if request.step > 0 else last)
        self._show_match(found or position, centre=True)
