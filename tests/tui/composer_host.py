"""The composer alone: an app with the dashboard's styles and nothing behind it."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from tests.tui.dashboard_pilot import until
from tui import app as dashboard
from tui import theme
from tui.composer.goal import GoalArea
from tui.composer.screen import ComposerScreen
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState

ACCOUNT = "https://beray.example ada@example.test"


class Host(App[None]):
    CSS_PATH = Path(inspect.getfile(dashboard)).with_name("app.tcss")
    HORIZONTAL_BREAKPOINTS = dashboard.BeRayApp.HORIZONTAL_BREAKPOINTS

    def __init__(self, memory: UserState, initial: TaskDraft | None = None) -> None:
        super().__init__()
        self.user_state = memory
        self.transfers: list[threading.Thread] = []
        self.given: list[TaskDraft | None] = []
        """What the composer has given, each time that it was opened."""
        self._initial = initial
        self.register_theme(theme.DARK)
        self.theme = theme.DARK.name

    def on_mount(self) -> None:
        # Behind what lies under it: a screen that is covered is laid out no more.
        self.call_after_refresh(self.compose_task, self._initial)

    def compose_task(self, initial: TaskDraft | None = None) -> None:
        self.push_screen(ComposerScreen(self.user_state, ACCOUNT, initial), self.given.append)

    def on_unmount(self) -> None:
        self.user_state.close()


def composer(pilot: Pilot[None]) -> ComposerScreen:
    """The composer, whatever lies above it."""
    return next(screen for screen in pilot.app.screen_stack if isinstance(screen, ComposerScreen))


def area(pilot: Pilot[None]) -> GoalArea:
    return composer(pilot).query_one(GoalArea)


async def opened(pilot: Pilot[Any]) -> GoalArea:
    """Wait for the composer to have the focus in its text."""
    await until(pilot, lambda: isinstance(pilot.app.focused, GoalArea))
    found = pilot.app.focused
    assert isinstance(found, GoalArea)
    return found
