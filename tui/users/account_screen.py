"""Screen for the user's account and its sessions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Static

from beray.account_schema import SignedInDevice
from beray.exceptions import APIError, InvalidResponseError
from beray.sanitize import one_line
from tui import messages, sanitize
from tui.controllers.failures import FailureReporter
from tui.screens.dialogs import MainScreenDialogs
from tui.state.current_server import CurrentServer
from tui.state.tasks import ConnectionState
from tui.state.user_state import UserState
from tui.users.account import AccountController
from tui.users.messages import AccountArrived, AccountFailed, SessionsEnded
from tui.users.rows import SESSION_COLUMNS, minute, session_row
from tui.widgets.key_footer import KeyFooter
from tui.widgets.status_bar import StatusBar
from tui.widgets.table import Table

_LOCAL: Final = Content.from_markup(
    "[b]This is your local server[/b]\n\n"
    "It has one user, without an address, a password or sessions.\n\n"
    "Press [$text-primary b]d[/] to export all data, or [$text-primary b]f3[/] to switch to "
    "a server with accounts."
)
_ACCOUNT_ACTIONS: Final = ("change_password", "change_email", "delete_account", "end_others")


class SessionTable(Table):
    """Sessions of the account."""

    BINDING_GROUP_TITLE = "Sessions"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "screen.end_session", "End", tooltip="End the selected session"),
        Binding("o", "screen.end_others", "End others", tooltip="End all other sessions"),
        Binding("a", "screen.end_all", "End all", tooltip="End all sessions, also this one"),
    ]


class AccountScreen(Screen[None]):
    """Account of the user: properties, sessions, and actions.

    Args:
        server: Account in use.
        user_state: State that is kept between starts.
        clock: Returns the current time with its time zone.
    """

    CSS_PATH = "users.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "change_password", "Password", tooltip="Change the password"),
        Binding("e", "change_email", "Address", tooltip="Change the e-mail address"),
        Binding("d", "export", "Export", tooltip="Save all data of the account as a ZIP"),
        Binding("X", "delete_account", "Delete", tooltip="Delete the account with all data"),
        Binding("escape", "dismiss", "Tasks", tooltip="Go back to the tasks"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys and symbols"),
        Binding("f5", "read", "Reload", show=False, tooltip="Read account and sessions again"),
        Binding("U", "app.users", "Users", show=False, tooltip="Manage the users of the server"),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(
        self, server: CurrentServer, *, user_state: UserState, clock: Callable[[], datetime]
    ) -> None:
        super().__init__()
        self._server = server
        self._clock = clock
        self.account = AccountController(
            server=server,
            target=self,
            dialogs=MainScreenDialogs(
                push_screen=self._push_screen, server=server, user_state=user_state
            ),
            notify=self.show_notification,
            failures=FailureReporter(
                target=self,
                notify=self.show_notification,
                has_successor=server.target.embedded,
            ),
            on_change=self._show,
        )

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, which may be untrusted, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def _push_screen(self, screen: Screen[Any], callback: Callable[[Any], None]) -> None:
        self.app.push_screen(screen, callback)

    # Composition

    def compose(self) -> ComposeResult:
        yield StatusBar(self._server.target)
        with ContentSwitcher(initial="account-note", id="users-body"):
            yield Static("Loading the account …", id="account-note", classes="note", markup=False)
            with Vertical(id="account"):
                facts = Static(id="account-facts", classes="pane", markup=False)
                facts.border_title = "Account"
                yield facts
                yield SessionTable("Device", SESSION_COLUMNS, id="sessions")
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.query_one("#sessions").add_class("pane")
        if self._server.target.embedded:
            self._note(_LOCAL)
            self.query_one(StatusBar).show(ConnectionState.ONLINE)
        self.account.read()

    def action_read(self) -> None:
        """Read the account and its sessions again."""
        self.account.read()

    def on_client_replaced(self) -> None:
        self.on_account_changed()

    def on_account_changed(self) -> None:
        self.query_one(StatusBar).show_target(self._server.target)
        self.account.read()

    # Display

    def _show(self) -> None:
        """Show the account, or why it could not be read."""
        account = self.account
        if account.failure and account.user is None:
            again = ("\n\nPress f5 to retry.", "dim")
            self._note(Content.assemble(sanitize.block(account.failure, 1000), again), failed=True)
        if account.user is None:
            return
        facts = {
            "Address": account.email,
            "Role": account.user.get("role") or "user",
            "Since": minute(account.user.get("created_at")),
        }
        lines = [
            Content.assemble((f"{name:<10}", "dim"), sanitize.line(value, 320))
            for name, value in facts.items()
        ]
        self.query_one("#account-facts", Static).update(Content("\n").join(lines))
        table = self.query_one(SessionTable)
        now = self._clock()
        table.border_title = f"Sessions · {len(account.sessions)}"
        table.border_subtitle = "▸ this session"
        body = self.query_one("#users-body", ContentSwitcher)
        if body.current != "account":
            body.current = "account"
            self.set_focus(table.rows)
        table.show([session_row(session, now) for session in account.sessions])
        self.refresh_bindings()

    def _note(self, text: Content, *, failed: bool = False) -> None:
        note = self.query_one("#account-note", Static)
        note.update(text)
        note.set_class(failed, "failed")

    # Results

    def on_account_arrived(self, message: AccountArrived) -> None:
        self.query_one(StatusBar).show(ConnectionState.ONLINE)
        self.account.arrived(message)

    def on_account_failed(self, message: AccountFailed) -> None:
        refused = isinstance(message.error, (APIError, InvalidResponseError))
        self.query_one(StatusBar).show(
            ConnectionState.REFUSED if refused else ConnectionState.OFFLINE
        )
        self.account.failed(message)
        if self.account.user is not None and not isinstance(message.error, APIError):
            self.show_notification(f"Could not read the account: {self.account.failure}", "error")

    def on_sessions_ended(self, message: SessionsEnded) -> None:
        self.account.sessions_ended(message)

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        self.account.action_failed(message.action, message.error)

    # Actions

    @property
    def _session(self) -> SignedInDevice | None:
        """Session under the cursor."""
        key = next((table.selected for table in self.query(SessionTable)), None)
        return self.account.session(key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _ACCOUNT_ACTIONS and self._server.target.embedded:
            return False
        if action in ("end_session", "end_others", "end_all", *_ACCOUNT_ACTIONS):
            return True if self.account.user is not None else None
        if action == "read":
            return not self._server.target.embedded
        return True

    def action_end_session(self) -> None:
        session = self._session
        if session is not None:
            self.account.end_session(session)

    def action_end_others(self) -> None:
        self.account.end_others()

    def action_end_all(self) -> None:
        self.account.end_all()

    def action_change_password(self) -> None:
        from tui.users.password_screen import ChangePasswordScreen

        self.app.push_screen(ChangePasswordScreen(self._server))

    def action_change_email(self) -> None:
        from tui.users.email_screen import ChangeEmailScreen

        self.app.push_screen(ChangeEmailScreen(self._server))

    def action_export(self) -> None:
        self.account.export()

    def action_delete_account(self) -> None:
        from tui.users.deletion_screen import DeleteAccountScreen

        self.app.push_screen(DeleteAccountScreen(self._server, self.account.email))

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))

    @on(Table.Highlighted)
    def _moved(self, event: Table.Highlighted) -> None:
        event.stop()
