"""Account, sessions, export and deletion at the dashboard, against a real server."""

from __future__ import annotations

import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests
from textual.pilot import Pilot
from textual.widgets import Button, Static

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.exceptions import AuthenticationError, ConnectionFailed, NotFoundError
from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD
from tests.account_servers import mail_count
from tests.support import done, new_address
from tests.tui import dashboard_stub as stub
from tests.tui.account_servers import administrator, until_mailed, until_notified
from tests.tui.controller_fakes import Surroundings
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.hostile_text import HOSTILE, assert_clean
from tui.app import BeRayApp
from tui.screens.help import HelpScreen
from tui.screens.main import MainScreen
from tui.screens.sign_in import SignInAgainScreen, SignInScreen
from tui.users.account import AccountController
from tui.users.account_screen import AccountScreen
from tui.users.deletion_screen import DeleteAccountScreen
from tui.users.email_screen import ChangeEmailScreen
from tui.users.messages import AccountArrived, AccountFailed
from tui.users.password_screen import ChangePasswordScreen
from tui.widgets.table import Table

SIZE = (80, 24)
NEW_PASSWORD = "another long password"


def device_client(server: RunningServer, email: str, device: str) -> BeRayClient:
    """Return a client that has signed in with a ``User-Agent``."""
    session = requests.Session()
    session.headers["User-Agent"] = device
    client = BeRayClient(server.url, session=session)
    client.login(email, PASSWORD)
    return client


def target(server: RunningServer, client: BeRayClient, email: str) -> Target:
    return Target(server.url, "work", access_token(client), email)


@asynccontextmanager
async def account_screen(
    server: RunningServer, client: BeRayClient, email: str, size: tuple[int, int] = SIZE
) -> AsyncIterator[Pilot[None]]:
    """The dashboard with the account of ``client``."""
    profiles = Profiles()
    app = BeRayApp(
        profiles.sign_in(target(server, client, email), access_token(client), email), profiles
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        await until_shown(pilot, "● online", "No tasks yet")
        await pilot.press("A")
        await until_shown(pilot, "Sessions · ", email)
        yield pilot


async def select(pilot: Pilot[None], device: str) -> None:
    """Move the cursor to the session of a device."""
    accounts = pilot.app.screen
    assert isinstance(accounts, AccountScreen)
    sessions = accounts.account.sessions
    at = next(place for place, one in enumerate(sessions) if one.get("device") == device)
    accounts.query_one(Table).rows.highlighted = at
    await until(pilot, lambda: accounts.query_one(Table).selected == sessions[at]["id"])


def is_refused(pilot: Pilot[None], field: str) -> bool:
    return "refused" in pilot.app.screen.query_one(field).classes


async def test_sessions_are_ended_one_by_one_and_all_others(beray_server: RunningServer) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    phone, laptop, tablet = (
        device_client(beray_server, email, name) for name in ("phone", "laptop", "tablet")
    )
    async with account_screen(beray_server, client, email) as pilot:
        await until_shown(
            pilot, "Sessions · 4", "phone", "laptop", "tablet", "▸ beray/", "127.0.0.1"
        )
        await select(pilot, "phone")
        await pilot.press("x")
        await until_shown(pilot, "End session", "y yes · n no")
        await pilot.press("y")
        await until_shown(pilot, "The session was ended.", "Sessions · 3")
        with pytest.raises(AuthenticationError):
            phone.get_current_user()
        await pilot.press("o")
        await until_shown(pilot, "All sessions except this one end.")
        await pilot.press("n", "o")
        await until_shown(pilot, "All sessions except this one end.")
        await pilot.press("y")
        await until_shown(pilot, "2 sessions ended.", "Sessions · 1")
        for other in (laptop, tablet):
            with pytest.raises(AuthenticationError):
                other.get_current_user()
        assert client.get_current_user()["email"] == email
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))


