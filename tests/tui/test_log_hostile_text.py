"""Tests of hostile text in every part of the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.segment import Segment
from textual.events import Paste
from textual.pilot import Pilot

from tests.tui.dashboard_pilot import screen, until, until_shown
from tests.tui.hostile_text import BIG, HOSTILE, assert_clean, every_event
from tests.tui.log_app import log_app, log_of
from tests.tui.log_events import call, event, output, result, text
from tests.tui.log_parts import OpenLog
from tests.tui.textual_compat import screen_strips
from tui.events.blocks import BlockBuilder
from tui.log.render.markdown import MarkdownRenderer
from tui.log.render.row_layout import RowLayout

MARKDOWN = (
    f"# {HOSTILE}\n\n**{HOSTILE}** `{HOSTILE}`\n\n- {HOSTILE}\n\n> {HOSTILE}\n\n1. {HOSTILE}\n\n"
    f"[{HOSTILE}](http://x/{HOSTILE}) [x](<{HOSTILE}>) ![{HOSTILE}]({HOSTILE}) <b>{HOSTILE}</b>\n\n"
    f"```{HOSTILE}\n{HOSTILE}\n```\n\n| {HOSTILE} |\n|---|\n| {HOSTILE} |\n\n<div>\n{HOSTILE}\n</div>\n\n"
)
ENTITIES = "".join(f"&#x{code:x}; " for code in (
    0x1B, 0x9B, 0x9D, 0x90, 0x7, 0x8, 0xD, 0x7F, 0x85, 0x202E, 0x2066, 0x2028, 0xD800, 0x10FFFF,
)) + "&#27;]0;t&#7; &Tab;&NewLine;&ZeroWidthSpace; [a](&#x1b;) ![&#x202e;](&#x9b;2J) `&#27;`"  # fmt: skip


def strips_of(pilot: Pilot[None]) -> list[Segment]:
    return [segment for strip in screen_strips(pilot.app) for segment in strip]


def assert_shown_clean(pilot: Pilot[None]) -> None:
    assert_clean(screen(pilot))
    for segment in strips_of(pilot):
        assert segment.control is None
        style = segment.style
        assert style is None or style.link is None
        assert style is None or "@click" not in style.meta


def numbered(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**one, "seq": number} for number, one in enumerate(events, 1)]


@pytest.mark.parametrize(
    "words",
    [MARKDOWN, ENTITIES, MARKDOWN.replace("\n\n", "\n")],
    ids=["blocks", "entities", "one-block"],
)
async def test_hostile_markdown_is_sanitized(words: str) -> None:
    async with log_of(numbered(text(words), text("\nthe end\n")), size=(100, 90)) as (pilot, _):
        await until_shown(pilot, "the end")
        assert_shown_clean(pilot)
        assert words is ENTITIES or "[b]E[@click=app.quit]F[/]" in screen(pilot)


async def test_all_fields_of_events_are_sanitized_folded_and_unfolded() -> None:
    events = numbered(
        *every_event(),
        call(HOSTILE, HOSTILE),
        result(HOSTILE, {HOSTILE: HOSTILE}),
        call(HOSTILE, '{"x": "\\u001b[2J\\u202e"}'),
        result(HOSTILE, {"exit_code": 1, HOSTILE: "\x1b"}),
        output(HOSTILE),
        text(HOSTILE, HOSTILE),
        event("USER_MESSAGE", text=HOSTILE, attachments=[HOSTILE, f"/workspace/{HOSTILE}", ""]),
        event("AGENT_EVENT_SEND_FILE", path=HOSTILE),
    )
    async with log_of(events, size=(100, 40)) as (pilot, _):
        view = log_app(pilot).pane.view
        view.unfolded.update(range(1, len(events), 2))
        view.relayout()
        await pilot.press("home")
        for _ in range(60):
            assert_shown_clean(pilot)
            if view.scroll_offset.y >= view.max_scroll_y:
                break
            await pilot.press("pagedown")
        assert view.scroll_offset.y >= view.max_scroll_y
        await pilot.press("k", "enter")
        await until(pilot, lambda: log_app(pilot).files == [HOSTILE])


async def test_text_in_the_bar_is_sanitized() -> None:
    async with log_of(numbered(output(HOSTILE), text(HOSTILE))) as (pilot, _):
        pane = log_app(pilot).pane
        for key in ("slash", "ampersand"):
            await pilot.press(key)
            pane.bar.input.post_message(Paste(HOSTILE))
            await until(pilot, lambda: pane.bar.input.value)
            assert_shown_clean(pilot)
            await pilot.press("enter")
            await pilot.pause()
            assert_shown_clean(pilot)
            for bad in ("re:(" + HOSTILE, "kind:" + HOSTILE, "re:[" + HOSTILE):
                await pilot.press(key)
                pane.bar.input.value = bad
                await pilot.press("enter")
                await pilot.pause()
                assert_shown_clean(pilot)
            await pilot.press("escape", "escape")
        assert pilot.app.is_running


@pytest.mark.parametrize(
    "one",
    [
        output(BIG),
        text(BIG),
        text("**" + "w " * 400_000),
        call("t", BIG),
        text("`" * 50_000),
    ],
    ids=["output", "text", "strong", "call", "backticks"],
)
def test_a_megabyte_without_a_line_break_is_laid_out(one: dict[str, Any]) -> None:
    error = event("ERROR", code="x", details=BIG)
    opened = OpenLog(numbered(text("begin"), one, error, output("end\n")))
    assert opened.rows[-1] == "end"
    moves: list[Callable[[], object]] = [
        lambda: opened.scroll(-23), opened.log.go_to_start, opened.log.go_to_end,
    ]  # fmt: skip
    for go in moves:
        go()
        opened.settle()
        assert_clean("".join(opened.rows))
        assert all(len(row) <= 76 for row in opened.rows)
    opened.log.search.start("mmm")
    opened.settle()
    assert_clean("".join(opened.rows))


async def test_megabytes_without_a_line_break_are_drawn() -> None:
    events = numbered(
        text("begin"), output(BIG), call("t", BIG), text(BIG), event("ERROR", code="x", details=BIG),
        output("end\n"),
    )  # fmt: skip
    async with log_of(events) as (pilot, _):
        await until_shown(pilot, "end")
        await pilot.press("pageup", "home", "end", "slash", *"mmm", "enter")
        await pilot.pause()
        assert_shown_clean(pilot)


def test_text_is_shown_unrendered_if_the_renderer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise IndexError("a mistake of the renderer")

    renderer = MarkdownRenderer({})
    monkeypatch.setattr(MarkdownIt, "parse", broken)
    assert renderer.rows("**x**", 40) is None
    builder = BlockBuilder()
    builder.feed(text("some **bold** words\n"), 1)
    layout = RowLayout(renderer.rows)
    layout.lay_out(builder.blocks, 40)
    assert [row.text for row in layout.all_rows()] == ["some **bold** words"]
