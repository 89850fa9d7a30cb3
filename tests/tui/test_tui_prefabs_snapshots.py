"""How the screens of prefabs look, at both sizes."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select, TextArea

from beray.gateway import ObjectNotFoundError, Unreachable
from tests.tui import gateway_stub
from tests.tui.dashboard_pilot import until, until_shown, wait_settled
from tests.tui.gateway_stub import DONE, EVENTS, StubGateway, event, full_gateway
from tests.tui.prefab_pilot import CONVERT, call, online
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.list_screen import PrefabsScreen

Prepare = Callable[[Pilot[None]], Awaitable[object]]


@pytest.fixture(params=[(80, 24), (120, 40)], ids=["80x24", "120x40"])
def prefabs_look_right(request: pytest.FixtureRequest, snap_compare: Any, tmp_path: Path) -> Any:
    """Compare what ``prepare`` makes of the prefabs' screen with its picture."""

    def compare(gateway: StubGateway, prepare: Prepare) -> bool:
        async def run_before(pilot: Pilot[None]) -> None:
            await until(pilot, lambda: online(pilot))
            await pilot.press("P")
            await until(pilot, lambda: isinstance(pilot.app.screen, PrefabsScreen))
            await prepare(pilot)
            for screen in pilot.app.screen_stack:
                for area in screen.query(TextArea):
                    area.cursor_blink = False
                for box in screen.query(Input):
                    box.cursor_blink = False
            await wait_settled(pilot)

        app = gateway_stub.prefab_app(gateway, tmp_path)
        same: bool = snap_compare(app, terminal_size=request.param, run_before=run_before)
        return same

    return compare


@pytest.fixture
def sales(own_home: Path) -> Path:
    file = own_home / "sales.csv"
    file.write_text("shop,day\n" * 200)
    return file


async def filled(pilot: Pilot[None], sales: Path) -> CallScreen:
    shown = await call(pilot, *CONVERT)
    shown.form.files[0].set_paths((sales,))
    shown.query_one("#field-0 Select", Select).value = '"parquet"'
    shown.form.files[0].focus_input()
    await until_shown(pilot, "1.8 K")
    return shown


async def ran(pilot: Pilot[None], sales: Path, *texts: str) -> None:
    await filled(pilot, sales)
    await pilot.press("ctrl+r")
    await until_shown(pilot, *texts)


def test_prefabs_and_the_spec_of_one(prefabs_look_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Table tool")
        await pilot.press("down", "down", "down")
        await until_shown(pilot, "2 versions", "streams its output")

    assert prefabs_look_right(full_gateway(), prepare)


@pytest.mark.parametrize(
    ("prefabs", "shown"),
    [
        ([], "No prefabs yet"),
        (ObjectNotFoundError("Not Found", status_code=404), "has no prefabs"),
        (Unreachable("could not reach the server (Connection refused)"), "could not reach"),
    ],
    ids=["none", "no-gateway", "offline"],
)
def test_where_there_are_no_prefabs(prefabs_look_right: Any, prefabs: Any, shown: str) -> None:
    gateway = StubGateway()
    gateway.prefabs = prefabs
    assert prefabs_look_right(gateway, lambda pilot: until_shown(pilot, shown))


def test_prefabs_that_are_still_being_read(prefabs_look_right: Any) -> None:
    gateway = StubGateway()
    gateway.blocked = threading.Event()
    try:
        assert prefabs_look_right(gateway, lambda pilot: until_shown(pilot, "Loading prefabs"))
    finally:
        gateway.blocked.set()


def test_an_empty_form(prefabs_look_right: Any) -> None:
    assert prefabs_look_right(full_gateway(), lambda pilot: call(pilot, *CONVERT))


def test_a_form_with_problems(prefabs_look_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await call(pilot, *CONVERT)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "Add a file.")

    assert prefabs_look_right(full_gateway(), prepare)


def test_a_form_that_is_filled_in(prefabs_look_right: Any, sales: Path) -> None:
    assert prefabs_look_right(full_gateway(), lambda pilot: filled(pilot, sales))


def test_a_run_under_way(prefabs_look_right: Any, sales: Path) -> None:
    gateway = full_gateway()
    gateway.events = EVENTS
    assert prefabs_look_right(gateway, lambda pilot: ran(pilot, sales, "62%", "row group"))


def test_a_run_that_is_done(prefabs_look_right: Any, sales: Path) -> None:
    gateway = full_gateway()
    gateway.events = [*EVENTS, DONE]
    assert prefabs_look_right(gateway, lambda pilot: ran(pilot, sales, "✓ done", "result.json"))


def test_a_run_that_has_failed(prefabs_look_right: Any, sales: Path) -> None:
    gateway = full_gateway()
    problem = {
        "code": "FUNCTION_ERROR",
        "message": "KeyError: there is no column named day",
        "traceback": 'Traceback (most recent call last):\n  File "table.py", line 42, in convert\n'
        "    raise KeyError(name)\nKeyError: there is no column named day\n",
    }
    gateway.events = [*EVENTS, event("error", problem)]

    async def prepare(pilot: Pilot[None]) -> None:
        await ran(pilot, sales, "✗ failed", "press t to show the traceback")
        await pilot.press("t")
        await until_shown(pilot, "line 42")

    assert prefabs_look_right(gateway, prepare)


def test_a_result_that_is_looked_at(prefabs_look_right: Any, sales: Path) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await ran(pilot, sales, "✓ done", "result.json")
        await pilot.press("end", "enter")
        await until_shown(pilot, '"columns": [', "d saves")

    assert prefabs_look_right(full_gateway(), prepare)
