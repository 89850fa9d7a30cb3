"""The main job at the dashboard, against a real server."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from textual.widgets import Checkbox

from beray.client import BeRayClient
from beray.testing import RunningServer
from beray.transfers.wire_names import ANY_BYTES
from tests.support import done
from tests.tui.dashboard_pilot import (
    dashboard,
    log_rows,
    main,
    new_task,
    screen,
    until,
    until_shown,
)
from tui.widgets.line_view import LineView
from tui.widgets.task_list import TaskList


async def test_a_new_task_is_followed_from_its_first_event_to_its_end(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "No tasks yet")
        await new_task(pilot, "!echo hello > hello.txt; printf 'one, '; sleep 0.2; echo two; ls")
        await until_shown(pilot, "✓ completed", "one, two", "hello.txt", "■ ended")
        rows = log_rows(pilot)
        assert rows[:2] == ["queued", "running"]
        assert rows[-1] == "completed"  # what came before the end of the stream is shown before it
        assert "shell  exit 0" in rows
        await pilot.press("f")
        await until_shown(pilot, "hello.txt", "6 B", "1  hello")


async def test_a_failed_command_and_a_goal_without_a_model_say_why(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await new_task(pilot, "!exit 3")
        await until_shown(pilot, "exit 3", "✗ failed")
        await new_task(pilot, "write a poem")
        await until_shown(pilot, "NO_MODEL")


async def test_tasks_made_elsewhere_appear_and_their_status_is_live(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "No tasks yet")
        made = beray_client.create_task("!while [ ! -e go ]; do sleep 0.05; done")
        await until_shown(pilot, "while [ ! -e go ]", "● running")
        beray_client.upload_file(made["id"], "go", b"")
        await until_shown(pilot, "✓ completed")


async def test_stop_stops_and_delete_asks_first(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await new_task(pilot, "!echo begun; sleep 60")
        await until(pilot, lambda: "begun" in log_rows(pilot))
        await pilot.press("s")
        await until(pilot, lambda: "stopped (user)" in log_rows(pilot))
        await until_shown(pilot, "■ stopped")
        await pilot.press("x")
        await until_shown(pilot, "Delete this task?")
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is main(pilot))
        assert len(beray_client.list_tasks()) == 1
        await pilot.press("x")
        await until_shown(pilot, "Delete this task?")
        await pilot.press("y")
        await until_shown(pilot, "No tasks yet")
        assert beray_client.list_tasks() == []


async def test_the_cursor_goes_to_the_neighbour_of_a_deleted_task(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    ids = [done(beray_client, f"!echo {number}")[0]["task_id"] for number in range(3)]
    async with dashboard(beray_server, beray_client) as pilot:
        tasks = main(pilot).query_one(TaskList)
        await until(pilot, lambda: tasks.highlighted == ids[2])
        await pilot.press("down")
        await until(pilot, lambda: main(pilot).task_state.selected_task is not None)
        await until(pilot, lambda: main(pilot).task_state.selected.task_id == ids[1])  # type: ignore[union-attr]
        await pilot.press("x")
        await until_shown(pilot, "Delete this task?")
        await pilot.press("y")
        await until(pilot, lambda: tasks.highlighted == ids[0])


async def test_files_are_saved_whole_and_nothing_is_overwritten_unasked(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    made = beray_client.create_task("!mkdir sub; echo content > sub/made.txt")
    for _ in beray_client.stream_task_updates(made["id"]):
        pass
    target = tmp_path / "made.txt"
    target.write_text("mine")
    async with dashboard(beray_server, beray_client) as pilot:
        await pilot.press("f")
        await until_shown(pilot, "1  content")
        await pilot.press("d")
        await until_shown(pilot, "sub/made.txt of task")
        await pilot.press("enter")
        await until_shown(pilot, "The file exists")
        assert target.read_text() == "mine"
        pilot.app.screen.query_one(Checkbox).value = True
        await pilot.press("enter")
        await until_shown(pilot, "Saved")
        assert target.read_text() == "content\n"
        await pilot.press("z")
        await until_shown(pilot, "as a ZIP")
        await pilot.press("enter")
        archive = tmp_path / f"task-{made['id']}.zip"
        await until(pilot, archive.exists)
        with zipfile.ZipFile(archive) as saved:
            assert saved.read("sub/made.txt") == b"content\n"
        await until(pilot, lambda: pilot.app.screen is main(pilot))


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
async def test_a_file_whose_name_is_not_utf8_is_shown_and_saved_under_its_name(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / os.fsdecode(b"here\xfe")
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = beray_client.create_task(r"!echo content > $(printf 'caf\351.txt')")
    for _ in beray_client.stream_task_updates(made["id"]):
        pass
    async with dashboard(beray_server, beray_client) as pilot:
        await pilot.press("f")
        await until_shown(pilot, "caf␦E9.txt", "1  content")
        await pilot.press("d")
        await until_shown(pilot, "here␦FE/caf␦E9.txt")
        await pilot.press("enter")
        await until_shown(pilot, "Saved")
    assert os.listdir(os.fsencode(folder)) == [b"caf\xe9.txt"]


async def test_a_large_file_is_previewed_by_its_beginning_alone(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    made = beray_client.create_task("!head -c 3000000 /dev/zero | tr '\\0' x | fold > big.txt")
    for _ in beray_client.stream_task_updates(made["id"]):
        pass
    async with dashboard(beray_server, beray_client) as pilot:
        await pilot.press("f")
        await until_shown(pilot, "xxxxxxxx")
        shown = main(pilot).query_one("#preview", LineView).row_texts
        assert sum(map(len, shown)) < 300_000
        assert shown[-1].strip() and "the rest is not shown" in " ".join(shown[-3:])


async def test_the_palette_offers_the_actions(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await pilot.press("ctrl+p")
        await pilot.press(*"new task")
        await until_shown(pilot, "Enter a goal")
        await pilot.press("enter")
        await until_shown(pilot, "New task", "Describe what should be done")


async def test_a_server_that_goes_away_is_said_and_found_again(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "server") as server:
        client = server.sign_up()
        async with dashboard(server, client, (80, 24)) as pilot:
            await new_task(pilot, "!echo begun; sleep 60")
            await until(pilot, lambda: "begun" in log_rows(pilot))
            server.kill()
            await until_shown(pilot, "○ offline", "reconnecting")
            assert "begun" in log_rows(pilot)
            server.restart()
            await until_shown(pilot, "● online", "✗ failed")
            await until(pilot, lambda: "failed (lost_worker)" in log_rows(pilot))
            assert log_rows(pilot).count("begun") == 1
            assert "lost_worker" in screen(pilot)
