"""Signing in and registering at the dashboard, against a real server."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button

from beray.config import Profiles, Target
from beray.exceptions import RateLimitError
from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tui.app import BeRayApp
from tui.screens.main import MainScreen
from tui.screens.sign_in import SignInScreen

SIZE = (80, 24)


def app_for(server: RunningServer, token: str | None = None, **more: object) -> BeRayApp:
    return BeRayApp(Target(server.url, "work", token, **more), Profiles())  # type: ignore[arg-type]


def address() -> str:
    return f"user-{secrets.token_hex(6)}@example.test"


def at_the_tasks(pilot: Pilot[None]) -> bool:
    return isinstance(pilot.app.screen, MainScreen)


async def test_a_wrong_password_is_refused_in_the_servers_words_and_a_right_one_is_remembered(
    beray_server: RunningServer,
) -> None:
    email = address()
    beray_server.sign_up(email)
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Sign in")
        await fill(pilot, "#email", email)
        await fill(pilot, "#password", "not the password")
        await until_shown(pilot, "The e-mail or the password is wrong.")
        assert "not the password" not in screen(pilot)
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: at_the_tasks(pilot))
        await until_shown(pilot, "● online", email[:12])
    saved = Profiles()
    assert saved.current == "work"
    profile = saved.get("work")
    assert profile is not None and profile.email == email
    assert beray_server.client(profile.token).get_current_user()["email"] == email


async def test_registering_leads_from_the_mailed_code_to_the_tasks(
    beray_server: RunningServer,
) -> None:
    email = address()
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Create an account")
        await pilot.press("f2")
        await until_shown(pilot, "Code from the mail")
        assert pilot.app.screen.query_one("#code").disabled
        await fill(pilot, "#email", email)
        await until(pilot, lambda: not pilot.app.screen.query_one("#code").disabled)
        code = beray_server.mailed_code(email)
        wrong = "000000" if code != "000000" else "111111"
        await fill(pilot, "#code", wrong)
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: "refused" in pilot.app.screen.query_one("#code").classes)
        assert wrong not in screen(pilot) and PASSWORD not in screen(pilot)
        await fill(pilot, "#code", code)
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: at_the_tasks(pilot))
    assert Profiles().current == "work"


async def test_a_code_can_be_asked_for_again_and_the_servers_refusal_is_shown(
    tmp_path: Path,
) -> None:
    client = stub.StubClient()
    client.message = {"message": "A code is on its way."}
    async with stub.stub_app(client, tmp_path, token=None).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Create an account")
        await pilot.press("f2")
        await fill(pilot, "#email", "ada@example.test")
        await until_shown(pilot, "A code is on its way.", "Send again")
        client.message = RateLimitError("429", status_code=429, error_detail="Wait a minute.")
        pilot.app.screen.query_one("#send", Button).press()
        await until_shown(pilot, "Wait a minute.")
        assert "refused" in pilot.app.screen.query_one("#email").classes


async def test_an_address_that_is_registered_is_said_beside_the_address(
    beray_server: RunningServer,
) -> None:
    email = address()
    beray_server.sign_up(email)
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Create an account")
        await pilot.press("f2")
        await until_shown(pilot, "Code from the mail")
        await fill(pilot, "#email", email)
        await until(pilot, lambda: "refused" in pilot.app.screen.query_one("#email").classes)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInScreen))


async def test_a_session_that_ends_asks_again_with_the_reason(beray_server: RunningServer) -> None:
    email = address()
    client = beray_server.sign_up(email)
    token = str(client._session.headers["Authorization"]).removeprefix("Bearer ")
    async with app_for(beray_server, token, email=email).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "No tasks yet")
        client.logout()
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInScreen))
        reason = pilot.app.screen.query_one("#reason")
        assert reason.display and str(reason.render()).strip()
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: at_the_tasks(pilot))
        await until_shown(pilot, "● online")


async def test_the_embedded_server_needs_no_signing_in(
    beray_server: RunningServer, own_home: Path
) -> None:
    client = beray_server.sign_up()
    token = str(client._session.headers["Authorization"]).removeprefix("Bearer ")
    async with app_for(beray_server, token, embedded=True).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "own server", "No tasks yet")
    assert not (own_home / "beray" / "profiles.json").exists()


@pytest.mark.parametrize("given", ["", "   "])
async def test_an_empty_form_is_not_sent(beray_server: RunningServer, given: str) -> None:
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Sign in")
        await fill(pilot, "#email", given)
        await fill(pilot, "#password", "some password")
        await until_shown(pilot, "Which e-mail address?")
