"""Application class of the dashboard."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.screen import Screen

from beray.config import Profiles, Target, home
from beray.sanitize import one_line
from tui import messages, sanitize, theme
from tui._textual_compat import hide_locals_in_crash_reports
from tui.io.background import deliver
from tui.io.lazy_client import lazy_client
from tui.screens.main import MainScreen
from tui.session import (
    DashboardSession,
    ProfilesFailed,
    ProfilesRead,
    SessionChecked,
    SignedOut,
)
from tui.state.user_state import STATE_DIRECTORY, UserState
from tui.terminal import Terminal

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.gateway import GatewayClient
    from tui.prefabs.messages import RunUpdated
    from tui.prefabs.run import Run
    from tui.prefabs.run_registry import RunRegistry
    from tui.screens.profiles import ServerSelected, SignInRequested, SignOutRequested

TIMEOUT: Final = (5.0, 15.0)
"""Connect and read timeouts in seconds, shorter than a script's because a user is waiting."""
_TRANSFER_SECONDS: Final = 0.3

Connect = Callable[[Target], "BeRayClient"]


def connect(target: Target) -> BeRayClient:
    """Return a client for ``target`` that is created on first use."""

    def make() -> BeRayClient:
        from beray.client import BeRayClient

        # Errors are shown at once; the readers retry by themselves.
        return BeRayClient(target.url, target.token, timeout=TIMEOUT, max_retries=0)

    return lazy_client(make)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class BeRayApp(App[None]):
    """Dashboard for one server.

    Args:
        target: Server and account. With a token the tasks are shown at once; without one the
            user is asked to sign in.
        profiles: Stored profiles; a sign-in is saved there.
        connect: Creates the client of a target.
        clock: Returns the current time with its time zone.
        renew: Returns the current target of a server that may be replaced. Called in the
            thread that reads the task feed.
        user_state: State that is kept between starts. Closed when the app ends.
        gateway: Creates the gateway client of a target. By default the target's own URL is used.
        on_ready: Called once the imports for showing the tasks are done.

    Attributes:
        session: Server, account and client in use.
    """

    TITLE = "BeRay"
    # Includes the first screen's: every stylesheet added later has all of them parsed again.
    CSS_PATH: ClassVar[list[str | PurePath]] = ["app.tcss", "screens/main.tcss"]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it without ClassVar
        (0, "-narrow"),
        (100, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority, because dialogs hide the other bindings of the application.
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_or_undo", "Suspend", show=False, priority=True),
        Binding("f3", "switch_server", "Switch server", show=False),
    ]

    def __init__(
        self,
        target: Target,
        profiles: Profiles,
        *,
        connect: Connect = connect,
        clock: Callable[[], datetime] = utc_now,
        renew: Callable[[], Target] | None = None,
        user_state: UserState | None = None,
        gateway: Callable[[Target], GatewayClient] | None = None,
        on_ready: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self.user_state = user_state or UserState(home() / STATE_DIRECTORY)
        self.transfers: list[threading.Thread] = []
        """Started downloads. At exit, the last ones get a moment to clean up."""
        self._clock = clock
        self._terminal = Terminal(self)
        self._on_ready = on_ready
        self._gateway = gateway
        self.run_registry: RunRegistry | None = None
        """Set when the user first opens the prefabs."""
        self._is_confirming_quit = False
        self.session = DashboardSession(
            target,
            profiles,
            connect=connect,
            renew=renew,
            screens=self,
            notify=self.show_notification,
            create_main_screen=self._create_main_screen,
            on_replace_screens=self._terminal.show,
            on_target_change=self._target_changed,
        )
        hide_locals_in_crash_reports(self)
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        remembered = self.user_state.get(theme.SETTING)
        self.theme = theme.initial_theme(remembered, self.available_themes, os.environ)

    def on_mount(self) -> None:
        self.user_state.set_problem_listener(
            lambda text: deliver(self, messages.UserStateFailed(text))
        )
        self.theme_changed_signal.subscribe(
            self, lambda theirs: self.user_state.set(theme.SETTING, theirs.name)
        )
        self.session.show_tasks_or_sign_in()

    def on_unmount(self) -> None:
        if self.run_registry is not None:
            self.run_registry.close()
        self._terminal.close()
        self.user_state.close()

    def on_user_state_failed(self, message: messages.UserStateFailed) -> None:
        self.show_notification(message.text, "warning")

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, which may be untrusted, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def _create_main_screen(self) -> MainScreen:
        return MainScreen(
            self.session.server,
            user_state=self.user_state,
            terminal=self._terminal,
            clock=self._clock,
            successor=self.session.successor(),
            on_ready=self._on_ready,
        )

    # Session

    def on_signed_in(self, message: messages.SignedIn) -> None:
        self.session.signed_in(
            message.target, message.unsaved, needs_new_password=message.must_change_password
        )

    def on_task_feed_connected(self) -> None:
        self.session.read_user()

    def on_user_read(self, message: messages.UserRead) -> None:
        self.session.user_read(message)

    def on_password_changed(self, message: messages.PasswordChanged) -> None:
        self.session.password_changed(message.text)

    def on_email_changed(self, message: messages.EmailChanged) -> None:
        self.session.email_changed(message.email)

    def on_signed_out_by_server(self, message: messages.SignedOutByServer) -> None:
        self.session.ended_by_user(message.text)

    def on_successor_found(self, message: messages.SuccessorFound) -> None:
        self.session.successor_found(message.target, message.client)

    def on_session_ended(self, message: messages.SessionEnded) -> None:
        self.session.check(message.reason)

    def on_session_checked(self, message: SessionChecked) -> None:
        self.session.checked(message)

    def on_profiles_read(self, message: ProfilesRead) -> None:
        self.session.profiles_read(message)

    def on_profiles_failed(self, message: ProfilesFailed) -> None:
        self.session.profiles_failed(message.error)

    def on_server_selected(self, message: ServerSelected) -> None:
        self.session.switch_to(message.target)

    def on_sign_in_requested(self, message: SignInRequested) -> None:
        self.session.sign_in_elsewhere(message.target)

    def on_sign_out_requested(self, message: SignOutRequested) -> None:
        self.session.sign_out(message.name)

    def on_signed_out(self, message: SignedOut) -> None:
        self.session.signed_out(message.text)

    def action_switch_server(self) -> None:
        self.session.open_servers()

    def action_sign_out(self) -> None:
        self.session.sign_out()

    def action_leave(self) -> None:
        self.session.leave_sign_in()

    # Account

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "users":
            return self.session.server.is_administrator
        return super().check_action(action, parameters)

    def action_account(self) -> None:
        """Show the account and its sessions above the tasks."""
        from tui.users.account_screen import AccountScreen

        if not self.session.is_open(AccountScreen):
            self.push_screen(
                AccountScreen(self.session.server, user_state=self.user_state, clock=self._clock)
            )

    def action_users(self) -> None:
        """Show the users of the server above the tasks."""
        from tui.users.users_screen import UsersScreen

        if self.session.server.is_administrator and not self.session.is_open(UsersScreen):
            self.push_screen(
                UsersScreen(self.session.server, user_state=self.user_state, clock=self._clock)
            )

    # Changes

    def on_changes_requested(self, message: messages.ChangesRequested) -> None:
        """Show the changes of a task above the tasks."""
        from tui.diff.changes import ChangeScope
        from tui.diff.screen import DiffScreen

        if not self.session.is_open(DiffScreen) and isinstance(self.screen, MainScreen):
            screen = DiffScreen(
                message.task_id,
                message.title,
                ChangeScope(message.step),
                server=self.session.server,
                target=self.screen,
            )
            self.push_screen(screen)

    # Prefabs

    def action_prefabs(self) -> None:
        """Show the prefabs of the server above the tasks."""
        from tui.prefabs.gateway import connect
        from tui.prefabs.list_screen import PrefabsScreen
        from tui.prefabs.messages import RunUpdated
        from tui.prefabs.run_registry import RunRegistry  # imported here: may never be shown

        if self.run_registry is None:

            def on_update(run: Run) -> None:
                deliver(self, RunUpdated(run))

            self.run_registry = RunRegistry(
                self.session.server.target, self._clock, on_update, self._gateway or connect
            )
        if not self.session.is_open(PrefabsScreen):
            self.push_screen(PrefabsScreen(self.run_registry))

    def on_run_updated(self, message: RunUpdated) -> None:
        if self.run_registry is not None and self.run_registry.advance(message.run):
            self._notify_run_end(message.run)

    def _notify_run_end(self, run: Run) -> None:
        """Report the end of ``run`` if the user is looking at something else."""
        from tui.prefabs.call_screen import CallScreen
        from tui.prefabs.report import run_summary

        if not self.screen_stack:
            return  # the app is closing
        screen = self.screen
        if not (isinstance(screen, CallScreen) and screen.shows(run)):
            self.show_notification(run_summary(run))
        self._terminal.notify(run_summary(run))

    def _target_changed(self) -> None:
        """Continue with another server, account or token in the screens of the prefabs."""
        if self.run_registry is None:
            return
        from tui.prefabs.list_screen import PrefabsScreen

        self.run_registry.go_to(self.session.server.target)
        for screen in self.screen_stack:
            if isinstance(screen, PrefabsScreen):
                screen.show_target()

    def action_suspend_or_undo(self) -> None:
        """Suspend the dashboard as a shell's job; in a text area, undo the last change."""
        from textual.widgets import TextArea  # not needed by the first screen

        if isinstance(self.focused, TextArea):
            self.focused.undo()
        else:
            self.action_suspend_process()

    async def action_quit(self) -> None:
        """Quit, after confirmation if prefab runs would be stopped."""
        running = self.run_registry.running if self.run_registry is not None else []
        if not running or self._is_confirming_quit:
            self.exit()
            return
        from tui.prefabs.report import run_name
        from tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            self._is_confirming_quit = False
            if yes:
                self.exit()

        names = sanitize.line(", ".join(map(run_name, running)))
        question = "Quitting stops this run." if len(running) == 1 else "Quitting stops these runs."
        self._is_confirming_quit = True
        self.push_screen(ConfirmScreen("Still running", names, question, "Quit"), answered)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        if isinstance(screen, MainScreen):
            from tui.screens.commands import commands

            yield from commands(screen)
        else:
            from tui.screens import help

            yield from help.commands(screen)
        target = self.session.server.target
        yield SystemCommand("Switch server…", "Or add one, or sign out", self.action_switch_server)
        if target.token and not target.embedded:
            yield SystemCommand("Sign out", "Remove the saved token", self.action_sign_out)
        if isinstance(screen, MainScreen):
            yield SystemCommand("Account", "Password, sessions, export", self.action_account)
            if self.session.server.is_administrator:
                yield SystemCommand("Users", "Manage the users of the server", self.action_users)
        yield SystemCommand("Theme", "Choose a colour theme", self.action_change_theme)
        yield SystemCommand("Quit", "Tasks keep running on the server", self.action_quit)

    def handle_thread_exception(self, failure: threading.ExceptHookArgs) -> None:
        """End the app with the exception of a background thread, which is a programming error."""
        if failure.exc_value is not None:
            deliver(self, Crashed(failure.exc_value))

    def on_crashed(self, message: Crashed) -> None:
        raise message.error

    def finish_transfers(self) -> None:
        """Give cancelled downloads a moment to remove their partial files. Call after exit."""
        deadline = time.monotonic() + _TRANSFER_SECONDS
        for thread in self.transfers:
            thread.join(max(0.0, deadline - time.monotonic()))


@dataclass(eq=False, repr=False)
class Crashed(Message):
    """A background thread raised an unexpected exception."""

    error: BaseException
