"""Dialog that deletes the account."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from beray.exceptions import ConflictError
from tui import messages, sanitize
from tui.state.current_server import CurrentServer
from tui.users.form_screen import FormScreen
from tui.widgets.field import Field


class DeleteAccountScreen(FormScreen):
    """Dialog that deletes the account and posts ``SignedOutByServer``.

    Args:
        server: Account in use.
        email: Address of the account, which has to be typed.
    """

    HEADING = "Delete account"
    SUBMIT = "Delete account"
    VERB = "deletes it"
    FIELDS = {"password": "password"}  # noqa: RUF012
    DESTRUCTIVE = True

    def __init__(self, server: CurrentServer, email: str) -> None:
        super().__init__(server)
        self._email = email

    def compose_fields(self) -> ComposeResult:
        yield Static(sanitize.line(self._email, 200), classes="subject", markup=False)
        yield Static(
            "Deletes the account with all tasks, events, files and keys. Running tasks are "
            "stopped. This cannot be undone; export your data first.",
            classes="hint",
            markup=False,
        )
        yield Field("Type the address of the account", id="typed")
        yield Field("Password", id="password", secret=True)

    def submit(self) -> None:
        typed, password = self.field("typed"), self.field("password")
        if typed.value.strip().casefold() != self._email.casefold():
            typed.show_problem("Type the address that is shown above.")
        elif not password.value:
            password.show_problem("Enter your password.")
        else:
            client, secret = self._server.client, password.value
            self.send(
                "Deleting the account …",
                "delete the account",
                lambda: messages.SignedOutByServer(
                    client.delete_account(secret).get("message") or "The account was deleted."
                ),
            )

    def place_of(self, error: Exception) -> str:
        # 409: the account is the last administrator.
        return "typed" if isinstance(error, ConflictError) else "password"
