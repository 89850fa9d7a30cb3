"""Tests of search, jumps, filters and replays, inside and outside the window."""

from __future__ import annotations

import threading

import pytest
from textual import events

from beray.exceptions import ConnectionFailed
from tests.tui.dashboard_pilot import screen, until, until_shown
from tests.tui.log_app import log_app, log_of, more, top_row
from tests.tui.log_events import call, event, long_log, output, result, text, with_events
from tui.events.blocks import BlockBuilder
from tui.events.window import EventWindow, number_events
from tui.log.model import query as queries
from tui.log.model.filtered_log import FilteredLog, blocks_before
from tui.log.model.query import QueryError
from tui.log.model.replay import Replay

COUNT = 3000


ERROR = event("ERROR", code="BROKEN", details="it broke")
FILE = event("AGENT_EVENT_SEND_FILE", path="out.md")


# Queries and filters


def test_search_accepts_text_or_a_regular_expression() -> None:
    assert queries.parse_search("a.b").matches_text("xA.Bx") and not queries.parse_search(
        "a.b"
    ).matches_text("aXb")
    assert queries.parse_search("re: a.b").matches_text("aXb")
    for bad in ("re:(", "re:[", "re:*", "re:(?P<n"):
        with pytest.raises(QueryError, match="regular expression"):
            queries.parse_search(bad)
    assert queries.parse_search("  ").patterns == ()


def test_all_terms_of_a_filter_must_match() -> None:
    builder = BlockBuilder()
    said = [
        text("plain words"), call("shell", '{"x": 1}'), result("shell", {"exit_code": 2}), ERROR,
        FILE, text("other", "reviewer"), output("one\ntwo words\n"),
        event("AGENT_EVENT_CUSTOM_UPDATE", payload={"message": "half"}),
        event("USER_MESSAGE", text="a question", attachments=["asked.csv"]),
    ]  # fmt: skip
    for number, one in enumerate(said, 1):
        builder.feed(one, number)

    def found(words: str) -> list[int]:
        query = queries.parse_filter(words)
        return [block.first for block in builder.blocks if query.matches(block)]

    assert found("kind:text") == [1, 6]
    assert found("kind:call") == [2] and found("kind:result exit") == [2]
    assert found("errors") == [2, 4] == found("kind:error")
    assert found("kind:file kind:note") == [5, 8, 9]
    assert found("kind:user") == found("question") == found("asked.csv") == [9]
    assert found("source:review") == [6]
    assert found("words") == [1, 7] and found("words kind:output") == [7]
    assert found('"two words"') == [7] and found("one words") == []
    assert found("re:^two") == [7]
    with pytest.raises(QueryError, match="Unknown kind 'nonsense'"):
        queries.parse_filter("kind:nonsense")


def shown(filtered: FilteredLog) -> list[str]:
    return [
        ("~" if block.faint else "") + line
        for block in filtered.blocks()
        for line in block.text.removesuffix("\n").split("\n")
    ]


def test_filter_shows_one_line_of_context_and_counts_omitted_events() -> None:
    log = with_events(long_log(1000), e300=ERROR, e301=ERROR, e700=output("needle\n"))
    window = EventWindow()
    window.append(number_events(log, 0))
    assert shown(FilteredLog(queries.ERRORS, window)) == [
        "… 298 events", "~line 299", "BROKEN: it broke", "BROKEN: it broke", "~line 302",
        "… 698 events",
    ]  # fmt: skip
    assert shown(FilteredLog(queries.parse_filter("needle"), window)) == [
        "… 698 events", "~line 699", "needle", "~line 701", "… 299 events",
    ]  # fmt: skip
    assert shown(FilteredLog(queries.parse_filter("nowhere"), window)) == [
        "no match in 1,000 events"
    ]


