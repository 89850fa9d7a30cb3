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

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from beray.config import Profiles, Target, home
from tui import messages, sanitize, theme
from tui.io.background import deliver
from tui.io.lazy_client import lazy_client
from tui.screens.main import MainScreen
from tui.session import SessionApp
from tui.state.user_state import STATE_DIRECTORY, UserState
from tui.terminal import Terminal

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.gateway import GatewayClient
    from tui.prefabs.messages import RunUpdated
    from tui.prefabs.run import Run
    from tui.prefabs.run_registry import RunRegistry

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


class BeRayApp(SessionApp):
    """Dashboard for one server.

    Args:
        target: Server and account. With a token the tasks are shown at once; without one the
            user is asked to sign in.
        profiles: Stored profiles; a sign-in is saved there.
        connect: Creates the client of a target.
        clock: Returns the current time with its time zone.
        renew: Returns the current target of a server that may be replaced. Called in the
            thread that reads the task feed.
        memory: State that is kept between starts. Closed when the app ends.
        gateway: Creates the gateway client of a target. By default the target's own URL is used.
        settled: Called once the imports for showing the tasks are done.
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
        self.target = target
        self.profiles = profiles
        self.clock = clock
        self.client = connect(target)
        self.user_state = user_state or UserState(home() / STATE_DIRECTORY)
        self.terminal = Terminal(self)
        self.transfers: list[threading.Thread] = []
        """Started downloads. At exit, the last ones get a moment to clean up."""
        self.connect = connect
        self.renew = renew
        self.on_ready = on_ready
        self._gateway = gateway
        self._run_registry: RunRegistry | None = None
        """Set when the user first opens the prefabs."""
        self._is_confirming_quit = False
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
        self.show_tasks_or_sign_in()

    def on_unmount(self) -> None:
        if self._run_registry is not None:
            self._run_registry.close()
        self.terminal.close()
        self.user_state.close()

    def on_user_state_failed(self, message: messages.UserStateFailed) -> None:
        self.show_notification(message.text, "warning")

    def create_main_screen(self) -> MainScreen:
        successor = self._successor if self.renew is not None else None
        return MainScreen(self.client, self.target, self.clock, successor)

    def _successor(self) -> messages.ClientReplaced | None:
        """Return the server that has replaced the current one, or None. Blocks."""
        assert self.renew is not None
        found = self.renew()
        if (found.url, found.token) == (self.target.url, self.target.token):
            return None
        return messages.ClientReplaced(found, self.connect(found))

    # Prefabs

    def action_prefabs(self) -> None:
        """Show the prefabs of the server above the tasks."""
        from tui.prefabs.gateway import connect
        from tui.prefabs.list_screen import PrefabsScreen
        from tui.prefabs.messages import RunUpdated
        from tui.prefabs.run_registry import RunRegistry  # imported here: may never be shown

        if self._run_registry is None:

            def on_update(run: Run) -> None:
                deliver(self, RunUpdated(run))

            self._run_registry = RunRegistry(
                self.target, self.clock, on_update, self._gateway or connect
            )
        if not self._is_open(PrefabsScreen):
            self.push_screen(PrefabsScreen(self._run_registry))

    def on_run_updated(self, message: RunUpdated) -> None:
        if self._run_registry is not None and self._run_registry.advance(message.run):
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
        self.terminal.notify(run_summary(run))

    def target_changed(self) -> None:
        if self._run_registry is None:
            return
        from tui.prefabs.list_screen import PrefabsScreen

        self._run_registry.go_to(self.target)
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
        running = self._run_registry.running if self._run_registry is not None else []
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
        elif self._run_registry is not None:
            from tui.screens import help

            yield from help.commands(screen)
        yield from self.session_commands()
        yield SystemCommand("Theme", "Choose a colour theme", self.action_change_theme)
        yield SystemCommand("Quit", "Tasks keep running on the server", self.action_quit)

    def handle_thread_exception(self, failure: threading.ExceptHookArgs) -> None:
        """End the app with the exception of a background thread, which is a programming error."""
        if failure.exc_value is not None:
            deliver(self, Crashed(failure.exc_value))

    def on_crashed(self, message: Crashed) -> None:
        raise message.error

    def _fatal_error(self) -> None:
        from rich.segment import Segments
        from rich.traceback import Traceback

        # Textual's own report prints local variables, including passwords and tokens.
        self.bell()
        report = Traceback(show_locals=False, width=None)
        self._exit_renderables.append(Segments(self.console.render(report, self.console.options)))
        self._close_messages_no_wait()

    def finish_transfers(self) -> None:
        """Give cancelled downloads a moment to remove their partial files. Call after exit."""
        deadline = time.monotonic() + _TRANSFER_SECONDS
        for thread in self.transfers:
            thread.join(max(0.0, deadline - time.monotonic()))


@dataclass(eq=False, repr=False)
class Crashed(Message):
    """A background thread raised an unexpected exception."""

    error: BaseException
