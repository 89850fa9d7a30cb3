"""Tests of the log of a task without an application: paging, positions, filters and replays."""

from __future__ import annotations

from typing import Any

from beray.exceptions import ConnectionFailed, NotFoundError
from tests.tui.log_events import call, event, long_log, output, result, text, with_events
from tests.tui.log_parts import OpenLog
from tui.events.event_buffer import PAGE
from tui.events.window import MAX_EVENTS
from tui.log.model import query as queries
from tui.log.scroll_anchors import EventAnchor, ReadingPosition

COUNT = 9000
ERROR = event("ERROR", code="BROKEN", details="it broke")


def lines(number: int, count: int) -> Any:
    return [{**output(f"line {n}\n"), "seq": n} for n in range(number, number + count)]


def numbers(opened: OpenLog) -> list[int]:
    """Return the numbers of the lines on the screen."""
    return [int(row.split()[1]) for row in opened.rows if row.startswith("line ")]


def middle(number: int = COUNT // 2, seen: int = COUNT) -> ReadingPosition:
    return ReadingPosition(EventAnchor(number), seen)


# Pages


def test_the_log_opens_at_its_end_and_follows_it() -> None:
    opened = OpenLog(long_log(1500), height=54)
    assert opened.rows[0] == "line 1447" and opened.rows[-1] == "line 1500"
    assert opened.position == "" and opened.requests == []
    opened.append(lines(1501, 1))
    assert opened.rows[-1] == "line 1501" and opened.new_events == 0


def test_scrolling_up_from_the_end_shows_every_line() -> None:
    opened = OpenLog(long_log(1500), height=54)
    lowest = numbers(opened)[0]
    while lowest > 1 or opened.view.top > 0:
        opened.scroll(-53)
        shown = numbers(opened)
        assert shown == list(range(shown[0], shown[0] + len(shown)))
        assert shown[-1] >= lowest - 1, "rows were skipped"
        lowest = min(lowest, shown[0])
    assert opened.position == "event 1 of 1,500"
    assert all(limit <= PAGE for _, limit in opened.requests)
    for _ in range(8):
        opened.scroll(53)
    shown = numbers(opened)
    assert shown == list(range(shown[0], shown[0] + len(shown)))


def test_scrolling_down_reaches_the_live_end() -> None:
    opened = OpenLog(long_log(6000))
    opened.log.go_to_start()
    opened.settle()
    assert opened.rows[0] == "line 1" and not opened.buffer.at_end
    while not opened.view.following:
        opened.scroll(opened.view.row_layout.total)
    assert opened.buffer.at_end and opened.rows[-1] == "line 6000"
    opened.append(lines(6001, 1))
    assert opened.rows[-1] == "line 6001"


def test_the_start_is_fetched_and_the_end_is_in_the_buffer() -> None:
    opened = OpenLog(long_log(COUNT))
    opened.log.go_to_start()
    opened.settle()
    assert opened.rows[0] == "line 1" and opened.requests == [(0, PAGE)]
    opened.append(lines(COUNT + 1, 37))
    assert opened.new_events == 37 and opened.position == f"event 1 of {COUNT + 37:,}"
    opened.log.go_to_end()
    assert opened.rows[-1] == f"line {COUNT + 37}"
    assert opened.new_events == 0 and opened.position == ""
    assert opened.requests == [(0, PAGE)]


def test_live_events_do_not_move_a_reader_and_use_bounded_memory() -> None:
    opened = OpenLog(long_log(1000))
    opened.scroll(-23)
    before = opened.rows
    for number in range(1001, 9001, 500):
        opened.append(lines(number, 500))
    assert opened.rows == before
    assert opened.new_events == 8000
    assert len(opened.buffer.window.events) <= MAX_EVENTS + PAGE


def test_unavailable_earlier_events_are_reported_once() -> None:
    opened = OpenLog(long_log(2000))
    opened.error = NotFoundError("no", status_code=404, error_detail="Not Found")
    opened.scroll(-2000)
    assert opened.rows[0] == "earlier events are not available"
    assert len(opened.requests) == 1
    opened.scheduler.advance(10)
    opened.scroll(23)
    opened.scroll(-2000)
    opened.log.go_to_start()
    opened.settle()
    assert len(opened.requests) == 1
    assert opened.failures == []


def test_a_failed_page_is_reported_and_fetched_later() -> None:
    opened = OpenLog(long_log(2000))
    opened.error = ConnectionFailed("gone")
    opened.scroll(-2000)
    assert opened.failures == ["read more of the log"]
    opened.error = None
    opened.scroll(1)
    assert opened.buffer.window.first > 1500, "requested again too early"
    opened.scheduler.advance(4)
    opened.scroll(-1)
    assert opened.buffer.window.first < 1500


def test_a_log_without_seq_is_read_from_its_start() -> None:
    events = [output(f"line {number}\n") for number in range(1, 301)]
    opened = OpenLog(events, pageable=False)
    assert opened.rows[-1] == "line 300"
    opened.log.go_to_start()
    opened.settle()
    assert opened.rows[0] == "line 1" and opened.requests == []


def test_a_retracted_answer_is_removed_from_the_rows() -> None:
    opened = OpenLog([text("before\n") | {"seq": 1}, result("look", 1) | {"seq": 2}])
    opened.append([text("The answer ") | {"seq": 3}, text("is 4") | {"seq": 4}])
    assert "The answer is 4" in opened.rows
    retraction = text("It starts again.") | {"seq": 5, "retracts": [3, 4]}
    opened.append([retraction, text("The answer is 42.") | {"seq": 6}])
    assert "before" in opened.rows and "The answer is 42." in opened.rows
    assert "It starts again" not in "".join(opened.rows)
    assert "".join(opened.rows).count("The answer") == 1


def test_the_failure_of_the_stream_is_the_last_row_until_it_is_removed() -> None:
    opened = OpenLog(long_log(3))
    opened.log.show_failure("the line is cut")
    assert opened.rows == ["line 1", "line 2", "line 3", "the line is cut"]
    opened.log.show_failure("")
    assert opened.rows[-1] == "line 3"


# Reading positions


def test_the_reading_position_is_restored_in_another_session() -> None:
    log = long_log(COUNT)
    opened = OpenLog(log)
    opened.log.go_to_start()
    opened.settle()
    for rows in (23, 23, 1):
        opened.scroll(rows)
    assert opened.rows[0] == "line 48"
    position = opened.log.reading_position()
    again = OpenLog(log, position=position)
    again.settle()
    assert again.rows == opened.rows
    again.append(lines(COUNT + 1, 3))
    assert again.new_events == 3 and again.rows == opened.rows
    end = OpenLog(log, position=OpenLog(log).log.reading_position())
    assert end.rows[-1] == f"line {COUNT}"


def test_no_rows_are_shown_until_the_reading_position_has_arrived() -> None:
    opened = OpenLog(long_log(COUNT), position=middle(), received=False)
    opened.log.append(opened.events[-PAGE:])  # type: ignore[arg-type]
    assert opened.rows == []
    assert opened.log.reading_position() == middle(), "leaving now must not lose the position"
    opened.settle()
    assert opened.rows[0] == f"line {COUNT // 2}"


def test_a_new_session_repeats_the_request_for_the_reading_position() -> None:
    opened = OpenLog(long_log(COUNT), position=middle(), received=False)
    opened.log.use_page_reader(opened.read_page)
    opened.settle()
    assert opened.rows[0] == f"line {COUNT // 2}"
    assert len(opened.requests) >= 2


def test_the_end_is_shown_if_the_reading_position_cannot_be_read() -> None:
    opened = OpenLog(long_log(COUNT), position=middle(), received=False)
    opened.error = ConnectionFailed("gone")
    opened.append(opened.events[-PAGE:])
    assert opened.failures == ["read more of the log"]
    assert opened.rows and numbers(opened)[-1] > COUNT - PAGE
    opened.log.go_to_end()
    assert opened.rows[-1] == f"line {COUNT}"


def test_late_responses_to_a_closed_log_are_ignored() -> None:
    opened = OpenLog(long_log(COUNT))
    opened.log.go_to_start()
    opened.log.append(lines(COUNT + 1, 100))
    rows = opened.rows
    opened.log.close()
    opened.scheduler.advance(10)
    assert opened.rows == rows
    assert opened.log.is_idle


def test_unfolded_blocks_remain_unfolded() -> None:
    events = [call("shell", '{"command": "ls"}'), result("shell", {"exit_code": 0})]
    log = [{**one, "seq": number} for number, one in enumerate(events, 1)]
    opened = OpenLog(log, position=ReadingPosition(unfolded=frozenset({1})))
    assert '  "command": "ls"' in opened.rows
    assert opened.log.reading_position().unfolded == {1}


# Filters


def test_filter_reads_the_whole_log_and_follows_live_events() -> None:
    log = with_events(long_log(COUNT), e7=ERROR, e4000=ERROR, e8990=ERROR)
    opened = OpenLog(log)
    opened.log.filter(queries.ERRORS)
    opened.settle()
    assert opened.rows == [
        "… 5 events", "line 6", "BROKEN: it broke", "line 8",
        "… 3,990 events", "line 3999", "BROKEN: it broke", "line 4001",
        "… 4,987 events", "line 8989", "BROKEN: it broke", "… 10 events",
    ]  # fmt: skip
    assert max(limit for _, limit in opened.requests) <= 2000
    opened.append([{**ERROR, "seq": COUNT + 1}])
    assert opened.rows.count("BROKEN: it broke") == 4
    opened.log.show_all()
    opened.settle()
    assert opened.rows[-2] == f"line {COUNT}" and opened.view.following
    assert opened.log.shows_all


def test_removing_a_filter_keeps_the_reading_position() -> None:
    log = with_events(long_log(COUNT), **{f"e{n}": ERROR for n in range(100, COUNT, 100)})
    opened = OpenLog(log)
    opened.log.filter(queries.ERRORS)
    opened.settle()
    for _ in range(8):
        opened.scroll(-23)
    anchor = opened.log.reading_position().anchor
    assert anchor is not None and 1 < anchor.number < COUNT - 2000
    opened.log.show_all()
    assert opened.log.reading_position().anchor == anchor
    opened.settle()
    after = opened.log.reading_position().anchor
    assert after is not None and abs(after.number - anchor.number) <= 2


def test_a_filter_starts_at_the_reading_position() -> None:
    opened = OpenLog(long_log(COUNT), position=middle())
    opened.settle()
    for words in ("kind:output", "line kind:output"):
        opened.log.filter(queries.parse_filter(words))
        opened.settle()
        assert f"line {COUNT // 2}" in opened.rows and not opened.view.following
        assert len(opened.requests) < 20, "the whole log was read"


def test_the_end_of_a_filtered_log_is_reached_from_any_position() -> None:
    log = with_events(long_log(COUNT), e7=ERROR, e8990=ERROR)
    opened = OpenLog(log)
    opened.log.go_to_start()
    opened.settle()
    opened.log.filter(queries.ERRORS)
    opened.scheduler.run_jobs()
    opened.log.go_to_end()
    opened.settle()
    assert opened.rows[-1] == "… 10 events" and opened.view.following


def test_an_empty_filter_shows_all_events() -> None:
    opened = OpenLog(with_events(long_log(100), e50=ERROR))
    opened.log.filter(queries.ERRORS)
    assert "line 100" not in opened.rows
    opened.log.filter(queries.parse_filter(" "))
    opened.settle()
    assert opened.rows[-1] == "line 100" and opened.log.shows_all


# Events at which a log is read


def test_the_last_event_on_the_screen_is_read_unless_the_log_is_at_its_end() -> None:
    opened = OpenLog(long_log(1000))
    assert opened.event is None and opened.log.selected_position is None
    opened.scroll(-10)
    assert opened.event == numbers(opened)[-1] == opened.log.selected_position == 990
    opened.log.go_to_start()
    opened.settle()
    opened.view.scroll(0)
    assert opened.event == numbers(opened)[-1] == 24
    opened.log.go_to_end()
    opened.settle()
    assert opened.event is None


def test_the_event_under_the_cursor_is_read() -> None:
    opened = OpenLog(with_events(long_log(100), e50=ERROR))
    opened.scroll(-45)
    block = next(block for block in opened.view.row_layout.blocks if block.failed)
    opened.view.cursor = block
    opened.log.update_position()
    assert opened.event == opened.log.selected_position == 50
    # At the end, the present state is shown; actions still refer to the cursor.
    opened.log.go_to_end()
    opened.settle()
    assert opened.event is None and opened.log.selected_position == 50


def test_lines_of_the_view_itself_are_not_events() -> None:
    opened = OpenLog(long_log(3000))
    opened.log.go_to_start()
    opened.settle()
    opened.view.height = 2000  # the row of later events is on the screen
    opened.log.update_position()
    assert "later events" in opened.rows[-1]
    assert isinstance(opened.event, int) and 1 <= opened.event <= 3000


def test_a_replay_is_read_at_its_last_event() -> None:
    opened = OpenLog(timed(100))
    opened.log.start_replay()
    assert opened.event == 1  # no event was replayed yet
    opened.scheduler.advance(5.1)
    assert opened.event == numbers(opened)[-1] == 6
    opened.log.show_all()
    opened.settle()
    assert opened.event is None


# Replays


def timed(count: int) -> list[dict[str, Any]]:
    """Return events that are one second apart."""
    return [
        {**one, "created_at": f"2026-03-14T09:{one['seq'] // 60 % 60:02}:{one['seq'] % 60:02}Z"}
        for one in long_log(count)
    ]


def test_replay_plays_steps_and_restores_the_reading_position() -> None:
    opened = OpenLog(timed(3000))
    opened.scroll(-23)
    opened.scroll(-23)
    before, position = opened.rows, opened.log.reading_position()
    opened.log.start_replay()
    replay = opened.log.replay
    assert replay is not None
    assert opened.rows == []
    opened.scheduler.advance(0.1)
    assert opened.rows == ["line 1"] and opened.status.startswith("▶ 1x  event 1 of 3,000")
    opened.scheduler.advance(1.0)
    assert opened.rows == ["line 1", "line 2"]
    replay.toggle_pause()
    assert opened.status.startswith("‖ paused 1x")
    opened.scheduler.advance(10)
    assert opened.rows[-1] == "line 2"
    replay.step()
    assert opened.rows[-1] == "line 3" and "event 3 of 3,000" in opened.status
    for _ in range(7):
        replay.faster()
    replay.slower()
    replay.toggle_pause()
    assert opened.status.startswith("▶ 32x")
    opened.scheduler.advance(2)
    assert 60 <= numbers(opened)[-1] <= 70
    assert max(limit for _, limit in opened.requests) <= 1000
    assert opened.log.reading_position() == position
    opened.log.show_all()
    opened.settle()
    assert opened.rows == before and opened.log.shows_all
    opened.scheduler.advance(10)
    assert opened.rows == before, "the replay has not stopped"


def test_a_replay_ends_with_the_last_event_and_ignores_live_ones() -> None:
    opened = OpenLog(timed(300))
    opened.log.start_replay()
    replay = opened.log.replay
    assert replay is not None
    for _ in range(6):
        replay.faster()
    opened.append(lines(301, 1))
    opened.scheduler.advance(10)
    assert opened.rows[-1] == "line 300" and opened.status.startswith("■ end 64x")
    opened.log.show_all()
    assert opened.rows[-1] == "line 301"


def test_a_replay_requires_all_events() -> None:
    events = [output(f"line {number}\n") for number in range(1, 301)]
    opened = OpenLog(events, pageable=False)
    opened.log.start_replay()
    opened.scheduler.advance(60)
    assert opened.rows[0] == "line 277", "all events are in the buffer"
    assert opened.requests == []
    incomplete = OpenLog(long_log(2000))
    incomplete.buffer.pageable = False
    incomplete.log.start_replay()
    assert incomplete.status == "earlier events are not available"
    assert incomplete.log.replay is None


def test_a_filter_replaces_a_replay_at_its_reading_position() -> None:
    opened = OpenLog(with_events(timed(3000), e2000=ERROR))
    opened.scroll(-23)
    position = opened.log.reading_position()
    opened.log.start_replay()
    opened.scheduler.advance(1)
    opened.log.filter(queries.ERRORS)
    opened.settle()
    assert opened.log.replay is None and "BROKEN: it broke" in opened.rows
    opened.log.start_replay()
    opened.log.show_all()
    opened.settle()
    after = opened.log.reading_position().anchor
    assert after is not None and position.anchor is not None
    assert not opened.view.following
