"""Tests of the log pane: following, paging, folding, copying and reading positions."""

from __future__ import annotations

import pytest

from beray.exceptions import ConnectionFailed, NotFoundError
from tests.tui.dashboard_pilot import screen, until, until_shown
from tests.tui.log_app import log_app, log_of, more, rows_shown, top_row
from tests.tui.log_events import call, event, long_log, output, result, text
from tui.events.event_buffer import PAGE, EventBuffer

COUNT = 20_000


async def test_scrolling_up_from_the_end_shows_every_line() -> None:
    log = long_log(1500)
    async with log_of(log, size=(80, 54)) as (pilot, client):
        app, view = log_app(pilot), log_app(pilot).pane.view
        assert "line 1500" in screen(pilot) and app.position == ""
        assert "line 1447" in top_row(pilot) and client.asked == []
        lowest = 1447
        while not (lowest == 1 and view.scroll_offset.y == 0):
            await pilot.press("pageup")
            await until(pilot, lambda: app.pane.task_log.is_idle)
            shown = [int(row.split()[1]) for row in screen(pilot).split("\n") if "line" in row]
            assert shown == list(range(shown[0], shown[0] + len(shown)))
            assert shown[-1] >= lowest - 1, "rows were skipped"
            lowest = min(lowest, shown[0])
        assert app.position == "event 1 of 1,500"
        for _ in range(8):
            await pilot.press("pagedown")
        shown = [int(row.split()[1]) for row in screen(pilot).split("\n") if "line" in row]
        assert shown == list(range(shown[0], shown[0] + len(shown)))


async def test_scrolling_down_reaches_the_live_end() -> None:
    async with log_of(long_log(6000)) as (pilot, _):
        app, view = log_app(pilot), log_app(pilot).pane.view
        await pilot.press("home")
        await until(pilot, lambda: top_row(pilot) == "line 1")
        assert not app.pane.task_log.buffer.at_end
        while not view.following:
            view.scroll_to(y=view.max_scroll_y, animate=False)
            await until(pilot, lambda: app.pane.task_log.is_idle)
            await pilot.pause()
        assert app.pane.task_log.buffer.at_end and "line 6000" in screen(pilot)
        app.pane.append_events(more(6001, 1))
        await until_shown(pilot, "line 6001")


async def test_keys_show_the_start_and_the_end() -> None:
    async with log_of(long_log(COUNT)) as (pilot, client):
        app = log_app(pilot)
        await pilot.press("g")
        await until(pilot, lambda: top_row(pilot) == "line 1")
        assert client.asked == [(0, PAGE)]
        app.pane.append_events(more(COUNT + 1, 37))
        await until_shown(pilot, "▼ 37 new", "line 1 ")
        assert app.position == f"event 1 of {COUNT + 37:,}"
        await pilot.press("G")
        await until_shown(pilot, f"line {COUNT + 37}")
        assert client.asked == [(0, PAGE)], "the end was there already"
        assert "new" not in screen(pilot) and app.position == ""


async def test_live_events_do_not_move_a_view_that_was_scrolled_up() -> None:
    async with log_of(long_log(1000)) as (pilot, _):
        pane = log_app(pilot).pane
        await pilot.press("pageup")
        before = rows_shown(pilot)[:20]
        for number in range(1001, 9001, 500):
            pane.append_events(more(number, 500))
            await until(pilot, lambda: pane.task_log.is_idle)
        await pilot.pause()
        assert rows_shown(pilot)[:20] == before
        assert "▼ 8,000 new" in screen(pilot)
        assert len(pane.task_log.buffer.window.events) <= 4500
        assert await pilot.click("#log-new")
        await until_shown(pilot, "line 9000")
        pane.append_events(more(9001, 1))
        await until_shown(pilot, "line 9001")


async def test_unavailable_earlier_events_are_reported() -> None:
    refusal = NotFoundError("no", status_code=404, error_detail="Not Found")
    async with log_of(long_log(2000), refusal=refusal) as (pilot, client):
        view = log_app(pilot).pane.view
        view.scroll_to(y=0, animate=False)
        await until_shown(pilot, "earlier events are not available")
        assert len(client.asked) == 1
        await pilot.press("pagedown", "pageup", "home")
        assert len(client.asked) == 1
        assert log_app(pilot).failures == []


async def test_a_failed_page_is_reported_and_fetched_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with log_of(long_log(2000), refusal=ConnectionFailed("gone")) as (pilot, client):
        app = log_app(pilot)
        app.pane.view.scroll_to(y=0, animate=False)
        await until(pilot, lambda: app.failures == ["read more of the log"])
        client.refusal, app.pane.task_log._fetcher._retry_at = None, 0.0
        await pilot.press("down", "up")
        await until(pilot, lambda: app.pane.task_log.buffer.window.first < 1500)


