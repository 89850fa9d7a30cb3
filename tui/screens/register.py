"""Make an account: the e-mail address, the code that was mailed there, a password."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Static

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.exceptions import ConflictError
from tui import account, background, messages, safe
from tui.widgets.field import Field

_FIELDS = {"email": "#email", "verification_code": "#code", "password": "#password"}


class RegisterScreen(Screen[None]):
    """Code and password can be entered once a code has been sent; ``SignedIn`` goes up."""

    AUTO_FOCUS = "#email Input"
    CSS_PATH = "register.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority: so it takes effect before what was typed behind it is given away.
        Binding("enter", "next_field", show=False, priority=True),
        Binding("escape", "app.pop_screen", "Back"),
        Binding("ctrl+q", "app.quit", "Quit"),
    ]

    def __init__(
        self, client: BeRayClient, target: Target, profiles: Profiles, email: str = ""
    ) -> None:
        super().__init__()
        self._client = client
        self._target = target
        self._profiles = profiles
        self._email = email
        self._sent_to = ""
        self._busy = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="card") as card:
            card.border_title = "Create an account"
            yield Static(account.server(self._target), classes="server", markup=False)
            yield Field("E-mail", id="email", value=self._email)
            yield Field("Code from the mail", id="code", secret=True, disabled=True)
            yield Field("Password, 8 characters or more", id="password", secret=True, disabled=True)
            yield Static(classes="progress", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Send code", variant="primary", id="send")
                yield Button("Create account", id="create", disabled=True)
        yield Footer(show_command_palette=False)

    @on(Input.Changed, "#email Input")
    def _email_changed(self) -> None:
        # A code belongs to the address that it was mailed to.
        if self._sent_to and self.query_one("#email", Field).value.strip() != self._sent_to:
            self._sent_to = ""
            self._show_step()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        email, code = self.query_one("#email", Field), self.query_one("#code", Field)
        return action != "next_field" or self.focused in (email.input, code.input)

    def action_next_field(self) -> None:
        email = self.query_one("#email", Field).input
        if self.focused is email:
            # What is typed from here on is not for a field that shows it.
            self.set_focus(None)
            email.call_later(self._send_code)  # behind the keys that are on their way to it
        else:
            self.query_one("#password", Field).enter()

    @on(Button.Pressed, "#send")
    def _send_code(self) -> None:
        field = self.query_one("#email", Field)
        email = field.value.strip()
        if self._busy:
            return
        if not email:
            field.refuse("Which e-mail address?")
            return
        field.accept()
        self._wait("Asking for a code …")
        self.set_focus(None)
        client = self._client
        background.run(
            self,
            lambda: messages.CodeSent(email, client.request_verification_code(email)["message"]),
            lambda error: messages.Failed("code", error),
        )

    def on_code_sent(self, message: messages.CodeSent) -> None:
        message.stop()
        self._sent_to = message.email
        self._wait("")
        self.query_one(".progress", Static).update(safe.line(message.words))
        self.query_one("#code", Field).enter()

    @on(Input.Submitted, "#password Input")
    @on(Button.Pressed, "#create")
    def _create(self) -> None:
        code, password = self.query_one("#code", Field), self.query_one("#password", Field)
        if self._busy or not self._sent_to:
            return
        if not code.value.strip():
            code.refuse("Which code did the mail say?")
        elif len(password.value) < 8:
            password.refuse("It needs 8 characters or more.")
        else:
            self._wait("Creating the account …")
            client, email = self._client, self._sent_to
            entered, secret = code.value.strip(), password.value
            background.run(
                self,
                lambda: account.remember(
                    client.register(email, entered, secret), self._target, self._profiles
                ),
                lambda error: messages.Failed("register", error),
            )

    def on_failed(self, message: messages.Failed) -> None:
        message.stop()
        self._wait("")
        said = safe.refused_field(message.error)
        if message.what == "code" or isinstance(message.error, ConflictError):
            place = "#email"
        else:
            # What a server checks besides the shape of what it gets is the code.
            place = _FIELDS.get(said or "", "#code")
        self.query_one(place, Field).refuse(safe.words(message.error))

    def _wait(self, words: str) -> None:
        self._busy = bool(words)
        self.query_one(".progress", Static).update(Content(words))
        self._show_step()

    def _show_step(self) -> None:
        sent = bool(self._sent_to)
        send, create = self.query_one("#send", Button), self.query_one("#create", Button)
        send.label = "Send again" if sent else "Send code"
        send.variant = "default" if sent else "primary"
        create.variant = "primary" if sent else "default"
        send.disabled = self._busy
        create.disabled = self._busy or not sent
        for name in ("#code", "#password"):
            self.query_one(name, Field).disabled = not sent
