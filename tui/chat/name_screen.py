"""How a chat is called that is to be opened."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from tui.chat.send_message import problem
from tui.widgets.field import Field


class NameScreen(ModalScreen[str | None]):
    """Gives a name that a chat can have, or ``None``.

    Args:
        suggested: is there at first.
        refusal: why that was not taken the last time.
    """

    AUTO_FOCUS = "#name Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, suggested: str, refusal: str = "") -> None:
        super().__init__()
        self._suggested = suggested
        self._refusal = refusal

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Chat"
            dialog.border_subtitle = "enter opens · esc cancels"
            yield Static(
                "A conversation with the agent, in a folder of its own. One that has this "
                "name already is gone on with.",
                classes="hint",
                markup=False,
            )
            yield Field("Name", id="name", value=self._suggested)
            with Horizontal(classes="buttons"):
                yield Button("Open", variant="primary", id="open")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        if self._refusal:
            self.query_one(Field).refuse(self._refusal)

    @on(Input.Submitted)
    @on(Button.Pressed, "#open")
    def _open(self) -> None:
        field = self.query_one(Field)
        name = field.value.strip()
        refused = problem(name)
        if refused is None:
            self.dismiss(name)
        else:
            field.refuse(refused)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
