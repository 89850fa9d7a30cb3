"""Dialog for a secret that a prefab requires."""

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
    """Dialog that returns the secret, or None if the user cancelled.

    Args:
        prefab_id: Prefab that requires the secret.
        name: Name of the secret.
        instructions: Text of the prefab on how to obtain the secret.
        refusal: Reason why the last value was rejected, or "".
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
            dialog.border_subtitle = "enter saves and runs · esc cancels"
            subject = f"{self._secret_name} for {self._prefab_id}"
            yield Static(sanitize.line(subject, 200), classes="subject", markup=False)
            hint = "The server stores it for your runs of this prefab. It cannot be read back."
            words = f"{self._instructions}\n{hint}" if self._instructions else hint
            yield Static(sanitize.block(words, 1000), classes="hint", markup=False)
            yield Field("Value", id="secret", secret=True)
            with Horizontal(classes="buttons"):
                yield Button("Save and run", variant="primary", id="keep")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        if self._refusal:
            self.query_one(Field).show_problem(self._refusal)

    @on(Input.Submitted)
    @on(Button.Pressed, "#keep")
    def _keep(self) -> None:
        field = self.query_one(Field)
        if field.value:
            self.dismiss(field.value)
        else:
            field.show_problem("Enter the secret.")

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