@pytest.mark.parametrize("words", ["errors", "needle", "line", "needle kind:output", "re:7$"])
def test_filter_result_is_independent_of_the_order_of_reading(words: str) -> None:
    places = {f"e{n}": ERROR for n in (1, 64, 65, 640, 641, 2999)}
    needles = {f"e{n}": output("needle\n") for n in (63, 128, 999, 1000, 1500)}
    half = {"e1200": output("nee"), "e1201": output("dle\n"), "e1300": text("a needle in text")}
    log = number_events(with_events(long_log(3000), **places, **needles, **half), 0)
    query = queries.parse_filter(words)
    whole = EventWindow()
    whole.append(log)
    expected = shown(FilteredLog(query, whole))
    end = EventWindow(2500)
    end.append(log[2500:2800])
    filtered = FilteredLog(query, end)
    for start in range(2800, 3000, 7):
        filtered.append(log[start : start + 7])
    while filtered.has_earlier:
        last = filtered.first
        after = max(0, last - 130)
        filtered.prepend(blocks_before(log[after:last], filtered.start_key))
        assert filtered.first < last
    assert shown(filtered) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_filter_ignores_retracted_events(size: int) -> None:
    retraction = text("It starts again.") | {"retracts": [3, 5]}
    log = number_events(
        [output("needle 1\n"), ERROR, text("a needle"), ERROR, text("another needle"), retraction,
         text("the needle"), ERROR, output("x\n")], 0,
    )  # fmt: skip
    query = queries.parse_filter("needle")

    def found(filtered: FilteredLog) -> list[str]:
        return [line for line in shown(filtered) if "needle" in line]

    whole = EventWindow()
    whole.append(log)
    assert found(FilteredLog(query, whole)) == ["needle 1", "the needle"]
    filtered = FilteredLog(query, EventWindow())
    for start in range(0, len(log), size):
        filtered.append(log[start : start + size])
    assert found(filtered) == ["needle 1", "the needle"]
    end = EventWindow(4)
    end.append(log[4:])
    filtered = FilteredLog(query, end)
    filtered.prepend(blocks_before(log[: filtered.first], filtered.start_key))
    assert found(filtered) == ["needle 1", "the needle"]


def test_filter_that_matches_everything_uses_bounded_memory() -> None:
    window = EventWindow()
    filtered = FilteredLog(queries.parse_filter("line"), window)
    for start in range(0, 60_000, 1000):
        filtered.append(number_events(more(start + 1, 1000), start))
        if filtered.too_large:
            filtered.drop_top()
    assert sum(block.weight for block in filtered.blocks()) < 10_000
    assert shown(filtered)[-1].endswith("line 60000")
    assert filtered.has_earlier


def test_replay_keeps_the_pace_but_shortens_pauses_to_two_seconds() -> None:
    times = ["09:00:00", "09:00:01", "09:30:00", "nonsense", "09:30:00.5"]
    log = [
        {**output(f"{n}\n"), "seq": n, "created_at": f"2026-03-14T{time}Z"}
        for n, time in enumerate(times, 1)
    ]
    replay = Replay(5)
    replay.add(number_events(log, 0))
    replay.advance(0.0)
    assert replay.number == 1
    replay.advance(0.9)
    assert replay.number == 1
    replay.advance(0.2)
    assert replay.number == 2
    replay.advance(1.8)
    assert replay.number == 2
    replay.faster()
    replay.advance(0.06)
    assert (replay.number, replay.speed) == (3, 2)
    replay.step()
    assert replay.number == 4 and not replay.advance(60)
    replay.paused = False
    replay.advance(0.25)
    assert replay.is_over
    for _ in range(9):
        replay.faster()
    assert replay.speed == 64


# On the screen


async def test_keys_search_and_jump() -> None:
    log = with_events(
        long_log(300), e20=ERROR, e30=FILE, e150=output("a Needle here\n"), e290=output("needle\n")
    )
    async with log_of(log) as (pilot, _):
        pane, view = log_app(pilot).pane, log_app(pilot).pane.view
        await pilot.press("slash", *"needle", "enter")
        await until_shown(pilot, "event 290")
        await pilot.press("n")
        await until_shown(pilot, "no further match below")
        await pilot.press("N")
        await until_shown(pilot, "a Needle here", "event 150")
        assert view.highlights.current is not None and view.is_row_visible(view.highlights.current)
        await pilot.press("n")
        await until_shown(pilot, "event 290")
        await pilot.press("escape")
        assert not pane.task_log.search.is_active and not pane.bar.display
        assert not await pilot.app.run_action("next_match", pane)
        await pilot.press("left_square_bracket")
        await until_shown(pilot, "BROKEN: it broke")
        await pilot.press("left_square_bracket")
        await until_shown(pilot, "no further error above")
        await pilot.press("right_curly_bracket")
        await until_shown(pilot, "out.md")
        assert view.cursor_block is not None and view.cursor_block.path == "out.md"
        await pilot.press("end", "left_curly_bracket")
        await until_shown(pilot, "out.md")
        await pilot.press("home", "right_square_bracket")
        await until_shown(pilot, "BROKEN: it broke")
        await pilot.press("slash", *"re:(", "enter")
        await until_shown(pilot, "Invalid regular expression")
        await pilot.press("escape")
        assert view.has_focus


