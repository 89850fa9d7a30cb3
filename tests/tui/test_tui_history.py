"""The history of the files in the dashboard, with a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.support import done
from tests.tui.dashboard_pilot import dashboard, fill, log_rows, main, screen, until, until_shown
from tui.diff.restore_screen import RestoreScreen
from tui.diff.screen import DiffScreen
from tui.events.blocks import Block
from tui.widgets.file_tree import FileTree

GOAL = "!seq 30 > numbers.txt; mkdir src; echo 'print(1)' > src/app.py; rm -f notes.txt"
ATTEMPTS = 20


def task_with_history(client: BeRayClient) -> int:
    """Return a task with the checkpoints c1 (empty) and c2, and c4 after an upload."""
    task_id = 0
    for _ in range(ATTEMPTS):
        task_id = client.create_task(GOAL)["id"]
        events: list[Any] = list(client.stream_task_updates(task_id))
        if events[2].get("source") == "files":
            break
        # The events about the files came after the end of the step.
        client.delete_task(task_id)
    lines = [b"seven" if number == 7 else b"%d" % number for number in range(1, 31)]
    client.upload_file(task_id, "numbers.txt", b"\n".join([*lines, b""]))
    return task_id


def names(client: BeRayClient, task_id: int) -> list[str]:
    return [checkpoint["checkpoint"] for checkpoint in client.list_checkpoints(task_id)]


def diff_screen(pilot: Pilot[None]) -> DiffScreen:
    found = pilot.app.screen_stack[2]
    assert isinstance(found, DiffScreen)
    return found


async def open_changes(pilot: Pilot[None]) -> None:
    await pilot.press("v")
    await until(pilot, lambda: isinstance(pilot.app.screen, DiffScreen))
    await until(pilot, lambda: not diff_screen(pilot).controller.is_reading)


async def select_block(pilot: Pilot[None], accepts: Callable[[Block], bool]) -> None:
    """Move the cursor of the log up to a block."""
    view = main(pilot).panes.events.view
    await pilot.press("e")
    await until(pilot, lambda: view.has_focus)
    await pilot.press("k")
    await until(pilot, lambda: view.cursor_block is not None)
    while (block := view.cursor_block) is not None and not accepts(block):
        await pilot.press("k")


async def confirm(pilot: Pilot[None]) -> None:
    """Restore after the dry run."""
    dialog = pilot.app.screen
    assert isinstance(dialog, RestoreScreen)
    await until(pilot, lambda: dialog.controller.can_restore)
    await pilot.press("y")


async def test_changes_of_a_task_and_of_its_steps(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_with_history(beray_client)
    async with dashboard(beray_server, beray_client, (160, 45)) as pilot:
        await until_shown(pilot, "± c2 · 2 files changed +31", "■ ended")
        await open_changes(pilot)
        await until_shown(pilot, "all changes", "A numbers.txt", "A src/app.py", "+ seven")
        await pilot.press("less_than_sign")
        await until_shown(pilot, "one step", "M numbers.txt", "- 7", "+ seven", "change 1 of 1")
        await pilot.press("less_than_sign")
        await until_shown(pilot, "one step · c1 → c2", "+ 7")
        await pilot.press("escape")
        # From the log: the step of the line under the cursor.
        await until_shown(pilot, "± c2")
        await select_block(pilot, lambda block: block.checkpoint is not None)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, DiffScreen))
        await until_shown(pilot, "one step · c1 → c2", "+ 7")


async def test_a_file_and_the_whole_state_are_restored(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = task_with_history(beray_client)
    newest = names(beray_client, task_id)[-1]
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "■ ended")
        await open_changes(pilot)
        await pilot.press("less_than_sign")
        await until_shown(pilot, "M numbers.txt")
        await pilot.press("r")
        await until_shown(pilot, "numbers.txt to c")
        await confirm(pilot)
        await until_shown(pilot, f"To undo it, restore {newest}.")
        assert b"seven" not in beray_client.get_file_content(task_id, "numbers.txt").content
        await pilot.press("V")
        await until_shown(pilot, "all changes · c1")
        await pilot.press("R")
        await until_shown(pilot, "All files to c1", "D src/app.py")
        await confirm(pilot)
        await until_shown(pilot, "to c1. To undo it")
        assert beray_client.list_files_tree(task_id) == []
        await until_shown(pilot, "No files changed between c1 and")


async def test_a_running_task_is_not_restored(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = beray_client.create_task("!echo 1 > a; until [ -e go ]; do sleep 0.02; done")["id"]
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "● live", "running")
        await open_changes(pilot)
        beray_client.upload_file(task_id, "b", b"1")
        await until(pilot, lambda: len(names(beray_client, task_id)) > 1)
        await pilot.press("f5")
        await until_shown(pilot, "A b")
        await pilot.press("R")
        await until_shown(pilot, "Restore files?", "running")
        await pilot.press("escape")
    beray_client.stop_task(task_id)


def tree_rows(pilot: Pilot[None]) -> list[str]:
    tree = main(pilot).query_one(FileTree)
    nodes = (tree.get_node_at_line(line) for line in range(tree.last_line + 1))
    found: list[Any] = [node.data for node in nodes if node is not None]
    return [item["path"] for item in found]


async def test_the_files_follow_the_log(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = task_with_history(beray_client)
    whole = ["numbers.txt", "src", "src/app.py"]
    async with dashboard(beray_server, beray_client, (140, 40)) as pilot:
        await until_shown(pilot, "± c2", "■ ended")
        await pilot.press("t")
        await until(pilot, lambda: tree_rows(pilot) == whole)
        assert "Files at" not in screen(pilot)
        await select_block(pilot, lambda block: block.first <= 3)
        await until_shown(pilot, "Files at c1", "No files yet.")
        await pilot.press("end")
        await until(pilot, lambda: "Files at" not in screen(pilot))
        await until(pilot, lambda: tree_rows(pilot) == whole)
        # A replay shows the files at the event that it has reached.
        await pilot.press("p", "space")
        await until_shown(pilot, "‖ paused", "Files at c1")
        for _ in range(20):
            await pilot.press("right")
        await until(pilot, lambda: main(pilot).files.at != "c1" and tree_rows(pilot) == whole)
        await pilot.press("escape")
        await until(pilot, lambda: "Files at" not in screen(pilot))
        # The preview and the download are those of the checkpoint, too.
        await select_block(pilot, lambda block: block.checkpoint is not None)
        beray_client.upload_file(task_id, "numbers.txt", b"changed since")
        await pilot.press("f")
        await until_shown(pilot, "Files at c2", "numbers.txt")
        tree = main(pilot).query_one(FileTree)
        node = tree.node_of("numbers.txt")
        assert node is not None
        tree.go_to(node)
        await until_shown(pilot, "7  7", "30  30")
        await pilot.press("z")
        await until_shown(pilot, f"All files of task #{task_id} at c2 as a ZIP")
        await pilot.press("escape", "e", "end", "f")
        await until_shown(pilot, "changed since")


async def test_a_file_of_the_log_is_shown_as_it_was_after_its_step(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_with_history(beray_client)
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "± c2", "■ ended")
        await select_block(pilot, lambda block: block.path == "numbers.txt")
        await pilot.press("enter")
        # The event about the file may follow the end of the step, which has a checkpoint as well.
        await until_shown(pilot, "Files at c", "7  7")
        await until(pilot, lambda: main(pilot).files.selected_file == "numbers.txt")


async def test_a_task_is_continued_from_an_event_and_from_its_end(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = task_with_history(beray_client)
    newest = names(beray_client, task_id)[-1]
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "■ ended")
        await pilot.press("C")
        await until_shown(pilot, "Continue a task", f"task {task_id} @ {newest}")
        await fill(pilot, "#new-goal", "!grep -c seven numbers.txt")
        await until_shown(pilot, f"↳ {task_id}@{newest}", f"from #{task_id}@{newest}, files only")
        await until(pilot, lambda: "1" in log_rows(pilot))
        # From an event: the first one, before there were files.
        await pilot.press("/")
        await pilot.press(*"seq")
        await pilot.press("enter")
        await until(pilot, lambda: main(pilot).task_state.selected_task["id"] == task_id)  # type: ignore[index]
        await until_shown(pilot, "± c2")
        await select_block(pilot, lambda block: block.first <= 3)
        await pilot.press("C")
        await until_shown(pilot, f"task {task_id} @ c1")
        await fill(pilot, "#new-goal", "!echo files: $(ls | wc -l)")
        await until_shown(pilot, f"↳ {task_id}@c1")
        await until(pilot, lambda: "files: 0" in log_rows(pilot))


async def test_a_draft_of_a_deleted_task_is_refused_with_the_reason(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    done(beray_client, "!echo 1 > a")
    (task,) = beray_client.list_tasks()
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "■ ended")
        await pilot.press("C")
        await until_shown(pilot, "Continue a task")
        beray_client.delete_task(task["id"])
        await fill(pilot, "#new-goal", "!true")
        await until_shown(pilot, "Could not create the task (press n to edit the draft)")
