"""Runs of prefabs in the dashboard: watched, stopped, and what they made taken."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from beray.config import Target
from beray.gateway import (
    InvalidAnswer,
    MissingSecretError,
    QuotaExceededError,
    RejectedInput,
    RunInterrupted,
    RunOutcomeUnknown,
    Unreachable,
)
from beray.transfers.local_files import current_umask
from tests.tui import gateway_stub
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.gateway_stub import EVENTS, event, function_of
from tests.tui.prefab_pilot import call, prefabs, simple_gateway
from tui.app import BeRayApp
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.form.form import FunctionForm
from tui.prefabs.run import RunState
from tui.screens.main import MainScreen
from tui.screens.save import SaveScreen


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
        assert shown.call.run is not None and shown.call.run.state is RunState.STOPPED
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
        await until_shown(pilot, "p f has finished")
        await pilot.press("P")
        shown = await call(pilot)
        await until_shown(pilot, "hello", "✓ done", '"lines": 10000')
        run = shown.call.run
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
        app.session.switch_to(
            Target("https://other.example", "other", "token-2", "eve@example.org")
        )
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))
        assert gateway.runs[0].closed.is_set()
        await until_shown(pilot, "● online")
        await pilot.press("P")
        shown = await call(pilot)
        assert shown.call.run is None and "secret" not in screen(pilot)
        app.action_sign_out()
        await until_shown(pilot, "Signed out of other", "Password")
        assert app.run_registry is not None and app.run_registry.target.token is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (event("error", {"code": "TIMEOUT", "message": "60 s are over"}), ("✗ failed: TIMEOUT", "time limit")),
        (event("error", "text"), ("✗ failed: FAILED", "text")),
        (RunInterrupted("the stream broke off"), ("✗ connection lost, outcome unknown", "the stream broke off")),
        (Unreachable("the line is cut"), ("✗ connection lost, outcome unknown", "the line is cut")),
        (gateway_stub.done({"success": False, "error": "no rows"}), ("◆ not successful: no rows", "Result")),
        (gateway_stub.done(None), ("✓ done", "No result.")),
        (gateway_stub.done("plain\ntext"), ("✓ done", "plain", "result.json")),
    ],
    ids=["timeout", "odd", "cut", "line", "business", "nothing", "text"],
)  # fmt: skip
async def test_how_a_run_can_end(tmp_path: Path, error: Any, words: tuple[str, ...]) -> None:
    gateway = simple_gateway()
    gateway.events = [event("content", "begun\n"), error]
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "begun", *words)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (QuotaExceededError("100 of 100 calls", 100, 100, "daily_calls"), ("✗ rejected", "100 of 100")),
        (MissingSecretError("p", "KEY", "Get one at example.org.", "needs KEY"), ("✗ rejected", "Get one at")),
        (Unreachable("nobody is there"), ("✗ rejected", "nobody is there")),
        (RunOutcomeUnknown("no answer came"), ("✗ connection lost, outcome unknown", "no answer came")),
        (InvalidAnswer("a page of HTML"), ("✗ connection lost, outcome unknown", "a page of HTML")),
    ],
    ids=["quota", "secret", "unreachable", "unknown", "nonsense"],
)  # fmt: skip
async def test_what_may_have_run_is_told_from_what_has_not(
    tmp_path: Path, error: Any, words: tuple[str, ...]
) -> None:
    gateway = simple_gateway()
    gateway.events = error
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, *words)


async def test_whoever_quits_is_asked_where_something_runs(tmp_path: Path) -> None:
    gateway = simple_gateway()
    gateway.events = EVENTS
    async with prefabs(gateway, tmp_path) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "● running", "1,000 rows")
        await pilot.press("ctrl+q")
        await until_shown(pilot, "Still running", "p f", "Quitting stops this run.")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
        assert not gateway.runs[0].closed.is_set()
        await pilot.press("escape", "q")
        await until_shown(pilot, "Still running")
        await pilot.press("y")
        await until(pilot, lambda: not pilot.app.is_running)


async def test_whoever_quits_where_nothing_runs_is_not_asked(tmp_path: Path) -> None:
    async with prefabs(simple_gateway(), tmp_path) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✓ done")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not pilot.app.is_running)


async def test_a_traceback_is_folded_until_it_is_asked_for(tmp_path: Path) -> None:
    gateway = simple_gateway()
    problem = {
        "code": "FUNCTION_ERROR",
        "message": "ValueError: no",
        "traceback": "File x, line 3\n    def f(:\n          ^\n",
    }
    gateway.events = [event("error", problem)]
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(
            pilot, "FUNCTION_ERROR", "ValueError: no", "press t to show the traceback"
        )
        assert "line 3" not in screen(pilot)
        await pilot.press("t")
        await until_shown(pilot, "File x, line 3", "    def f(:")
        rows = [row for row in screen(pilot).splitlines() if "def f(:" in row or "^ " in row]
        assert rows[0].index("(:") + 1 == rows[1].index("^"), rows
        await pilot.press("t")
        await until(pilot, lambda: "line 3" not in screen(pilot))


async def test_a_secret_that_is_missing_is_given_and_shown_nowhere(tmp_path: Path) -> None:
    gateway = simple_gateway()
    gateway.events = MissingSecretError("p", "KEY", "Get one at example.org.", "it needs KEY")
    gateway.secret_answer = RejectedInput("it has to be longer")
    async with prefabs(gateway, tmp_path, (80, 24)) as pilot:
        await call(pilot)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "it needs KEY", "Press k to save")
        await pilot.press("k")
        await until_shown(pilot, "KEY for p", "Get one at example.org.")
        await pilot.press("enter")
        await until_shown(pilot, "Enter the secret.")
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
        shown.query_one(FunctionForm).files[0].set_paths((here / "notes.txt",))
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✗ rejected", "the line is cut")
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
        await until_shown(pilot, "The file exists")
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
        if os.name == "posix":
            mode = (here / "result.json").stat().st_mode & 0o777
            assert mode == 0o666 & ~current_umask(here)
        await pilot.press("d")
        await fill(pilot, "#target", str(here / "result.json"))
        await until_shown(pilot, "The file exists")
        await pilot.press("escape")
        await pilot.press("D")
        await until_shown(pilot, "3 files in a folder")
        await fill(pilot, "#target", str(here / "all"))
        await until(pilot, lambda: not isinstance(pilot.app.screen, SaveScreen))
        saved = {path.name: path.read_bytes() for path in (here / "all").iterdir()}
        assert saved.keys() == {"sales.csv", "sales-2.csv", "result.json"}
        assert saved["sales.csv"] == b"1\n"
        await pilot.press("D")
        await fill(pilot, "#target", str(here / "all"))
        await until_shown(pilot, "The file exists")
    assert not [name for name in os.listdir(here) if name.startswith(".beray-")]