async def test_long_search_shows_progress_and_stops_with_escape() -> None:
    async with log_of(long_log(COUNT)) as (pilot, client):
        pane = log_app(pilot).pane
        going = threading.Event()
        pages = client.list_events
        client.list_events = lambda *args, **more: going.wait() and pages(*args, **more)  # type: ignore[method-assign]
        await pilot.press("slash", *"nowhere", "enter")
        await until_shown(pilot, "searching …")
        await pilot.press("escape")
        await until_shown(pilot, "search stopped")
        going.set()
        await pilot.pause(0.1)
        assert f"line {COUNT}" in screen(pilot) and pane.task_log.search.is_active
        client.refusal = ConnectionFailed("gone")
        await pilot.press("N")
        await until(pilot, lambda: log_app(pilot).failures == ["search the log"])


async def test_keys_filter_and_escape_ends_search_before_filter() -> None:
    async with log_of(with_events(long_log(300), e7=ERROR, e290=ERROR)) as (pilot, _):
        pane = log_app(pilot).pane
        await pilot.press("ampersand", *"errors", "enter")
        await until_shown(pilot, "… 5 events", "… 280 events", "esc removes the filter")
        assert screen(pilot).count("BROKEN") == 2 and pane.view.has_focus
        pane.append_events([{**ERROR, "seq": 301}])
        await until(pilot, lambda: screen(pilot).count("BROKEN") == 3)
        await pilot.press("slash", *"broke", "enter")
        await until_shown(pilot, "event 7")
        await pilot.press("escape")
        assert not pane.task_log.search.is_active and not pane.task_log.shows_all
        await until_shown(pilot, "esc removes the filter")
        await pilot.press("escape")
        await until_shown(pilot, "line 10 ")  # around the match
        assert pane.task_log.shows_all and not pane.bar.display
        await pilot.press("end")
        pane.action_filter_errors()
        await until(pilot, lambda: screen(pilot).count("BROKEN") == 3)
        await pilot.press("ampersand", "ctrl+a", *"kind:nonsense", "enter")
        await until_shown(pilot, "Unknown kind")
        await pilot.press("escape")
        assert not pane.task_log.shows_all
        await pilot.press("ampersand", "backspace", "enter")
        await until_shown(pilot, "line 300")
        assert pane.task_log.shows_all and pane.view.has_focus and not pane.bar.display


async def test_keys_control_a_replay() -> None:
    log = [
        {**one, "created_at": f"2026-03-14T09:{one['seq'] // 60 % 60:02}:{one['seq'] % 60:02}Z"}
        for one in long_log(3000)
    ]
    async with log_of(log) as (pilot, _):
        pane = log_app(pilot).pane
        await pilot.press("pageup", "pageup")
        position = top_row(pilot)
        await pilot.press("p")
        await until_shown(pilot, "line 1 ")
        await pilot.press("space")
        await until_shown(pilot, "‖ paused 1x")
        assert "line 2 " not in screen(pilot)
        await pilot.press("right", "right")
        await until_shown(pilot, "line 3 ", "event 3 of 3,000")
        await pilot.press("plus", "plus", "minus", *["plus"] * 5, "space")
        await until_shown(pilot, "▶ 64x")
        await until(pilot, lambda: "line 3 " not in screen(pilot))
        await pilot.press("slash", "x")
        await pilot.pause(0.2)
        assert pane.bar.input.value == "x" and pane.is_typing, "the replay took the bar"
        await pilot.press("escape", "escape")
        await until(pilot, lambda: top_row(pilot) == position)
        assert pane.task_log.replay is None and not pane.bar.display


async def test_keys_typed_directly_after_the_binding_reach_the_bar() -> None:
    async with log_of(long_log(50)) as (pilot, _):
        pane = log_app(pilot).pane
        for key, letters in (("slash", "n/&p"), ("ampersand", "p&/n")):
            keys = {"/": "slash", "&": "ampersand"}
            pilot.app.post_message(events.Key(key, None))
            for letter in letters:
                pilot.app.post_message(events.Key(keys.get(letter, letter), letter))
            await until(pilot, lambda: pane.bar.input.value == letters)  # noqa: B023
            await pilot.press("escape")
        assert pane.task_log.replay is None
