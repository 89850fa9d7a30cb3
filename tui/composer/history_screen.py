"""Dialog to choose a goal from the history."""

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
from tui.composer import mcp_servers
from tui.composer.attachment_list import MUTED
from tui.composer.history_navigation import find_in_history
from tui.composer.sanitized_input import SanitizedInput
from tui.state.task_draft import TaskDraft


class HistoryScreen(ModalScreen[TaskDraft | None]):
    """Dialog that returns a goal from the history with its MCP servers, or ``None``."""

    CSS_PATH = "picker.tcss"
    AUTO_FOCUS = "SanitizedInput"
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
        with Vertical(classes="dialog picker") as dialog:
            dialog.border_title = "History"
            dialog.border_subtitle = "type to search · enter selects · esc cancels"
            yield SanitizedInput(placeholder="Words of the goal", id="wanted")
            yield Static(classes="notice", markup=False)
            choices = OptionList(id="choices", markup=False, compact=True)
            choices.can_focus = False
            yield choices

    def on_mount(self) -> None:
        self._update_list()

    @on(Input.Changed)
    def _update_list(self) -> None:
        self._found = find_in_history(self._history, self.query_one(SanitizedInput).value)
        choices = self.query_one(OptionList)
        choices.set_options(Option(_history_line(draft)) for draft in self._found)
        choices.highlighted = 0 if self._found else None
        notice = self.query_one(".notice", Static)
        notice.display = not self._found
        notice.update("No goal contains these words." if self._history else "No goals yet.")

    def action_move(self, action: str) -> None:
        getattr(self.query_one(OptionList), f"action_{action}")()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _submit(self) -> None:
        index = self.query_one(OptionList).highlighted
        if index is not None:
            self.dismiss(self._found[index])


def _history_line(draft: TaskDraft) -> Content:
    goal = sanitize.line(draft.goal[:1000].replace("\n", " ↵ "), 300)
    if not draft.tools:
        return goal
    names = ", ".join(mcp_servers.server_name(tool) for tool in draft.tools)
    return Content.assemble(goal, "  ", sanitize.line(f"with {names}", 100, MUTED))
