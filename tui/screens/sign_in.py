"""Screens for signing in to a shared server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Static

from beray.config import Profiles, Target
from tui import account, messages, sanitize
from tui.io import background
from tui.widgets.field import Field

if TYPE_CHECKING:
    from beray.client import BeRayClient


class SignInScreen(Screen[None]):
    """Screen that asks for e-mail and password and posts ``SignedIn``.

    Args:
        client: Client without a token.
        target: Server to sign in to.
        profiles: Stored profiles; the token is saved there.
        reason: Reason why the user has to sign in, or "".
    """

    HEADING = "Sign in"
    AUTO_FOCUS = "#email Input"
    CSS_PATH = "sign_in.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority, so that it takes effect before the keys typed after it are dispatched.
        Binding("enter", "next_field", show=False, priority=True),
        Binding("f2", "register", "Create account"),
        Binding("f3", "app.switch_server", "Other server"),
        Binding("f4", "reset_password", "Forgot password"),
        Binding("ctrl+q", "app.quit", "Quit", priority=True),
    ]

    def __init__(
        self, client: BeRayClient, target: Target, profiles: Profiles, reason: str = ""
    ) -> None:
        super().__init__()
        self._client = client
        self._target = target
        self._profiles = profiles
        self._reason = reason
        self._busy = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="card") as card:
            card.border_title = self.HEADING
            yield Static(account.server_label(self._target), classes="server", markup=False)
            yield Static(id="reason", markup=False)
            yield Field("E-mail", id="email", value=self._target.email or "")
            yield Field("Password", id="password", secret=True)
            yield Static(classes="progress", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Sign in", variant="primary", id="sign-in")
                yield Button("Create an account", id="register")
                yield Button("Forgot password", id="forgot")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.give_reason(self._reason)
        # Focused explicitly: without terminal focus, AUTO_FOCUS has no effect.
        self.query_one("#password" if self._target.email else "#email", Field).focus_input()

    def give_reason(self, reason: str) -> None:
        """Show why the user has to sign in. May be called before the screen is composed."""
        self._reason = reason
        for shown in self.query("#reason").results(Static):
            shown.update(sanitize.block(reason))
            shown.display = bool(reason)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # The footer also calls this before the fields and their inputs are mounted.
        return action != "next_field" or self.focused in list(self.query("#email Input"))

    def action_next_field(self) -> None:
        self.query_one("#password", Field).focus_input()

    @on(Input.Submitted, "#password Input")
    @on(Button.Pressed, "#sign-in")
    def _sign_in(self) -> None:
        email, password = self.query_one("#email", Field), self.query_one("#password", Field)
        if self._busy:
            return
        if not email.value.strip():
            email.show_problem("Enter your e-mail address.")
        elif not password.value:
            password.show_problem("Enter your password.")
        else:
            self._wait("Signing in …")
            client, address, secret = self._client, email.value.strip(), password.value
            background.run(
                self,
                lambda: account.sign_in(
                    lambda: client.login(address, secret),
                    client,
                    self._target,
                    self._profiles,
                    lambda: self.is_running,
                    address,
                ),
                lambda error: messages.OperationFailed("sign in", error),
            )

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        self._wait("")
        name = sanitize.invalid_field(message.error)
        field = self.query_one("#email" if name == "email" else "#password", Field)
        field.show_problem(sanitize.error_text(message.error))

    @on(Button.Pressed, "#register")
    def action_register(self) -> None:
        from tui.screens.register import RegisterScreen

        if not self._busy:
            email = self.query_one("#email", Field).value
            screen = RegisterScreen(self._client, self._target, self._profiles, email)
            self.app.push_screen(screen)

    @on(Button.Pressed, "#forgot")
    def action_reset_password(self) -> None:
        from tui.screens.reset_password import ResetPasswordScreen

        if not self._busy:
            email = self.query_one("#email", Field).value
            screen = ResetPasswordScreen(self._client, self._target, self._profiles, email)
            self.app.push_screen(screen)

    def _wait(self, text: str) -> None:
        self._busy = bool(text)
        self.query_one(".progress", Static).update(Content(text))
        for button in self.query(Button):
            button.disabled = self._busy


class SignInAgainScreen(SignInScreen):
    """Sign-in after the end of a session, above the tasks, which are kept."""

    HEADING = "Sign in again"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.sign_out", "Sign out")]


class SignInElsewhereScreen(SignInScreen):
    """Sign-in at another server, above the current screen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.leave", "Back")]
