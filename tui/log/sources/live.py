"""Source of all events of a log: live events, and pages of earlier and later ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from beray.schema import TaskEvent
from tui.events.blocks import Block, BlockKind
from tui.events.event_buffer import PAGE, EventBuffer
from tui.log.block_view import Viewport
from tui.log.event_fetcher import EventFetcher
from tui.log.model.filtered_log import event_count, gap_block
from tui.log.scroll_anchors import EventAnchor, ReadingPosition
from tui.log.sources.source import AFTER_LAST_EVENT, OnChange

_TURN_STATUSES: Final = frozenset({"RUNNING", "INPUT_REQUIRED"})
"""Statuses between which a chat alternates. They are not shown, as the messages imply them."""


class LiveSource:
    """Events in the window of the buffer, which moves with the reader.

    Args:
        buffer: Events of the task.
        fetcher: Fetches pages of events.
        on_change: Called after fetched events were added.
        is_chat: Whether the task is a chat.

    Attributes:
        failure: Error that is shown after the last event; may be empty.
    """

    prompt = ""
    status_text = ""
    is_live = True

    def __init__(
        self,
        *,
        buffer: EventBuffer,
        fetcher: EventFetcher,
        on_change: OnChange,
        is_chat: bool = False,
    ) -> None:
        self.failure = ""
        self._buffer = buffer
        self._fetcher = fetcher
        self._on_change = on_change
        self._is_chat = is_chat
        self._restoring: ReadingPosition | None = None
        """Reading position that will be restored when its events have arrived."""

    @property
    def at_newest(self) -> bool:
        """True if the window ends with the newest event."""
        return self._buffer.at_end

    @property
    def return_position(self) -> ReadingPosition | None:
        """Reading position that is being restored."""
        return self._restoring

    def blocks(self) -> list[Block]:
        """Return the blocks in the window; none while a reading position is being restored."""
        if self._restoring is not None:
            return []
        buffer = self._buffer
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
            later = buffer.last_number - buffer.window.last
            blocks.append(gap_block(f"… {event_count(later, 'later ')}", AFTER_LAST_EVENT))
        elif self.failure:
            failure = gap_block(self.failure, AFTER_LAST_EVENT)
            failure.style, failure.symbol, failure.failed = "event--failure", "!", True
            blocks.append(failure)
        return blocks

    def append(self, events: list[TaskEvent], *, following: bool) -> None:
        """Add live events. They move the window only if the view follows its end."""
        self._buffer.append(events, keep_window=not following)

    # Pages

    def prefetch(self, viewport: Viewport) -> None:
        """Fetch the page before or after the window if its edge is near the screen."""
        buffer = self._buffer
        if not buffer.pageable or self._restoring is not None or not self._fetcher.is_ready:
            return
        is_short = viewport.total < viewport.height and buffer.last_number >= buffer.total
        if viewport.is_near_start and (is_short or not viewport.following):
            self._fetch_page(before=True)
        if viewport.is_near_end:
            self._fetch_page(before=False)

    def _fetch_page(self, *, before: bool) -> None:
        request = self._buffer.next_page(before=before)
        if request is None or self._fetcher.is_busy:
            return

        def received(events: list[TaskEvent]) -> None:
            self._buffer.add_page(request, events)
            self._on_change(None)

        self._fetcher.fetch(request.after, request.limit, received)

    def scan_start(self, step: int) -> int | None:
        """Return the number of the event at the edge of the window, if others are outside."""
        buffer = self._buffer
        window = buffer.window
        if buffer.pageable and step > 0 and not buffer.at_end:
            return window.last
        if buffer.pageable and step < 0 and buffer.has_earlier:
            return window.first + (not window.is_first_event_complete)
        return None

    # Positions

    def position_text(self, number: int) -> str:
        """Return a description of the reading position at event ``number``."""
        return event_position(number, self._buffer.total)

    def go_to_start(self) -> bool:
        """Move the window to the first event; return True if it is there already."""
        buffer = self._buffer
        if not buffer.pageable or (
            buffer.window.first == 1 and buffer.window.is_first_event_complete
        ):
            return True
        self.go_to_event(EventAnchor(1))
        return False

    def go_to_end(self) -> None:
        """Move the window to the newest events."""
        self._fetcher.discard_responses()
        self._restoring = None
        self._buffer.move_to_end()

    def go_to_event(self, anchor: EventAnchor, on_shown: Callable[[], None] | None = None) -> None:
        """Scroll a row to the top of the screen, after fetching its events if necessary.

        Args:
            anchor: The row.
            on_shown: Called when the row is on the screen.
        """
        number = anchor.number
        window = self._buffer.window

        def shown() -> None:
            self._restoring = None
            self._on_change(anchor)
            if on_shown is not None:
                on_shown()

        def received(events: list[TaskEvent]) -> None:
            self._buffer.move_to(after, events, number)
            shown()

        after = max(0, number - PAGE // 2)
        if window.first <= number <= window.last:
            shown()
        else:
            self._fetcher.fetch(after, PAGE, received)

    def restore(self, position: ReadingPosition) -> None:
        """Go to a reading position; no blocks are shown until its events have arrived.

        Args:
            position: Must have an anchor.
        """
        assert position.anchor is not None
        self._restoring = position
        self.go_to_event(position.anchor)

    def restore_again(self) -> None:
        """Repeat the request for the reading position, after its response was discarded."""
        if self._restoring is not None:
            self.restore(self._restoring)

    def stop(self) -> None:
        """Give up the reading position that is being restored."""
        self._restoring = None


def event_position(number: int, total: int) -> str:
    """Return a description of a reading position: event ``number`` of ``total``."""
    return f"event {min(max(number, 1), total):,} of {total:,}"


def _is_turn_status(block: Block) -> bool:
    return block.kind is BlockKind.STATUS and block.name in _TURN_STATUSES
