"""Log of a task without an application: manual time and threads, and a view without widgets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.tui.log_events import page
from tui.events.blocks import Block
from tui.events.event_buffer import EventBuffer
from tui.io.background import EXPECTED_ERRORS
from tui.log.block_view import Viewport
from tui.log.render.markdown import MarkdownRenderer
from tui.log.render.match_highlights import MatchHighlights
from tui.log.render.row_layout import RowLayout, RowPosition, nearest_block
from tui.log.scroll_anchors import EventAnchor, ReadingPosition, RowAnchor
from tui.log.task_log import TaskLog
from tui.state.checkpoints import LogPosition

T = TypeVar("T")


class ManualTimer:
    """Timer of a ``ManualScheduler``."""

    def __init__(self, due: float, interval: float | None, callback: Callable[[], None]) -> None:
        self.due = due
        self.interval = interval
        self.callback = callback
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


class ManualScheduler:
    """Scheduler whose time a test advances and whose jobs a test runs."""

    def __init__(self) -> None:
        self.time = 100.0
        self.jobs: deque[Callable[[], None]] = deque()
        self.timers: list[ManualTimer] = []

    def now(self) -> float:
        return self.time

    def call_after(self, seconds: float, callback: Callable[[], None]) -> ManualTimer:
        return self._add(ManualTimer(self.time + seconds, None, callback))

    def call_every(self, seconds: float, callback: Callable[[], None]) -> ManualTimer:
        return self._add(ManualTimer(self.time + seconds, seconds, callback))

    def _add(self, timer: ManualTimer) -> ManualTimer:
        self.timers.append(timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.jobs.append(callback)

    def run(
        self,
        work: Callable[[], T],
        on_result: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        def job() -> None:
            try:
                result = work()
            except EXPECTED_ERRORS as error:
                failure = error
                self.jobs.append(lambda: on_error(failure))
            else:
                self.jobs.append(lambda: on_result(result))

        self.jobs.append(job)

    def run_jobs(self) -> None:
        """Run all jobs, and those that they start."""
        for _ in range(10_000):
            if not self.jobs:
                return
            self.jobs.popleft()()
        raise AssertionError("the jobs do not end")

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what becomes due."""
        end = self.time + seconds
        while True:
            self.run_jobs()
            self.timers = [timer for timer in self.timers if not timer.stopped]
            timer = min(self.timers, key=lambda timer: timer.due, default=None)
            if timer is None or timer.due > end:
                break
            self.time = max(self.time, timer.due)
            if timer.interval is None:
                timer.stop()
            else:
                timer.due += timer.interval
            timer.callback()
        self.time = end


