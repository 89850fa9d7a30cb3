"""Forgotten, changed and required passwords at the dashboard, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input

from beray.config import Profiles, Target
from beray.exceptions import AuthenticationError
from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD
from tests.account_servers import mail_count
from tests.support import new_address
from tests.tui import dashboard_stub as stub
from tests.tui.account_servers import administrator, until_mailed, user_id
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tui.app import BeRayApp
from tui.screens.main import MainScreen
from tui.screens.reset_password import ResetPasswordScreen
from tui.screens.sign_in import SignInScreen
from tui.users.password_screen import ChangePasswordScreen

SIZE = (80, 24)
NEW_PASSWORD = "another long password"


def app_for(server: RunningServer, token: str | None = None, email: str = "") -> BeRayApp:
    return BeRayApp(Target(server.url, "work", token, email or None), Profiles())


def is_refused(pilot: Pilot[None], field: str) -> bool:
    return "refused" in pilot.app.screen.query_one(field).classes


async def test_forgotten_password_is_replaced_with_mailed_code(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    old = beray_server.sign_up(email)
    mails = mail_count(beray_server, email)
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Forgot password")
        pilot.app.screen.query_one("#email Input", Input).value = email
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(pilot.app.screen, ResetPasswordScreen))
        await until(pilot, lambda: pilot.app.screen.query("#again Input"))
        assert pilot.app.screen.query_one("#code").disabled
        await fill(pilot, "#email", email)
        await until_shown(pilot, "If the address has an account, a code is on its way.")
        await until(pilot, lambda: mail_count(beray_server, email) > mails)
        code = beray_server.mailed_code(email)
        await fill(pilot, "#code", "000000" if code != "000000" else "111111")
        await fill(pilot, "#password", NEW_PASSWORD)
        await fill(pilot, "#again", "a different password")
        await until_shown(pilot, "The passwords differ.")
        await fill(pilot, "#again", NEW_PASSWORD)
        await until_shown(pilot, "The code is wrong; 4 attempts left.")
        assert NEW_PASSWORD not in screen(pilot)
        assert all(button.region.bottom < 23 for button in pilot.app.screen.query(Button))
        await fill(pilot, "#code", code)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))
        await until_shown(pilot, "● online")
    profile = Profiles().get("work")
    assert profile is not None and profile.email == email
    assert beray_server.client(profile.token).get_current_user()["email"] == email
    with pytest.raises(AuthenticationError):
        old.get_current_user()
    with pytest.raises(AuthenticationError):
        beray_server.client().login(email, PASSWORD)


async def test_reset_does_not_reveal_unknown_address(beray_server: RunningServer) -> None:
    email = new_address()
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Forgot password")
        await pilot.click("#forgot")
        await until(pilot, lambda: isinstance(pilot.app.screen, ResetPasswordScreen))
        await fill(pilot, "#email", email)
        await until_shown(pilot, "If the address has an account, a code is on its way.")
        await fill(pilot, "#code", "123456")
        await fill(pilot, "#password", "short")
        await fill(pilot, "#again", "short")
        await until_shown(pilot, "The password has 5 characters; 8 are required.")
        await fill(pilot, "#password", NEW_PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until(pilot, lambda: is_refused(pilot, "#code"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInScreen))
    assert mail_count(beray_server, email) == 0


async def test_reset_at_server_without_this_call(tmp_path: Path) -> None:
    client = stub.StubClient()
    async with stub.stub_app(client, tmp_path, token=None).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Forgot password")
        client.message = stub.NotFoundError("404", status_code=404, error_detail="Not Found")
        await pilot.press("f4")
        await fill(pilot, "#email", "ada@example.test")
        await until_shown(pilot, "This server does not support it. Ask its operator.")


async def test_forgotten_password_after_session_ended_keeps_tasks(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    client.create_task("!echo the task of ada")
    mails = mail_count(beray_server, email)
    app = app_for(beray_server, access_token(client), email)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "the task of ada")
        main = app.screen
        client.logout()
        await pilot.press("f")
        await until_shown(pilot, "Sign in again")
        await pilot.press("f4")
        await fill(pilot, "#email", email)
        await until_mailed(pilot, beray_server, email, mails)
        await fill(pilot, "#code", beray_server.mailed_code(email))
        await fill(pilot, "#password", NEW_PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until(pilot, lambda: app.screen is main)
        await until_shown(pilot, "● online", "the task of ada")


async def test_temporary_password_has_to_be_changed_before_tasks(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    beray_server.sign_up(email).create_task("!echo the task of ada")
    admin = administrator(beray_server)
    temporary = admin.admin.reset_password(user_id(admin, email))["password"]
    async with app_for(beray_server).run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "Sign in")
        await fill(pilot, "#email", email)
        await fill(pilot, "#password", temporary)
        await until_shown(pilot, "An administrator requires a new password")
        assert "the task of ada" not in screen(pilot)
        await fill(pilot, "#current", "not the password")
        await fill(pilot, "#new", NEW_PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until_shown(pilot, "The password is wrong.")
        assert is_refused(pilot, "#current")
        await fill(pilot, "#current", temporary)
        await fill(pilot, "#new", "password1")
        await fill(pilot, "#again", "password1")
        await until(pilot, lambda: is_refused(pilot, "#new"))
        await fill(pilot, "#new", NEW_PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until_shown(pilot, "the task of ada", "● online")
        assert isinstance(pilot.app.screen, MainScreen)
    beray_server.client().login(email, NEW_PASSWORD)


async def test_escape_from_required_password_signs_out(beray_server: RunningServer) -> None:
    email = new_address()
    beray_server.sign_up(email)
    admin = administrator(beray_server)
    temporary = admin.admin.reset_password(user_id(admin, email))["password"]
    async with app_for(beray_server).run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "Sign in")
        await fill(pilot, "#email", email)
        await fill(pilot, "#password", temporary)
        await until_shown(pilot, "An administrator requires a new password", "esc signs out")
        await pilot.press("escape")
        await until_shown(pilot, "Signed out of work")
        assert isinstance(pilot.app.screen, SignInScreen)
    profile = Profiles().get("work")
    assert profile is not None and profile.token is None


async def test_password_that_is_required_meanwhile(beray_server: RunningServer) -> None:
    email = new_address()
    client = beray_server.sign_up(email)
    admin = administrator(beray_server)
    app = app_for(beray_server, access_token(client), email)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "No tasks yet", "● online")
        main = app.screen
        admin.admin.change_user(user_id(admin, email), must_change_password=True)
        await pilot.press("n")
        await until_shown(pilot, "New task")
        await fill(pilot, "#new-goal", "!echo later")
        await until(pilot, lambda: isinstance(app.screen, ChangePasswordScreen))
        await fill(pilot, "#current", PASSWORD)
        await fill(pilot, "#new", NEW_PASSWORD)
        await fill(pilot, "#again", NEW_PASSWORD)
        await until(pilot, lambda: not isinstance(app.screen, ChangePasswordScreen))
        await until_shown(pilot, "● online")
        assert main in app.screen_stack
