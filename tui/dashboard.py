"""Interface of the application that its screens use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from textual.notifications import SeverityLevel

from beray.config import Target
from tui.state.user_state import UserState
from tui.terminal import Terminal


class Dashboard(Protocol):
    """Application that shows the screens; implemented by ``tui.app.BeRayApp``.

    Attributes:
        target: Server that the dashboard is connected to, with its account.
        memory: State that is kept between starts.
        terminal: Title, progress and notifications of the terminal.
        transfers: Threads of downloads that are not finished.
        settled: Called when the tasks are about to be shown and all imports are done.
    """

    target: Target
    user_state: UserState
    terminal: Terminal
    transfers: list[threading.Thread]
    on_ready: Callable[[], object]

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text`` as a notification."""

    def action_prefabs(self) -> None:
        """Show the prefabs of the server."""
