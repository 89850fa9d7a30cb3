"""Account of the user and its sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from textual.content import Content

from beray.account_schema import SignedInDevice
from beray.exceptions import NotFoundError
from beray.schema import User
from tui import sanitize
from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import Dialogs, ShowNotification
from tui.io import background
from tui.io.background import MessageTarget
from tui.messages import OperationFailed, SignedOutByServer
from tui.state.current_server import CurrentServer
from tui.users.messages import AccountArrived, AccountFailed, SessionsEnded

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.transfers.transfer import Transfer

EXPORT_NAME: Final = "beray-export.zip"


class AccountController:
    """Reads the account and its sessions, ends sessions, and exports the data of the account.

    Args:
        server: Account in use.
        target: Receives the results of the requests.
        dialogs: Confirmations, and the dialog for the path of an export.
        notify: Shows a notification.
        failures: Reports failed requests.
        on_change: Called after a change of the attributes.

    Attributes:
        user: The account, once it has been read.
        sessions: Its sessions, most recently used first.
        failure: Reason why the account could not be read, or "".
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
    ) -> None:
        self.user: User | None = None
        self.sessions: list[SignedInDevice] = []
        self.failure = ""
        self._server = server
        self._target = target
        self._dialogs = dialogs
        self._notify = notify
        self._failures = failures
        self._on_change = on_change

    @property
    def email(self) -> str:
        """Address of the account, or "" if it is unknown."""
        user = self.user or {}
        return user.get("email") or self._server.target.email or ""

    def session(self, session_id: str | None) -> SignedInDevice | None:
        """Return the session with an id."""
        return next((one for one in self.sessions if one["id"] == session_id), None)

    # Reading

    def read(self) -> None:
        """Read the account and its sessions. The local server has neither."""
        client = self._server.client
        if self._server.target.embedded:
            return
        background.run(
            self._target,
            lambda: AccountArrived(client, client.get_current_user(), _sessions(client)),
            lambda error: AccountFailed(client, error),
        )

    def arrived(self, message: AccountArrived) -> None:
        """Show what was read."""
        if message.client is self._server.client:
            self.user, self.sessions, self.failure = message.user, message.sessions, ""
            self._server.user = message.user
            self._on_change()

    def failed(self, message: AccountFailed) -> None:
        """Show why nothing could be read."""
        if message.client is self._server.client:
            self.failure = sanitize.error_text(message.error)
            self._failures.session_ended(message.error)
            self._on_change()

    # Sessions

    def end_session(self, session: SignedInDevice) -> None:
        """End a session after a confirmation."""
        session_id = session["id"]
        if session.get("current"):
            self._confirm(
                "Sign out",
                self.email,
                "This is the session of the dashboard. You have to sign in again.",
                lambda client: client.revoke_session(session_id),
                "end the session",
                signs_out=True,
            )
        else:
            self._confirm(
                "End session",
                session.get("device") or "unknown device",
                "Its token becomes invalid, and everything that is open under it ends.",
                lambda client: client.revoke_session(session_id),
                "end the session",
            )

    def end_others(self) -> None:
        """End all sessions except the one in use, after a confirmation."""
        self._confirm(
            "End other sessions",
            self.email,
            "All sessions except this one end. API keys remain valid.",
            lambda client: client.revoke_sessions(others=True),
            "end the sessions",
        )

    def end_all(self) -> None:
        """End all sessions, also the one in use, after a confirmation."""
        self._confirm(
            "End all sessions",
            self.email,
            "All sessions end, also this one: you have to sign in again. API keys remain valid.",
            lambda client: client.revoke_sessions(),
            "end the sessions",
            signs_out=True,
        )

    def _confirm(
        self,
        title: str,
        subject: str,
        question: str,
        request: Callable[[Any], Any],
        action: str,
        *,
        signs_out: bool = False,
    ) -> None:
        def agreed() -> None:
            client = self._server.client

            def work() -> SessionsEnded | SignedOutByServer:
                text = request(client).get("message") or "Done."
                return SignedOutByServer(text) if signs_out else SessionsEnded(client, text)

            background.run(self._target, work, lambda error: OperationFailed(action, error))

        self._dialogs.confirm(title, sanitize.line(subject, 200), question, title, agreed)

    def sessions_ended(self, message: SessionsEnded) -> None:
        """Report that sessions ended, and read the others again."""
        if message.client is self._server.client:
            self._notify(message.text)
            self.read()

    def action_failed(self, action: str, error: Exception) -> None:
        """Report that an action failed; the sessions may have changed meanwhile."""
        self._failures.report(action, error)
        self.read()

    # Export

    def export(self) -> None:
        """Download all data of the account to a file that the user chooses."""
        client = self._server.client

        def download(target: Path, overwrite: bool, transfer: Transfer) -> Path:
            return client.export_data(target, overwrite=overwrite, transfer=transfer)

        self._dialogs.save(
            Content("All data of the account"),
            Path.cwd() / EXPORT_NAME,
            download,
            lambda path: self._notify(f"Saved {path}"),
        )


def _sessions(client: BeRayClient) -> list[SignedInDevice]:
    try:
        return client.list_sessions()
    except NotFoundError:  # a server with the published API only
        return []
