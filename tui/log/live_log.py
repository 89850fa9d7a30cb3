"""Log of one task: live events, pages of earlier events, and the reading position."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from textual.app import ComposeResult

from beray.exceptions import APIError
from beray.schema import TaskEvent
from tui import messages
from tui.events.blocks import Block, BlockKind
from tui.events.event_buffer import PAGE, EventBuffer
from tui.log.bar import NewEventsIndicator
from tui.log.log_fetch import LogFetcher
from tui.log.messages import (
    BlockOpened,
    EdgeRequested,
    FileRequested,
    PositionChanged,
    ViewChanged,
)
from tui.log.model.filtered_log import event_count, gap_block
from tui.log.scroll_anchors import EventAnchor, ReadingPosition, ReadingPositions, RowAnchor
from tui.log.view import LogView

if TYPE_CHECKING:
    from beray.client import BeRayClient

_SLICE_SECONDS: Final = 0.008
_SLICE_EVENTS: Final = 100
_SLICE_PAUSE_SECONDS: Final = 0.002
_REFRESH_INTERVAL_SECONDS: Final = 0.05
_NO_PAGING_STATUSES: Final = frozenset({404, 405})
"""Statuses of servers that cannot return earlier events."""
_AFTER_LAST_EVENT: Final = 1 << 62
_TURN_STATUSES: Final = frozenset({"RUNNING", "INPUT_REQUIRED"})
"""Statuses between which a chat alternates. They are not shown, as the messages imply them."""


class LiveLog(LogFetcher):
    """Log that shows live events and fetches earlier ones when the user scrolls to them."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.buffer = EventBuffer()
        self._saved_positions = ReadingPositions()
        self._queue: deque[TaskEvent] = deque()
        self._is_processing = False
        self._refresh_at = 0.0
        self._seen = 0
        self._is_chat = False
        self._restoring: ReadingPosition | None = None
        """Reading position that will be restored when its events have arrived."""
        self._failure = ""
        self._position_text = ""

    def compose(self) -> ComposeResult:
        yield LogView(id="log")
        yield NewEventsIndicator(id="log-new")

    @property
    def view(self) -> LogView:
        """View of the blocks."""
        return self.query_one(LogView)

    @property
    def row_texts(self) -> list[str]:
        """Text of every row that is laid out, without its gutter."""
        return self.view.row_texts

    # Selection of a task

    def open(
        self, client: BeRayClient, task_id: int, buffer: EventBuffer, *, chat: bool = False
    ) -> None:
        """Show the log of a task at its last reading position, or at its end.

        Args:
            client: Client that fetches earlier events.
            task_id: The task.
            buffer: Buffer of the task's events.
            chat: Whether the task is a chat.
        """
        self.leave()
        self.reset()
        self._client, self._task_id, self.buffer = client, task_id, buffer
        self._is_chat = chat
        self._queue.clear()
        self._seen, self._failure = buffer.last_number, ""
        position = self._saved_positions.load(task_id)
        self.view.clear()
        self.view.unfolded.update(position.unfolded)
        if position.anchor is not None and buffer.pageable:
            self._restoring = position
            self._seen = position.seen
            self.restore_position(position)
        self.refresh_view()

    def leave(self) -> None:
        """Save the reading position and discard pending responses."""
        if self._task_id is not None:
            self._saved_positions.save(self._task_id, self._restoring or self.reading_position())
        self.discard_responses()
        self._restoring = None

    def reset(self) -> None:
        """Reset the modes of the log, such as a search, before another log is shown."""

    def use_client(self, client: BeRayClient) -> None:
        """Replace the client, for example after the user has signed in again."""
        self._client = client
        self.discard_responses()
        if self._restoring is not None:
            self.restore_position(self._restoring)

    def reading_position(self) -> ReadingPosition:
        """Return the current reading position."""
        view = self.view
        anchor = None if view.following else view.row_layout.event_anchor(view.scroll_offset.y)
        if anchor is not None and not 1 <= anchor.number <= self.buffer.total:
            anchor = EventAnchor(min(max(anchor.number, 1), self.buffer.total))
        return ReadingPosition(anchor, self._seen, frozenset(view.unfolded))

    def restore_position(self, position: ReadingPosition) -> None:
        """Scroll to a saved reading position."""
        if position.anchor is None:
            self.action_end()
        else:
            self.view.following = False
            self.go_to_event(position.anchor)

    def go_to_event(self, anchor: EventAnchor, on_shown: Callable[[], None] | None = None) -> None:
        """Scroll a row to the top of the screen, after fetching its events if necessary.

        Args:
            anchor: The row.
            on_shown: Called when the row is on the screen.
        """
        number = anchor.number
        window = self.buffer.window

        def shown() -> None:
            self._restoring = None
            self.view.following = False
            self.refresh_view(anchor)
            if on_shown is not None:
                on_shown()

        def received(events: list[TaskEvent]) -> None:
            self.buffer.move_to(after, events, number)
            shown()

        after = max(0, number - PAGE // 2)
        if window.first <= number <= window.last and self._restoring is None:
            shown()
        else:
            self.fetch(after, PAGE, received)

    # Live events

    def append_events(self, events: Iterable[TaskEvent]) -> None:
        """Add live events. They are processed in time slices to keep the keyboard responsive."""
        self._queue.extend(events)
        if not self._is_processing:
            self._process_queue()

    def _process_queue(self) -> None:
        self._is_processing = False
        deadline = time.monotonic() + _SLICE_SECONDS
        while self._queue and time.monotonic() < deadline:
            events = list(islice(self._queue, _SLICE_EVENTS))
            for _ in events:
                self._queue.popleft()
            self.process_events(events)
        if not self._queue or deadline > self._refresh_at:
            self.refresh_view()
            self._refresh_at = time.monotonic() + _REFRESH_INTERVAL_SECONDS
        if self._queue:
            self._is_processing = True
            self.set_timer(_SLICE_PAUSE_SECONDS, self._process_queue)

    def process_events(self, events: list[TaskEvent]) -> None:
        """Add one slice of live events to the buffer."""
        self.buffer.append(events, keep_window=not self.view.following)

    def show_failure(self, text: str) -> None:
        """Show an error at the end of the log, such as the failure of the stream; "" removes it."""
        self._failure = text
        self.refresh_view()

    # Display

    def visible_blocks(self) -> list[Block]:
        """Return the blocks that the view shows."""
        if self._restoring is not None:
            return []
        buffer = self.buffer
        blocks = list(buffer.window.blocks)
        if self._is_chat and blocks:
            blocks = [block for block in blocks if not _is_turn_status(block)]
            if not blocks and not buffer.has_earlier:
                return [gap_block("No messages yet.", 0)]
        if blocks and buffer.has_earlier:
            text = f"… {event_count(buffer.window.first - 1, 'earlier ')}"
            if not buffer.pageable:
                text = "earlier events are not available"
            blocks.insert(0, gap_block(text, 0))
        if blocks and not buffer.at_end:
            blocks.append(
                gap_block(
                    f"… {event_count(buffer.last_number - buffer.window.last, 'later ')}",
                    _AFTER_LAST_EVENT,
                )
            )
        elif self._failure:
            failure = gap_block(self._failure, _AFTER_LAST_EVENT)
            failure.style, failure.symbol, failure.failed = "event--failure", "!", True
            blocks.append(failure)
        return blocks

    def at_newest(self) -> bool:
        """Return True if the visible blocks end with the newest event."""
        return self.buffer.at_end

    def refresh_view(self, anchor: RowAnchor | EventAnchor | None = None) -> None:
        """Show the current blocks, with the row at ``anchor`` at the top if it is given."""
        view = self.view
        view.at_newest = self.at_newest()
        view.show(self.visible_blocks(), anchor)
        self.report_position()
        self.prefetch()

    def on_view_changed(self, message: ViewChanged) -> None:
        message.stop()
        self.report_position()
        self.prefetch()

    def report_position(self) -> None:
        """Update the indicator of new events and report the reading position."""
        buffer, view = self.buffer, self.view
        new = self.query_one(NewEventsIndicator)
        if view.following and self.at_newest():
            self._seen = buffer.last_number
        count = buffer.last_number - self._seen
        new.show(count)
        text = self.position_text()
        if text != self._position_text:
            self._position_text = text
            self.post_message(PositionChanged(text))

    def position_text(self) -> str:
        """Return a description of the reading position, or "" at the end of the log."""
        view, total = self.view, self.buffer.total
        position = view.row_layout.position(view.scroll_offset.y)
        if position is None or (view.following and self.at_newest()):
            return ""
        number = view.row_layout.event_at(position)
        return f"event {min(max(number, 1), total):,} of {total:,}"

    # Pages

    def prefetch(self) -> None:
        """Fetch the page that the user is about to scroll to."""
        if not self.can_fetch():
            return
        view = self.view
        top, height = view.scroll_offset.y, max(1, view.size.height)
        buffer = self.buffer
        short = view.row_layout.total < height and buffer.last_number >= buffer.total
        if top < 2 * height and (short or not view.following):
            self.fetch_page(before=True)
        if view.row_layout.total - top - height < 2 * height:
            self.fetch_page(before=False)

    def can_fetch(self) -> bool:
        return self.buffer.pageable and self._restoring is None and super().can_fetch()

    def fetch_page(self, *, before: bool) -> None:
        request = self.buffer.next_page(before=before)
        if request is None or self._fetching:
            return

        def received(events: list[TaskEvent]) -> None:
            self.buffer.add_page(request, events)
            self.refresh_view()

        self.fetch(request.after, request.limit, received)

    def fetch_failed(self, error: Exception) -> None:
        super().fetch_failed(error)
        self._restoring = None
        if isinstance(error, APIError) and error.status_code in _NO_PAGING_STATUSES:
            self.buffer.pageable = False
        else:
            self.post_message(messages.OperationFailed("read more of the log", error))
        self.refresh_view()

    # Actions of the user

    def action_home(self) -> None:
        """Show the start of the log."""
        buffer = self.buffer
        if not buffer.pageable or (
            buffer.window.first == 1 and buffer.window.is_first_event_complete
        ):
            self.view.go_to_beginning()
        else:
            self.go_to_event(EventAnchor(1))

    def action_end(self) -> None:
        """Show the end of the log and follow it."""
        self.discard_responses()
        self._restoring = None
        self.buffer.move_to_end()
        self.view.following = True
        self.refresh_view()

    def on_edge_requested(self, message: EdgeRequested) -> None:
        message.stop()
        if message.end:
            self.action_end()
        else:
            self.action_home()

    def action_cursor(self, step: int) -> None:
        """Move the cursor to the next block that can be opened, or for -1 to the previous one."""
        self.view.move_cursor(step)

    def action_open(self) -> None:
        """Fold or unfold the block under the cursor, or show its file."""
        self.view.open_block()

    def on_block_opened(self, message: BlockOpened) -> None:
        message.stop()
        block = next(
            (block for block in self.view.row_layout.blocks if block.first == message.first), None
        )
        if block is not None and block.files:
            self.post_message(FileRequested(message.path or block.files[0]))
        elif block is not None:
            self.view.toggle_fold(message.first)


def _is_turn_status(block: Block) -> bool:
    return block.kind is BlockKind.STATUS and block.name in _TURN_STATUSES
