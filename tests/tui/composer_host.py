"""Test application that contains only the composer, with the dashboard's styles."""

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
        self.results: list[TaskDraft | None] = []
        """Results of the composer, one for each time it was opened."""
        self._initial = initial
        self.register_theme(theme.DARK)
        self.theme = theme.DARK.name

    def on_mount(self) -> None:
        # After the first layout of the screen below, because a covered screen is not laid out.
        self.call_after_refresh(self.compose_task, self._initial)

    def compose_task(self, initial: TaskDraft | None = None) -> None:
        self.push_screen(ComposerScreen(self.user_state, ACCOUNT, initial), self.results.append)

    def on_unmount(self) -> None:
        self.user_state.close()


def composer(pilot: Pilot[None]) -> ComposerScreen:
    """Return the composer, even if another screen covers it."""
    return next(screen for screen in pilot.app.screen_stack if isinstance(screen, ComposerScreen))


def area(pilot: Pilot[None]) -> GoalArea:
    return composer(pilot).query_one(GoalArea)


async def opened(pilot: Pilot[Any]) -> GoalArea:
    """Wait until the text area has the focus; return it."""
    await until(pilot, lambda: isinstance(pilot.app.focused, GoalArea))
    found = pilot.app.focused
    assert isinstance(found, GoalArea)
    return found
