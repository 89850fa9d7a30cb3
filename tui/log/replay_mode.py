"""The replay of a task in its log."""

from __future__ import annotations

import time
from typing import Final

from textual.timer import Timer

from beray.schema import TaskEvent
from tui.log.filter_mode import Filtering
from tui.log.model.blocks import Block
from tui.log.model.filtered_log import note
from tui.log.model.replay import Replay
from tui.log.model.scroll_anchors import Reader
from tui.log.model.window import numbered

_TICK_SECONDS: Final = 0.05
_PAGE: Final = 1000


class Replaying(Filtering):
    """Adds to the log that its events come once more."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._replay: Replay | None = None
        self._ticks: Timer | None = None
        self._ticked_at = 0.0
        self._left_at = Reader()

    @property
    def is_replaying(self) -> bool:
        return self._replay is not None

    def reset(self) -> None:
        self._forget_replay()
        super().reset()

    def reader(self) -> Reader:
        return super().reader() if self._replay is None else self._left_at

    def action_replay(self) -> None:
        """Play the log from its first event."""
        if self._replay is not None:
            self.end_replay()
            return
        record = self.record
        whole = record.window.first == 1 and record.window.is_whole
        if not (record.pageable or (whole and record.attached)):
            self.say("earlier events are not kept")
            return
        self.end_filter()
        self._left_at = super().reader()
        self.forget_answers()
        self._replay = Replay(record.total)
        if not record.pageable:
            self._replay.add(record.window.events)
        self.view.clear_place()
        self.view.following = True
        self._ticked_at = time.monotonic()
        self._ticks = self.set_interval(_TICK_SECONDS, self._tick)
        self._read_on()
        self._say_where()

    def end_replay(self) -> None:
        """Go back to where the reader was."""
        if self._replay is None:
            return
        self._forget_replay()
        self.forget_answers()
        self.view.clear_place()
        self.restore_bar()
        self.go_back(self._left_at)

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
            self._read_on()
            self._say_where()

    def _read_on(self) -> None:
        """Fetch what will be played, before it is needed."""
        replay = self._replay
        if replay is None or not replay.wants_more or self._asked or not self.record.pageable:
            return

        def arrived(events: list[TaskEvent]) -> None:
            replay.add(numbered(events, replay.read))
            if not events:
                replay.end = replay.read
            self._read_on()

        self.fetch(replay.read, _PAGE, arrived)

    def _say_where(self) -> None:
        replay = self._replay
        if replay is None:
            return
        state = "■ end" if replay.is_over else ("‖ paused" if replay.paused else "▶")
        self.bar.show("replay", None)
        self.bar.say(
            f"{state} {replay.speed}x  event {replay.number:,} of {replay.end:,}"
            "   space pauses  → one event  + - speed  esc leaves"
        )

    def action_pause(self) -> None:
        if self._replay is not None:
            self._replay.paused = not self._replay.paused
            self._say_where()

    def action_step(self) -> None:
        if self._replay is not None:
            self._replay.step()
            self.view.following = True
            self.refresh_view()
            self._read_on()
            self._say_where()

    def action_faster(self) -> None:
        if self._replay is not None:
            self._replay.faster()
            self._say_where()

    def action_slower(self) -> None:
        if self._replay is not None:
            self._replay.slower()
            self._say_where()

    def can_leave(self) -> bool:
        return super().can_leave() or self.is_replaying

    def action_leave(self) -> None:
        """End what was begun last; the replay after what was done in it."""
        if self.is_replaying and not (self.is_typing or self.is_searching):
            self.end_replay()
        else:
            super().action_leave()
            self._say_where()

    # What is shown meanwhile

    def blocks(self) -> list[Block]:
        replay = self._replay
        if replay is None:
            return super().blocks()
        blocks = list(replay.window.blocks)
        if replay.window.first > 1:
            blocks.insert(0, note(f"… {replay.window.first - 1:,} earlier events", 0))
        return blocks

    def at_newest(self) -> bool:
        return self.is_replaying or super().at_newest()

    def words_of_place(self) -> str:
        return "" if self.is_replaying else super().words_of_place()

    def can_ask(self) -> bool:
        return not self.is_replaying and super().can_ask()

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
