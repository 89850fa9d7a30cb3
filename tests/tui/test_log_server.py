"""Tests of the log with tasks of a real server."""

from __future__ import annotations

from typing import Any

from beray.client import BeRayClient
from tests.tui.dashboard_pilot import screen, until, until_shown
from tests.tui.log_app import LogApp, log_app, rows_shown, top_row

LINES = 20_000
# In many small writes, so that there are many events; a needle is near the beginning.
GOAL = (
    f"!for i in $(seq {LINES}); do echo line $i; if [ $i = 300 ]; then echo the needle; sleep 2; fi;"
    " done; echo all done; exit 3"
)


def finished(client: BeRayClient, goal: str) -> dict[str, Any]:
    made = client.create_task(goal)
    for _ in client.stream_task_updates(made["id"]):
        pass
    return dict(client.get_task(made["id"]))


def numbers(rows: list[str]) -> list[int]:
    return [int(row.split()[1]) for row in rows if row.startswith("line ")]


async def test_a_long_log_of_a_real_task(beray_client: BeRayClient) -> None:
    task = finished(beray_client, GOAL)
    last_seq = task["last_seq"]
    truth = beray_client.list_events(task["id"], after=0, limit=5000)
    written = "".join(one.get("text", "") for one in truth).split("\n")  # type: ignore[attr-defined]
    assert written.count("the needle") == 1 and len(written) == LINES + 3
    async with LogApp().run_test(size=(80, 40)) as pilot:
        app = log_app(pilot)
        pane = app.pane
        app.watch(beray_client, task["id"], last_seq)
        pane.view.focus()
        await until_shown(pilot, "all done", "exit 3", "failed")
        await pilot.press("g")
        await until_shown(pilot, "queued", "running", "line 1 ")
        await pilot.press("slash", *"needle", "enter")
        await until_shown(pilot, "the needle")
        row = rows_shown(pilot).index("the needle")
        assert rows_shown(pilot)[row - 1 : row + 2] == ["line 300", "the needle", "line 301"]
        await pilot.press("escape", "ampersand", *"errors", "enter")
        await until_shown(pilot, "exit 3", "failed")
        assert "line 300" not in screen(pilot)
        await pilot.press("escape", "end")
        await until_shown(pilot, f"line {LINES}")
        # All the way up, each line once.
        seen = numbers(rows_shown(pilot))
        lowest = seen[0]
        for _ in range(20):
            await pilot.press("pageup")
            await until(pilot, lambda: pane.task_log.is_idle)
            seen = numbers(rows_shown(pilot))
            assert seen == list(range(seen[0], seen[-1] + 1)) and seen[-1] >= lowest - 1
            lowest = seen[0]
        position = top_row(pilot)
        other = finished(beray_client, "!echo another one")
        app.watch(beray_client, other["id"], other["last_seq"])
        await until_shown(pilot, "another one", "completed")
        app.watch(beray_client, task["id"], last_seq)
        await until(pilot, lambda: top_row(pilot) == position)
        await pilot.press("p")
        await until_shown(pilot, f"of {len(truth)}")
        await pilot.press(*["plus"] * 6)
        await until_shown(pilot, "64x")
        await until(pilot, lambda: numbers(rows_shown(pilot)))
        await pilot.press("escape")
        await until(pilot, lambda: top_row(pilot) == position)


async def test_a_running_task_is_followed_unless_the_reader_has_scrolled_up(
    beray_client: BeRayClient,
) -> None:
    goal = "!seq 500; while [ ! -e go ]; do sleep 0.02; done; seq 501 600; echo all done"
    made = beray_client.create_task(goal)
    async with LogApp().run_test(size=(80, 24)) as pilot:
        app = log_app(pilot)
        app.watch(beray_client, made["id"], made.get("last_seq"))
        app.pane.view.focus()
        await until(pilot, lambda: rows_shown(pilot)[-1] == "500")
        await pilot.press("pageup")
        position = rows_shown(pilot)
        beray_client.upload_file(made["id"], "go", b"")
        await until_shown(pilot, "new")
        await until(pilot, lambda: "all done" in app.pane.row_texts)
        assert rows_shown(pilot)[:20] == position[:20]
        await pilot.press("end")
        await until_shown(pilot, "all done", "exit 0", "completed")
        assert "new" not in screen(pilot)
