"""Replay mode of the log."""

from __future__ import annotations

import time
from typing import Final

from textual.timer import Timer

from beray.schema import TaskEvent
from tui.events.blocks import Block
from tui.events.window import number_events
from tui.log.filter_mode import FilterMode
from tui.log.model.filtered_log import gap_block
from tui.log.model.replay import Replay
from tui.log.scroll_anchors import ReadingPosition

_TICK_SECONDS: Final = 0.05
_PAGE_EVENTS: Final = 1000
"""Number of events per request."""


class ReplayMode(FilterMode):
    """Log that can replay its events at their original pace."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._replay: Replay | None = None
        self._ticks: Timer | None = None
        self._ticked_at = 0.0
        self._left_at = ReadingPosition()

    @property
    def is_replaying(self) -> bool:
        """True if a replay is active."""
        return self._replay is not None

    def reset(self) -> None:
        self._forget_replay()
        super().reset()

    def reading_position(self) -> ReadingPosition:
        return super().reading_position() if self._replay is None else self._left_at

    def action_replay(self) -> None:
        """Start a replay from the first event, or end the current one."""
        if self._replay is not None:
            self.end_replay()
            return
        buffer = self.buffer
        is_complete = buffer.window.first == 1 and buffer.window.is_first_event_complete
        if not (buffer.pageable or (is_complete and buffer.at_end)):
            self.show_status("earlier events are not available")
            return
        self.end_filter()
        self._left_at = super().reading_position()
        self.discard_responses()
        self._replay = Replay(buffer.total)
        if not buffer.pageable:
            self._replay.add(buffer.window.events)
        self.view.clear_rows()
        self.view.following = True
        self._ticked_at = time.monotonic()
        self._ticks = self.set_interval(_TICK_SECONDS, self._tick)
        self._fetch_ahead()
        self._show_state()

    def end_replay(self) -> None:
        """End the replay and restore the reading position."""
        if self._replay is None:
            return
        self._forget_replay()
        self.discard_responses()
        self.view.clear_rows()
        self.restore_bar()
        self.restore_position(self._left_at)

    def _forget_replay(self) -> None:
        self._replay = None
        if self._ticks is not None:
            self._ticks.stop()
            self._ticks = None

    def _tick(self) -> None:
        replay = self._replay
        now = time.monotonic()
        passed, self._ticked_at = now - self._ticked_at, now
        if replay is not None and replay.advance(passed):
            self.refresh_view()
            self._fetch_ahead()
            self._show_state()

    def _fetch_ahead(self) -> None:
        """Fetch the next events before they are needed."""
        replay = self._replay
        if replay is None or not replay.needs_events or self._fetching or not self.buffer.pageable:
            return

        def received(events: list[TaskEvent]) -> None:
            replay.add(number_events(events, replay.last_queued))
            if not events:
                replay.end = replay.last_queued
            self._fetch_ahead()

        self.fetch(replay.last_queued, _PAGE_EVENTS, received)

    def _show_state(self) -> None:
        replay = self._replay
        if replay is None:
            return
        state = "■ end" if replay.is_over else ("‖ paused" if replay.paused else "▶")
        self.bar.show("replay", None)
        self.bar.show_status(
            f"{state} {replay.speed}x  event {replay.number:,} of {replay.end:,}"
            "   space pauses  → one event  + - speed  esc leaves"
        )

    def action_pause(self) -> None:
        if self._replay is not None:
            self._replay.paused = not self._replay.paused
            self._show_state()

    def action_step(self) -> None:
        if self._replay is not None:
            self._replay.step()
            self.view.following = True
            self.refresh_view()
            self._fetch_ahead()
            self._show_state()

    def action_faster(self) -> None:
        if self._replay is not None:
            self._replay.faster()
            self._show_state()

    def action_slower(self) -> None:
        if self._replay is not None:
            self._replay.slower()
            self._show_state()

    def can_leave(self) -> bool:
        return super().can_leave() or self.is_replaying

    def action_leave(self) -> None:
        """End the most recent of search and replay."""
        if self.is_replaying and not (self.is_typing or self.is_searching):
            self.end_replay()
        else:
            super().action_leave()
            self._show_state()

    # Overrides while a replay is active

    def visible_blocks(self) -> list[Block]:
        replay = self._replay
        if replay is None:
            return super().visible_blocks()
        blocks = list(replay.window.blocks)
        if replay.window.first > 1:
            blocks.insert(0, gap_block(f"… {replay.window.first - 1:,} earlier events", 0))
        return blocks

    def at_newest(self) -> bool:
        return self.is_replaying or super().at_newest()

    def position_text(self) -> str:
        return "" if self.is_replaying else super().position_text()

    def can_fetch(self) -> bool:
        return not self.is_replaying and super().can_fetch()

    def can_scan(self) -> bool:
        return not self.is_replaying and super().can_scan()

    def action_filter(self) -> None:
        self.end_replay()
        super().action_filter()

    def action_filter_errors(self) -> None:
        self.end_replay()
        super().action_filter_errors()

    def action_home(self) -> None:
        if self.is_replaying:
            self.view.go_to_beginning()
        else:
            super().action_home()

    def action_end(self) -> None:
        if self.is_replaying:
            self.view.following = True
            self.refresh_view()
        else:
            super().action_end()
