"""Text from outside: shown as it is, obeyed nowhere, and never the end of the dashboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from beray.config import Profiles, Target
from beray.exceptions import APIError, AuthenticationError, ConnectionFailed
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.hostile_text import BIG, HOSTILE, assert_clean, every_event
from tui.app import BeRayApp
from tui.log.pane import LogPane
from tui.screens.main import MainScreen
from tui.screens.sign_in import SignInScreen
from tui.state.user_state import UserState


def hostile_client() -> stub.StubClient:
    client = stub.StubClient()
    client.tasks = [
        stub.task(
            2, HOSTILE, HOSTILE, reason=HOSTILE, started_at=HOSTILE, ended_at=7, last_line=HOSTILE
        ),
        stub.task(1, BIG, "RUNNING", reason=BIG),
    ]
    client.events = {2: every_event(), 1: [stub.text(BIG), stub.text(HOSTILE)]}
    client.files = [
        {"name": HOSTILE, "path": HOSTILE, "type": "file", "size": 5},
        {"name": HOSTILE, "path": "[/]", "type": "directory"},
        {"name": "", "path": "[/]/" + HOSTILE, "type": HOSTILE},
    ]
    client.content = HOSTILE.encode("utf-8", "surrogatepass").replace(b"\0", b"")
    client.message = {"message": HOSTILE}
    return client


def app_for(client: stub.StubClient, folder: Path, token: str | None = "token") -> BeRayApp:
    target = Target(f"https://[::1]/{HOSTILE}", HOSTILE, token, HOSTILE)
    return BeRayApp(
        target,
        Profiles(folder / "profiles.json"),
        connect=lambda _: client,  # type: ignore[arg-type,return-value]
        user_state=UserState(folder / "dashboard"),
    )


async def test_a_hostile_task_is_shown_in_every_pane(tmp_path: Path) -> None:
    async with app_for(hostile_client(), tmp_path).run_test(
        size=(120, 40), notifications=True
    ) as pilot:
        log = pilot.app.screen_stack[-1]
        assert isinstance(log, MainScreen)
        await until(pilot, lambda: log.task_state.selected is not None)
        await pilot.press("down")
        events = log.query_one(LogPane)
        await until(pilot, lambda: "SOMETHING_NEW" in "".join(events.row_texts))
        assert_clean(screen(pilot))
        assert "[b]E[@click=app.quit]F[/]" in screen(pilot)
        await pilot.press("f")
        await until_shown(pilot, "1  A", "日本語")
        assert_clean(screen(pilot))
        for key in ("d", "x", "z", "s"):
            await pilot.press(key)
            await pilot.pause()
            assert_clean(screen(pilot))
            await pilot.press("escape")
            await pilot.pause()
        await until_shown(pilot, "[@click=app.quit]")
        assert_clean(screen(pilot))
        assert pilot.app.is_running


async def test_a_megabyte_without_a_line_break_is_laid_out(tmp_path: Path) -> None:
    async with app_for(hostile_client(), tmp_path).run_test(
        size=(80, 24), notifications=True
    ) as pilot:
        await until_shown(pilot, "mmm")
        await pilot.press("tab", "end")
        main = pilot.app.screen
        assert isinstance(main, MainScreen)
        events = main.query_one(LogPane)
        await until(pilot, lambda: events.row_texts[-1:] and events.row_texts[-1].endswith("L"))
        assert sum(map(len, events.row_texts)) > 400_000
        assert_clean(screen(pilot))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailed(HOSTILE),
        APIError(HOSTILE, status_code=500, error_detail=HOSTILE),
        APIError(
            HOSTILE, status_code=422, error_detail=[{"loc": ["body", HOSTILE], "msg": BIG[:50_000]}]
        ),
        APIError(BIG[:50_000], status_code=500, error_detail={HOSTILE: HOSTILE}),
        OSError(5, HOSTILE),
    ],
    ids=["connection", "detail", "validation", "object", "os"],
)
async def test_hostile_errors_are_shown_and_nothing_more(tmp_path: Path, error: Exception) -> None:
    client = hostile_client()
    async with app_for(client, tmp_path).run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "● online")
        client.files = client.events[1] = client.message = client.created = error
        await pilot.press("f", "s")
        await until_shown(pilot, "Could not stop the task")
        await pilot.press("e", "tab", "down")
        client.tasks = error
        await until(
            pilot, lambda: any(word in screen(pilot) for word in ("○ offline", "○ server error"))
        )
        assert_clean(screen(pilot))
        assert pilot.app.is_running


async def test_hostile_refusals_of_forms_are_shown_beside_the_field(tmp_path: Path) -> None:
    client = hostile_client()
    client.session = AuthenticationError(HOSTILE, status_code=401, error_detail=HOSTILE)
    async with app_for(client, tmp_path, token=None).run_test(
        size=(80, 24), notifications=True
    ) as pilot:
        await pilot.pause()
        await fill(pilot, "#email", "a@b.c")
        await fill(pilot, "#password", "12345678")
        await until_shown(pilot, "[b]E[@click=app.quit]F[/]")
        assert_clean(screen(pilot))
        await pilot.press("f2")
        await until_shown(pilot, "Code from the e-mail")
        await fill(pilot, "#email", "a@b.c")
        await until_shown(pilot, "[b]E[@click")
        await fill(pilot, "#code", "123456")
        await fill(pilot, "#password", "12345678")
        await until_shown(pilot, "Create account")
        assert_clean(screen(pilot))


async def test_a_hostile_reason_for_signing_in_again(tmp_path: Path) -> None:
    client = hostile_client()
    client.tasks = AuthenticationError("no", status_code=401, error_detail=HOSTILE)

    def asked(pilot: Pilot[None]) -> bool:
        return isinstance(pilot.app.screen, SignInScreen)

    async with app_for(client, tmp_path).run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: asked(pilot))
        await until_shown(pilot, "[@click=app.quit]")
        assert_clean(screen(pilot))
