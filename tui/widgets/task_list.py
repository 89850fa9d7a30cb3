"""Task list widget with one or two rows per task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from beray.schema import Task
from tui import sanitize, status
from tui.widgets.drawing import background_style, foreground_style

_TIME_CELLS: Final = 4
_UNREAD_CELLS: Final = 4
_GOAL_CELLS: Final = 20
"""Cells of the goal that are kept if the last line is shown in the same row."""
_LAST_LINE_CELLS: Final = 12
"""Minimum width for showing a last line."""
_TALL: Final = 12
"""Minimum height at which each task has a second row with its state and last line."""


class TaskList(ScrollView, can_focus=True):
    """List of tasks with a cursor. Draws only the visible rows."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "task-list--cursor",
        "task-list--number",
        "task-list--time",
        "task-list--said",
        "task-list--unread",
        *status.STYLES,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open"),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
    ]

    @dataclass(eq=False, repr=False)
    class Highlighted(Message):
        """The cursor is on another task, or the list is empty."""

        task_id: int | None

    class Opened(Message):
        """The user opened the task under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tasks: Sequence[Task] = ()
        self._unread: Callable[[Task], int] = lambda task: 0
        self._stopping: Collection[int] = ()
        self._now = datetime.now(UTC)
        self._number_cells = 2
        self._cursor = 0
        self._rows = 1  # of each task

    @property
    def highlighted(self) -> int | None:
        """Id of the task under the cursor, or None if the list is empty."""
        return self._tasks[self._cursor]["id"] if self._tasks else None

    def show(
        self,
        tasks: Sequence[Task],
        now: datetime,
        unread: Callable[[Task], int],
        stopping: Collection[int] = (),
    ) -> None:
        """Show ``tasks``. The cursor stays on its task, or on its row if the task is missing.

        Rows are created when they are drawn, so the cost does not depend on the number of tasks.
        """
        before = self.highlighted
        self._tasks, self._now = tasks, now
        self._unread, self._stopping = unread, stopping
        task_ids = [task["id"] for task in tasks]
        self._number_cells = max(2, len(str(max(task_ids, default=0))))
        last = max(0, len(task_ids) - 1)
        self._cursor = task_ids.index(before) if before in task_ids else min(self._cursor, last)
        self._size_up()
        if self.highlighted != before:
            self._announce()

    def on_resize(self, event: Resize) -> None:
        self._size_up()
        self._scroll_to_cursor()

    def _size_up(self) -> None:
        self._rows = 2 if self.size.height >= _TALL else 1
        self.virtual_size = Size(0, len(self._tasks) * self._rows)
        self.refresh()

    def select(self, task_id: int) -> None:
        """Move the cursor to a task if it is in the list."""
        for place, task in enumerate(self._tasks):
            if task["id"] == task_id:
                self._move_to(place)

    def action_move(self, by: int) -> None:
        self._move_to(self._cursor + by)

    def action_open(self) -> None:
        if self._tasks:
            self.post_message(self.Opened())

    def action_page(self, by: int) -> None:
        self._move_to(self._cursor + by * max(1, self.size.height // self._rows - 1))

    def action_edge(self, side: int) -> None:
        self._move_to(0 if side < 0 else len(self._tasks) - 1)

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        place = (offset.y + self.scroll_offset.y) // self._rows
        if place < len(self._tasks):
            self._move_to(place)
            if event.chain == 2:
                self.action_open()

    def _move_to(self, place: int) -> None:
        place = max(0, min(place, len(self._tasks) - 1))
        if self._tasks and place != self._cursor:
            self._cursor = place
            self._announce()
            self.refresh()

    def _announce(self) -> None:
        self._scroll_to_cursor()
        self.post_message(self.Highlighted(self.highlighted))

    def _scroll_to_cursor(self) -> None:
        row = Region(0, self._cursor * self._rows, 1, self._rows)
        self.scroll_to_region(row, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        place, second = divmod(self.scroll_offset.y + y, self._rows)
        width = self.scrollable_content_region.width
        base = self.rich_style
        if place >= len(self._tasks):
            return Strip.blank(self.size.width, base)
        if place == self._cursor:
            base += background_style(self, "task-list--cursor")
        make = self._second_row if second else self._first_row
        segments = make(self._tasks[place], width, base)
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def _first_row(self, task: Task, width: int, base: Style) -> list[Segment]:
        look = self._look(task)
        origin = status.origin_text(task)
        marker = f"↳ {origin}  " if origin else ""
        left = width - 3 - self._number_cells - 2 - _UNREAD_CELLS - _TIME_CELLS - 2
        left -= sanitize.cells(marker)
        goal = sanitize.fitted(status.title(task), left).rstrip()
        # The last line gets the space that the goal leaves in a single row.
        room = left - max(sanitize.cells(goal), _GOAL_CELLS) if self._rows == 1 else 0
        said = task.get("last_line") or ""
        if not said or room < _LAST_LINE_CELLS:
            room = 0
        bold = Style(bold=True) if (unread := self._unread(task)) else Style()
        number = f"{task['id']:>{self._number_cells}}  "
        segments = [
            Segment(f" {look.glyph} ", base + foreground_style(self, look.style)),
            Segment(number, base + foreground_style(self, "task-list--number")),
            Segment(marker, base + foreground_style(self, "task-list--number")),
            Segment(sanitize.fitted(goal, left - room), base + bold),
        ]
        if room:
            words = "  ─ " + sanitize.fitted(said, room - 4)
            segments.append(Segment(words, base + foreground_style(self, "task-list--said")))
        badge = "" if not unread else str(unread) if unread < 1000 else "1k+"
        time = status.elapsed(task, self._now)
        return [
            *segments,
            Segment(
                f"{badge:>{_UNREAD_CELLS}} ", base + foreground_style(self, "task-list--unread")
            ),
            Segment(f"{time:>{_TIME_CELLS}} ", base + foreground_style(self, "task-list--time")),
        ]

    def _second_row(self, task: Task, width: int, base: Style) -> list[Segment]:
        look = self._look(task)
        indent = " " * (3 + self._number_cells + 2)
        said = task.get("last_line") or ""
        word = f"{look.word} · " if said else look.word
        left = max(0, width - len(indent) - len(word) - 1)
        return [
            Segment(indent, base),
            Segment(word, base + foreground_style(self, look.style)),
            Segment(sanitize.fitted(said, left), base + foreground_style(self, "task-list--said")),
        ]

    def _look(self, task: Task) -> status.StatusDisplay:
        return status.task_display(task, stopping=task["id"] in self._stopping)
