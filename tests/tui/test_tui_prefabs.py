"""Prefabs in the dashboard: browsed, filled in, run, watched, and what they made taken."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import OptionList, Select

from beray.gateway import (
    AuthenticationError,
    MissingSecretError,
    ObjectNotFoundError,
    QuotaExceededError,
    RejectedInput,
    Unreachable,
)
from tests.tui import dashboard_stub as stub
from tests.tui import gateway_stub
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.gateway_stub import DONE, StubGateway, event, full_gateway, function_of
from tests.tui.hostile_text import BIG, HOSTILE, assert_clean
from tests.tui.prefab_pilot import CONVERT, call, over, prefabs, simple_gateway
from tui.messages import SignedIn, SuccessorFound
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.form.form import FunctionForm
from tui.prefabs.list_screen import PrefabOptionList, PrefabsScreen
from tui.prefabs.secret_screen import SecretScreen
from tui.screens.main import MainScreen
from tui.screens.sign_in import SignInAgainScreen

# Browsing


async def test_prefabs_are_browsed_and_their_specs_read(tmp_path: Path) -> None:
    gateway = full_gateway()
    old = {**gateway_stub.TABLE, "version": "1.1.0", "functions": [function_of("split")]}
    gateway.specs["table@1.1.0"] = old
    async with prefabs(gateway, tmp_path, (120, 50)) as pilot:
        await until_shown(
            pilot, "Prefabs · 4", "Image tool", "把天气", "needs a secret", "disabled"
        )
        await pilot.press("down", "down", "down")
        await until_shown(pilot, "2 versions", "convert", "What the table becomes", "summarise")
        await pilot.press("v")
        await until_shown(pilot, "table  1.1.0", "split")
        await pilot.press("v")
        await until_shown(pilot, "table  1.2.0", "What the table becomes")
        gateway.specs["old"] = gateway_stub.spec_of("old", function_of("f"), status="disabled")
        await pilot.press("end")
        await until_shown(pilot, "The prefab is disabled")
        await pilot.press("enter")
        await until_shown(pilot, "old is disabled and cannot be called")
        assert isinstance(pilot.app.screen, PrefabsScreen)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))


async def test_prefabs_that_cannot_be_had_say_why_and_are_looked_for_again(tmp_path: Path) -> None:
    gateway = full_gateway()
    gateway.blocked = threading.Event()
    gateway.prefabs = []
    async with prefabs(gateway, tmp_path) as pilot:
        await until_shown(pilot, "Loading prefabs")
        gateway.blocked.set()
        await until_shown(pilot, "No prefabs yet", "beray prefab add")
        for error, words in (
            (ObjectNotFoundError("Not Found", status_code=404), "has no prefabs"),
            (Unreachable("could not reach the server"), "could not reach the server"),
            (QuotaExceededError("too many calls"), "too many calls"),
        ):
            gateway.prefabs = error
            await pilot.press("f5")
            await until_shown(pilot, words)
        gateway.prefabs = gateway_stub.PREFABS
        gateway.specs["image"] = Unreachable("the line is cut")
        await pilot.press("f5")
        await until_shown(pilot, "Image tool", "the line is cut", "● online")
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, PrefabsScreen)


async def test_a_session_that_has_ended_is_asked_for_again(tmp_path: Path) -> None:
    gateway, client = full_gateway(), stub.full_client()
    app = gateway_stub.prefab_app(gateway, tmp_path, client)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "● online", "● live")
        gateway.prefabs = AuthenticationError("the token has expired", status_code=401)
        client.tasks = AuthenticationError("the token has expired", status_code=401)
        await pilot.press("P")
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInAgainScreen))
        gateway.prefabs, client.tasks = gateway_stub.PREFABS, stub.TASKS
        app.post_message(SignedIn(replace(app.session.server.target, token="new")))
        await until_shown(pilot, "Table tool", "● online")
        assert (
            app.run_registry is not None
            and app.run_registry.target.token == "new"
            and gateway.closed
        )


async def test_the_address_is_that_of_the_server_that_took_the_place(tmp_path: Path) -> None:
    app = gateway_stub.prefab_app(full_gateway(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "● online", "● live")
        await pilot.press("P")
        await until_shown(pilot, "Table tool", "https://beray.example")
        other = replace(app.session.server.target, url="https://beray.example:8443")
        app.post_message(SuccessorFound(other, app.session.server.client))
        await until_shown(pilot, "https://beray.example:8443")


async def test_what_is_selected_stays_in_sight_whatever_the_size(tmp_path: Path) -> None:
    gateway = full_gateway()
    names = [f"function-{number}" for number in range(30)]
    gateway.prefabs = [gateway_stub.info("image", name="Image tool", functions=names)]
    gateway.specs = {"image": gateway_stub.spec_of("image", *map(function_of, names))}
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot, *["down"] * 20)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await pilot.press("escape")
        listed = pilot.app.screen_stack[2].query_one(PrefabOptionList)
        await until(pilot, lambda: "  function-19" in shown_in(pilot, listed))


def shown_in(pilot: Pilot[None], widget: Widget) -> str:
    region = widget.region
    return "\n".join(screen(pilot).splitlines()[region.y : region.bottom])


# The form


async def test_what_is_wrong_is_said_beside_it_and_nothing_is_sent(
    tmp_path: Path, here: Path
) -> None:
    gateway = full_gateway()
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot, *CONVERT)
        await until_shown(pilot, "table *", "format *", "CSV, Parquet", "integer, 1 to", "header")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "Add a file.", "A value is required.")
        await pilot.press("enter")
        await until_shown(pilot, "Select a file for table", "sub/", "sales.csv")
        assert "notes.txt" not in screen(pilot)
        await pilot.press("enter")
        await until_shown(pilot, "more.CSV")
        await pilot.press("enter")
        await until_shown(pilot, "more.CSV  2 B")
        assert "Add a file." not in screen(pilot)
        await fill(pilot, "#field-2", "-3")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "The value must be at least 1.")
        assert pilot.app.focused is pilot.app.screen.query_one("#field-0 Select")
        await pilot.press("enter", "down", "enter")
        await fill(pilot, "#field-2", "12")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✓ done")
    expected = {"format": "csv", "rows": 12, "header": True}
    sent = {"table": ["s3://beray/agent-inputs/1/1/more.CSV"]}
    assert gateway.calls == [("table", "1.2.0", "convert", expected, sent)]
    assert gateway.uploaded == [here / "sub" / "more.CSV"]


async def test_files_are_put_in_and_taken_out(tmp_path: Path, here: Path) -> None:
    function = function_of("f", inputs={"all": {"many": True}, "one": {"types": [".csv"]}})
    gateway = simple_gateway(function)
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot)
        for name in ("sales.csv", "notes.txt", "sales.csv"):
            await pilot.press("ctrl+o")
            await until_shown(pilot, "Select a file for all")
            await pilot.press(*name)
            choices = pilot.app.screen.query_one("#choices", OptionList)
            await until(pilot, lambda choices=choices: choices.option_count == 1)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
        await until_shown(pilot, "sales.csv has already been added", "notes.txt  1 B")
        await pilot.press("home", "delete")
        await until(pilot, lambda: "sales.csv" not in screen(pilot))
        (here / "notes.txt").unlink()
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✗ rejected")
        (here / "notes.txt").write_text("y")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✓ done")
    assert [paths[-1] for paths in gateway.calls] == [
        {"all": ["s3://beray/agent-inputs/1/1/notes.txt"]}
    ]


async def test_what_the_server_refuses_is_said_where_it_belongs(tmp_path: Path, here: Path) -> None:
    gateway = full_gateway()
    loc = ["calls", 0, "inputs"]
    errors = [
        {"loc": [*loc, "parameters", "rows"], "msg": "rows do not like this"},
        {"loc": [*loc, "files", "table", 0], "msg": "no table in it"},
        {"loc": [*loc, "parameters", "unknown"], "msg": "nobody knows it"},
    ]
    gateway.events = RejectedInput("refused", {"errors": errors})
    async with prefabs(gateway, tmp_path) as pilot:
        shown = await call(pilot, *CONVERT)
        form = shown.query_one(FunctionForm)
        form.files[0].set_paths((here / "sales.csv",))
        shown.query_one("#field-0 Select", Select).value = '"csv"'
        await pilot.press("ctrl+r")
        await until_shown(
            pilot, "rows do not like this", "0: no table in it", "unknown: nobody knows it"
        )
        assert pilot.app.focused is not None and form in pilot.app.focused.ancestors
        gateway.events = [DONE]
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✓ done")
        assert "nobody knows it" not in screen(pilot)


async def test_every_kind_of_field_gives_its_value(tmp_path: Path) -> None:
    properties = {
        "text": {"type": "string"},
        "word": {"type": "string", "description": "A word."},
        "ratio": {"type": "number", "default": 0.5},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "maybe": {"type": "boolean"},
        "flag": {"type": "boolean", "default": False},
        "level": {"enum": ["low", "high"], "default": "low"},
        "options": {"type": "object"},
    }
    gateway = simple_gateway(function_of("f", properties))
    async with prefabs(gateway, tmp_path, (120, 60)) as pilot:
        shown = await call(pilot)
        await pilot.press(*"one", "enter", *"two", "tab", *"w[/b]", "tab", "tab")
        await pilot.press(*"1,2", "tab", "enter", "down", "enter", "tab", "space", "tab")
        await pilot.press("enter", "down", "enter", "tab", *'{"a":1}', "tab", "enter")
        await until(pilot, lambda: over(shown))
        await until_shown(pilot, "✓ done")
    (made,) = gateway.calls
    assert made[3] == {
        "text": "one\ntwo", "word": "w[/b]", "ratio": 0.5, "sizes": [1, 2], "maybe": True,
        "flag": True, "level": "high", "options": {"a": 1},
    }  # fmt: skip
    assert made[4] is None


# Hostile text


async def test_hostile_prefabs_are_shown_and_nothing_more(tmp_path: Path) -> None:
    sendable = HOSTILE.encode("utf-8", "replace").decode()
    properties = {
        HOSTILE: {"type": "string", "description": HOSTILE, "default": HOSTILE},
        "b": {"enum": [sendable, BIG[:9000]], "description": BIG, "default": sendable},
        "c": {"type": "object", "default": {sendable: sendable}, "description": HOSTILE},
        "d": {"type": "string", "pattern": HOSTILE, "format": HOSTILE},
        "e": {"type": "boolean", "default": True, "description": HOSTILE},
    }
    function = function_of(
        HOSTILE,
        properties,
        description=HOSTILE,
        inputs={HOSTILE: {"description": HOSTILE, "types": [HOSTILE]}},
        outputs={HOSTILE: {"description": HOSTILE}},
        secrets=[{"name": HOSTILE, "instructions": HOSTILE}],
        returns={"properties": {HOSTILE: {"type": HOSTILE}}},
    )
    gateway = StubGateway()
    gateway.prefabs = [
        gateway_stub.info(HOSTILE, name=HOSTILE, version=HOSTILE, description=HOSTILE,
                          functions=[HOSTILE], is_official=True)
    ]  # fmt: skip
    told = gateway_stub.spec_of(HOSTILE, function, name=HOSTILE, versions=[HOSTILE, BIG])
    gateway.specs = {HOSTILE: told}
    gateway.events = [
        event("start", HOSTILE), event(HOSTILE, HOSTILE), event("content", HOSTILE),
        event("content", {HOSTILE: [HOSTILE, BIG]}), event("progress", HOSTILE),
        event("progress", {"fraction": HOSTILE, "message": HOSTILE}),
        event("progress", {"fraction": float("nan"), "message": 7}),
        event("progress", {"fraction": 99, "message": HOSTILE}), event("content", BIG),
        gateway_stub.done(
            {"success": False, "error": HOSTILE, HOSTILE: HOSTILE},
            {HOSTILE: [f"s3://beray/{HOSTILE}", HOSTILE]},
        ),
    ]  # fmt: skip
    gateway.content = HOSTILE.encode("utf-8", "surrogatepass").replace(b"\0", b"")
    async with prefabs(gateway, tmp_path) as pilot:
        await until_shown(pilot, "[b]E[@click=app.quit]F[/]")
        assert_clean(screen(pilot))
        await pilot.press("down")
        browsing = pilot.app.screen
        assert isinstance(browsing, PrefabsScreen)
        await until(pilot, lambda: browsing.spec is not None)
        for _ in range(2):
            await pilot.press("v")
            await until(pilot, lambda: browsing.spec is not None)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
        for key in ("tab", "ctrl+o", "escape", "f2", "question_mark", "escape"):
            await pilot.press(key)
            await pilot.pause()
            assert_clean(screen(pilot))
        await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
        await pilot.press("ctrl+r")
        await until_shown(pilot, "◆ not successful", "mmm")
        assert_clean(screen(pilot))
        for key in ("home", "enter", "d", "escape", "D", "escape"):
            await pilot.press(key)
            await pilot.pause(0.1)
            assert_clean(screen(pilot))
        for ending in (event("error", {"code": HOSTILE, "message": HOSTILE, "traceback": HOSTILE}),
                       RejectedInput(HOSTILE, {"errors": [{"loc": [HOSTILE], "msg": HOSTILE}]}),
                       MissingSecretError(HOSTILE, HOSTILE, HOSTILE, HOSTILE)):  # fmt: skip
            await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
            gateway.events = [ending]
            await pilot.press("ctrl+r")
            await until_shown(pilot, "✗ ")
            await pilot.press("f2", "t")
            await pilot.pause(0.1)
            assert_clean(screen(pilot))
        await pilot.press("f2", "k")
        await until(pilot, lambda: isinstance(pilot.app.screen, SecretScreen))
        await pilot.pause()
        assert_clean(screen(pilot))
        assert pilot.app.is_running


@pytest.mark.parametrize("width", [20, 40, 60])
async def test_a_narrow_terminal_shows_one_side_at_a_time(tmp_path: Path, width: int) -> None:
    async with prefabs(full_gateway(), tmp_path, (width, 20)) as pilot:
        shown = await call(pilot, *CONVERT)
        await until(pilot, lambda: shown.form.region.area and not shown.pane.region.area)
        assert shown.form.display
        await pilot.press("f2")
        await until(pilot, lambda: shown.pane.region.area and not shown.form.region.area)
        assert shown.pane.has_focus_within or pilot.app.focused is None
        await pilot.press("f2")
        await until(pilot, lambda: shown.form.region.area and shown.form.has_focus_within)
        await until(pilot, lambda: screen(pilot).endswith("▏^p palette "))