class PlainView:
    """View that scrolls like ``LogView``, but draws nothing."""

    def __init__(self, height: int = 24, width: int = 76) -> None:
        self.following = True
        self.at_newest = True
        self.cursor: Block | None = None
        self.height = height
        self.top = 0
        self.row_layout = RowLayout(MarkdownRenderer({}).rows)
        self.highlights = MatchHighlights()
        self.on_scroll: Callable[[], None] = lambda: None
        self._width = width

    @property
    def selected_block(self) -> Block | None:
        return self.cursor

    @property
    def unfolded(self) -> set[int]:
        return self.row_layout.unfolded

    @property
    def viewport(self) -> Viewport:
        return Viewport(self.top, self.height, self.row_layout.total, self.following)

    @property
    def max_top(self) -> int:
        return max(0, self.row_layout.total - self.height)

    @property
    def rows(self) -> list[str]:
        """The rows on the screen."""
        rows = [row.text for row in self.row_layout.all_rows()]
        return rows[self.top : self.top + self.height]

    def show(self, blocks: Sequence[Block], anchor: RowAnchor | EventAnchor | None = None) -> None:
        target = anchor or self.row_layout.row_anchor(self.top)
        near = None if self.following or target is None else nearest_block(blocks, target)
        self.row_layout.lay_out(blocks, self._width, near)
        self.highlights.lay_out(self.row_layout)
        row = 0 if target is None else self.row_layout.row_of_anchor(target)
        self._go_to(self.max_top if self.following else row)

    def _go_to(self, row: int) -> None:
        self.top = min(max(0, row), self.max_top)

    def scroll(self, rows: int) -> None:
        """Scroll as the user does."""
        self._go_to(self.top + rows)
        self.following = self.at_newest and self.top >= self.max_top
        self.on_scroll()

    def clear_rows(self) -> None:
        self.row_layout.lay_out((), self._width)

    def go_to_beginning(self) -> None:
        self.following = False
        self._go_to(0)
        self.on_scroll()

    def reveal(self, position: RowPosition, *, centre: bool = False) -> None:
        self.following = False
        if centre or not self.is_row_visible(position):
            row = self.row_layout.first_row(position.block) + position.row
            self._go_to(row - self.height // 3)
        self.on_scroll()

    def is_row_visible(self, position: RowPosition) -> bool:
        row = self.row_layout.first_row(position.block) + position.row
        return 0 <= row - self.top < self.height

    def screen_edge(self, step: int) -> RowPosition | None:
        if step > 0:
            return self.row_layout.position(self.top)
        last = self.row_layout.position(min(self.top + self.height, self.row_layout.total) - 1)
        return None if last is None else RowPosition(last.block, last.row + 1)

    def refresh(self) -> None:
        pass


class OpenLog:
    """Log of a task that is open at a position, with all that it has displayed and requested.

    Args:
        events: Events on the server.
        pageable: Whether the server returns earlier events.
        position: Reading position to open; by default the end.
        height: Number of rows on the screen.
        received: Whether the live events have arrived.
    """

    def __init__(
        self,
        events: list[dict[str, Any]],
        *,
        pageable: bool = True,
        position: ReadingPosition | None = None,
        height: int = 24,
        received: bool = True,
    ) -> None:
        self.events = events
        self.error: Exception | None = None
        self.requests: list[tuple[int, int]] = []
        self.position = ""
        self.new_events = 0
        self.event: LogPosition | None = None
        """Event whose state is shown; ``None`` for the present state."""
        self.status = ""
        self.failures: list[str] = []
        self.scheduler = ManualScheduler()
        self.view = PlainView(height)
        self.buffer = EventBuffer(len(events) if pageable else None)
        self.log = TaskLog(
            view=self.view,
            display=self,
            scheduler=self.scheduler,
            page_reader=self.read_page,
            buffer=self.buffer,
        )
        self.view.on_scroll = self.log.update_position
        self.log.open(position or ReadingPosition())
        if received:
            self.append(events[self.buffer.start_after :])

    @property
    def rows(self) -> list[str]:
        """The rows on the screen."""
        return self.view.rows

    def read_page(self, after: int, limit: int) -> Any:
        self.requests.append((after, limit))
        if self.error is not None:
            raise self.error
        return page(self.events, after, limit)

    def append(self, events: Any) -> None:
        """Receive live events."""
        self.log.append(events)
        self.settle()

    def settle(self) -> None:
        """Let requests and the slices of live events end."""
        self.scheduler.run_jobs()
        while not self.log.is_idle:
            self.scheduler.advance(0.01)

    def scroll(self, rows: int) -> None:
        """Scroll as the user does, and let the requests end."""
        self.view.scroll(rows)
        self.settle()

    # What the log displays

    def show_position(self, text: str, new_events: int) -> None:
        self.position, self.new_events = text, new_events

    def show_event(self, position: LogPosition | None) -> None:
        self.event = position

    def show_source_status(self) -> None:
        self.status = self.log.source.status_text

    def show_status(self, text: str, *, open_bar: bool = True) -> None:
        self.status = text

    def report_failure(self, action: str, error: Exception) -> None:
        self.failures.append(action)
