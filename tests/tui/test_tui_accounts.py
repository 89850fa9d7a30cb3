"""Signing in and registering at the dashboard, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Button, Input

from beray.config import Profiles, Target
from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD
from tests.support import new_address
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tui import messages
from tui.app import BeRayApp
from tui.log.pane import LogPane
from tui.screens.main import MainScreen
from tui.screens.register import RegisterScreen
from tui.screens.sign_in import SignInAgainScreen, SignInScreen

SIZE = (80, 24)


def app_for(server: RunningServer, token: str | None = None, **more: object) -> BeRayApp:
    return BeRayApp(Target(server.url, "work", token, **more), Profiles())  # type: ignore[arg-type]


def at_the_tasks(pilot: Pilot[None]) -> bool:
    return isinstance(pilot.app.screen, MainScreen)


async def test_a_wrong_password_is_refused_in_the_servers_words_and_a_right_one_is_remembered(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    beray_server.sign_up(email)
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Sign in")
        await fill(pilot, "#email", email)
        await fill(pilot, "#password", "not the password")
        await until_shown(pilot, "The e-mail address or the password is wrong.")
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
    email = new_address()
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Create an account")
        await pilot.press("f2")
        await until_shown(pilot, "Code from the e-mail")
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


async def test_the_time_to_the_next_code_is_counted_down_and_a_pasted_mail_is_understood(
    beray_server: RunningServer,
) -> None:
    now, email = 1000.0, new_address()
    client, target = beray_server.client(), Target(beray_server.url, "work")
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Sign in")
        pilot.app.push_screen(RegisterScreen(client, target, Profiles(), clock=lambda: now))
        await fill(pilot, "#email", email)
        await until_shown(pilot, "Send again in 60 s", "A verification code is on its way.")
        send = pilot.app.screen.query_one("#send", Button)
        assert send.disabled
        now += 17.5
        await until_shown(pilot, "Send again in 43 s")
        now += 42.5
        await until(pilot, lambda: not send.disabled and "Send again in" not in screen(pilot))
        await pilot.click("#send")
        # The clock of the test is ahead of the server's, which says how long it really is.
        await until_shown(pilot, "A code was sent less than", "Send again in")
        assert send.disabled and pilot.app.screen.query_one("#code Input").has_focus
        now += 60
        await until(pilot, lambda: "A code was sent" not in screen(pilot) and not send.disabled)
        code = beray_server.mailed_code(email)
        paste = f"\nYour code is {code[:3]} {code[3:]}\nIt is valid for 10 minutes.\n"
        pilot.app.post_message(events.Paste("wrong 999 999"))
        pilot.app.post_message(events.Paste(paste))
        box = pilot.app.screen.query_one("#code Input", Input)
        await until(pilot, lambda: box.value == code)
        assert all(button.region.bottom < 23 for button in pilot.app.screen.query(Button))
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: at_the_tasks(pilot))


async def test_a_password_is_neither_shown_nor_exported_nor_copied(
    beray_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        copied: list[str] = []
        monkeypatch.setattr(pilot.app, "copy_to_clipboard", copied.append)
        await until_shown(pilot, "Sign in")
        box = pilot.app.screen.query_one("#password Input", Input)
        box.focus()
        pilot.app.post_message(events.Paste(f"\n{PASSWORD}\n"))
        await until(pilot, lambda: box.value == PASSWORD)
        await pilot.press("ctrl+shift+a", "ctrl+c", "ctrl+x")
        pilot.app.screen.text_select_all()
        await pilot.press("ctrl+c")
        exported = pilot.app.export_screenshot()
        assert box.value == PASSWORD and "•" * len(PASSWORD) in screen(pilot)
        for word in PASSWORD.split():
            assert word not in exported.replace("&#160;", " ") and word not in "".join(copied)
        assert not any(part in repr(box) for part in PASSWORD.split())


async def test_an_address_that_is_registered_is_said_beside_the_address(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    beray_server.sign_up(email)
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Create an account")
        await pilot.press("f2")
        await until_shown(pilot, "Code from the e-mail")
        await fill(pilot, "#email", email)
        await until(pilot, lambda: "refused" in pilot.app.screen.query_one("#email").classes)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInScreen))


async def test_an_expired_session_asks_for_the_password_and_goes_on_where_it_was(
    beray_server: RunningServer,
) -> None:
    email = new_address()
    client, other = beray_server.sign_up(email), beray_server.client()
    other.login(email, PASSWORD)
    gate = "until [ -e go ]; do sleep 0.02; done"
    first = other.create_task(f"!echo begun one; {gate}; echo ended one")
    other.create_task("!echo begun two; sleep 5")
    app = app_for(beray_server, access_token(client), email=email)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "● online", "begun two")
        main = app.screen
        log = main.query_one(LogPane)
        await pilot.press("down")
        await until(pilot, lambda: "begun one" in log.row_texts)
        client.logout()
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, SignInAgainScreen))
        reason = app.screen.query_one("#reason")
        await until(pilot, lambda: reason.display and str(reason.render()).strip())
        for _ in range(5):
            app.post_message(messages.SessionEnded("once more"))
        await fill(pilot, "#password", "not the password")
        await until_shown(pilot, "The e-mail address or the password is wrong.")
        assert sum(isinstance(one, SignInScreen) for one in app.screen_stack) == 1
        await fill(pilot, "#password", PASSWORD)
        await until(pilot, lambda: app.screen is main)
        await until_shown(pilot, "No files yet")
        await pilot.press("e")
        other.upload_file(first["id"], "go", "")
        await until_shown(pilot, "● online", "■ ended")
        await until(pilot, lambda: "ended one" in log.row_texts)
        assert log.row_texts.count("begun one") == log.row_texts.count("ended one") == 1
        # What the old session is told now is no reason to ask again.
        app.post_message(messages.SessionEnded("a late answer"))
        await until_shown(pilot, "a late answer")
        assert app.screen is main and len(app.screen_stack) == 2


async def test_somebody_else_begins_afresh_and_escape_signs_out(
    beray_server: RunningServer,
) -> None:
    ada, bob = new_address(), new_address()
    clients = beray_server.sign_up(ada), beray_server.sign_up(bob)
    clients[0].create_task("!echo the task of ada")
    Profiles().sign_in(Target(beray_server.url, "work"), access_token(clients[0]), ada)
    app = app_for(beray_server, access_token(clients[0]), email=ada)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "the task of ada")
        main = app.screen
        clients[0].logout()
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, SignInAgainScreen))
        app.notify("the task of ada has ended", timeout=600)
        await fill(pilot, "#email", bob)
        await fill(pilot, "#password", PASSWORD)
        await until_shown(pilot, "No tasks yet")
        assert app.screen is not main and "the task of ada" not in screen(pilot)
        assert main not in app.screen_stack
        beray_server.client(app.session.server.target.token).logout()
        app.post_message(messages.SessionEnded("it has ended"))
        await until(pilot, lambda: isinstance(app.screen, SignInAgainScreen))
        await pilot.press("escape")
        await until_shown(pilot, "Signed out of work; the session had already ended")
        assert not isinstance(app.screen, SignInAgainScreen) and len(app.screen_stack) == 2
    profile = Profiles().get("work")
    assert profile is not None and (profile.token, profile.email) == (None, bob)


async def test_the_embedded_server_needs_no_signing_in(
    beray_server: RunningServer, own_home: Path
) -> None:
    client = beray_server.sign_up()
    token = access_token(client)
    async with app_for(beray_server, token, embedded=True).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "local server", "No tasks yet")
    assert not (own_home / "beray" / "profiles.json").exists()


@pytest.mark.parametrize("given", ["", "   "])
async def test_an_empty_form_is_not_sent(beray_server: RunningServer, given: str) -> None:
    async with app_for(beray_server).run_test(size=SIZE) as pilot:
        await until_shown(pilot, "Sign in")
        await fill(pilot, "#email", given)
        await fill(pilot, "#password", "some password")
        await until_shown(pilot, "Enter your e-mail address.")
