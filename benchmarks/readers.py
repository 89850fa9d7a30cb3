"""What a large event log costs: memory for its readers, and what others wait meanwhile.

Others also wait while it is deleted: in steps, as the server does, against one transaction.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import psutil
from sqlalchemy import delete
from starlette.concurrency import run_in_threadpool

from benchmarks.tables import Row
from beray import BeRayClient
from beray.events import MsgEventTextChunk
from beray.server.storage.store import Store, TaskSpec
from beray.server.storage.tables import Task
from beray.server.tasks.deletion import TaskDeletion
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.feed import TaskFeed
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer

LOG_BYTES: Final = 109_000_000
READERS: Final = 30
STALLED: Final = 60
GOAL_BYTES: Final = 64 * 1024**2
_READING_SECONDS: Final = 60.0
_STALLED_SECONDS: Final = 10.0
_SAMPLE_SECONDS: Final = 0.05
DELETED_EVENTS: Final = 2_000_000
_FILL: Final = """
WITH RECURSIVE numbers(seq) AS (VALUES (1) UNION ALL SELECT seq + 1 FROM numbers WHERE seq < ?)
INSERT INTO events SELECT ?, seq, printf('{"seq":%d,"text":"%060d"}', seq, seq), 'X' FROM numbers
"""
_APPEND_SECONDS: Final = 0.005


def measure(rounds: int) -> list[Row]:
    """Measure once, whatever ``rounds`` is: the figures are maxima."""
    del rounds
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningServer.start(Path(folder) / "data") as server,
        server.sign_up() as author,
        server.sign_up() as other,
    ):
        goal = f"!yes {'x' * 99} | head -c {LOG_BYTES}"
        task_id = author.create_task(goal)["id"]
        for event in author.stream_task_updates(task_id):
            last = event
        if last.get("status") != "COMPLETED":
            raise RuntimeError(f"the log could not be made: {last}")
        alone = _median_delay(other)
        stream, task = f"/tasks/{task_id}/stream", f"/tasks/{task_id}"
        cases = {
            f"{READERS} readers of the stream": (READERS, stream, True),
            f"{READERS} readers of the task": (READERS, task, True),
            f"{STALLED} stalled readers of the stream": (STALLED, stream, False),
            f"{STALLED} stalled readers of the task": (STALLED, task, False),
        }
        rows = []
        for what, (count, path, reads) in cases.items():
            with _reading(server, author, path, count, reads=reads) as is_over:
                grown, delay = _watched(server.pid, other, is_over)
            print(f"{what}: +{grown / 1024**2:.0f} MiB, another user's call {delay * 1000:.0f} ms "
                  f"at most (alone: {alone * 1000:.0f} ms)")  # fmt: skip
            rows.append(Row(f"{what}: memory", "64 MiB", grown / GOAL_BYTES, "≤ 1"))
            rows.append(Row(f"{what}: another user's longest call", "1 s", delay, "≤ 1"))
    return rows + _deletions()


def _deletions() -> list[Row]:
    """Return what events of another task wait while a large task is deleted."""
    waits = {}
    for name, remove in (("in steps", _in_steps), ("one transaction", _at_once)):
        with tempfile.TemporaryDirectory() as folder:
            waits[name] = asyncio.run(_waits(Path(folder), remove))
        middle, longest, took = waits[name]
        print(f"{DELETED_EVENTS:,} events deleted, {name}: {took:.1f} s, another task's event "
              f"{middle * 1000:.1f} ms (median), {longest * 1000:.0f} ms at most")  # fmt: skip
    what = f"{DELETED_EVENTS:,} events deleted: another task's event"
    ours, other = waits["in steps"], waits["one transaction"]
    return [
        Row(f"{what}, longest wait", "one transaction", ours[1] / other[1], "≤ 0.1"),
        Row(f"{what}, longest wait", "0.5 s", ours[1] / 0.5, "≤ 1"),
    ]


async def _waits(
    folder: Path, remove: Callable[[Store, Workspaces, int], Awaitable[None]]
) -> tuple[float, float, float]:
    """Return the median and the longest wait of an event, and the duration, in seconds."""
    store, workspaces = Store(folder / "db.sqlite3"), Workspaces(folder / "workspaces")
    user = store.add_user("a@example.test", None)
    large = store.add_task(user.id, TaskSpec("!true"), held=True).id
    other = store.add_task(user.id, TaskSpec("!true"), held=True).id
    with store.writing() as session:
        session.connection().exec_driver_sql(_FILL, (DELETED_EVENTS, large))
    store.truncate_log()
    event_log = EventLog(store, TaskFeed(store))
    event_log.start()
    waits = []
    began = time.perf_counter()
    removing = asyncio.ensure_future(remove(store, workspaces, large))
    while not removing.done():
        start = time.perf_counter()
        await event_log.append(other, MsgEventTextChunk(text="x"))
        waits.append(time.perf_counter() - start)
        await asyncio.sleep(_APPEND_SECONDS)
    await removing
    took = time.perf_counter() - began
    await event_log.close()
    store.close()
    return median(waits), max(waits), took


async def _in_steps(store: Store, workspaces: Workspaces, task_id: int) -> None:
    deletion = TaskDeletion(store, workspaces, lambda _: workspaces.root / "no-conversation")

    def is_over() -> None:
        while store.deleted_tasks():
            time.sleep(_SAMPLE_SECONDS)

    async with deletion.running():
        await deletion.delete(task_id)
        await run_in_threadpool(is_over)


async def _at_once(store: Store, _workspaces: Workspaces, task_id: int) -> None:
    def cascade() -> None:
        with store.writing() as session:
            session.execute(delete(Task).where(Task.id == task_id))

    await run_in_threadpool(cascade)


def _median_delay(client: BeRayClient) -> float:
    return median(_delay(client) for _ in range(20))


def _delay(client: BeRayClient) -> float:
    start = time.perf_counter()
    client.list_tasks()
    return time.perf_counter() - start


def _watched(pid: int, other: BeRayClient, is_over: Callable[[], bool]) -> tuple[int, float]:
    """Bytes by which the server has grown at most, and the longest call of another user."""
    process = psutil.Process(pid)
    before = most = process.memory_info().rss
    longest = 0.0
    while not is_over():
        longest = max(longest, _delay(other))
        most = max(most, process.memory_info().rss)
        time.sleep(_SAMPLE_SECONDS)
    return most - before, longest


@contextmanager
def _reading(
    server: RunningServer, client: BeRayClient, path: str, count: int, *, reads: bool
) -> Iterator[Callable[[], bool]]:
    """Have ``count`` connections read ``path``, or stop after the first bytes of it.

    Gives a function that returns whether they have ended, or their time is over.
    """
    address = urlsplit(server.url)
    request = (
        f"GET /api/v1{path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Authorization: {client._session.headers['Authorization']!s}\r\n\r\n"
    ).encode()
    connections = []
    threads = []
    for _ in range(count):
        connection = socket.create_connection((address.hostname, address.port), 10.0)
        connection.sendall(request)
        connections.append(connection)
        if reads:
            thread = threading.Thread(target=_drain, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)
    deadline = time.monotonic() + (_READING_SECONDS if reads else _STALLED_SECONDS)

    def is_over() -> bool:
        ended = bool(threads) and not any(thread.is_alive() for thread in threads)
        return ended or time.monotonic() > deadline

    try:
        yield is_over
    finally:
        for connection in connections:
            connection.close()
        for thread in threads:
            thread.join(10.0)


def _drain(connection: socket.socket) -> None:
    buffer = bytearray(256 * 1024)
    try:
        while connection.recv_into(buffer):
            pass
    except OSError:
        return