@pytest.mark.parametrize("key", ["a", "x"])
async def test_end_of_own_session_leads_to_sign_in(beray_server: RunningServer, key: str) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    async with account_screen(beray_server, client, email) as pilot:
        await until_shown(pilot, "Sessions · 1")
        await pilot.press(key)
        await until_shown(pilot, "have to sign in")
        await pilot.press("y")
        await until(pilot, lambda: type(pilot.app.screen) is SignInScreen)
        await until_shown(pilot, "ended.")
        assert len(pilot.app.screen_stack) == 2
        await until(pilot, lambda: (Profiles().get("work") or pytest.fail()).token is None)
        await fill(pilot, "#password", PASSWORD)
        await until_shown(pilot, "No tasks yet", "● online")


async def test_session_that_is_revoked_elsewhere_asks_to_sign_in_and_returns(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    other = device_client(beray_server, email, "phone")
    async with account_screen(beray_server, client, email) as pilot:
        await until_shown(pilot, "Sessions · 2")
        accounts = pilot.app.screen
        other.revoke_sessions(others=True)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInAgainScreen))
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: pilot.app.screen is accounts)
        await until_shown(pilot, "● online", "Sessions · 2", "phone")


async def test_form_of_ended_session_asks_to_sign_in(beray_server: RunningServer) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    other = device_client(beray_server, email, "phone")
    async with account_screen(beray_server, client, email) as pilot:
        await pilot.press("p")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChangePasswordScreen))
        other.revoke_sessions(others=True)
        await fill(pilot, "#current", PASSWORD)
        await fill(pilot, "#new", NEW_PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInAgainScreen))
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: isinstance(pilot.app.screen, ChangePasswordScreen))
        await fill(pilot, "#again", NEW_PASSWORD)
        await until_notified(pilot, "The password was changed.")
    beray_server.client().login(email, NEW_PASSWORD)


async def test_password_is_changed_and_other_sessions_end(beray_server: RunningServer) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    phone = device_client(beray_server, email, "phone")
    async with account_screen(beray_server, client, email) as pilot:
        await pilot.press("p")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChangePasswordScreen))
        await fill(pilot, "#current", "not the password")
        await fill(pilot, "#new", "short")
        await fill(pilot, "#again", "short")
        await until_shown(pilot, "The password has 5 characters; 8 are required.")
        await fill(pilot, "#new", NEW_PASSWORD)
        await fill(pilot, "#again", "a different password")
        await until_shown(pilot, "The passwords differ.")
        await fill(pilot, "#again", NEW_PASSWORD)
        await until_shown(pilot, "The password is wrong.")
        assert is_refused(pilot, "#current") and NEW_PASSWORD not in screen(pilot)
        assert all(button.region.bottom < 24 for button in pilot.app.screen.query(Button))
        await fill(pilot, "#current", PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until_notified(pilot, "The password was changed.")
        assert isinstance(pilot.app.screen, AccountScreen)
        await until_shown(pilot, "Sessions · 1")
    with pytest.raises(AuthenticationError):
        phone.get_current_user()
    beray_server.client().login(email, NEW_PASSWORD)


async def test_address_is_changed_with_codes_of_both_addresses(
    beray_server: RunningServer,
) -> None:
    email, new = new_address(), new_address()
    taken = new_address()
    beray_server.sign_up(taken)
    client = beray_server.sign_up(email)
    mails = mail_count(beray_server, email)
    async with account_screen(beray_server, client, email) as pilot:
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChangeEmailScreen))
        await fill(pilot, "#email", new)
        await fill(pilot, "#password", "not the password")
        await until_shown(pilot, "The password is wrong.")
        assert is_refused(pilot, "#password")
        await fill(pilot, "#email", taken)
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: is_refused(pilot, "#email"))
        await fill(pilot, "#email", new)
        await fill(pilot, "#password", PASSWORD)
        await until_shown(pilot, "Code from the mail to the new address", new)
        await until_mailed(pilot, beray_server, email, mails)
        await until_mailed(pilot, beray_server, new, 0)
        codes = beray_server.mailed_code(email), beray_server.mailed_code(new)
        await fill(pilot, "#current-code", "000000" if codes[0] != "000000" else "111111")
        await fill(pilot, "#new-code", codes[1])
        await until(pilot, lambda: is_refused(pilot, "#current-code"))
        await fill(pilot, "#current-code", codes[0])
        await fill(pilot, "#new-code", codes[1])
        await until_notified(pilot, "The address of the account is now")
        assert isinstance(pilot.app.screen, AccountScreen)
        facts = pilot.app.screen.query_one("#account-facts", Static)
        await until(pilot, lambda: new in str(facts.render()))
        await until(pilot, lambda: (Profiles().get("work") or pytest.fail()).email == new)
    assert client.get_current_user()["email"] == new


