"""Screen for the users of the server and the open invitations."""

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
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Input, OptionList, Static

from beray.account_schema import Invitation, ManagedUser
from beray.exceptions import APIError, InvalidResponseError
from beray.sanitize import one_line
from beray.schema import Role
from tui import sanitize
from tui.controllers.failures import FailureReporter
from tui.screens.dialogs import MainScreenDialogs
from tui.state.current_server import CurrentServer
from tui.state.tasks import ConnectionState
from tui.state.user_state import UserState
from tui.users.administration import UsersController
from tui.users.messages import (
    ActionDone,
    AdministrationFailed,
    InvitationsArrived,
    PasswordReset,
    UserChanged,
    UserDeleted,
    UsersArrived,
    UsersFailed,
)
from tui.users.rows import INVITATION_COLUMNS, USER_COLUMNS, invitation_row, minute, user_row
from tui.widgets.key_footer import KeyFooter
from tui.widgets.status_bar import StatusBar
from tui.widgets.table import Table

_SEARCH_SECONDS: Final = 0.25
"""Time without a key press after which the search is sent."""

_FRAME_LINES: Final = 3
"""Lines of a table besides its rows."""


class UserTable(Table):
    """Users of the server."""

    BINDING_GROUP_TITLE = "Users"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "screen.search", "Search", key_display="/", tooltip="Search by address"),
        Binding("d", "screen.disable", "Disable", tooltip="Disable or enable the user"),
        Binding("x", "screen.delete", "Delete", tooltip="Delete the user with all data"),
        Binding("r", "screen.role", "Role", tooltip="Change the role"),
        Binding("p", "screen.reset", "Password", tooltip="Set a temporary password"),
        Binding("o", "screen.end_sessions", "Sign out", tooltip="End all sessions of the user"),
    ]


class InvitationTable(Table):
    """Open invitations."""

    BINDING_GROUP_TITLE = "Invitations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "screen.withdraw", "Withdraw", tooltip="Withdraw the invitation"),
    ]


class _SearchInput(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.end_search", "All users"),
        Binding("down", "screen.enter_table", show=False),
    ]


