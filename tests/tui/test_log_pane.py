"""Tests of the log pane in an application: keys, mouse, folding, copying and resizing."""

from __future__ import annotations

from tests.tui.dashboard_pilot import screen, strips, until, until_shown
from tests.tui.log_app import log_app, log_of, more, rows_shown, top_row
from tests.tui.log_events import call, event, long_log, output, result, text
from tui.events.event_buffer import PAGE
from tui.theme import LIGHT

COUNT = 3000


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
        for number in range(1001, 3001, 500):
            pane.append_events(more(number, 500))
            await until(pilot, lambda: pane.task_log.is_idle)
        await pilot.pause()
        assert rows_shown(pilot)[:20] == before
        assert "▼ 2,000 new" in screen(pilot)
        assert await pilot.click("#log-new")
        await until_shown(pilot, "line 3000")
        pane.append_events(more(3001, 1))
        await until_shown(pilot, "line 3001")


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


async def test_keys_and_mouse_request_the_changes_of_a_step() -> None:
    checkpoint = {"kind": "checkpoint", "checkpoint": "c2", "seq": 3, "added": 2}
    steps = [*FOLDED[:3], event("AGENT_EVENT_CUSTOM_UPDATE", payload=checkpoint), *FOLDED[3:]]
    events = [{**one, "seq": number} for number, one in enumerate(steps, 1)]
    async with log_of(events) as (pilot, _):
        app, view = log_app(pilot), log_app(pilot).pane.view
        await until_shown(pilot, "± c2 · 2 files changed")
        await pilot.press("v")  # at the end of the log
        await pilot.click(view, offset=(5, 2))
        await pilot.press("v", "k", "v", "j", "enter")
        await until(pilot, lambda: app.steps == [None, "c2", "c2", 3, "c2"])
        await until(pilot, lambda: app.event == "c2")
        await pilot.press("end")
        await until(pilot, lambda: app.event is None)


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


async def test_markdown_changes_its_colours_with_the_theme() -> None:
    async with log_of([{**text("the file `summary.md`\n"), "seq": 1}]) as (pilot, _):
        view = log_app(pilot).pane.view

        def has_colour_of_theme() -> bool:
            segments = [segment for strip in strips(pilot) for segment in strip]
            shown = next(segment.style for segment in segments if "summary.md" in segment.text)
            expected = view.get_component_rich_style("log--code").color
            return shown is not None and shown.color == expected

        await until(pilot, lambda: "summary.md" in screen(pilot) and has_colour_of_theme())
        pilot.app.register_theme(LIGHT)
        pilot.app.theme = LIGHT.name
        before = view.get_component_rich_style("log--code").color
        await until(pilot, lambda: view.get_component_rich_style("log--code").color != before)
        await until(pilot, has_colour_of_theme)
