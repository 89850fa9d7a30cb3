"""Prefabs in the dashboard: browsed, filled in, run, watched, and what they made taken."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Select

from beray.config import Target
from beray.gateway import (
    AuthenticationError,
    MissingSecretError,
    ObjectNotFoundError,
    QuotaExceededError,
    RejectedInput,
    RunInterrupted,
    Unreachable,
)
from tests.tui import dashboard_stub as stub
from tests.tui import gateway_stub
from tests.tui.dashboard_pilot import fill, main, screen, until, until_shown
from tests.tui.gateway_stub import DONE, EVENTS, StubGateway, event, full_gateway, function_of
from tests.tui.test_tui_hostile_text import BIG, HOSTILE, assert_clean
from tui.app import BeRayApp
from tui.messages import SignedIn
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.form import Form
from tui.prefabs.run import State
from tui.screens.main import MainScreen
from tui.screens.prefabs import PrefabsScreen
from tui.screens.save import SaveScreen
from tui.screens.sign_in import SignInAgainScreen


@asynccontextmanager
async def prefabs(
    gateway: StubGateway, folder: Path, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Pilot[None]]:
    """The screen of the prefabs, opened from that of the tasks."""
    app = gateway_stub.prefab_app(gateway, folder)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen) and online(pilot))
        await pilot.press("P")
        await until(pilot, lambda: isinstance(pilot.app.screen, PrefabsScreen))
        yield pilot


def online(pilot: Pilot[None]) -> bool:
    return main(pilot).board.loaded


async def call(pilot: Pilot[None], *keys: str) -> CallScreen:
    """Go to a function by ``keys``, and open it."""
    browsing = pilot.app.screen
    assert isinstance(browsing, PrefabsScreen)
    await until(pilot, lambda: browsing.rows and pilot.app.focused)
    await pilot.press(*keys)
    await until(pilot, lambda: browsing.spec is not None)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
    await until(pilot, lambda: pilot.app.focused is not None)
    found = pilot.app.screen
    assert isinstance(found, CallScreen)
    return found


CONVERT = ("down", "down", "down", "down")


def simple_gateway(function: dict[str, Any] | None = None) -> StubGateway:
    """With one prefab of one function, which needs nothing."""
    gateway = StubGateway()
    gateway.prefabs = [gateway_stub.info("p", functions=["f"], is_official=True)]
    gateway.specs = {"p": gateway_stub.spec_of("p", function or function_of("f"))}
    gateway.events = [gateway_stub.done({"ok": True})]
    return gateway


def over(call_screen: CallScreen) -> bool:
    run = call_screen._call.run
    return run is not None and run.is_over


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that files are chosen from and saved to."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "sales.csv").write_text("shop,day\n1,2\n")
    (folder / "notes.txt").write_text("x")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.CSV").write_text("a\n")
    return folder


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
        await until_shown(pilot, "It is disabled")
        await pilot.press("enter")
        await until_shown(pilot, "old is disabled: it cannot be called")
        assert isinstance(pilot.app.screen, PrefabsScreen)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))


async def test_prefabs_that_cannot_be_had_say_why_and_are_looked_for_again(tmp_path: Path) -> None:
    gateway = full_gateway()
    gateway.blocked = threading.Event()
    gateway.prefabs = []
    async with prefabs(gateway, tmp_path) as pilot:
        await until_shown(pilot, "Reading the prefabs")
        gateway.blocked.set()
        await until_shown(pilot, "No prefabs yet", "beray prefab add")
        for error, words in (
            (ObjectNotFoundError("Not Found", status_code=404), "no gateway"),
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
        app.post_message(SignedIn(Target(app.target.url, "work", "new", app.target.email)))
        await until_shown(pilot, "Table tool", "● online")
        assert app._desk is not None and app._desk.target.token == "new" and gateway.closed


# The form


async def test_what_is_wrong_is_said_beside_it_and_nothing_is_sent(
    tmp_path: Path, here: Path
) -> None:
    gateway = full_gateway()
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot, *CONVERT)
        await until_shown(pilot, "table *", "format *", "CSV, Parquet", "integer, 1 to", "header")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "A file is needed.", "A value is needed.")
        await pilot.press("enter")
        await until_shown(pilot, "A file for table", "sub/", "sales.csv")
        assert "notes.txt" not in screen(pilot)
        await pilot.press("enter")
        await until_shown(pilot, "more.CSV")
        await pilot.press("enter")
        await until_shown(pilot, "more.CSV  2 B")
        assert "A file is needed." not in screen(pilot)
        await fill(pilot, "#field-2", "-3")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "It has to be at least 1.")
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
            await until_shown(pilot, "A file for all")
            await pilot.press(*name)
            choices = pilot.app.screen.query_one("#choices", OptionList)
            await until(pilot, lambda choices=choices: choices.option_count == 1)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
        await until_shown(pilot, "sales.csv is there already", "notes.txt  1 B")
        await pilot.press("home", "delete")
        await until(pilot, lambda: "sales.csv" not in screen(pilot))
        (here / "notes.txt").unlink()
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✗ not run")
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
        form = shown.query_one(Form)
        form.files[0]._have((here / "sales.csv",))
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


# The run


async def test_a_run_is_watched_and_stopped_by_leaving_its_stream(tmp_path: Path) -> None:
    gateway = simple_gateway()
    gateway.events = EVENTS
    async with prefabs(gateway, tmp_path) as pilot:
        shown = await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(
            pilot, "● running", "62%", "writing sales.parquet", "1,000 rows", '"different": 12',
        )  # fmt: skip
        await pilot.press("ctrl+r")  # one at a time
        assert len(gateway.calls) == 1 and not gateway.runs[0].closed.is_set()
        await pilot.press("s")
        await until_shown(pilot, "■ stopped", "row group 1")
        assert gateway.runs[0].closed.is_set()
        assert shown._call.run is not None and shown._call.run.state is State.STOPPED
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(gateway.calls) == 2)
        assert gateway.calls[0] == gateway.calls[1]


async def test_a_run_goes_on_behind_other_screens_and_is_there_again(tmp_path: Path) -> None:
    properties = {"word": {"type": "string"}}
    gateway = simple_gateway(function_of("f", properties))
    go_on = threading.Event()

    def events() -> Any:
        yield event("content", "one\n")
        go_on.wait()
        for number in range(10_000):
            yield event("content", f"line {number}\n")
        yield gateway_stub.done({"lines": 10_000})

    gateway.events = events()
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot)
        await pilot.press(*"hello", "ctrl+r")
        await until_shown(pilot, "● running", "one")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))
        go_on.set()
        await until_shown(pilot, "p f is done")
        await pilot.press("P")
        shown = await call(pilot)
        await until_shown(pilot, "hello", "✓ done", '"lines": 10000')
        run = shown._call.run
        assert run is not None and run.transcript.lines[-1] == "line 9999"
        assert run.transcript.dropped == 8001
    assert gateway.calls[0][3] == {"word": "hello"}


async def test_leaving_the_dashboard_leaves_what_runs(tmp_path: Path) -> None:
    gateway = simple_gateway()
    gateway.events = EVENTS
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "● running", "1,000 rows")
    assert gateway.runs[0].closed.is_set() and gateway.closed


async def test_another_account_sees_nothing_of_the_last_one(tmp_path: Path) -> None:
    gateway = simple_gateway(function_of("f", {"word": {"type": "string"}}))
    gateway.events = EVENTS
    async with prefabs(gateway, tmp_path) as pilot:
        app = pilot.app
        assert isinstance(app, BeRayApp)
        await call(pilot)
        await pilot.press(*"secret", "ctrl+r")
        await until_shown(pilot, "● running", "1,000 rows")
        app._go_to(Target("https://other.example", "other", "token-2", "eve@example.org"))
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))
        assert gateway.runs[0].closed.is_set()
        await until_shown(pilot, "● online")
        await pilot.press("P")
        shown = await call(pilot)
        assert shown._call.run is None and "secret" not in screen(pilot)
        app.action_sign_out()
        await until_shown(pilot, "Signed out of other", "Password")
        assert app._desk is not None and app._desk.target.token is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (event("error", {"code": "TIMEOUT", "message": "60 s are over"}), ("✗ failed: TIMEOUT", "longer")),
        (event("error", "text"), ("✗ failed: FAILED", "text")),
        (RunInterrupted("the stream broke off"), ("✗ not run", "the stream broke off")),
        (QuotaExceededError("100 of 100 calls", 100, 100, "daily_calls"), ("✗ not run", "100 of 100")),
        (MissingSecretError("needs KEY", "p", "KEY", "Get one at example.org."), ("needs KEY", "Get one at")),
        (gateway_stub.done({"success": False, "error": "no rows"}), ("◆ it says no: no rows", "Result")),
        (gateway_stub.done(None), ("✓ done", "It returned nothing.")),
        (gateway_stub.done("plain\ntext"), ("✓ done", "plain", "result.json")),
    ],
    ids=["timeout", "odd", "cut", "quota", "secret", "business", "nothing", "text"],
)  # fmt: skip
async def test_how_a_run_can_end(tmp_path: Path, error: Any, words: tuple[str, ...]) -> None:
    gateway = simple_gateway()
    gateway.events = [event("content", "begun\n"), error]
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "begun", *words)


async def test_a_traceback_is_folded_until_it_is_asked_for(tmp_path: Path) -> None:
    gateway = simple_gateway()
    problem = {"code": "FUNCTION_ERROR", "message": "ValueError: no", "traceback": "File x, line 3"}
    gateway.events = [event("error", problem)]
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "FUNCTION_ERROR", "ValueError: no", "t shows its traceback")
        assert "line 3" not in screen(pilot)
        await pilot.press("t")
        await until_shown(pilot, "File x, line 3")
        await pilot.press("t")
        await until(pilot, lambda: "line 3" not in screen(pilot))


async def test_a_secret_that_is_missing_is_given_and_shown_nowhere(tmp_path: Path) -> None:
    gateway = simple_gateway()
    gateway.events = MissingSecretError("it needs KEY", "p", "KEY", "Get one at example.org.")
    gateway.secret_answer = RejectedInput("it has to be longer")
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "it needs KEY", "k gives it")
        await pilot.press("k")
        await until_shown(pilot, "KEY, for p", "Get one at example.org.")
        await pilot.press("enter")
        await until_shown(pilot, "What is it?")
        await pilot.press(*"hush", "enter")
        await until_shown(pilot, "it has to be longer")
        gateway.secret_answer, gateway.events = None, [gateway_stub.done({"ok": True})]
        await pilot.press(*"hush-hush")
        assert "hush" not in screen(pilot)
        await pilot.press("enter")
        await until_shown(pilot, "✓ done")
    assert gateway.secrets == [("p", "KEY", "hush-hush")] and len(gateway.calls) == 2


async def test_a_file_that_cannot_be_sent_keeps_the_run_from_beginning(
    tmp_path: Path, here: Path
) -> None:
    gateway = simple_gateway(function_of("f", inputs={"doc": {"required": True}}))
    gateway.refused["notes.txt"] = Unreachable("the line is cut")
    async with prefabs(gateway, tmp_path) as pilot:
        shown = await call(pilot)
        shown.query_one(Form).files[0]._have((here / "notes.txt",))
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✗ not run", "the line is cut")
    assert gateway.calls == []


# What it has made


FILES = {"table": ["s3://beray/o/1/sales.csv"], "note": ["s3://beray/o/2/sales.csv"]}


async def test_files_are_looked_at_and_saved_without_overwriting(
    tmp_path: Path, here: Path
) -> None:
    gateway = simple_gateway()
    gateway.events = [gateway_stub.done({"n": 1}, FILES)]
    gateway.content = b"first line\nsecond line\n"
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✓ done", "sales.csv  table", "sales.csv  note", "result.json")
        await pilot.press("enter")
        await until_shown(pilot, "1  first line", "2  second line", "d saves")
        await pilot.press("d")
        await until_shown(pilot, "Save", "Overwrite")
        await fill(pilot, "#target", str(here / "sales.csv"))
        await until_shown(pilot, "It exists already")
        assert (here / "sales.csv").read_text() == "shop,day\n1,2\n"
        await fill(pilot, "#target", str(here / "new.csv"))
        await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
        assert (here / "new.csv").read_bytes() == gateway.content
        for content, words in (
            (b"", "An empty file."), (b"\0\1", "A binary file."), (b"x" * 300_000, "too large"),
            (Unreachable("the line is cut"), "the line is cut"),
        ):  # fmt: skip
            gateway.content = content
            await pilot.press("enter")
            await until_shown(pilot, words)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))


async def test_the_result_and_all_files_are_saved(tmp_path: Path, here: Path) -> None:
    gateway = simple_gateway()
    gateway.events = [gateway_stub.done({"n": "ä"}, FILES)]
    gateway.content = b"1\n"
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "result.json")
        await pilot.press("end", "enter")
        await until_shown(pilot, '2    "n": "ä"')
        await pilot.press("escape", "d")
        await fill(pilot, "#target", str(here / "result.json"))
        await until_shown(pilot, "Saved")
        assert (here / "result.json").read_text("utf-8") == '{\n  "n": "ä"\n}\n'
        await pilot.press("d")
        await fill(pilot, "#target", str(here / "result.json"))
        await until_shown(pilot, "It exists already")
        await pilot.press("escape")
        await pilot.press("D")
        await until_shown(pilot, "3 files, in a folder")
        await fill(pilot, "#target", str(here / "all"))
        await until(pilot, lambda: not isinstance(pilot.app.screen, SaveScreen))
        saved = {path.name: path.read_bytes() for path in (here / "all").iterdir()}
        assert saved.keys() == {"sales.csv", "sales-2.csv", "result.json"}
        assert saved["sales.csv"] == b"1\n"
        await pilot.press("D")
        await fill(pilot, "#target", str(here / "all"))
        await until_shown(pilot, "It exists already")
    assert not [name for name in os.listdir(here) if name.startswith(".beray-")]


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
        await until_shown(pilot, "◆ it says no", "mmm")
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
        assert pilot.app.is_running


@pytest.mark.parametrize("width", [20, 40, 60])
async def test_a_narrow_terminal_shows_one_side_at_a_time(tmp_path: Path, width: int) -> None:
    async with prefabs(full_gateway(), tmp_path, (width, 20)) as pilot:
        shown = await call(pilot, *CONVERT)
        assert shown.form.display and shown.form.region.area and not shown.pane.region.area
        await pilot.press("f2")
        await until(pilot, lambda: shown.pane.region.area and not shown.form.region.area)
        assert shown.pane.has_focus_within or pilot.app.focused is None
        await pilot.press("f2")
        await until(pilot, lambda: shown.form.region.area and shown.form.has_focus_within)
        await until(pilot, lambda: screen(pilot).endswith("▏^p palette "))