async def test_data_is_exported(beray_server: RunningServer, here: Path) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    done(client, "!echo hello > hello.txt")
    async with account_screen_with_tasks(beray_server, client, email) as pilot:
        await pilot.press("d")
        await until_shown(pilot, "All data of the account", "beray-export.zip")
        (here / "beray-export.zip").write_text("mine")
        await fill(pilot, "#target", "beray-export.zip")
        await until_shown(pilot, "The file exists. Tick the box to overwrite it.")
        await fill(pilot, "#target", "mine.zip")
        await until_shown(pilot, "Saved", "mine.zip")
    assert (here / "beray-export.zip").read_text() == "mine"
    with zipfile.ZipFile(here / "mine.zip") as archive:
        assert json.loads(archive.read("account.json"))["email"] == email
        assert any(name.endswith("files/hello.txt") for name in archive.namelist())


@asynccontextmanager
async def account_screen_with_tasks(
    server: RunningServer, client: BeRayClient, email: str
) -> AsyncIterator[Pilot[None]]:
    app = BeRayApp(target(server, client, email), Profiles())
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "● online", "echo hello")
        await pilot.press("A")
        await until_shown(pilot, "Sessions · ")
        yield pilot


async def test_account_is_deleted_after_typed_confirmation(beray_server: RunningServer) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    async with account_screen(beray_server, client, email) as pilot:
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, DeleteAccountScreen))
        await fill(pilot, "#typed", "yes")
        await fill(pilot, "#password", PASSWORD)
        await until_shown(pilot, "Type the address that is shown above.")
        await fill(pilot, "#typed", email)
        await fill(pilot, "#password", "not the password")
        await until_shown(pilot, "The password is wrong.")
        assert all(button.region.bottom < 24 for button in pilot.app.screen.query(Button))
        assert client.get_current_user()["email"] == email
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: type(pilot.app.screen) is SignInScreen)
        await until_shown(pilot, "The account")
        await until(pilot, lambda: (Profiles().get("work") or pytest.fail()).token is None)
    with pytest.raises(AuthenticationError):
        client.get_current_user()


async def test_last_administrator_cannot_delete_the_account(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        email = new_address()
        client = administrator(server, email)
        async with account_screen(server, client, email) as pilot:
            await until_shown(pilot, "administrator")
            await pilot.press("X")
            await fill(pilot, "#typed", email)
            await fill(pilot, "#password", PASSWORD)
            await until_shown(pilot, "is the only administrator.")
            assert is_refused(pilot, "#typed")
        assert client.get_current_user()["email"] == email


async def test_local_server_has_export_only(beray_server: RunningServer, tmp_path: Path) -> None:
    client = beray_server.sign_up()
    local = Target(beray_server.url, "local", access_token(client), embedded=True)
    app = BeRayApp(local, Profiles())
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "No tasks yet", "● online")
        await pilot.press("A")
        await until_shown(pilot, "This is your local server", "● online", "d Export")
        shown = screen(pilot)
        assert not any(words in shown for words in ("Password", "Delete", "Sessions ·"))
        await pilot.press("p", "e", "X", "x", "a", "o", "f5", "U")
        assert isinstance(app.screen, AccountScreen)
        await pilot.press("d")
        await fill(pilot, "#target", str(tmp_path / "all.zip"))
        await until_shown(pilot, "Saved")
    assert zipfile.is_zipfile(tmp_path / "all.zip")


