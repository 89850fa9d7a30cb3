"""The user's own server goes, and the dashboard finds the one that takes its place."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beray import local_server
from beray.config import Profiles
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tui.app import BeRayApp
from tui.log.pane import LogPane
from tui.screens.main import MainScreen

posix_only = pytest.mark.skipif(os.name != "posix", reason="a server of one's own is POSIX")


@pytest.fixture
def start_local_server(own_home: Path) -> Iterator[None]:
    yield
    local_server.stop()


def killed() -> None:
    running = local_server.status()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)


@posix_only
@pytest.mark.parametrize(
    "end",
    [killed, pytest.param(local_server.stop, marks=pytest.mark.long)],
    ids=["killed", "stopped"],
)
async def test_the_next_server_is_found_and_the_events_go_on(
    start_local_server: None, end: Callable[[], object]
) -> None:
    first = local_server.ensure()
    app = BeRayApp(first, Profiles(), renew=local_server.ensure)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "No tasks yet")
        await pilot.press("n")
        await until_shown(pilot, "New task")
        await fill(pilot, "#new-goal", "!echo begun; sleep 600")
        main = pilot.app.screen_stack[1]
        assert isinstance(main, MainScreen)

        def rows() -> list[str]:
            return main.query_one(LogPane).row_texts

        await until(pilot, lambda: "begun" in rows())
        end()
        await until(pilot, lambda: app.session.server.target != first, 30)
        second = local_server.ensure()
        assert app.session.server.target == second and second.token != first.token
        await until_shown(pilot, "● online", second.url, "■ ended")
        assert rows().count("begun") == 1
        assert rows()[-1].startswith(("failed (", "stopped ("))
        await pilot.press("n")
        await until_shown(pilot, "New task")
        await fill(pilot, "#new-goal", "!echo the next one")
        await until_shown(pilot, "✓ completed", "the next one")
        assert "Sign in" not in screen(pilot)
