"""Tests of the log's requests, its queue of live events, and its source of live events."""

from __future__ import annotations

from typing import Any

from beray.exceptions import ConnectionFailed
from tests.tui.log_events import event, long_log, page, text
from tests.tui.log_parts import ManualScheduler
from tui.events.event_buffer import PAGE, EventBuffer
from tui.log.block_view import Viewport
from tui.log.event_fetcher import EventFetcher
from tui.log.event_queue import EventQueue
from tui.log.scroll_anchors import EventAnchor
from tui.log.sources.live import LiveSource

TOP = Viewport(top=0, height=20, total=500, following=False)
END = Viewport(top=480, height=20, total=500, following=True)


class Server:
    """Events of a task, and the requests for them."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.requests: list[tuple[int, int]] = []
        self.failures: list[Exception] = []
        self.scheduler = ManualScheduler()
        self.fetcher = EventFetcher(
            page_reader=self.read_page, scheduler=self.scheduler, on_failure=self.failures.append
        )

    def read_page(self, after: int, limit: int) -> Any:
        self.requests.append((after, limit))
        return page(self.events, after, limit)


def test_a_second_request_discards_the_response_of_the_first() -> None:
    server = Server(long_log(10))
    received: list[int] = []
    for after in (0, 5):
        server.fetcher.fetch(after, 2, lambda events: received.extend(one["seq"] for one in events))
    assert server.fetcher.is_busy
    server.scheduler.run_jobs()
    assert received == [6, 7] and not server.fetcher.is_busy


def test_discarded_responses_and_failures_are_ignored() -> None:
    server = Server(long_log(10))
    received: list[Any] = []

    def fail(*_: int) -> Any:
        raise ConnectionFailed("gone")

    server.fetcher.fetch(0, 2, received.append)
    server.fetcher.discard_responses()
    server.fetcher.page_reader = fail
    server.fetcher.fetch(0, 2, received.append)
    server.fetcher.discard_responses()
    server.scheduler.run_jobs()
    assert received == [] and server.failures == [] and server.fetcher.is_ready


def test_after_a_failure_only_requests_of_the_user_are_sent_for_some_seconds() -> None:
    server = Server(long_log(10))
    server.fetcher.request(lambda _: (_ for _ in ()).throw(OSError("no")), lambda _: None)
    server.scheduler.run_jobs()
    assert [str(error) for error in server.failures] == ["no"]
    assert not server.fetcher.is_ready and not server.fetcher.is_busy
    server.scheduler.advance(3)
    assert server.fetcher.is_ready


def test_a_pending_request_keeps_its_page_reader() -> None:
    server, other = Server(long_log(10)), Server(long_log(10))
    server.fetcher.fetch(0, 2, lambda _: None)
    server.fetcher.page_reader = other.read_page
    server.scheduler.run_jobs()
    assert server.requests == [(0, 2)] and other.requests == []


def test_live_events_are_processed_in_slices_and_shown_at_intervals() -> None:
    scheduler = ManualScheduler()
    sizes: list[int] = []
    shown: list[int] = []

    def process(events: list[Any]) -> None:
        sizes.append(len(events))
        scheduler.time += 0.003

    queue = EventQueue(
        scheduler=scheduler, process=process, refresh=lambda: shown.append(sum(sizes))
    )
    queue.add(long_log(5000))  # type: ignore[arg-type]
    assert sum(sizes) == 300 and shown == [300] and not queue.is_empty
    queue.add(long_log(50))  # type: ignore[arg-type]
    assert sum(sizes) == 300, "processed before the pause"
    scheduler.advance(1)
    assert queue.is_empty and sum(sizes) == 5050 and shown[-1] == 5050
    assert max(sizes) == 100 and len(shown) < 10
    queue.add(long_log(1000))  # type: ignore[arg-type]
    processed = sum(sizes)
    queue.close()
    scheduler.advance(1)
    assert queue.is_empty and sum(sizes) == processed and shown[-1] <= processed


def opened(server: Server, changes: list[EventAnchor | None], *, chat: bool = False) -> LiveSource:
    buffer = EventBuffer(len(server.events))
    source = LiveSource(
        buffer=buffer, fetcher=server.fetcher, on_change=changes.append, is_chat=chat
    )
    source.append(server.events[buffer.start_after :], following=True)  # type: ignore[arg-type]
    return source


def texts(source: LiveSource) -> list[str]:
    return [block.text for block in source.blocks()]


def test_pages_are_fetched_where_the_reader_scrolls_and_not_while_following() -> None:
    server, changes = Server(long_log(3000)), []
    source = opened(server, changes)
    source.prefetch(END)
    assert not server.fetcher.is_busy
    source.prefetch(TOP)
    source.prefetch(TOP)
    server.scheduler.run_jobs()
    assert server.requests == [(2000, PAGE)] and changes == [None]
    assert texts(source)[0] == "… 2,000 earlier events"
    source.go_to_event(EventAnchor(5))
    server.scheduler.run_jobs()
    assert changes == [None, EventAnchor(5)]
    assert texts(source)[-1] == "… 2,500 later events"
    assert not source.at_newest and source.scan_start(1) == 500 and source.scan_start(-1) is None
    source.go_to_end()
    assert source.at_newest and source.scan_start(1) is None


def test_a_short_log_is_filled_from_earlier_pages_while_following() -> None:
    server, changes = Server([{**text("\n"), "seq": n} for n in range(1, 1001)]), []
    source = opened(server, changes)
    source.prefetch(Viewport(top=0, height=20, total=3, following=True))
    server.scheduler.run_jobs()
    assert server.requests == [(0, PAGE)] and changes == [None]


def test_a_chat_without_messages_shows_a_hint_instead_of_its_statuses() -> None:
    turns = [event("TASK_STATUS", status=status) for status in ("RUNNING", "INPUT_REQUIRED")]
    server = Server([{**one, "seq": number} for number, one in enumerate(turns, 1)])
    assert texts(opened(server, [], chat=True)) == ["No messages yet."]
    assert len(texts(opened(server, []))) == 2
    message = {**event("USER_MESSAGE", text="hello"), "seq": 3}
    server.events.append(message)
    assert texts(opened(server, [], chat=True)) == ["hello"]
