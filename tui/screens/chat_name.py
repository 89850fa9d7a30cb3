"""Dialog for the name of a chat."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from tui.state.chat_names import chat_name_problem
from tui.widgets.field import Field


class ChatNameScreen(ModalScreen[str | None]):
    """Dialog that returns a valid name for a chat, or ``None``.

    Args:
        suggested: Initial value.
        problem: Reason why the server rejected the last name, or "".
    """

    AUTO_FOCUS = "#name Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, suggested: str, problem: str = "") -> None:
        super().__init__()
        self._suggested = suggested
        self._problem = problem

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Chat"
            dialog.border_subtitle = "enter opens · esc cancels"
            yield Static(
                "A conversation with the agent in its own folder. An existing chat with this "
                "name is continued.",
                classes="hint",
                markup=False,
            )
            yield Field("Name", id="name", value=self._suggested)
            with Horizontal(classes="buttons"):
                yield Button("Open", variant="primary", id="open")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        if self._problem:
            self.query_one(Field).show_problem(self._problem)

    @on(Input.Submitted)
    @on(Button.Pressed, "#open")
    def _open(self) -> None:
        field = self.query_one(Field)
        name = field.value.strip()
        problem = chat_name_problem(name)
        if problem is None:
            self.dismiss(name)
        else:
            field.show_problem(problem)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
