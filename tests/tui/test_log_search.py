"""Tests of searches and jumps in the log without an application."""

from __future__ import annotations

from beray.exceptions import ConnectionFailed
from tests.tui.log_events import event, long_log, output, text, with_events
from tests.tui.log_parts import OpenLog
from tui.events.window import MAX_EVENTS
from tui.log.model import query as queries

COUNT = 7000
ERROR = event("ERROR", code="BROKEN", details="it broke")
FILE = event("AGENT_EVENT_SEND_FILE", path="out.md")


def jump(opened: OpenLog, step: int) -> str:
    """Jump to the next match, and return the status."""
    opened.log.search.next_match(step)
    opened.settle()
    return opened.status


def test_search_finds_matches_inside_and_outside_the_window() -> None:
    log = with_events(
        long_log(COUNT), e150=output("a Needle here\n"), e3000=text("the **nee"),
        e3001=text("dle** in text"), e6990=output("a needle at the end\n"),
    )  # fmt: skip
    opened = OpenLog(log)
    search, view = opened.log.search, opened.view
    search.start("needle")
    assert opened.status == "event 6,990" and "a needle at the end" in opened.rows
    assert opened.requests == []
    assert jump(opened, 1) == "no further match below"
    assert jump(opened, -1) == "event 3,000" and "the needle in text" in opened.rows
    assert view.highlights.current is not None and view.is_row_visible(view.highlights.current)
    assert jump(opened, -1) == "event 150" and "a Needle here" in opened.rows
    assert jump(opened, -1) == "no further match above"
    assert jump(opened, 1) == "event 3,000"
    assert jump(opened, 1) == "event 6,990" and "a needle at the end" in opened.rows
    assert len(opened.buffer.window.events) <= MAX_EVENTS
    search.end()
    assert not search.is_active and view.highlights.pattern is None
    requests = len(opened.requests)
    search.next_match(1)
    assert not search.is_scanning and len(opened.requests) == requests


def test_a_search_without_text_ends_the_search() -> None:
    opened = OpenLog(long_log(10))
    opened.log.search.start("line 5")
    assert opened.log.search.is_active and opened.status == "event 5"
    opened.log.search.start("  ")
    assert not opened.log.search.is_active


def test_a_stopped_scan_reads_no_more_pages_and_its_result_is_ignored() -> None:
    opened = OpenLog(with_events(long_log(COUNT), e10=output("needle\n")))
    search = opened.log.search
    search.start("needle")
    assert search.is_scanning and opened.status == "searching …  esc stops"
    rows = opened.rows
    search.stop_scan()
    opened.settle()
    assert not search.is_scanning and search.is_active
    assert opened.rows == rows and opened.requests == []
    assert jump(opened, -1) == "event 10" and "needle" in opened.rows


def test_a_scan_reports_its_progress_and_its_failure() -> None:
    opened = OpenLog(long_log(COUNT))
    statuses: list[str] = []
    read_page = opened.read_page

    def read(after: int, limit: int) -> object:
        statuses.append(opened.status)
        return read_page(after, limit)

    opened.log.use_page_reader(read)  # type: ignore[arg-type]
    opened.log.search.start("nowhere")
    job = opened.scheduler.jobs.popleft()
    job()  # the background thread
    assert len(opened.scheduler.jobs) >= 2, "progress and the result"
    opened.scheduler.jobs.popleft()()
    assert opened.status == "searching … event 4,501  esc stops"
    opened.settle()
    assert opened.status == "no further match above"
    opened.error = ConnectionFailed("gone")
    assert jump(opened, -1) == "gone"
    assert opened.failures == ["search the log"] and not opened.log.search.is_scanning


def test_jumps_to_errors_and_files_in_the_whole_log() -> None:
    log = with_events(long_log(COUNT), e400=ERROR, e401=FILE, e3500=ERROR, e6900=FILE)
    opened = OpenLog(log)
    opened.settle()

    def rows_after(query: queries.Query, noun: str, step: int) -> list[str]:
        opened.log.search.next_block(query, noun, step)
        opened.settle()
        return opened.rows

    rows = rows_after(queries.ERRORS, "error", -1)
    assert "BROKEN: it broke" in rows and "line 3501" in rows
    rows = rows_after(queries.ERRORS, "error", -1)
    assert "BROKEN: it broke" in rows and "line 402" in rows
    rows_after(queries.ERRORS, "error", -1)
    assert opened.status == "no further error above"
    rows = rows_after(queries.ERRORS, "error", 1)
    assert "BROKEN: it broke" in rows and "line 3501" in rows
    rows = rows_after(queries.FILES, "file", 1)
    assert "out.md" in rows and "line 6901" in rows
    rows = rows_after(queries.FILES, "file", -1)
    assert "out.md" in rows and "line 402" in rows


def test_a_filtered_log_is_searched_in_its_matches_only() -> None:
    log = with_events(long_log(COUNT), e7=ERROR, e6990=ERROR)
    opened = OpenLog(log)
    opened.log.search.start("line 6000")
    opened.settle()
    assert opened.status == "event 6,000"
    opened.log.filter(queries.parse_filter("errors"))
    opened.settle()
    requests = len(opened.requests)
    assert jump(opened, -1) == "no further match above"
    assert not opened.log.search.is_scanning and len(opened.requests) == requests
    opened.log.show_all()
    opened.settle()
    assert opened.view.highlights.pattern is not None, "the search is still active"


def test_another_source_stops_the_scan() -> None:
    opened = OpenLog(with_events(long_log(COUNT), e10=output("needle\n"), e6990=ERROR))
    opened.log.search.start("needle")
    opened.log.filter(queries.ERRORS)
    assert not opened.log.search.is_scanning
    opened.settle()
    assert "BROKEN: it broke" in opened.rows and opened.view.following
