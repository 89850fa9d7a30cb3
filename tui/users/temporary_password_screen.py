"""Dialog that shows a temporary password once."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui import sanitize


class TemporaryPasswordScreen(ModalScreen[None]):
    """Dialog with a password that the server returns only once.

    Args:
        email: Address of the user.
        password: The password.
    """

    AUTO_FOCUS = "#copy"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy"),
        Binding("escape", "dismiss", "Close"),
    ]

    def __init__(self, email: str, password: str) -> None:
        super().__init__()
        self._email = email
        self._password = password

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Temporary password"
            dialog.border_subtitle = "c copies · esc closes"
            yield Static(sanitize.line(self._email, 200), classes="subject", markup=False)
            yield Static(sanitize.line(self._password, 200), classes="secret", markup=False)
            yield Static(
                "It is shown only now. Send it to the user; it has to be changed at the next "
                "sign-in.",
                id="password-hint",
                classes="hint",
                markup=False,
            )
            with Horizontal(classes="buttons"):
                yield Button("Copy", variant="primary", id="copy")
                yield Button("Close", id="close")

    @on(Button.Pressed, "#copy")
    def action_copy(self) -> None:
        """Copy the password to the clipboard of the terminal, if it supports OSC 52."""
        self.app.copy_to_clipboard(self._password)
        self.query_one("#password-hint", Static).update(
            "Sent to the clipboard of the terminal. If pasting fails, select the password with "
            "the mouse."
        )

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.dismiss()
