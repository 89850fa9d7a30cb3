"""The dashboard's application: which screen is up, and the session they share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
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
from tui.io.lazy_client import later
from tui.screens.main import MainScreen
from tui.session import Access
from tui.state.user_state import FOLDER, Memory
from tui.terminal import Terminal

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.gateway import GatewayClient
    from tui.prefabs.messages import RunTold
    from tui.prefabs.run import Run
    from tui.prefabs.run_registry import Desk

TIMEOUT: Final = (5.0, 15.0)
"""Seconds to connect, and seconds without a byte: shorter than a script's, a reader waits."""
_TRANSFER_SECONDS: Final = 0.3

Connect = Callable[[Target], "BeRayClient"]


def connect(target: Target) -> BeRayClient:
    def make() -> BeRayClient:
        from beray.client import BeRayClient

        # What the server says is shown at once; the next look comes by itself.
        return BeRayClient(target.url, target.token, timeout=TIMEOUT, max_retries=0)

    return later(make)


def utc_now() -> datetime:
    return datetime.now(UTC)


class BeRayApp(Access):
    """The dashboard for one server.

    Args:
        target: the server; with a token the tasks are shown at once, without one the
            user is asked to sign in.
        profiles: where a sign-in is stored.
        connect: makes the client of a target.
        clock: the present, as an aware time.
        renew: says where the server is now, for one that may have a successor; called in
            the poller's thread.
        memory: what is remembered between starts; closed when the app ends.
        gateway: makes the client of a target's gateway; otherwise the target is one itself.
        settled: called when the tasks are about to be shown, and what that takes is there.
    """

    TITLE = "BeRay"
    # With the first screen's: a stylesheet that comes later has all of them read again.
    CSS_PATH: ClassVar[list[str | PurePath]] = ["app.tcss", "screens/main.tcss"]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it without ClassVar
        (0, "-narrow"),
        (100, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority, because dialogs hide the other bindings of the application.
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
        memory: Memory | None = None,
        gateway: Callable[[Target], GatewayClient] | None = None,
        settled: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self.target = target
        self.profiles = profiles
        self.clock = clock
        self.client = connect(target)
        self.memory = memory or Memory(home() / FOLDER)
        self.terminal = Terminal(self)
        self.transfers: list[threading.Thread] = []
        """Downloads that were begun; the last ones are given a moment when the app ends."""
        self.connect = connect
        self.renew = renew
        self.settled = settled
        self._gateway = gateway
        self._desk: Desk | None = None
        """Once prefabs have been looked at."""
        self._is_asked_to_leave = False
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        remembered = self.memory.get(theme.SETTING)
        self.theme = theme.chosen(remembered, self.available_themes, os.environ)

    def on_mount(self) -> None:
        self.memory.tell(lambda words: deliver(self, messages.NotRemembered(words)))
        self.theme_changed_signal.subscribe(
            self, lambda theirs: self.memory.set(theme.SETTING, theirs.name)
        )
        self.come_in()

    def on_unmount(self) -> None:
        if self._desk is not None:
            self._desk.close()
        self.terminal.close()
        self.memory.close()

    def on_not_remembered(self, message: messages.NotRemembered) -> None:
        self.say(message.words, "warning")

    def tasks_screen(self) -> MainScreen:
        successor = self._successor if self.renew is not None else None
        return MainScreen(self.client, self.target, self.clock, successor)

    def _successor(self) -> messages.Renewed | None:
        """The server that has taken the place of ours, if one has. Blocks."""
        assert self.renew is not None
        found = self.renew()
        if (found.url, found.token) == (self.target.url, self.target.token):
            return None
        return messages.Renewed(found, self.connect(found))

    # Prefabs

    def action_prefabs(self) -> None:
        """Show the prefabs of the server, on top of the tasks."""
        from tui.prefabs.gateway import connect
        from tui.prefabs.messages import RunTold
        from tui.prefabs.run_registry import Desk  # parts that may never be shown
        from tui.screens.prefabs import PrefabsScreen

        if self._desk is None:

            def told(run: Run) -> None:
                deliver(self, RunTold(run))

            self._desk = Desk(self.target, self.clock, told, self._gateway or connect)
        if not self._lies_open(PrefabsScreen):
            self.push_screen(PrefabsScreen(self._desk))

    def on_run_told(self, message: RunTold) -> None:
        if self._desk is not None and self._desk.advance(message.run):
            self._tell_end(message.run)

    def _tell_end(self, run: Run) -> None:
        """Say how ``run`` has ended, to who does not look at it."""
        from tui.prefabs.call_screen import CallScreen
        from tui.prefabs.report import summed_up

        if not self.screen_stack:
            return  # the app is being left
        screen = self.screen
        if not (isinstance(screen, CallScreen) and screen.shows(run)):
            self.say(summed_up(run))
        self.terminal.tell(summed_up(run))

    def target_changed(self) -> None:
        if self._desk is None:
            return
        from tui.screens.prefabs import PrefabsScreen

        self._desk.go_to(self.target)
        for screen in self.screen_stack:
            if isinstance(screen, PrefabsScreen):
                screen.show_target()

    def action_suspend_or_undo(self) -> None:
        """Suspend the dashboard as a shell's job; in a text area, undo the last change."""
        from textual.widgets import TextArea  # which the first screen does without

        if isinstance(self.focused, TextArea):
            self.focused.undo()
        else:
            self.action_suspend_process()

    async def action_quit(self) -> None:
        """Leave. Where that stops what runs, the user is asked first."""
        running = self._desk.running if self._desk is not None else []
        if not running or self._is_asked_to_leave:
            self.exit()
            return
        from tui.prefabs.report import named
        from tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            self._is_asked_to_leave = False
            if yes:
                self.exit()

        names = sanitize.line(", ".join(map(named, running)))
        question = "Whoever leaves stops it." if len(running) == 1 else "Whoever leaves stops them."
        self._is_asked_to_leave = True
        self.push_screen(ConfirmScreen("Still running", names, question, "Quit"), answered)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        if isinstance(screen, MainScreen):
            from tui.screens.commands import commands

            yield from commands(screen)
        elif self._desk is not None:
            from tui.screens import help

            yield from help.commands(screen)
        yield from self.access_commands()
        yield SystemCommand("Theme", "Choose other colours", self.action_change_theme)
        yield SystemCommand("Quit", "Leave; tasks go on running on the server", self.action_quit)

    def thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """A mistake of the program in a background thread ends it, as one elsewhere does."""
        if failure.exc_value is not None:
            deliver(self, Crashed(failure.exc_value))

    def on_crashed(self, message: Crashed) -> None:
        raise message.error

    def _fatal_error(self) -> None:
        from rich.segment import Segments
        from rich.traceback import Traceback

        # Textual's own report prints the local variables, passwords and tokens among them.
        self.bell()
        report = Traceback(show_locals=False, width=None)
        self._exit_renderables.append(Segments(self.console.render(report, self.console.options)))
        self._close_messages_no_wait()

    def finish_transfers(self) -> None:
        """After the app has ended: let cancelled downloads remove their partial files."""
        deadline = time.monotonic() + _TRANSFER_SECONDS
        for thread in self.transfers:
            thread.join(max(0.0, deadline - time.monotonic()))


class Crashed(Message):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
