"""Log of one task: its source, its search and the reading position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from beray.exceptions import APIError
from beray.schema import TaskEvent
from tui.events.blocks import Block, BlockKind
from tui.events.event_buffer import EventBuffer
from tui.log.block_view import BlockView
from tui.log.event_fetcher import EventFetcher
from tui.log.event_queue import EventQueue
from tui.log.model.query import Query
from tui.log.model.scan import PageReader
from tui.log.scheduler import Scheduler
from tui.log.scroll_anchors import EventAnchor, ReadingPosition
from tui.log.search import LogSearch
from tui.log.sources.filtered import FilteredSource
from tui.log.sources.live import LiveSource
from tui.log.sources.replay import ReplaySource, can_replay
from tui.log.sources.source import LogSource
from tui.state.checkpoints import LogPosition

_NO_PAGING_STATUSES: Final = frozenset({404, 405})
"""Statuses of servers that cannot return earlier events."""


class LogDisplay(Protocol):
    """Widgets around the view, as far as the log uses them."""

    def show_position(self, text: str, new_events: int) -> None:
        """Show the reading position, and the number of new events below the screen."""

    def show_event(self, position: LogPosition | None) -> None:
        """Show the state of the task at a position; ``None`` for its present state."""

    def show_source_status(self) -> None:
        """Show the changed status text of the source."""

    def show_status(self, text: str, *, open_bar: bool = True) -> None:
        """Show the state of a search; without ``open_bar`` only if the bar is open already."""

    def report_failure(self, action: str, error: Exception) -> None:
        """Report a failed request; ``action`` completes the sentence "Could not …"."""


class TaskLog:
    """Log of one task, as shown by a view.

    It connects one active source with the view: the source's blocks are shown after each change,
    and the source fetches what the user is about to scroll to.

    Args:
        view: Shows the blocks.
        display: Shows positions and states.
        scheduler: Time, timers and threads.
        page_reader: Reads a page of the task's events from the server.
        buffer: Events of the task.
        is_chat: Whether the task is a chat.

    Attributes:
        buffer: Events of the task.
        search: Search in the rows of the active source.
        source: The active source.
    """

    def __init__(
        self,
        *,
        view: BlockView,
        display: LogDisplay,
        scheduler: Scheduler,
        page_reader: PageReader,
        buffer: EventBuffer,
        is_chat: bool = False,
    ) -> None:
        self.buffer = buffer
        self._view = view
        self._display = display
        self._scheduler = scheduler
        self._seen = buffer.last_number
        """Number of the newest event that was on the screen."""
        self._fetcher = EventFetcher(
            page_reader=page_reader, scheduler=scheduler, on_failure=self._page_failed
        )
        self._live = LiveSource(
            buffer=buffer, fetcher=self._fetcher, on_change=self.refresh, is_chat=is_chat
        )
        self.source: LogSource = self._live
        self.search = LogSearch(
            view=view,
            fetcher=self._fetcher,
            scheduler=scheduler,
            scan_start=lambda step: self.source.scan_start(step),
            go_to_event=self._live.go_to_event,
            show_status=display.show_status,
            on_failure=display.report_failure,
        )
        self._queue = EventQueue(scheduler=scheduler, process=self._process, refresh=self.refresh)

    @property
    def shows_all(self) -> bool:
        """True if neither a filter nor a replay is active."""
        return self.source is self._live

    @property
    def replay(self) -> ReplaySource | None:
        """The replay, if one is active."""
        return self.source if isinstance(self.source, ReplaySource) else None

    @property
    def is_idle(self) -> bool:
        """True if no page is being fetched and all live events were processed."""
        return self._queue.is_empty and not self._fetcher.is_busy

    # Opening and closing

    def open(self, position: ReadingPosition) -> None:
        """Show the log at a reading position."""
        self._view.unfolded.update(position.unfolded)
        if position.anchor is not None and self.buffer.pageable:
            self._seen = position.seen
            self._view.following = False
            self._live.restore(position)
        self.refresh()

    def close(self) -> None:
        """Stop timers and requests. The rows remain in the view."""
        self._queue.close()
        self.search.stop_scan()
        self._fetcher.discard_responses()
        self.source.stop()

    def use_page_reader(self, page_reader: PageReader) -> None:
        """Replace the page reader; pending requests are discarded or repeated."""
        self._fetcher.page_reader = page_reader
        self._fetcher.discard_responses()
        self._live.restore_again()

    # Live events

    def append(self, events: Iterable[TaskEvent]) -> None:
        """Add live events."""
        self._queue.add(events)

    def _process(self, events: list[TaskEvent]) -> None:
        self.source.append(events, following=self._view.following)

    def show_failure(self, text: str) -> None:
        """Show an error at the end of the log, such as the failure of the stream; "" removes it."""
        self._live.failure = text
        self.refresh()

    def _page_failed(self, error: Exception) -> None:
        self._live.stop()
        if isinstance(error, APIError) and error.status_code in _NO_PAGING_STATUSES:
            self.buffer.pageable = False
        else:
            self._display.report_failure("read more of the log", error)
        self.refresh()

    # Display

    def refresh(self, anchor: EventAnchor | None = None) -> None:
        """Show the current blocks.

        Args:
            anchor: Row to show at the top of the screen, which then no longer follows the end.
        """
        if anchor is not None:
            self._view.following = False
        self._view.at_newest = self.source.at_newest
        self._view.show(self.source.blocks(), anchor)
        self.update_position()

    def update_position(self) -> None:
        """Report the position and fetch events near it, after the view was scrolled or changed."""
        viewport = self._view.viewport
        at_end = viewport.following and self.source.at_newest
        if at_end:
            self._seen = self.buffer.last_number
        position = self._view.row_layout.position(viewport.top)
        text = ""
        if position is not None and not at_end:
            text = self.source.position_text(self._view.row_layout.event_at(position))
        self._display.show_position(text, self.buffer.last_number - self._seen)
        self._display.show_event(None if at_end and self.source.is_live else self.selected_position)
        self.source.prefetch(viewport)

    @property
    def selected_position(self) -> LogPosition | None:
        """Event or checkpoint under the cursor, otherwise the last one on the screen.

        ``None`` at the end of the log without a cursor, or before its events are known.
        """
        block, viewport = self._view.selected_block, self._view.viewport
        if block is not None:
            return _position_of(block)
        if viewport.following and self.source.at_newest and self.source.is_live:
            return None
        layout = self._view.row_layout
        position = layout.position(min(viewport.top + viewport.height, layout.total) - 1)
        if position is None:
            return None if self.source.is_live else 1
        block = layout.blocks[position.block]
        is_complete = position.row == len(layout.rows(position.block)) - 1
        if is_complete and block.kind is not BlockKind.GAP:
            return _position_of(block)
        return min(max(layout.event_at(position), 1), self.buffer.total) or None

    # Reading positions

    def reading_position(self) -> ReadingPosition:
        """Return the position of the reader, or the one to which a replay returns."""
        return self.source.return_position or self._visible_position()

    def _visible_position(self) -> ReadingPosition:
        view, total = self._view, self.buffer.total
        anchor = None if view.following else view.row_layout.event_anchor(view.viewport.top)
        if anchor is not None and not 1 <= anchor.number <= total:
            anchor = EventAnchor(min(max(anchor.number, 1), total))
        return ReadingPosition(anchor, self._seen, frozenset(view.unfolded))

    def go_to_start(self) -> None:
        """Show the start of the log."""
        if self.source.go_to_start():
            self._view.go_to_beginning()

    def go_to_end(self) -> None:
        """Show the end of the log and follow it."""
        self.source.go_to_end()
        self._view.following = True
        self.refresh()

    # The active source

    def filter(self, query: Query) -> None:
        """Show only the blocks that match ``query``; an empty query shows all blocks."""
        if query == Query():
            self.show_all()
            return
        anchor = self.reading_position().anchor
        self._activate(
            FilteredSource(
                query=query, buffer=self.buffer, fetcher=self._fetcher, on_change=self.refresh
            )
        )
        self._view.highlights.search(query.pattern)
        self._view.following = anchor is None
        self.refresh()
        if anchor is not None:
            position = self._view.row_layout.position_of_event(anchor.number)
            if position is not None:
                self._view.reveal(position)

    def start_replay(self) -> None:
        """Replay the log from its first event, if all events are available."""
        if not can_replay(self.buffer):
            self._display.show_status("earlier events are not available")
            return
        replay = ReplaySource(
            buffer=self.buffer,
            fetcher=self._fetcher,
            scheduler=self._scheduler,
            return_position=self.reading_position(),
            on_change=self.refresh,
            on_status=self._display.show_source_status,
        )
        self._activate(replay)
        self._view.following = True
        replay.start()
        self.update_position()

    def show_all(self) -> None:
        """End the filter or the replay, and show the events around the reading position."""
        if self.shows_all:
            return
        position = self.reading_position()
        self._activate(self._live)
        if position.anchor is None:
            self.go_to_end()
        else:
            self._view.following = False
            self._live.restore(position)

    def _activate(self, source: LogSource) -> None:
        self.search.stop_scan()
        self._fetcher.discard_responses()
        self.source.stop()
        self.source = source
        self.search.restore_highlights()
        self._view.clear_rows()


def _position_of(block: Block) -> LogPosition:
    """Return the position at the end of a block."""
    return block.last if block.checkpoint is None else block.checkpoint.name