async def test_a_log_without_seq_is_read_from_its_start() -> None:
    events = [output(f"line {number}\n") for number in range(1, 301)]
    async with log_of(events, pageable=False) as (pilot, client):
        await until_shown(pilot, "line 300")
        await pilot.press("home")
        await until(pilot, lambda: top_row(pilot) == "line 1")
        assert client.asked == []


FOLDED = [
    text("I look.\n"),
    call("shell", '{"command": "ls"}'),
    result("shell", {"exit_code": 0}),
    event("AGENT_EVENT_SEND_FILE", path="out/report.md"),
    event("ERROR", code="BROKEN", details="it broke"),
]


async def test_keys_and_mouse_unfold_calls_and_open_files() -> None:
    events = [{**one, "seq": number} for number, one in enumerate(FOLDED, 1)]
    async with log_of(events) as (pilot, _):
        app, view = log_app(pilot), log_app(pilot).pane.view
        assert 'shell {"command": "ls"}  ✓ exit 0' in screen(pilot)
        await pilot.click(view, offset=(5, 1))
        await until_shown(pilot, '"command": "ls"', "▾ shell")
        await pilot.click(view, offset=(5, 1))
        await until(pilot, lambda: "▾" not in screen(pilot))
        await pilot.press("j")
        assert view.cursor_block is not None and view.cursor_block.path
        await pilot.press("k", "space")
        await until_shown(pilot, "▾ shell")
        await pilot.press("space", "j", "enter")
        await until(pilot, lambda: app.files == ["out/report.md"])
        await pilot.press("k")
        assert view.cursor_block is not None and view.cursor_block.name == "shell"
        await pilot.click(view, offset=(5, 2))
        await until(pilot, lambda: len(app.files) == 2)


async def test_selected_text_is_copied_with_its_original_lines() -> None:
    long = "word " * 40
    events = [output(f"first\n{long}\n"), output("last\n")]
    async with log_of([{**one, "seq": n} for n, one in enumerate(events, 1)]) as (pilot, _):
        app, view = log_app(pilot), log_app(pilot).pane.view
        await pilot.mouse_down(view, offset=(5, 0))
        await pilot.hover(view, offset=(4, 4))
        await pilot.mouse_up(view, offset=(4, 4))
        await pilot.press("ctrl+c")
        assert app.clipboard.split("\n") == ["rst", long, "la"]
        app.pane.append_events([{**output("more\n"), "seq": 3}])
        await until_shown(pilot, "more")
        await pilot.press("ctrl+c")
        assert app.clipboard.split("\n") == ["rst", long, "la"]


async def test_the_reading_position_of_each_task_is_restored() -> None:
    log = long_log(COUNT)
    async with log_of(log) as (pilot, client):
        pane = log_app(pilot).pane

        def show(task_id: int) -> None:
            buffer = EventBuffer(COUNT)
            pane.open(client, task_id, buffer)  # type: ignore[arg-type]
            pane.append_events(log[buffer.start_after :])  # type: ignore[arg-type]

        await pilot.press("g")
        await until(pilot, lambda: top_row(pilot) == "line 1")
        await pilot.press("pagedown", "pagedown", "down")
        position = top_row(pilot)
        assert position != "line 1"
        show(2)
        await until_shown(pilot, f"line {COUNT}")
        show(1)
        await until(pilot, lambda: top_row(pilot) == position)
        pane.append_events(more(COUNT + 1, 3))
        await until_shown(pilot, "▼ 3 new")
        assert top_row(pilot) == position
        show(2)
        await until_shown(pilot, f"line {COUNT}")


async def test_resizing_keeps_the_reading_position() -> None:
    events = [{**output(f"line {n} {'x' * 100}\n"), "seq": n} for n in range(1, 401)]
    async with log_of(events) as (pilot, _):
        view = log_app(pilot).pane.view
        await pilot.press("pageup", "pageup")
        position = top_row(pilot)[:8]
        await pilot.resize_terminal(60, 20)
        await until(pilot, lambda: view.size.height == 20 and top_row(pilot)[:8] == position)
        await pilot.press("end")
        await pilot.resize_terminal(100, 30)
        await until_shown(pilot, "line 400")


async def test_a_retracted_answer_is_removed_from_the_screen() -> None:
    async with log_of([text("before\n") | {"seq": 1}, result("look", 1) | {"seq": 2}]) as (
        pilot,
        _,
    ):
        pane = log_app(pilot).pane
        pane.append_events([text("The answer ") | {"seq": 3}, text("is 4") | {"seq": 4}])
        await until_shown(pilot, "The answer is 4")
        retraction = text("It starts again.") | {"seq": 5, "retracts": [3, 4]}
        pane.append_events([retraction, text("The answer is 42.") | {"seq": 6}])
        await until_shown(pilot, "before", "The answer is 42.")
        assert "It starts again" not in screen(pilot)
        assert screen(pilot).count("The answer") == 1
