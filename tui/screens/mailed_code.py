"""Form with an e-mail address, a code that is mailed to it, and a new password."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Static

from beray.config import Profiles, Target
from beray.exceptions import ConflictError, NotFoundError, RateLimitError
from beray.schema import Message as Confirmation
from beray.schema import Session
from tui import account, messages, sanitize
from tui.io import background
from tui.widgets.field import Field

if TYPE_CHECKING:
    from beray.client import BeRayClient

_FIELDS = {"email": "#email", "verification_code": "#code", "password": "#password"}
_TICK_SECONDS: Final = 0.25


class MailedCodeScreen(Screen[None]):
    """Form whose code and password are enabled once a code has been sent.

    Posts ``SignedIn``. The subclasses define the requests and the labels.

    Args:
        client: Client without a token.
        target: Server of the account.
        profiles: Stored profiles; the token is saved there.
        email: Initial e-mail address.
        clock: Returns monotonic seconds, for the time until another code can be sent.
    """

    HEADING: ClassVar[str]
    SUBMIT: ClassVar[str]
    """Label of the button that sends the form."""
    SUBMITTING: ClassVar[str]
    """Progress message while the form is sent."""
    PASSWORD: ClassVar[str]
    """Label of the field for the password."""
    REPEATS_PASSWORD: ClassVar[bool] = False
    """True if the password has to be entered twice."""

    AUTO_FOCUS = "#email Input"
    CSS_PATH = "mailed_code.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority, so that it takes effect before the keys typed after it are dispatched.
        Binding("enter", "next_field", show=False, priority=True),
        Binding("escape", "app.pop_screen", "Back"),
        Binding("ctrl+q", "app.quit", "Quit", priority=True),
    ]

    def __init__(
        self,
        client: BeRayClient,
        target: Target,
        profiles: Profiles,
        email: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._client = client
        self._target = target
        self._profiles = profiles
        self._email = email
        self._resend = account.ResendTimer(clock)
        self._asked_for = ""
        self._sent_to = ""
        self._limited = False
        self._busy = False

    def request_code(self, client: BeRayClient, email: str) -> Confirmation:
        """Have a code mailed to ``email``. Blocks."""
        raise NotImplementedError

    def authenticate(self, client: BeRayClient, email: str, code: str, password: str) -> Session:
        """Send the form and return the new session. Blocks."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(classes="card") as card:
            card.border_title = self.HEADING
            yield Static(account.server_label(self._target), classes="server", markup=False)
            yield Field("1 · E-mail", id="email", value=self._email)
            yield Field(
                "2 · Code from the e-mail",
                id="code",
                secret=True,
                disabled=True,
                whole=account.extract_code,
            )
            yield Field(f"3 · {self.PASSWORD}", id="password", secret=True, disabled=True)
            if self.REPEATS_PASSWORD:
                yield Field("4 · The same password again", id="again", secret=True, disabled=True)
            yield Static(classes="progress", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Send code", variant="primary", id="send")
                yield Button(self.SUBMIT, id="submit", disabled=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(_TICK_SECONDS, self._show_resend)

    @property
    def _address(self) -> str:
        return self.query_one("#email", Field).value.strip()

    @on(Input.Changed, "#email Input")
    def _email_changed(self) -> None:
        # A code is valid only for the address that it was mailed to.
        if self._sent_to and self._address != self._sent_to:
            self._sent_to = ""
        self._show_step()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # The footer also calls this while the fields or their inputs are not mounted.
        if action != "next_field":
            return True
        fields = "#email Input, #code Input"
        if self.REPEATS_PASSWORD:
            fields += ", #password Input"
        return self.focused in list(self.query(fields))

    def action_next_field(self) -> None:
        email = self.query_one("#email", Field).input
        if self.focused is email:
            # The next keys may belong to a secret and must not appear in this field.
            self.set_focus(None)
            email.call_later(self._send_code)  # after the keys that are already queued for it
        elif self.focused in list(self.query("#password Input")):
            self.query_one("#again", Field).focus_input()
        else:
            self.query_one("#password", Field).focus_input()

    # The code

    @on(Button.Pressed, "#send")
    def _send_code(self) -> None:
        field, email = self.query_one("#email", Field), self._address
        if self._busy:
            return
        if not email:
            field.show_problem("Enter an e-mail address.")
            return
        if self._resend.seconds_left(email):
            # The code that was sent is still valid.
            self._enter_code(email)
            return
        field.clear_problem()
        self._asked_for = email
        self._wait("Asking for a code …")
        self.set_focus(None)
        client = self._client
        background.run(
            self,
            lambda: messages.CodeSent(email, self.request_code(client, email).get("message") or ""),
            lambda error: messages.OperationFailed("code", error),
        )

    def on_code_sent(self, message: messages.CodeSent) -> None:
        message.stop()
        self._resend.record_sent(message.email)
        self._wait("")
        self._enter_code(message.email)
        self.query_one(".progress", Static).update(sanitize.line(message.text))

    def _code_refused(self, error: Exception) -> None:
        """Show why no code was sent. A code that was sent earlier may still arrive."""
        field = self.query_one("#email", Field)
        if isinstance(error, RateLimitError):
            self._resend.record_sent(self._asked_for, error.retry_after)
            self._enter_code(self._asked_for)
            field.show_problem(sanitize.error_text(error), focus=False)
            self._limited = True
        else:
            field.show_problem(_error_text(error))

    def _enter_code(self, email: str) -> None:
        if email == self._address:
            self._sent_to = email
            self._show_step()
            self.query_one("#code", Field).focus_input()

    def _show_resend(self) -> None:
        """Show the time until another code can be sent on the button."""
        left = self._resend.seconds_left(self._address)
        send = self.query_one("#send", Button)
        label = "Send again" if self._sent_to else "Send code"
        send.label = Content(f"Send again in {left} s" if left else label)
        send.disabled = self._busy or left > 0
        if self._limited and not left:
            self._limited = False
            self.query_one("#email", Field).clear_problem()

    # The account

    @on(Input.Submitted, "#password Input, #again Input")
    @on(Button.Pressed, "#submit")
    def _submit(self) -> None:
        code, password = self.query_one("#code", Field), self.query_one("#password", Field)
        again = next(iter(self.query("#again").results(Field)), None)
        entered, secret = account.extract_code(code.value), password.value
        if self._busy or not self._sent_to:
            return
        if not entered:
            code.show_problem("Enter the code from the e-mail.")
        elif problem := account.new_password_problem(secret):
            password.show_problem(problem)
        elif again is not None and again.value != secret:
            again.show_problem("The passwords differ.")
        else:
            self._wait(self.SUBMITTING)
            client, email = self._client, self._sent_to
            background.run(
                self,
                lambda: account.sign_in(
                    lambda: self.authenticate(client, email, entered, secret),
                    client,
                    self._target,
                    self._profiles,
                    lambda: self.is_running,
                    email,
                ),
                lambda error: messages.OperationFailed("submit", error),
            )

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        self._wait("")
        if message.action == "code":
            self._code_refused(message.error)
            return
        said = sanitize.invalid_field(message.error)
        # Errors without a field are usually about the code.
        place = _FIELDS.get(said or "", "#code")
        if isinstance(message.error, ConflictError):
            place = "#email"
        self.query_one(place, Field).show_problem(_error_text(message.error))

    def _wait(self, text: str) -> None:
        self._busy = bool(text)
        self.query_one(".progress", Static).update(Content(text))
        self._show_step()

    def _show_step(self) -> None:
        sent = bool(self._sent_to)
        send, submit = self.query_one("#send", Button), self.query_one("#submit", Button)
        send.variant = "default" if sent else "primary"
        submit.variant = "primary" if sent else "default"
        submit.disabled = self._busy or not sent
        for field in self.query("#code, #password, #again"):
            field.disabled = not sent
        self._show_resend()


def _error_text(error: Exception) -> str:
    if isinstance(error, NotFoundError):
        return "This server does not support it. Ask its operator."
    return sanitize.error_text(error)
