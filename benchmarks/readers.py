"""Memory for readers of a large event log, and delays of other users meanwhile.

The delays are also measured while a large log is deleted: in steps, as the server does it, and
in one transaction.
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

from benchmarks.tables import BenchmarkRow
from beray import BeRayClient
from beray.events import MsgEventTextChunk
from beray.server.storage.accounts import AccountRepository
from beray.server.storage.database import Database
from beray.server.storage.database_space import DatabaseSpace
from beray.server.storage.events import EventRepository
from beray.server.storage.tables import Task
from beray.server.storage.task_changes import TaskChangeRepository
from beray.server.storage.tasks import TaskRepository, TaskSpec
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.deletion import TaskDeletion
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.feed import TaskFeed
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer, access_token

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


def measure(rounds: int) -> list[BenchmarkRow]:
    """Measure once, whatever ``rounds`` is: the figures are maxima."""
    del rounds
    with (
        tempfile.TemporaryDirectory() as directory,
        RunningServer.start(Path(directory) / "data") as server,
        server.sign_up() as author,
        server.sign_up() as other,
    ):
        goal = f"!yes {'x' * 99} | head -c {LOG_BYTES}"
        task_id = author.create_task(goal)["id"]
        for event in author.stream_task_updates(task_id):
            last = event
        if last.get("status") != "COMPLETED":
            raise RuntimeError(f"the task that writes the log failed: {last}")
        undisturbed = _median_delay(other)
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
                growth, delay = _observe(server.pid, other, is_over)
            print(
                f"{what}: +{growth / 1024**2:.0f} MiB, another user's request at most "
                f"{delay * 1000:.0f} ms (undisturbed: {undisturbed * 1000:.0f} ms)"
            )
            rows.append(BenchmarkRow(f"{what}: memory", "64 MiB", growth / GOAL_BYTES, "≤ 1"))
            rows.append(
                BenchmarkRow(f"{what}: another user's longest request", "1 s", delay, "≤ 1")
            )
    return rows + _deletions()


def _deletions() -> list[BenchmarkRow]:
    """Return the delays of another task's events while a large task is deleted."""
    waits = {}
    for name, remove in (("in steps", _in_steps), ("one transaction", _at_once)):
        with tempfile.TemporaryDirectory() as directory:
            waits[name] = asyncio.run(_waits(Path(directory), remove))
        median_wait, longest, duration = waits[name]
        print(f"{DELETED_EVENTS:,} events deleted, {name}: {duration:.1f} s, another task's event "
              f"{median_wait * 1000:.1f} ms (median), {longest * 1000:.0f} ms at most")  # fmt: skip
    what = f"{DELETED_EVENTS:,} events deleted: another task's event"
    ours, other = waits["in steps"], waits["one transaction"]
    return [
        BenchmarkRow(f"{what}, longest wait", "one transaction", ours[1] / other[1], "≤ 0.1"),
        BenchmarkRow(f"{what}, longest wait", "0.5 s", ours[1] / 0.5, "≤ 1"),
    ]


async def _waits(
    directory: Path, remove: Callable[[Database, Workspaces, int], Awaitable[None]]
) -> tuple[float, float, float]:
    """Return the median and the longest wait of an event, and the duration, in seconds."""
    database = Database(directory / "db.sqlite3")
    workspaces = Workspaces(directory / "workspaces")
    tasks, events = TaskRepository(database=database), EventRepository(database=database)
    user = AccountRepository(database=database).create("a@example.test", None)
    large = tasks.create(user.id, TaskSpec("!true"), held=True).id
    other = tasks.create(user.id, TaskSpec("!true"), held=True).id
    with database.writing() as session:
        session.connection().exec_driver_sql(_FILL, (DELETED_EVENTS, large))
    DatabaseSpace(database=database).truncate_log()
    feed = TaskFeed(tasks=tasks, changes=TaskChangeRepository(database=database))
    event_log = EventLog(events=events, feed=feed)
    event_log.start()
    waits = []
    began = time.perf_counter()
    removing = asyncio.ensure_future(remove(database, workspaces, large))
    while not removing.done():
        start = time.perf_counter()
        await event_log.append(other, MsgEventTextChunk(text="x"))
        waits.append(time.perf_counter() - start)
        await asyncio.sleep(_APPEND_SECONDS)
    await removing
    took = time.perf_counter() - began
    await event_log.close()
    database.close()
    return median(waits), max(waits), took


async def _in_steps(database: Database, workspaces: Workspaces, task_id: int) -> None:
    tasks = TaskRepository(database=database)
    deletion = TaskDeletion(
        tasks=tasks,
        events=EventRepository(database=database),
        space=DatabaseSpace(database=database),
        reserve=database.reserve,
        workspaces=workspaces,
        conversations=Conversations(workspaces.root / "no-conversation"),
        delete_checkpoints=_no_checkpoints,
    )

    def is_over() -> None:
        while tasks.list_deleted():
            time.sleep(_SAMPLE_SECONDS)

    async with deletion.running():
        await deletion.delete(task_id)
        await run_in_threadpool(is_over)


async def _at_once(database: Database, _workspaces: Workspaces, task_id: int) -> None:
    def cascade() -> None:
        with database.writing() as session:
            session.execute(delete(Task).where(Task.id == task_id))

    await run_in_threadpool(cascade)


def _median_delay(client: BeRayClient) -> float:
    return median(_delay(client) for _ in range(20))


def _delay(client: BeRayClient) -> float:
    start = time.perf_counter()
    client.list_tasks()
    return time.perf_counter() - start


def _observe(pid: int, other: BeRayClient, is_over: Callable[[], bool]) -> tuple[int, float]:
    """Return the maximum memory growth of the server, and another user's longest request.

    Args:
        pid: Process ID of the server.
        other: Client of the other user.
        is_over: Returns True when the measurement ends.

    Returns:
        Growth in bytes, duration in seconds.
    """
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
    """Open ``count`` connections that read ``path``, or never read.

    The context is a function that returns True when all readers have ended or their time is over.
    """
    address = urlsplit(server.url)
    request = (
        f"GET /api/v1{path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Authorization: Bearer {access_token(client)}\r\n\r\n"
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


async def _no_checkpoints(_task_id: int) -> None:
    """Delete the checkpoints of a task that has none."""
