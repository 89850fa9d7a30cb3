"""Pages of events are limited by bytes, wherever they are held or sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from beray import BeRayClient, NotFoundError
from beray.server.api.tasks import MAX_EVENT_BYTES, MAX_TASK_EVENTS
from beray.server.chats.transcript import MAX_BYTES, transcript
from beray.server.storage.events import EventRange
from beray.server.storage.log_transaction import LogTransaction, NewEvent
from beray.server.storage.tasks import TaskSpec
from beray.server.tasks import event_pages
from beray.server.tasks.event_pages import (
    CACHE_BYTES,
    PAGE_BYTES,
    PAGE_EVENTS,
    EventDeleted,
    EventPages,
)
from beray.server.tasks.recent_events import LoggedEvent, RecentEvents
from beray.testing import RunningServer, authorization
from tests.repositories import Repositories, opened
from tests.shared_servers import ServerPool
from tests.stored_rows import add_events, body
from tests.support import done, until

MIB = 1024 * 1024


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    with opened(tmp_path / "db.sqlite3") as repositories:
        yield repositories


def stored(repositories: Repositories, texts: list[str]) -> int:
    """The id of a new task with these text events."""
    task = repositories.tasks.create(repositories.user_id(), TaskSpec("goal"), held=False)
    add(repositories, task.id, 1, texts)
    return task.id


def add(repositories: Repositories, task_id: int, first: int, texts: list[str]) -> None:
    """Store text events, beginning with the ``seq`` ``first``."""
    events = [
        NewEvent(task_id, seq, "AGENT_EVENT_TEXT_CHUNK", body(task_id, seq, text))
        for seq, text in enumerate(texts, first)
    ]

    def write(transaction: LogTransaction) -> None:
        transaction.insert(events)
        transaction.set_ends({task_id: (events[-1].seq, None)})

    repositories.events.transact(write, wait=10.0, with_reserve=False)


async def read(pages: EventPages, task_id: int) -> list[bytes]:
    """All bodies, page by page; each page is within its limits."""
    bodies: list[bytes] = []
    while (page := await pages.page(task_id, len(bodies))).events:
        assert sum(len(event.body) for event in page.events) <= PAGE_BYTES or (
            len(page.events) == 1 and len(page.events[0].body) <= event_pages.CHUNK_BYTES
        )
        assert len(page.events) <= PAGE_EVENTS
        for event in page.events:
            pieces = [piece async for piece in pages.body(task_id, event)]
            assert all(len(piece.decode()) <= event_pages.CHUNK_BYTES + 4 for piece in pieces)
            bodies.append(b"".join(pieces))
    return bodies


@pytest.mark.parametrize(
    "texts",
    [
        ["x"] * 2500,
        ["x" * 10_000] * 300,
        ["x" * 200_000] * 4,
        ["a", "€" * 1_000_000, "b", "x" * 300_000, "y" * 300_000, "c"],
        ["😀" * 400_001],
    ],
    ids=["many", "medium", "one a page", "large among small", "large alone"],
)
async def test_pages_have_every_event_once(repositories: Repositories, texts: list[str]) -> None:
    task_id = stored(repositories, texts)
    pages = EventPages(events=repositories.events)
    expected = [body(task_id, seq, text).encode() for seq, text in enumerate(texts, 1)]
    assert await read(pages, task_id) == expected
    assert await read(pages, task_id) == expected  # now from the cache
    for first in (1, 2, len(texts)):
        array = pages.json_array(task_id, EventRange(first, len(texts)))
        parts = b",".join(expected[first - 1 :])
        assert b"".join([piece async for piece in array]) == b"[" + parts + b"]"


async def test_the_cache_is_limited_by_bytes_and_forgets_deleted_tasks(
    repositories: Repositories,
) -> None:
    pages = EventPages(events=repositories.events)
    tasks = [stored(repositories, ["x" * 100_000] * 40) for _ in range(5)]
    for task_id in tasks:
        await read(pages, task_id)
        assert 0 < pages.cached_bytes <= CACHE_BYTES
    for task_id in tasks:
        pages.forget(task_id)
    assert pages.cached_bytes == 0


async def test_a_page_that_may_grow_is_read_anew(repositories: Repositories) -> None:
    pages = EventPages(events=repositories.events)
    task_id = stored(repositories, ["a"])
    assert len((await pages.page(task_id, 0)).events) == 1
    add(repositories, task_id, 2, ["b"])
    assert len((await pages.page(task_id, 0)).events) == 2


async def test_a_large_event_that_is_deleted_while_it_is_sent_is_no_whole_event(
    repositories: Repositories,
) -> None:
    pages = EventPages(events=repositories.events)
    task_id = stored(repositories, ["x" * MIB])
    (event,) = (await pages.page(task_id, 0)).events
    pieces = pages.body(task_id, event)
    await anext(pieces)
    repositories.tasks.delete(task_id)
    repositories.events.delete_first(task_id, 10)
    with pytest.raises(EventDeleted):
        await anext(pieces)
    with pytest.raises(EventDeleted):
        [piece async for piece in pages.json_array(task_id, EventRange(1, 1))]


@pytest.mark.parametrize("size", [10, 600_000])
async def test_damaged_text_is_shown_as_such(
    repositories: Repositories, tmp_path: Path, size: int
) -> None:
    task_id = stored(repositories, ["x" * size])
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database, database:
        database.execute("UPDATE events SET body = CAST(replace(body, 'xx', x'ff') AS TEXT)")
    (found,) = await read(EventPages(events=repositories.events), task_id)
    assert "�" in found.decode()


def logged(seq: int, size: int, *, last: bool = False) -> LoggedEvent:
    return LoggedEvent(seq, b"x" * size, size, last)


def test_the_newest_events_are_limited_for_a_task_and_in_total() -> None:
    newest = RecentEvents(task_bytes=1000, total_bytes=2500)
    for seq in range(1, 101):
        newest.add(1, logged(seq, 300))
    assert newest.size == 900
    assert [event.seq for event in newest.after(1, 97) or []] == [98, 99, 100]
    assert newest.after(1, 96) is None
    for task_id in (2, 3):
        newest.add(task_id, logged(1, 1000))
    assert newest.size == 2000
    assert newest.after(1, 100) is None  # which was silent longest
    newest.add(3, logged(2, 1001))
    assert newest.after(3, 2) is None
    newest.add(3, logged(3, 10, last=True))
    assert [event.seq for event in newest.after(3, 2) or []] == [3]
    assert newest.after(3, 3) is None  # the log knows that this is the end
    for task_id in (1, 2, 3):
        newest.forget(task_id)
    assert newest.size == 0


def test_a_transcript_is_read_from_the_end(repositories: Repositories) -> None:
    task_id = stored(repositories, ["a" * 20_000, "b" * 20_000, "c" * 30_000])
    task = repositories.tasks.get(task_id)
    assert task is not None
    text = transcript(repositories.events, task)
    conversation = text.removeprefix("The conversation so far:\n\n")
    conversation = conversation.removesuffix("\n\nThe user says now:")
    assert conversation == ("a" * 20_000 + "b" * 20_000 + "c" * 30_000)[-MAX_BYTES:]


def test_a_transcript_is_limited_in_bytes(repositories: Repositories) -> None:
    task_id = stored(repositories, ["漢" * 20_001, "字" * 15_000])
    task = repositories.tasks.get(task_id)
    assert task is not None
    text = transcript(repositories.events, task)
    assert len(text.encode()) < MAX_BYTES + 100
    assert "漢" * 4_999 + "字" * 15_000 in text and "\ufffd" not in text


# Over HTTP


@pytest.fixture(scope="module")
def log(beray_server: RunningServer) -> Iterator[tuple[BeRayClient, int, list[Any]]]:
    """A task of more than 8 MiB of events, large ones among them."""
    with beray_server.sign_up() as client:
        task_id = done(client, "!true")[0]["task_id"]
        texts = ["x" * 30_000] * 150 + ["ü" * (2 * MIB)] + ["y" * 1000] * 3000
        yield client, task_id, add_events(beray_server, task_id, texts)
        client.delete_task(task_id)


def get(server: RunningServer, client: BeRayClient, path: str, **more: Any) -> requests.Response:
    headers = authorization(client)
    return requests.get(f"{server.url}/api/v1{path}", headers=headers, timeout=60, **more)


def test_a_task_has_its_newest_events(
    beray_server: RunningServer, log: tuple[BeRayClient, int, list[Any]]
) -> None:
    client, task_id, events = log
    answer = get(beray_server, client, f"/tasks/{task_id}")
    task = answer.json()
    assert task["events_truncated"] is True
    assert task["events"] == events[task["first_seq"] - 1 :]
    assert 7 * MIB < len(answer.content) < MAX_EVENT_BYTES + 4096


def test_a_task_has_ten_thousand_events_at_most(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = done(beray_client, "!true")[0]["task_id"]
    task = beray_client.get_task(task_id)
    assert (task["first_seq"], task["events_truncated"]) == (1, False)
    events = add_events(beray_server, task_id, ["x"] * MAX_TASK_EVENTS)
    task = beray_client.get_task(task_id)
    assert task["events_truncated"] is True
    assert task["first_seq"] == len(events) - MAX_TASK_EVENTS + 1
    assert task["events"] == events[-MAX_TASK_EVENTS:]
    assert task["events"][-1]["seq"] == task["last_seq"]


def test_one_event_that_is_larger_than_all_limits_is_given(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = done(beray_client, "!true")[0]["task_id"]
    events = add_events(beray_server, task_id, ["x" * (MAX_EVENT_BYTES + MIB)])
    assert beray_client.get_task(task_id)["events"] == events[-1:]
    before = len(events) - 1
    assert beray_client.list_events(task_id, after=before) == events[-1:]
    with beray_client.stream_task_updates(task_id, last_event_id=str(before)) as stream:
        assert next(stream) == events[-1]


def test_listed_events_are_limited_by_bytes_and_linked(
    beray_server: RunningServer, log: tuple[BeRayClient, int, list[Any]]
) -> None:
    client, task_id, events = log
    answer = get(beray_server, client, f"/tasks/{task_id}/events?limit=4000")
    first = answer.json()
    assert len(answer.content) <= MAX_EVENT_BYTES
    assert first == events[: len(first)]
    query = f"after={len(first)}&limit={4000 - len(first)}"
    link = f'</api/v1/tasks/{task_id}/events?{query}>; rel="next"'
    assert answer.headers["Link"] == link
    assert client.list_events(task_id, limit=4000) == events
    assert "Link" not in get(beray_server, client, f"/tasks/{task_id}/events?limit=100").headers


def test_the_stream_has_every_event_whatever_its_size(
    beray_server: RunningServer, log: tuple[BeRayClient, int, list[Any]]
) -> None:
    client, task_id, events = log
    behind = events[4]["seq"]  # a client stops at the end of the task, which more was added to
    with client.stream_task_updates(task_id, last_event_id=str(behind)) as stream:
        assert [next(stream) for _ in events[behind:]] == events[behind:]


def test_stalled_readers_cost_little_memory(
    beray_server: RunningServer, log: tuple[BeRayClient, int, list[Any]]
) -> None:
    client, task_id, _ = log
    process = psutil.Process(beray_server.pid)
    before = process.memory_info().rss
    paths = (f"/tasks/{task_id}/stream", f"/tasks/{task_id}", f"/tasks/{task_id}/events?limit=5000")
    waiting = [get(beray_server, client, path, stream=True) for path in paths * 10]
    assert all(answer.ok for answer in waiting)
    client.list_tasks()
    grown = process.memory_info().rss - before
    for answer in waiting:
        answer.close()
    # Most of it are pages that are kept and connections of the database, not readers.
    assert grown < 128 * MIB


def test_a_silent_stream_has_heartbeats_between_events(server_pool: ServerPool) -> None:
    server = server_pool.server(BERAY_HEARTBEAT_SECONDS="0.05")
    with server.sign_up() as client:
        goal = "!echo a; while ! [ -e go ]; do sleep 0.05; done; echo b"
        task_id = client.create_task(goal)["id"]
        for path in (f"/tasks/{task_id}/stream", "/tasks/stream"):
            with get(server, client, path, stream=True) as answer:
                lines = answer.iter_lines()
                until(lambda lines=lines: next(lines) == b": alive")  # type: ignore[misc]
        client.upload_file(task_id, "go", b"")
        events = list(client.stream_task_updates(task_id))
        assert events == client.get_task(task_id)["events"]


def test_a_deleted_task_ends_its_stream(beray_client: BeRayClient) -> None:
    task_id = beray_client.create_task("!sleep 60")["id"]
    with beray_client.stream_task_updates(task_id) as stream:
        next(stream)
        beray_client.delete_task(task_id)
        with pytest.raises(NotFoundError):
            list(stream)
            beray_client.get_task(task_id)
