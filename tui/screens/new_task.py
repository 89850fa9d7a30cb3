"""Ask for the goal of a new task."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from tui.widgets.field import Field

HINT = "What should be done, in plain words. A goal that starts with ! is a shell command."


class NewTaskScreen(ModalScreen[str | None]):
    """Gives the goal, or ``None``."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "New task"
            dialog.border_subtitle = "enter creates · esc cancels"
            yield Static(HINT, classes="hint", markup=False)
            yield Field("Goal", id="new-goal")
            with Horizontal(classes="buttons"):
                yield Button("Create", variant="primary", id="create")
                yield Button("Cancel", id="cancel")

    @on(Input.Submitted)
    @on(Button.Pressed, "#create")
    def _create(self) -> None:
        field = self.query_one(Field)
        goal = field.value.strip()
        if goal in ("", "!"):
            field.refuse("What is there to do?")
        else:
            self.dismiss(goal)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
