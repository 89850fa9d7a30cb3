"""Going from one server to another at the dashboard, and signing out, against real servers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from beray import local_server
from beray.config import LOCAL, Profiles, Target
from beray.exceptions import ConfigurationError
from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD
from tests.support import new_address
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.hostile_text import HOSTILE, assert_clean
from tui import account
from tui.app import BeRayApp
from tui.screens.main import MainScreen
from tui.screens.profiles import ProfilesScreen, ServerRow, rows
from tui.screens.sign_in import SignInElsewhereScreen


@pytest.fixture
def start_local_server(own_home: Path) -> Iterator[None]:
    yield
    local_server.stop()


async def choose(pilot: Pilot[None], name: str) -> None:
    """Open the servers and press enter on one of them."""
    await open_servers(pilot, name)
    await pilot.press("enter")


async def open_servers(pilot: Pilot[None], name: str) -> ProfilesScreen:
    await pilot.press("f3")
    await until(pilot, lambda: isinstance(pilot.app.screen, ProfilesScreen))
    servers = pilot.app.screen
    assert isinstance(servers, ProfilesScreen)
    await until(pilot, lambda: servers.query(OptionList) and f" {name} " in screen(pilot))
    options = servers.query_one(OptionList)
    options.highlighted = [row.name for row in servers.rows].index(name)
    return servers


@pytest.mark.skipif(os.name != "posix", reason="a server of one's own is POSIX")
async def test_from_one_server_to_another_and_back_and_out(
    beray_server: RunningServer, tmp_path: Path, start_local_server: None
) -> None:
    ada, bob = new_address(), new_address()
    first = beray_server.sign_up(ada)
    first.create_task("!echo the task of ada")
    work = Profiles().sign_in(Target(beray_server.url, "work"), access_token(first), ada)
    with RunningServer.start(tmp_path / "second") as second:
        second.sign_up(bob).create_task("!echo the task of bob")
        name = second.url.rpartition("//")[2]
        app = BeRayApp(work, Profiles())
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await until_shown(pilot, "the task of ada")
            # To a new one: by its URL, and back once from there.
            await open_servers(pilot, "work")
            await pilot.press("a")
            await fill(pilot, "#url", "ftp://beray.example")
            await until_shown(pilot, "must look like http://host:port")
            await fill(pilot, "#url", f" {second.url}/ ")
            await until(pilot, lambda: isinstance(app.screen, SignInElsewhereScreen))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, ProfilesScreen))
            await pilot.press("escape")
            await until_shown(pilot, "the task of ada", "● online")
            await open_servers(pilot, "work")
            await pilot.press("a")
            await fill(pilot, "#url", second.url)
            await fill(pilot, "#email", bob)
            await fill(pilot, "#password", PASSWORD)
            await until_shown(pilot, "the task of bob", "● online")
            assert Profiles().current == name and "of ada" not in screen(pilot)
            # And to the first one, where the session still lives.
            await choose(pilot, "work")
            await until_shown(pilot, "the task of ada", "● online")
            assert "of bob" not in screen(pilot)
            await until(pilot, lambda: Profiles().current == "work")
            # Out of the second one, which is down: it is forgotten here, and that is said.
            second.kill()
            await open_servers(pilot, name)
            await pilot.press("o")
            await until_shown(
                pilot, f"Signed out of {name} on this machine, but the", "server may keep"
            )
            await until_shown(pilot, "signed out")
            saved = Profiles().get(name)
            assert saved is not None and (saved.token, saved.email) == (None, bob)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, SignInElsewhereScreen))
            await pilot.press("escape", "escape")
            # The own server starts where it is free, and knows nothing of signing out.
            await choose(pilot, LOCAL)
            await until_shown(pilot, "local server", "No tasks yet", "● online")
            assert app.session.server.target.embedded and app.session.renew is not None
            await open_servers(pilot, LOCAL)
            await pilot.press("o")
            await until_shown(pilot, "no account to sign out of")
            await pilot.press("escape")
            # Out of the first one.
            await choose(pilot, "work")
            await until_shown(pilot, "the task of ada", "● online")
            assert app.session.renew is None
            await app.run_action("sign_out")
            await until_shown(pilot, "Signed out of work", "E-mail")
            assert len(app.screen_stack) == 2
    # Leaving the app at once neither keeps the token nor needs the answer of the server.
    settings_written()
    saved = Profiles().get("work")
    assert saved is not None and saved.token is None
    assert token_dies(first.get_current_user)


def settings_written() -> None:
    """Join what the interpreter joins at exit: the threads that change settings files."""
    for thread in threading.enumerate():
        if thread.name == "beray-settings":
            assert not thread.daemon
            thread.join(10)


def token_dies(call: Callable[[], object]) -> bool:
    """Whether a call is refused soon: the server is told of a sign-out in the background."""
    from beray.exceptions import AuthenticationError

    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            call()
        except AuthenticationError:
            return True
    return False


async def test_an_own_server_that_does_not_start_is_said_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Target:
        raise local_server.ServerStartError("its log is /tmp/log")

    monkeypatch.setattr(local_server, "ensure", refuse)
    app = stub.stub_app(stub.full_client(), tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● online")
        await choose(pilot, LOCAL)
        await until_shown(pilot, "Could not start the local server: its log is /tmp/log")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))


def test_every_server_is_one_row(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path / "profiles.json")
    current = Target("https://a.example", "a.example", "token")
    assert rows(profiles, current) == [
        ServerRow(LOCAL),
        ServerRow("a.example", "https://a.example", "", True, True),
    ]
    profiles.sign_in(Target("https://b.example", "b"), "token", "bob@b.example")
    profiles.sign_in(Target("https://c.example", "c"), "token", "eve@c.example")
    profiles.sign_out("c")
    own = Target("http://127.0.0.1:1", LOCAL, "token", embedded=True)
    assert rows(profiles, own) == [
        ServerRow(LOCAL, current=True),
        ServerRow("b", "https://b.example", "bob@b.example"),
        ServerRow("c", "https://c.example", "eve@c.example", signed_in=False),
    ]


def test_an_added_server_takes_the_name_of_no_other(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path / "profiles.json")
    assert account.new_target(profiles, " https://local/ ") == Target("https://local", "local-2")
    profiles.sign_in(Target("http://x.example:80", "https-x"), "token", "bob@x.example")
    known = account.new_target(profiles, "http://x.example")
    assert (known.profile, known.token, known.email) == ("https-x", "token", "bob@x.example")
    profiles.sign_in(Target("http://y.example:1", "y.example:1"), "token", "bob@y.example")
    assert account.new_target(profiles, "https://y.example:1").profile == "y.example:1-2"
    assert account.new_target(profiles, "https://y.example:1").token is None
    for url in ("", "beray.example", "https://u:p@h", "http://h?x=1", "http://[::1"):
        with pytest.raises(ConfigurationError):
            account.new_target(profiles, url)


async def test_hostile_names_and_addresses_are_shown_and_nothing_more(tmp_path: Path) -> None:
    app = stub.stub_app(stub.full_client(), tmp_path)
    for place in range(3):
        target = Target(f"https://h{place}.example", f"{place}{HOSTILE}")
        app.session.profiles.sign_in(target, "token", HOSTILE)
    app.session.profiles = Profiles(app.session.profiles.path)
    app.session.profiles.sign_out(app.session.profiles.names()[1])
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "● online")
        await pilot.press("f3")
        await until_shown(pilot, "signed out", "2A")
        assert_clean(screen(pilot))
        await pilot.press("home", "down", "o")
        await until_shown(pilot, "Signed out of", "1A", "signed in")
        assert_clean(screen(pilot))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, SignInElsewhereScreen))
        await until_shown(pilot, "https://h1.example")
        assert_clean(screen(pilot))
        box = app.screen.query_one("#email Input", Input)
        box.value = ""
        box.focus()
        app.post_message(events.Paste(f"a{HOSTILE}"))
        await until(pilot, lambda: box.value)
        await pilot.press("home")
        await until_shown(pilot, "[b]E[@click=app.quit]")
        assert_clean(screen(pilot))
