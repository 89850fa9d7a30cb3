"""Prefabs of a real server, called from the dashboard over a socket."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Select

from beray.client import BeRayClient
from beray.gateway import GatewayClient
from beray.server.prefabs import archives
from beray.testing import RunningServer, access_token
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import sleepers
from tests.tui.dashboard_pilot import dashboard, fill, screen, until, until_shown
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.form.form import FunctionForm
from tui.prefabs.list_screen import PrefabsScreen

MODULE = """
import os
from beray.prefab import Call, Progress

def sleep(call: Call, *, mark: str):
    yield "asleep\\n"
    yield Progress(0.25, "dreaming")
    os.execvp("sleep", ["sleep", mark])

def whisper(call: Call) -> dict:
    return {"length": len(call.secrets["API_KEY"])}

def fail(call: Call, *, word: str) -> dict:
    raise ValueError("no \\x1b[31m" + word)
"""
FUNCTIONS = """
[functions.fail]
parameters.required = ["word"]
parameters.properties.word = { type = "string", pattern = "^[a-z]+$" }

[functions.sleep]
streaming = true
parameters.properties.mark = { type = "string", default = "98660" }

[functions.whisper]
[[functions.whisper.secrets]]
name = "API_KEY"
instructions = "Get one at example.com"
"""
MARK = "98660"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("gateway")
    with RunningServer.start(
        data / "data", BERAY_PREFAB_AUTHORS="*", BERAY_HEARTBEAT_SECONDS="0.2"
    ) as server:
        folder = write_prefab(data / "probe", MODULE, FUNCTIONS)
        with server.sign_up() as author:
            token = access_token(author)
        with GatewayClient(base_url=server.url, jwt_token=token) as client:
            client.add_prefab(archives.pack(folder))
        yield server


@pytest.fixture
def client(gateway: RunningServer) -> Iterator[BeRayClient]:
    with gateway.sign_up() as client:
        yield client


async def called(pilot: Pilot[None], prefab_id: str, function: str) -> CallScreen:
    """Open a function by the list of the prefabs."""
    if not isinstance(pilot.app.screen, PrefabsScreen):
        await pilot.press("P")
    await until(pilot, lambda: isinstance(pilot.app.screen, PrefabsScreen))
    browsing = pilot.app.screen
    assert isinstance(browsing, PrefabsScreen)
    await until(pilot, lambda: browsing.rows and pilot.app.focused)
    wanted = (prefab_id, function)
    await pilot.press("home")
    while (
        browsing.selected and (browsing.selected.summary.id, browsing.selected.function) != wanted
    ):
        await pilot.press("down")
    await until(pilot, lambda: browsing.spec is not None and browsing.spec.id == prefab_id)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
    found = pilot.app.screen
    assert isinstance(found, CallScreen)
    await until(pilot, lambda: pilot.app.focused)
    return found


async def test_a_table_is_converted_and_saved(
    gateway: RunningServer, client: BeRayClient, tmp_path: Path
) -> None:
    (tmp_path / "sales.csv").write_text("shop;day\nA;1\nB;2\n")
    async with dashboard(gateway, client) as pilot:
        shown = await called(pilot, "table", "convert")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "Add a file.", "A value is required.")
        shown.query_one(FunctionForm).files[0].set_paths((tmp_path / "sales.csv",))
        shown.query_one("#field-0 Select", Select).value = '"tsv"'
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✓ done", "sales.tsv", '"converted": 1')
        await pilot.press("enter")
        await until_shown(pilot, "1  shop", "3  B")
        await pilot.press("d")
        await until_shown(pilot, "Overwrite")
        await fill(pilot, "#target", str(tmp_path / "sales.tsv"))
        await until(pilot, lambda: (tmp_path / "sales.tsv").exists())
    with (tmp_path / "sales.tsv").open(newline="") as file:
        assert list(csv.reader(file, delimiter="\t")) == [["shop", "day"], ["A", "1"], ["B", "2"]]


async def test_a_run_is_watched_and_to_stop_it_ends_its_process(
    gateway: RunningServer, client: BeRayClient
) -> None:
    async with dashboard(gateway, client) as pilot:
        await called(pilot, "probe", "sleep")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "● running", "asleep", "25%", "dreaming")
        await until(pilot, lambda: sleepers(MARK))
        await pilot.press("s")
        await until_shown(pilot, "■ stopped")
        await until(pilot, lambda: not sleepers(MARK))
        await pilot.press("ctrl+r")
        await until_shown(pilot, "● running", "dreaming")
        await until(pilot, lambda: sleepers(MARK))
    # Whoever leaves the dashboard leaves the run.
    async with dashboard(gateway, client) as pilot:
        await until(pilot, lambda: not sleepers(MARK))


async def test_what_the_server_refuses_and_what_fails_there_is_said(
    gateway: RunningServer, client: BeRayClient
) -> None:
    async with dashboard(gateway, client) as pilot:
        await called(pilot, "probe", "whisper")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✗ rejected", "Get one at example.com", "Press k to save")
        await pilot.press("k")
        await until_shown(pilot, "API_KEY for probe", "Get one at example.com")
        await pilot.press(*"s3cret", "enter")
        await until_shown(pilot, "✓ done")
        assert "s3cret" not in screen(pilot)
        await pilot.press("escape")
        shown = await called(pilot, "probe", "fail")
        await pilot.press(*"NO", "ctrl+r")
        await until(pilot, lambda: shown.query_one("#field-0").has_class("refused"))
        assert shown.form.has_focus_within
        await fill(pilot, "#field-0", "yes")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "✗ failed: FUNCTION_ERROR", "no ", "press t to show the traceback")
        await pilot.press("t")
        await until_shown(pilot, "probe.py")
        assert str(gateway.data_dir) not in screen(pilot)
