"""Task list pane: the list and its filter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from beray.schema import Task
from tui.widgets.task_list import TaskList


class _FilterInput(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "Clear"),
        Binding("up", "pass_on(-1)", show=False),
        Binding("down", "pass_on(1)", show=False),
    ]

    class Cancelled(Message):
        """The user cancelled the filter."""

    def action_give_up(self) -> None:
        self.post_message(self.Cancelled())

    def action_pass_on(self, by: int) -> None:
        """Move the cursor of the list while the filter keeps the focus."""
        self.screen.query_one(TaskList).action_move(by)


class Inbox(Vertical):
    """Task list with a filter. Posts ``Filtered`` when the filter changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority, so that it takes effect before the keys typed after it are dispatched.
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("escape", "unfilter", "All tasks", show=False),
    ]

    @dataclass(eq=False, repr=False)
    class Filtered(Message):
        """The text of the filter has changed."""

        query: str

    _titles = ("", "")

    def compose(self) -> ComposeResult:
        yield TaskList(id="task-list")
        yield Static("No task matches.", id="no-match", classes="note", markup=False)
        line = _FilterInput(placeholder="goal, state or #id", id="filter", compact=True)
        line.display = False
        yield line

    @property
    def tasks(self) -> TaskList:
        """The list widget."""
        return self.query_one(TaskList)

    @property
    def _line(self) -> _FilterInput:
        return self.query_one(_FilterInput)

    def show(
        self,
        tasks: Sequence[Task],
        total: int,
        now: datetime,
        unread: Callable[[Task], int],
        stopping: Collection[int],
    ) -> None:
        """Show ``tasks``, the tasks that match the filter, out of ``total``."""
        self.tasks.show(tasks, now, unread, stopping)
        none = bool(total) and not tasks
        self.tasks.display = not none
        self.query_one("#no-match").display = none
        running = sum(task["status"] == "RUNNING" for task in tasks)
        count = f"{len(tasks)} of {total}" if self._line.value else str(total)
        titles = (f"Tasks · {count}" if total else "Tasks", f"{running} running" if running else "")
        if titles != self._titles:  # setting them redraws the whole pane
            self._titles = titles
            self.border_title, self.border_subtitle = map(Content, titles)

    def action_filter(self) -> None:
        """Filter the list while typing."""
        self._line.display = True
        # Immediate focus, so that the next typed key arrives in the filter.
        self.screen.set_focus(self._line)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "filter":
            return not self._line.has_focus
        # Without a filter, escape is left to other bindings.
        return action != "unfilter" or bool(self._line.value)

    @on(_FilterInput.Cancelled)
    def action_unfilter(self) -> None:
        self._line.value = ""
        self._leave_line()

    @on(Input.Submitted)
    def _leave_line(self) -> None:
        self._line.display = bool(self._line.value)
        self.screen.set_focus(self.tasks)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Filtered(event.value))