async def test_help_and_palette_list_the_account(beray_server: RunningServer) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    async with account_screen(beray_server, client, email) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await until_shown(pilot, "Sessions", "End the selected session")
        offered = {one.title for one in pilot.app.get_system_commands(pilot.app.screen_stack[-2])}
        assert {"End", "End others", "Password", "Address", "Export"} <= offered
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))
        commands = {one.title for one in pilot.app.get_system_commands(pilot.app.screen)}
        assert "Account" in commands and "Users" not in commands


async def test_server_that_is_unreachable_is_reported_and_read_again(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data")
    email = new_address()
    client = server.sign_up(email)
    app = BeRayApp(target(server, client, email), Profiles())
    try:
        async with app.run_test(size=SIZE, notifications=True) as pilot:
            await until_shown(pilot, "● online")
            server.stop()
            await pilot.press("A")
            await until_shown(pilot, "Press f5 to retry.", "○ offline")
            server.restart()
            await pilot.press("f5")
            await until_shown(pilot, "Sessions · 1", "● online")
    finally:
        server.stop()


# Without an application


def controller(around: Surroundings) -> AccountController:
    return AccountController(
        server=around.server,
        target=around.target,
        dialogs=around.dialogs,
        notify=around.notify,
        failures=around.failures,
        on_change=around.on_change,
    )


class Client:
    """Client with one session."""

    def get_current_user(self) -> object:
        return {"id": 1, "email": "ada@example.test", "role": "user"}

    def list_sessions(self) -> object:
        return [{"id": "one", "current": True}]

    def close(self) -> None:
        pass


def test_answers_for_an_earlier_client_are_ignored(tmp_path: Path) -> None:
    around = Surroundings(Client(), tmp_path)
    account = controller(around)
    account.read()
    late = around.target.next(AccountArrived)
    around.server.replace(around.server.target, Client())  # type: ignore[arg-type]
    account.arrived(late)
    account.failed(AccountFailed(late.client, ConnectionFailed("late")))
    assert (account.user, account.failure, around.changes) == (None, "", 0)
    account.read()
    account.arrived(around.target.next(AccountArrived))
    assert account.email == "ada@example.test" and around.changes == 1
    assert [one["id"] for one in account.sessions] == ["one"]


def test_server_without_sessions_has_an_account(tmp_path: Path) -> None:
    class PublishedClient(Client):
        def list_sessions(self) -> object:
            raise NotFoundError("404", status_code=404)

    around = Surroundings(PublishedClient(), tmp_path)
    account = controller(around)
    account.read()
    account.arrived(around.target.next(AccountArrived))
    assert account.email == "ada@example.test" and account.sessions == []


class HostileClient(Client):
    """Client of a server whose answers contain control sequences."""

    def get_current_user(self) -> object:
        return {"id": 1, "email": HOSTILE, "role": HOSTILE, "created_at": HOSTILE}

    def list_sessions(self) -> object:
        session = {"id": HOSTILE, "device": HOSTILE, "address": HOSTILE, "created_at": HOSTILE}
        return [session, {**session, "id": "other", "current": True, "last_used_at": 7}]

    def revoke_session(self, session_id: str) -> object:
        return {"message": HOSTILE}


async def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    class HostileStub(HostileClient, stub.StubClient):
        pass

    async with stub.stub_app(HostileStub(), tmp_path).run_test(
        size=SIZE, notifications=True
    ) as pilot:
        await until_shown(pilot, "No tasks yet")
        await pilot.press("A")
        await until_shown(pilot, "Sessions · 2", "[b]E")
        assert_clean(screen(pilot))
        await pilot.press("x")
        await until_shown(pilot, "End session", "y yes")
        assert_clean(screen(pilot))
        await pilot.press("y", "X")
        await until_shown(pilot, "Delete account")
        assert_clean(screen(pilot))
