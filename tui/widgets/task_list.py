"""The list of tasks: one row each, in aligned columns, whatever the width."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from beray.schema import Task
from tui import safe, status
from tui.widgets.ink import ink, paper

_TIME_CELLS = 4
_WORD_FROM = 44
"""The width from which a row has room for its status as a word."""


class TaskList(ScrollView, can_focus=True):
    """Shows the tasks it is given and says which one the cursor is on."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "task-list--cursor",
        "task-list--number",
        "task-list--time",
        *status.STYLES,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
    ]

    class Highlighted(Message):
        """The cursor is on another task."""

        def __init__(self, task_id: int | None) -> None:
            super().__init__()
            self.task_id = task_id

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tasks: Sequence[Task] = ()
        self._rows: list[tuple[int, status.Look, str, str]] = []
        self._cursor = 0

    @property
    def highlighted(self) -> int | None:
        """The id of the task under the cursor."""
        return self._tasks[self._cursor]["id"] if self._tasks else None

    def show(self, tasks: Sequence[Task], now: datetime) -> None:
        """Show ``tasks``. The cursor stays on its task, or takes the place that it leaves."""
        before = self.highlighted
        rows = [
            (task["id"], status.look(task), task["goal"], status.elapsed(task, now))
            for task in tasks
        ]
        self._tasks = tasks
        changed, self._rows = rows != self._rows, rows
        places = [task["id"] for task in tasks]
        last = max(0, len(places) - 1)
        self._cursor = places.index(before) if before in places else min(self._cursor, last)
        if changed:
            self.virtual_size = Size(0, len(tasks))
            self.refresh()
        if self.highlighted != before:
            self._announce()

    def select(self, task_id: int) -> None:
        """Put the cursor on a task, if it is in the list."""
        for place, task in enumerate(self._tasks):
            if task["id"] == task_id:
                self._move_to(place)

    def action_move(self, by: int) -> None:
        self._move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        self._move_to(self._cursor + by * max(1, self.size.height - 1))

    def action_edge(self, side: int) -> None:
        self._move_to(0 if side < 0 else len(self._tasks) - 1)

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y + self.scroll_offset.y < len(self._tasks):
            self._move_to(offset.y + self.scroll_offset.y)

    def _move_to(self, place: int) -> None:
        place = max(0, min(place, len(self._tasks) - 1))
        if self._tasks and place != self._cursor:
            self._cursor = place
            self._announce()
            self.refresh()

    def _announce(self) -> None:
        self.scroll_to_region(Region(0, self._cursor, 1, 1), animate=False, force=True)
        self.post_message(self.Highlighted(self.highlighted))

    def render_line(self, y: int) -> Strip:
        place = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        base = self.rich_style
        if place >= len(self._rows):
            return Strip.blank(self.size.width, base)
        if place == self._cursor:
            base += paper(self, "task-list--cursor")
        return Strip(self._segments(place, width, base)).adjust_cell_length(self.size.width, base)

    def _segments(self, place: int, width: int, base: Style) -> list[Segment]:
        number, look, goal, time = self._rows[place]
        number_cells = max(2, len(str(max(row[0] for row in self._rows))))
        word_cells = status.WORD_CELLS + 1 if width >= _WORD_FROM else 0
        goal_cells = width - 3 - number_cells - 2 - word_cells - _TIME_CELLS - 2

        def styled(name: str) -> Style:
            return base + ink(self, name)

        segments = [
            Segment(f" {look.glyph} ", styled(look.style)),
            Segment(f"{number:>{number_cells}}  ", styled("task-list--number")),
            Segment(safe.fitted(goal, goal_cells) + " ", base),
        ]
        if word_cells:
            segments.append(Segment(safe.fitted(look.word, word_cells), styled(look.style)))
        segments.append(Segment(f"{time:>{_TIME_CELLS}} ", styled("task-list--time")))
        return segments
