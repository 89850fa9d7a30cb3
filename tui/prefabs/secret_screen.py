"""A secret that a prefab needs: given to the server, and shown nowhere."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from tui import sanitize
from tui.widgets.field import Field


class SecretScreen(ModalScreen[str | None]):
    """Gives the secret, or ``None``.

    Args:
        prefab_id: what needs it.
        name: of the secret.
        instructions: how to come by it, in the words of the prefab.
        refusal: why it was not taken the last time.
    """

    AUTO_FOCUS = "#secret Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, prefab_id: str, name: str, instructions: str, refusal: str = "") -> None:
        super().__init__()
        self._prefab_id = prefab_id
        self._secret_name = name
        self._instructions = instructions
        self._refusal = refusal

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Secret"
            dialog.border_subtitle = "enter keeps it and runs · esc cancels"
            subject = f"{self._secret_name}, for {self._prefab_id}"
            yield Static(sanitize.line(subject, 200), classes="subject", markup=False)
            hint = "The server keeps it for your runs of this prefab; nobody is told it again."
            words = f"{self._instructions}\n{hint}" if self._instructions else hint
            yield Static(sanitize.block(words, 1000), classes="hint", markup=False)
            yield Field("Value", id="secret", secret=True)
            with Horizontal(classes="buttons"):
                yield Button("Keep and run", variant="primary", id="keep")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        if self._refusal:
            self.query_one(Field).refuse(self._refusal)

    @on(Input.Submitted)
    @on(Button.Pressed, "#keep")
    def _keep(self) -> None:
        field = self.query_one(Field)
        if field.value:
            self.dismiss(field.value)
        else:
            field.refuse("What is it?")

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