class UsersScreen(Screen[None]):
    """Users of the server, for administrators.

    Args:
        server: Account of the administrator.
        user_state: State that is kept between starts.
        clock: Returns the current time with its time zone.
    """

    CSS_PATH = "users.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "invite", "Invite", tooltip="Invite an address to register"),
        Binding("escape", "dismiss", "Back", tooltip="Go back"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys and symbols"),
        Binding("f5", "read", "Reload", show=False, tooltip="Read users and invitations again"),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(
        self, server: CurrentServer, *, user_state: UserState, clock: Callable[[], datetime]
    ) -> None:
        super().__init__()
        self._server = server
        self._clock = clock
        self._settling: Timer | None = None
        self.controller = UsersController(
            server=server,
            target=self,
            dialogs=MainScreenDialogs(
                push_screen=self._push_screen, server=server, user_state=user_state
            ),
            notify=self.show_notification,
            failures=FailureReporter(
                target=self, notify=self.show_notification, has_successor=False
            ),
            on_change=self._show,
            on_own_role=self._own_role_changed,
        )

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, which may be untrusted, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def _push_screen(self, screen: Screen[Any], callback: Callable[[Any], None]) -> None:
        self.app.push_screen(screen, callback)

    # Composition

    def compose(self) -> ComposeResult:
        yield StatusBar(self._server.target)
        with ContentSwitcher(initial="users-note", id="users-body"):
            yield Static("Loading users …", id="users-note", classes="note", markup=False)
            with Vertical(id="users-panes"):
                table = UserTable("Address", USER_COLUMNS, id="user-table")
                table.add_class("pane")
                yield table
                search = _SearchInput(placeholder="part of an address", id="user-search")
                search.compact = True
                search.display = False
                yield search
                invitations = InvitationTable("Address", INVITATION_COLUMNS, id="invitation-table")
                invitations.add_class("pane")
                invitations.display = False
                yield invitations
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.controller.read()

    def action_read(self) -> None:
        """Read users and invitations again."""
        self.controller.read()

    def on_client_replaced(self) -> None:
        self.on_account_changed()

    def on_account_changed(self) -> None:
        self.query_one(StatusBar).show_target(self._server.target)
        self.controller.read()

    # Display

    def _show(self) -> None:
        """Show users and invitations, or why they could not be read."""
        users = self.controller
        if not users.is_loaded:
            if users.failure:
                note = self.query_one("#users-note", Static)
                again = ("\n\nPress f5 to retry.", "dim")
                note.update(Content.assemble(sanitize.block(users.failure, 1000), again))
                note.add_class("failed")
            return
        now, table = self._clock(), self.query_one(UserTable)
        count = f"{len(users.users)}{'+' if users.has_more else ''}"
        found = f" with “{one_line(users.search, 40)}”" if users.search else ""
        table.border_title = Content(f"Users · {count}{found}")
        end = "… more users" if users.has_more else ""
        body = self.query_one("#users-body", ContentSwitcher)
        if body.current != "users-panes":
            body.current = "users-panes"
            self.set_focus(table.rows)
        table.show([user_row(user, now) for user in users.users], end)
        self._show_invitations()
        self.refresh_bindings()

    def _show_invitations(self) -> None:
        table, invitations = self.query_one(InvitationTable), self.controller.invitations
        if not invitations and table.rows.has_focus:
            self.set_focus(self.query_one(UserTable).rows)
        table.display = bool(invitations)
        table.styles.height = len(invitations) + _FRAME_LINES  # at most that of the style sheet
        table.border_title = f"Invitations · {len(invitations)}"
        table.border_subtitle = "tab changes the list"
        table.show([invitation_row(invitation) for invitation in invitations])

    @on(Table.Highlighted, "#user-table")
    def _show_details(self, event: Table.Highlighted) -> None:
        """Show the values of the selected user that may not fit the row."""
        event.stop()
        user = self._user
        details = ""
        if user is not None:
            details = f"{user['email']} · since {minute(user.get('created_at'))[:10]}"
        elif self.controller.is_loaded and self.controller.search:
            details = "No address contains this."
        event.table.border_subtitle = sanitize.line(details, 320)
        self.refresh_bindings()

    @on(Table.Highlighted, "#invitation-table")
    def _moved(self, event: Table.Highlighted) -> None:
        event.stop()

    @on(Table.EndReached)
    def _read_more(self, event: Table.EndReached) -> None:
        event.stop()
        self.controller.read_more()

    # Results

    def on_users_arrived(self, message: UsersArrived) -> None:
        self.query_one(StatusBar).show(ConnectionState.ONLINE)
        self.controller.arrived(message)

    def on_users_failed(self, message: UsersFailed) -> None:
        refused = isinstance(message.error, (APIError, InvalidResponseError))
        self.query_one(StatusBar).show(
            ConnectionState.REFUSED if refused else ConnectionState.OFFLINE
        )
        self.controller.failed(message)

    def on_invitations_arrived(self, message: InvitationsArrived) -> None:
        self.controller.invitations_arrived(message)

    def on_user_changed(self, message: UserChanged) -> None:
        self.controller.user_changed(message)

    def on_user_deleted(self, message: UserDeleted) -> None:
        self.controller.user_deleted(message)

    def on_password_reset(self, message: PasswordReset) -> None:
        if self.controller.password_reset(message):
            from tui.users.temporary_password_screen import TemporaryPasswordScreen

            self.app.push_screen(TemporaryPasswordScreen(message.email, message.password))

    def on_action_done(self, message: ActionDone) -> None:
        self.controller.action_done(message)

    def on_administration_failed(self, message: AdministrationFailed) -> None:
        self.controller.action_failed(message)

    def _own_role_changed(self) -> None:
        if not self._server.is_administrator:
            self.dismiss()

    # Search

    def action_search(self) -> None:
        """Search while typing."""
        search = self.query_one("#user-search", Input)
        search.display = True
        # Immediate focus, so that the next typed key arrives in the search.
        self.set_focus(search)

    @on(Input.Changed, "#user-search")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(_SEARCH_SECONDS, self._find)

    @on(Input.Submitted, "#user-search")
    def action_enter_table(self) -> None:
        self._find()
        self.query_one("#user-search").display = bool(self._searched)
        self.set_focus(self.query_one(UserTable).rows)

    def action_end_search(self) -> None:
        self.query_one("#user-search", Input).value = ""
        self.action_enter_table()

    @property
    def _searched(self) -> str:
        return self.query_one("#user-search", Input).value.strip()

    def _find(self) -> None:
        self.controller.find(self._searched)

    # Actions

    @property
    def _user(self) -> ManagedUser | None:
        """User under the cursor."""
        key = next((table.selected for table in self.query(UserTable)), None)
        return self.controller.user(key)

    @property
    def _invitation(self) -> Invitation | None:
        """Invitation under the cursor."""
        key = next((table.selected for table in self.query(InvitationTable)), None)
        return next((one for one in self.controller.invitations if one["email"] == key), None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("disable", "delete", "end_sessions"):
            return True if self._user is not None else None
        if action in ("role", "reset"):
            user = self._user
            return True if user is not None and user["role"] != "service" else None
        if action == "withdraw":
            return True if self._invitation is not None else None
        return True

    def action_disable(self) -> None:
        user = self._user
        if user is not None:
            self.controller.set_disabled(user)

    def action_delete(self) -> None:
        user = self._user
        if user is not None:
            self.controller.delete(user)

    def action_reset(self) -> None:
        user = self._user
        if user is not None:
            self.controller.reset_password(user)

    def action_end_sessions(self) -> None:
        user = self._user
        if user is not None:
            self.controller.end_sessions(user)

    def action_role(self) -> None:
        from tui.users.role_screen import RoleScreen

        user = self._user
        if user is None:
            return
        changed = user

        def chosen(role: Role | None) -> None:
            if role is not None:
                self.controller.set_role(changed, role)

        self.app.push_screen(RoleScreen(user["email"], user["role"]), chosen)

    def action_withdraw(self) -> None:
        invitation = self._invitation
        if invitation is not None:
            self.controller.withdraw(invitation)

    def action_invite(self) -> None:
        from tui.users.invite_screen import InviteScreen

        screen = InviteScreen(self._server)

        def closed(invited: bool | None) -> None:
            if invited:
                self.show_notification(screen.result)
                self.controller.read()

        self.app.push_screen(screen, closed)

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
