"""Tasks wait until a shortage of descriptors, processes or memory ends."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from websockets.sync.client import connect

from beray.events import TaskStatusChanged
from beray.server.sandbox.launcher import supervisor
from beray.server.storage.log_transaction import LogTransaction, NewEvent
from beray.server.storage.shortage import is_shortage
from beray.server.storage.tasks import TaskSpec
from beray.server.tasks.end_writer import EndWriter
from beray.testing import RunningServer, authorization
from tests.repositories import opened
from tests.support import text, until

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only")
LOW_LIMIT = 8
"""Limit below the numbers of the open descriptors, so that no further one can be opened."""


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """Prevent a process from opening further descriptors."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (LOW_LIMIT, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("server"), BERAY_SLOTS="2") as server:
        yield server


def test_a_task_starts_when_descriptors_are_available_again(server: RunningServer) -> None:
    with server.sign_up() as client:
        task = client.create_task("!echo done", start=False)["id"]
        with without_descriptors(server.pid):
            client.start_task(task)
            until(lambda: "shortage" in server.log.read_text())
            assert client.get_task(task)["status"] in ("QUEUED", "RUNNING")
        events = list(client.stream_task_updates(task))
        assert events[-1]["status"] == "COMPLETED"
        assert text(events) == "done\n"


def test_a_running_task_and_its_stream_survive(server: RunningServer) -> None:
    with server.sign_up() as client:
        loop = "for i in 1 2 3 4 5 6; do sleep 0.5; echo $i > $i; echo $i; done"
        task = client.create_task(f"!echo begun; {loop}")["id"]
        stream = client.stream_task_updates(task)
        seen = [event for _, event in zip(range(3), stream, strict=False)]
        with without_descriptors(server.pid):
            for event in stream:
                seen.append(event)
                if "6" in str(event.get("text", "")):
                    break
        seen += stream
        assert seen[-1]["type"] == "TASK_STATUS" and seen[-1]["status"] == "COMPLETED"
        changed = [event["payload"]["path"] for event in seen if event.get("source") == "files"]
        assert sorted(set(changed)) == ["1", "2", "3", "4", "5", "6"]
        assert all(
            event["payload"]["change"] != "deleted"
            for event in seen
            if event.get("source") == "files"
        )


def test_a_chat_message_is_answered_when_descriptors_are_available_again(
    server: RunningServer,
) -> None:
    with server.sign_up() as client:
        url = server.url.replace("http", "ws", 1) + "/v1/agent_ws/0/"
        headers = authorization(client)
        with connect(url, additional_headers=headers, proxy=None) as connection:
            assert json.loads(connection.recv(30)) == {"type": "STATUS"}
            seen = server.log.read_text().count("shortage")
            with without_descriptors(server.pid):
                message = {"type": "USER_MESSAGE", "text": "!echo done", "attachments": []}
                connection.send(json.dumps(message))
                until(lambda: server.log.read_text().count("shortage") > seen)
            assert json.loads(connection.recv(30))["text"] == "done\n"


def test_connections_that_cannot_be_accepted_wait_and_do_not_flood_the_log(
    server: RunningServer,
) -> None:
    before = server.log.stat().st_size
    started = psutil.Process(server.pid).cpu_times().user
    with without_descriptors(server.pid):
        with pytest.raises(requests.Timeout):
            requests.get(f"{server.url}/healthz", timeout=3)
        assert "no connection can be accepted" in server.log.read_text()
    assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200
    assert server.log.stat().st_size - before < 16 * 1024
    assert psutil.Process(server.pid).cpu_times().user - started < 2.5


async def test_the_event_log_waits(tmp_path: Path) -> None:
    with opened(tmp_path / "beray.sqlite3") as repositories:
        user_id = repositories.user_id()
        task = repositories.tasks.create(user_id, TaskSpec("!true"), held=True)
        event_log = repositories.new_event_log()
        event_log.start()
        repositories.database.close()  # its connections are opened again when they are needed
        with without_descriptors(os.getpid()):
            pending = event_log.enqueue(task.id, TaskStatusChanged(status="QUEUED"))
            # The batch has been tried once it is removed from the waiting events.
            until(lambda: not event_log.waiting_events)
            assert not pending.done()
        assert await pending == 1
        await event_log.close()


@pytest.mark.parametrize("error", [MemoryError("none left"), KeyError("a mistake")])
async def test_an_unexpected_error_fails_its_event_only(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the log continues, because the events of all tasks depend on it."""
    failing: set[int] = set()
    insert = LogTransaction.insert

    def fail(self: LogTransaction, events: Sequence[NewEvent]) -> None:
        if failing.intersection(event.task_id for event in events):
            raise error
        insert(self, events)

    monkeypatch.setattr(LogTransaction, "insert", fail)
    with opened(tmp_path / "beray.sqlite3") as repositories:
        user_id = repositories.user_id()
        bad, good = (
            repositories.tasks.create(user_id, TaskSpec("!true"), held=True).id for _ in range(2)
        )
        event_log = repositories.new_event_log()
        event_log.start()
        failing.add(bad)
        queued = TaskStatusChanged(status="QUEUED")
        pending = [event_log.enqueue(task, queued) for task in (bad, good)]
        found = await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), 30)
        assert found == [error, 1]
        failing.clear()
        assert await asyncio.wait_for(event_log.append(bad, queued), 30) == 1
        await event_log.close()


async def test_the_end_of_a_run_is_written_after_a_shortage_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough, tried = threading.Event(), threading.Event()
    insert = LogTransaction.insert

    def fail(self: LogTransaction, events: Sequence[NewEvent]) -> None:
        tried.set()
        if not enough.is_set():
            raise MemoryError
        insert(self, events)

    monkeypatch.setattr(LogTransaction, "insert", fail)
    with opened(tmp_path / "beray.sqlite3") as repositories:
        user_id = repositories.user_id()
        task = repositories.tasks.create(user_id, TaskSpec("!true"), held=True)
        event_log = repositories.new_event_log()
        event_log.start()
        ends = EndWriter(event_log=event_log)
        writing = asyncio.create_task(ends.write(task.id, [TaskStatusChanged(status="FAILED")]))
        assert await asyncio.to_thread(tried.wait, 30)
        assert ends.is_pending(task.id)
        enough.set()
        assert await asyncio.wait_for(writing, 30)
        await asyncio.wait_for(ends.wait_written(task.id), 30)
        stored = repositories.tasks.get(task.id)
        assert stored is not None and stored.status == "FAILED"
        await event_log.close()


def test_a_fork_waits_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[int | OSError] = [
        OSError(errno.EAGAIN, "no process"), OSError(errno.ENOMEM, "no memory"), 17,
    ]  # fmt: skip

    def fork() -> int:
        result = results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    monkeypatch.setattr(os, "fork", fork)
    assert supervisor.fork() == 17
    results.append(OSError(errno.ENOSYS, "never"))
    with pytest.raises(OSError, match="never"):
        supervisor.fork()


def test_errors_that_report_a_shortage() -> None:
    for number in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS):
        assert is_shortage(OSError(number, "x"))
    for error in (
        OSError(errno.ENOENT, "x"),
        ValueError(),
        RuntimeError("x"),
        sqlite3.OperationalError(),
    ):
        assert not is_shortage(error)
    assert is_shortage(RuntimeError("can't start new thread"))
