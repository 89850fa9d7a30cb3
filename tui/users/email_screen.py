"""Dialog for another e-mail address of the account."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Button, Static

from beray.exceptions import APIError
from beray.schema import User
from tui import account, messages, sanitize
from tui.state.current_server import CurrentServer
from tui.users.form_screen import FormScreen
from tui.widgets.field import Field

_FORBIDDEN = 403


@dataclass(eq=False, repr=False)
class CodesSent(Message):
    """The server mailed a code to the current address and to ``email``."""

    email: str
    text: str


@dataclass(eq=False, repr=False)
class AddressAccepted(Message):
    """The server changed the address of the account."""

    user: User


class ChangeEmailScreen(FormScreen):
    """Dialog that changes the address in two steps and posts ``EmailChanged``.

    The first step asks for address and password, the second one for the codes that were mailed to
    both addresses.
    """

    HEADING = "Change address"
    SUBMIT = "Send codes"
    FIELDS = {  # noqa: RUF012
        "email": "email",
        "password": "password",
        "current_code": "current-code",
        "new_code": "new-code",
    }

    def __init__(self, server: CurrentServer) -> None:
        super().__init__(server)
        self._sent_to = ""

    def compose_fields(self) -> ComposeResult:
        yield Static(
            "A code is mailed to the current and to the new address.",
            id="hint",
            classes="hint",
            markup=False,
        )
        yield Field("New address", id="email")
        yield Field("Password", id="password", secret=True)
        for name, label in (
            ("current-code", "Code from the mail to the current address"),
            ("new-code", "Code from the mail to the new address"),
        ):
            field = Field(label, id=name, secret=True, whole=account.extract_code)
            field.display = False
            yield field

    def submit(self) -> None:
        if self._sent_to:
            self._confirm(self._sent_to)
        else:
            self._request_codes()

    def _request_codes(self) -> None:
        email, password = self.field("email"), self.field("password")
        if not email.value.strip():
            email.show_problem("Enter the new address.")
        elif not password.value:
            password.show_problem("Enter your password.")
        else:
            client, address, secret = self._server.client, email.value.strip(), password.value
            self.send(
                "Asking for codes …",
                "request codes",
                lambda: CodesSent(
                    address, client.request_email_change(address, secret).get("message") or ""
                ),
            )

    def on_codes_sent(self, message: CodesSent) -> None:
        message.stop()
        self._sent_to = message.email
        self.wait("")
        self.query_one("#hint", Static).update(sanitize.line(f"New address: {message.email}"))
        for field in self.query(Field):
            field.display = field.id in ("current-code", "new-code")
        self.query_one("#submit", Button).label = "Change address"
        self.show_progress(message.text)
        self.field("current-code").focus_input()

    def _confirm(self, email: str) -> None:
        current, new = self.field("current-code"), self.field("new-code")
        codes = account.extract_code(current.value), account.extract_code(new.value)
        if not codes[0]:
            current.show_problem("Enter the code from the mail to the current address.")
        elif not codes[1]:
            new.show_problem("Enter the code from the mail to the new address.")
        else:
            client = self._server.client
            self.send(
                "Changing the address …",
                "change the address",
                lambda: AddressAccepted(client.change_email(email, *codes)),
            )

    def on_address_accepted(self, message: AddressAccepted) -> None:
        message.stop()
        self.app.post_message(messages.EmailChanged(message.user.get("email") or self._sent_to))
        self.dismiss(True)

    def place_of(self, error: Exception) -> str:
        if self._sent_to:
            return "current-code"
        # 403 is also the answer to an address that may not register.
        wrong = isinstance(error, APIError) and error.status_code == _FORBIDDEN
        return "password" if wrong else "email"
