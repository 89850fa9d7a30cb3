"""Source that replays the events of a log at their original pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from beray.schema import TaskEvent
from tui.events.blocks import Block
from tui.events.event_buffer import EventBuffer
from tui.events.window import number_events
from tui.log.block_view import Viewport
from tui.log.event_fetcher import EventFetcher
from tui.log.model.filtered_log import gap_block
from tui.log.model.replay import Replay
from tui.log.scheduler import Scheduler, Stoppable
from tui.log.scroll_anchors import ReadingPosition
from tui.log.sources.source import OnChange

_TICK_SECONDS: Final = 0.05
_PAGE_EVENTS: Final = 1000
"""Number of events per request."""


def can_replay(buffer: EventBuffer) -> bool:
    """Return True if all events of the log are in the window or can be fetched."""
    window = buffer.window
    is_complete = window.first == 1 and window.is_first_event_complete and buffer.at_end
    return buffer.pageable or is_complete


class ReplaySource:
    """Events from the first one to the one that the replay has reached.

    Args:
        buffer: Events of the task. ``can_replay`` must accept it.
        fetcher: Fetches pages of events.
        scheduler: Measures the time.
        return_position: Reading position to return to after the replay.
        on_change: Called after the replay has advanced.
        on_status: Called after ``status_text`` has changed.
    """

    prompt = "replay"
    is_live = False

    def __init__(
        self,
        *,
        buffer: EventBuffer,
        fetcher: EventFetcher,
        scheduler: Scheduler,
        return_position: ReadingPosition,
        on_change: OnChange,
        on_status: Callable[[], None],
    ) -> None:
        self.return_position = return_position
        self._buffer = buffer
        self._fetcher = fetcher
        self._scheduler = scheduler
        self._on_change = on_change
        self._on_status = on_status
        self._replay = Replay(buffer.total)
        self._ticks: Stoppable | None = None
        self._ticked_at = 0.0

    @property
    def status_text(self) -> str:
        """State and speed of the replay, and its keys."""
        replay = self._replay
        state = "■ end" if replay.is_over else ("‖ paused" if replay.paused else "▶")
        return (
            f"{state} {replay.speed}x  event {replay.number:,} of {replay.end:,}"
            "   space pauses  → one event  + - speed  esc leaves"
        )

    # Playing

    def start(self) -> None:
        """Start the replay from the first event."""
        if not self._buffer.pageable:
            self._replay.add(self._buffer.window.events)
        self._ticked_at = self._scheduler.now()
        self._ticks = self._scheduler.call_every(_TICK_SECONDS, self._tick)
        self._fetch_ahead()
        self._on_status()

    def stop(self) -> None:
        """Stop the replay."""
        if self._ticks is not None:
            self._ticks.stop()
            self._ticks = None

    def _tick(self) -> None:
        now = self._scheduler.now()
        passed, self._ticked_at = now - self._ticked_at, now
        if self._replay.advance(passed):
            self._advanced()

    def _advanced(self) -> None:
        self._on_change(None)
        self._fetch_ahead()
        self._on_status()

    def toggle_pause(self) -> None:
        """Pause or continue."""
        self._replay.paused = not self._replay.paused
        self._on_status()

    def step(self) -> None:
        """Pause and show the next event."""
        self._replay.step()
        self._advanced()

    def faster(self) -> None:
        """Double the speed."""
        self._replay.faster()
        self._on_status()

    def slower(self) -> None:
        """Halve the speed."""
        self._replay.slower()
        self._on_status()

    def _fetch_ahead(self) -> None:
        """Fetch the next events before they are needed."""
        replay = self._replay
        if not replay.needs_events or self._fetcher.is_busy or not self._buffer.pageable:
            return

        def received(events: list[TaskEvent]) -> None:
            replay.add(number_events(events, replay.last_queued))
            if not events:
                replay.end = replay.last_queued
            self._fetch_ahead()

        self._fetcher.fetch(replay.last_queued, _PAGE_EVENTS, received)

    # What the log shows

    @property
    def at_newest(self) -> bool:
        """True: the view follows the replay."""
        return True

    def blocks(self) -> list[Block]:
        """Return the blocks of the events that were replayed."""
        window = self._replay.window
        blocks = list(window.blocks)
        if window.first > 1:
            blocks.insert(0, gap_block(f"… {window.first - 1:,} earlier events", 0))
        return blocks

    def append(self, events: list[TaskEvent], *, following: bool) -> None:
        """Add live events to the buffer. They are not replayed."""
        self._buffer.append(events, keep_window=not following)

    def prefetch(self, viewport: Viewport) -> None:
        """Fetch the next events if a request for them was discarded."""
        if self._fetcher.is_ready:
            self._fetch_ahead()

    def scan_start(self, step: int) -> int | None:
        """Return ``None``: searches cover the replayed events only."""
        return None

    def position_text(self, number: int) -> str:
        """Return nothing: the bar shows the position."""
        return ""

    def go_to_start(self) -> bool:
        """Return True: earlier events than those in the window are not shown again."""
        return True

    def go_to_end(self) -> None:
        """Do nothing: the blocks end with the event that the replay has reached."""
