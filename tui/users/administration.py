"""Users of the server and open invitations, for administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from textual.message import Message

from beray.account_schema import Invitation, ManagedUser
from tui import sanitize
from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import Dialogs, ShowNotification
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.current_server import CurrentServer
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

if TYPE_CHECKING:
    from beray.schema import Role

PAGE_USERS: Final = 50


class UsersController:
    """Reads users and invitations, and changes them.

    Args:
        server: Account of the administrator.
        target: Receives the results of the requests.
        dialogs: Confirmations.
        notify: Shows a notification.
        failures: Reports failed requests.
        on_change: Called after a change of the attributes.
        on_own_role: Called after a change of the administrator's own role.

    Attributes:
        users: Users that have been read, by id.
        search: Part of the addresses of these users.
        invitations: Open invitations, newest first.
        is_loaded: Whether a page has been read.
        failure: Reason why the first page could not be read, or "".
    """

    def __init__(
        self,
        *,
        server: CurrentServer,
        target: MessageTarget,
        dialogs: Dialogs,
        notify: ShowNotification,
        failures: FailureReporter,
        on_change: Callable[[], None],
        on_own_role: Callable[[], None],
    ) -> None:
        self.users: list[ManagedUser] = []
        self.search = ""
        self.invitations: list[Invitation] = []
        self.is_loaded = False
        self.failure = ""
        self._next_after: int | None = None
        self._requested: tuple[str, int] | None = None
        """Search and ``after`` of the page that is being read."""
        self._server = server
        self._target = target
        self._dialogs = dialogs
        self._notify = notify
        self._failures = failures
        self._on_change = on_change
        self._on_own_role = on_own_role

    def user(self, user_id: str | None) -> ManagedUser | None:
        """Return the user with an id that has been read."""
        return next((user for user in self.users if str(user["id"]) == user_id), None)

    @property
    def has_more(self) -> bool:
        """True if there are users after those that have been read."""
        return self._next_after is not None

    # Reading

    def read(self) -> None:
        """Read the users from the beginning, and the invitations."""
        self._read_page(0)
        client = self._server.client
        background.run(
            self._target,
            lambda: InvitationsArrived(client, client.admin.list_invitations()),
            lambda error: AdministrationFailed(client, "read the invitations", error),
        )

    def find(self, search: str) -> None:
        """Read the users whose address contains ``search``."""
        if search != self.search:
            self.search = search
            self._read_page(0)

    def read_more(self) -> None:
        """Read the next page, unless it is being read or does not exist."""
        if self._requested is None and self._next_after is not None:
            self._read_page(self._next_after)

    def _read_page(self, after: int) -> None:
        client, search = self._server.client, self.search
        self._requested = search, after
        background.run(
            self._target,
            lambda: UsersArrived(
                client,
                search,
                after,
                client.admin.list_users(search, after=after or None, limit=PAGE_USERS),
            ),
            lambda error: UsersFailed(client, search, after, error),
        )

    def _is_awaited(self, message: UsersArrived | UsersFailed) -> bool:
        """Return True if the page is that of the last request."""
        if message.client is not self._server.client:
            return False
        if self._requested != (message.search, message.after):
            return False
        self._requested = None
        return True

    def arrived(self, message: UsersArrived) -> None:
        """Show a page of users."""
        if not self._is_awaited(message):
            return
        known = self.users if message.after else []
        self.users = [*known, *message.page["users"]]
        self._next_after = message.page.get("next_after")
        self.is_loaded, self.failure = True, ""
        self._on_change()

    def failed(self, message: UsersFailed) -> None:
        """Show why a page of users could not be read."""
        if not self._is_awaited(message):
            return
        if self.is_loaded:
            self._failures.report("read the users", message.error)
        else:
            self._failures.session_ended(message.error)
            self.failure = sanitize.error_text(message.error)
        self._on_change()

    def invitations_arrived(self, message: InvitationsArrived) -> None:
        """Show the invitations."""
        if message.client is self._server.client:
            self.invitations = message.invitations
            self._on_change()

    # Actions on a user

    def set_disabled(self, user: ManagedUser) -> None:
        """Disable a user after a confirmation, or enable a disabled one."""
        user_id, email = user["id"], user["email"]

        def change(*, disabled: bool) -> None:
            word = "disabled" if disabled else "enabled"
            self._run(
                "disable the user" if disabled else "enable the user",
                lambda client: UserChanged(
                    client,
                    client.admin.change_user(user_id, disabled=disabled),
                    f"{email} was {word}",
                ),
            )

        if user.get("disabled"):
            change(disabled=False)
            return
        self._confirm(
            "Disable this user?",
            user,
            "The user cannot sign in, sessions and keys are invalid, and running tasks are "
            "stopped. Nothing is deleted.",
            "Disable",
            lambda: change(disabled=True),
        )

    def delete(self, user: ManagedUser) -> None:
        """Delete a user after a confirmation."""
        user_id, email = user["id"], user["email"]
        self._confirm(
            "Delete this user?",
            user,
            "All tasks, events, files and keys of the user are deleted too. This cannot be undone.",
            "Delete",
            lambda: self._run(
                "delete the user",
                lambda client: UserDeleted(
                    client,
                    user_id,
                    client.admin.delete_user(user_id).get("message") or f"{email} was deleted",
                ),
            ),
        )

    def set_role(self, user: ManagedUser, role: Role) -> None:
        """Change the role of a user."""
        user_id, email = user["id"], user["email"]
        if role != user["role"]:
            self._run(
                "change the role",
                lambda client: UserChanged(
                    client,
                    client.admin.change_user(user_id, role=role),
                    f"{email} has the role {role} now",
                ),
            )

    def reset_password(self, user: ManagedUser) -> None:
        """Set a temporary password after a confirmation."""
        user_id = user["id"]

        def reset(client: Any) -> PasswordReset:
            result = client.admin.reset_password(user_id)
            return PasswordReset(client, user_id, result["email"], result["password"])

        self._confirm(
            "Reset the password?",
            user,
            "The user gets a temporary password, which is shown once and has to be changed at the "
            "next sign-in. All sessions of the user end.",
            "Reset",
            lambda: self._run("reset the password", reset),
        )

    def end_sessions(self, user: ManagedUser) -> None:
        """End all sessions of a user after a confirmation."""
        user_id = user["id"]
        self._confirm(
            "End all sessions?",
            user,
            "The user has to sign in again on all devices. API keys remain valid.",
            "End sessions",
            lambda: self._run(
                "end the sessions",
                lambda client: ActionDone(
                    client, client.admin.revoke_sessions(user_id).get("message") or "Done."
                ),
            ),
        )

    def withdraw(self, invitation: Invitation) -> None:
        """Withdraw an invitation after a confirmation."""
        email = invitation["email"]
        self._dialogs.confirm(
            "Withdraw this invitation?",
            sanitize.line(email, 200),
            "The address cannot register with it any more.",
            "Withdraw",
            lambda: self._run(
                "withdraw the invitation",
                lambda client: ActionDone(
                    client, client.admin.withdraw_invitation(email).get("message") or "Done."
                ),
            ),
        )

    def _confirm(
        self, title: str, user: ManagedUser, question: str, button: str, on_yes: Callable[[], None]
    ) -> None:
        self._dialogs.confirm(title, sanitize.line(user["email"], 200), question, button, on_yes)

    def _run(self, action: str, work: Callable[[Any], Message]) -> None:
        client = self._server.client
        background.run(
            self._target,
            lambda: work(client),
            lambda error: AdministrationFailed(client, action, error),
        )

    # Results of actions

    def user_changed(self, message: UserChanged) -> None:
        """Show a changed user."""
        if message.client is self._server.client:
            self._notify(message.text)
            user = message.user
            self.users = [user if one["id"] == user["id"] else one for one in self.users]
            self._on_change()
            self._check_own(user)

    def user_deleted(self, message: UserDeleted) -> None:
        """Remove a deleted user from the list."""
        if message.client is self._server.client:
            self._notify(message.text)
            self.users = [one for one in self.users if one["id"] != message.user_id]
            self._on_change()

    def password_reset(self, message: PasswordReset) -> bool:
        """Show that a user has a temporary password; return False for an earlier account."""
        if message.client is not self._server.client:
            return False
        self.users = [
            {**one, "must_change_password": True} if one["id"] == message.user_id else one
            for one in self.users
        ]
        self._on_change()
        return True

    def action_done(self, message: ActionDone) -> None:
        """Report a successful action, which may have changed the invitations."""
        if message.client is self._server.client:
            self._notify(message.text)
            self.read()

    def action_failed(self, message: AdministrationFailed) -> None:
        """Report a failed action; the users may have changed meanwhile."""
        if message.client is self._server.client:
            self._failures.report(message.action, message.error)

    def _check_own(self, user: ManagedUser) -> None:
        own = self._server.user
        if own is not None and own.get("id") == user["id"] and own.get("role") != user["role"]:
            self._server.user = {**own, "role": user["role"]}
            self._on_own_role()
