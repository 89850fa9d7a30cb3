"""The dashboard's application: which screen is up, and the session they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import ClassVar, Final

from rich.segment import Segments
from rich.traceback import Traceback
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.screen import Screen

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.text import one_line
from tui import messages, theme
from tui.background import deliver
from tui.screens.main import MainScreen
from tui.screens.sign_in import SignInScreen

TIMEOUT: Final = (5.0, 15.0)
"""Seconds to connect, and seconds without a byte: shorter than a script's, a reader waits."""
_TRANSFER_SECONDS: Final = 0.3

Connect = Callable[[Target], BeRayClient]


def connect(target: Target) -> BeRayClient:
    # What the server says is shown at once; the next look comes by itself.
    return BeRayClient(target.url, target.token, timeout=TIMEOUT, max_retries=0)


def utc_now() -> datetime:
    return datetime.now(UTC)


class BeRayApp(App[None]):
    """The dashboard for one server.

    Args:
        target: the server; with a token the tasks are shown at once, without one the
            user is asked to sign in.
        profiles: where a sign-in is stored.
        connect: makes the client of a target.
        clock: the present, as an aware time.
        renew: says where the server is now, for one that may have a successor; called in
            the poller's thread.
    """

    TITLE = "BeRay"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it without ClassVar
        (0, "-narrow"),
        (100, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", "Quit", show=False)]

    def __init__(
        self,
        target: Target,
        profiles: Profiles,
        *,
        connect: Connect = connect,
        clock: Callable[[], datetime] = utc_now,
        renew: Callable[[], Target] | None = None,
    ) -> None:
        super().__init__()
        self.target = target
        self.profiles = profiles
        self.clock = clock
        self.client = connect(target)
        self.transfers: list[threading.Thread] = []
        """Downloads that were begun; the last ones are given a moment when the app ends."""
        self._connect = connect
        self._renew = renew
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        self.theme = theme.DARK.name

    def on_mount(self) -> None:
        if self.target.token:
            self.push_screen(self._main_screen())
        else:
            self.push_screen(SignInScreen(self.client, self.target, self.profiles))

    def on_signed_in(self, message: messages.SignedIn) -> None:
        self.target = message.target
        self.client = self._connect(self.target)
        self._show_alone(self._main_screen())
        if message.unsaved:
            self.say(f"Signed in, but not remembered: {message.unsaved}", "warning")

    def on_session_ended(self, message: messages.SessionEnded) -> None:
        if isinstance(self.screen_stack[1], SignInScreen):
            return
        reason = message.reason
        if self.target.embedded:
            reason += "\nThis is your own server: quit, and start beray again."
        self.client.set_token(None)
        self._show_alone(SignInScreen(self.client, self.target, self.profiles, reason))

    def _main_screen(self) -> MainScreen:
        successor = self._successor if self._renew is not None else None
        return MainScreen(self.client, self.target, self.clock, successor)

    def _successor(self) -> messages.Renewed | None:
        """The server that has taken the place of ours, if one has. Blocks."""
        assert self._renew is not None
        found = self._renew()
        if (found.url, found.token) == (self.target.url, self.target.token):
            return None
        return messages.Renewed(found, self._connect(found))

    def on_renewed(self, message: messages.Renewed) -> None:
        self.client.close()
        self.target, self.client = message.target, message.client

    def _show_alone(self, screen: Screen[None]) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.push_screen(screen)

    def say(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, wherever it comes from, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        if isinstance(screen, MainScreen):
            yield from screen.commands()
        yield SystemCommand("Theme", "Choose other colours", self.action_change_theme)
        yield SystemCommand("Quit", "Leave; tasks go on running on the server", self.action_quit)

    def thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """A mistake of the program in a background thread ends it, as one elsewhere does."""
        if failure.exc_value is not None:
            deliver(self, Crashed(failure.exc_value))

    def on_crashed(self, message: Crashed) -> None:
        raise message.error

    def _fatal_error(self) -> None:
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
