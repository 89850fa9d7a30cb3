"""The user's own server goes, and the dashboard finds the one that takes its place."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import embedded
from beray.config import Profiles, Target
from beray.exceptions import AuthenticationError, BeRayException, ConnectionFailed
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.dashboard_stub import StubClient
from tests.tui.test_tui_background import Inbox
from tui import background, messages
from tui.app import BeRayApp
from tui.background import Poller
from tui.screens.main import MainScreen
from tui.widgets.line_view import LineView

NEXT = Target("http://127.0.0.1:2", "local", "next", embedded=True)
posix_only = pytest.mark.skipif(os.name != "posix", reason="a server of one's own is POSIX")


@pytest.fixture
def own_server(own_home: Path) -> Iterator[None]:
    yield
    embedded.stop()


def killed() -> None:
    running = embedded.status()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)


@posix_only
@pytest.mark.parametrize("end", [killed, embedded.stop], ids=["killed", "stopped"])
async def test_the_next_server_is_found_and_the_events_go_on(
    own_server: None, end: Callable[[], object]
) -> None:
    first = embedded.ensure()
    app = BeRayApp(first, Profiles(), renew=embedded.ensure)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "No tasks yet")
        await pilot.press("n")
        await until_shown(pilot, "New task")
        await fill(pilot, "#new-goal", "!echo begun; sleep 600")
        main = pilot.app.screen_stack[1]
        assert isinstance(main, MainScreen)

        def rows() -> list[str]:
            return main.query_one("#events", LineView).row_texts

        await until(pilot, lambda: "begun" in rows())
        end()
        await until(pilot, lambda: app.target != first, 30)
        second = embedded.ensure()
        assert app.target == second and second.token != first.token
        await until_shown(pilot, "● online", second.url, "■ ended")
        assert rows().count("begun") == 1
        assert rows()[-1].startswith(("failed (", "stopped ("))
        await pilot.press("n")
        await until_shown(pilot, "New task")
        await fill(pilot, "#new-goal", "!echo the next one")
        await until_shown(pilot, "✓ completed", "the next one")
        assert "Sign in" not in screen(pilot)


def poller(client: Any, inbox: Any, successor: background.Successor) -> Poller:
    return Poller(client, inbox, every=0.01, successor=successor)


def test_a_token_that_only_the_old_server_knew_is_not_the_end_of_the_session() -> None:
    old: Any = StubClient()
    new: Any = StubClient()
    old.tasks = AuthenticationError("no", status_code=401)
    inbox = Inbox()
    asking = poller(old, inbox, lambda: messages.Renewed(NEXT, new))
    got = inbox.wait_for(lambda got: len(got) >= 2)
    asking.close()
    assert isinstance(got[0], messages.Renewed)
    assert isinstance(got[1], messages.TasksArrived)


def test_a_token_that_the_same_server_refuses_is() -> None:
    client: Any = StubClient()
    client.tasks = AuthenticationError("no", status_code=401)
    inbox = Inbox()
    asking = poller(client, inbox, lambda: None)
    got = inbox.wait_for(len)
    asking.close()
    assert isinstance(got[0], messages.PollFailed) and got[0].error is client.tasks


def test_a_server_that_cannot_be_started_is_said_and_not_tried_every_second() -> None:
    client: Any = StubClient()
    client.tasks = ConnectionFailed("gone")
    tries: list[None] = []

    def successor() -> messages.Renewed:
        tries.append(None)
        raise BeRayException("it does not start")

    inbox = Inbox()
    asking = poller(client, inbox, successor)
    got = inbox.wait_for(lambda got: len(got) >= 20)
    asking.close()
    assert [str(one.error) for one in got[:3]] == ["gone", "it does not start", "gone"]  # type: ignore[attr-defined]
    assert len(tries) == 1
