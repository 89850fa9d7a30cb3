"""The goals that were given before, to choose one of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui import sanitize
from tui.composer import servers
from tui.composer.attachment_list import MUTED
from tui.composer.history_navigation import matching
from tui.composer.sanitized_input import Line
from tui.state.task_draft import TaskDraft


class HistoryScreen(ModalScreen[TaskDraft | None]):
    """Gives the goal that was chosen, with its MCP servers, or ``None``."""

    CSS_PATH = "choosing.tcss"
    AUTO_FOCUS = "Line"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel"),
        Binding("up", "move('cursor_up')", show=False, priority=True),
        Binding("down,ctrl+r", "move('cursor_down')", show=False, priority=True),
        Binding("pageup", "move('page_up')", show=False, priority=True),
        Binding("pagedown", "move('page_down')", show=False, priority=True),
    ]

    def __init__(self, history: Sequence[TaskDraft]) -> None:
        super().__init__()
        self._history = history
        self._found: list[TaskDraft] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog choosing") as dialog:
            dialog.border_title = "History"
            dialog.border_subtitle = "type to find · enter takes · esc cancels"
            yield Line(placeholder="Words of the goal", id="wanted")
            yield Static(classes="nothing", markup=False)
            choices = OptionList(id="choices", markup=False, compact=True)
            choices.can_focus = False
            yield choices

    def on_mount(self) -> None:
        self._find()

    @on(Input.Changed)
    def _find(self) -> None:
        self._found = matching(self._history, self.query_one(Line).value)
        choices = self.query_one(OptionList)
        choices.set_options(Option(_line(order)) for order in self._found)
        choices.highlighted = 0 if self._found else None
        nothing = self.query_one(".nothing", Static)
        nothing.display = not self._found
        nothing.update("No goal has these words." if self._history else "No goals yet.")

    def action_move(self, action: str) -> None:
        getattr(self.query_one(OptionList), f"action_{action}")()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _take(self) -> None:
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self.dismiss(self._found[at])


def _line(order: TaskDraft) -> Content:
    goal = sanitize.line(order.goal[:1000].replace("\n", " ↵ "), 300)
    if not order.tools:
        return goal
    names = ", ".join(servers.name_of(tool) for tool in order.tools)
    return Content.assemble(goal, "  ", sanitize.line(f"with {names}", 100, MUTED))
