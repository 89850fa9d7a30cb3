"""Health and readiness of a real server."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.events import TaskStatusChanged
from beray.server.services import DATABASE_FILE
from beray.server.storage.log_transaction import LogTransaction, NewEvent
from beray.server.storage.tasks import TaskSpec
from beray.testing import RunningServer
from beray.version import __version__
from tests.repositories import opened
from tests.support import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("health") / "data") as server:
        yield server


def get(server: RunningServer, path: str) -> tuple[int, dict[str, Any]]:
    response = requests.get(f"{server.url}{path}", timeout=30)
    return response.status_code, response.json()


def test_a_working_server_is_healthy_and_ready(server: RunningServer) -> None:
    assert get(server, "/healthz") == (200, {"status": "ok", "version": __version__})
    assert get(server, "/readyz") == (200, {"status": "ready", "version": __version__})
    database = server.data_dir / DATABASE_FILE
    with closing(sqlite3.connect(database)) as connection:
        written = connection.execute("SELECT checked_at FROM readiness").fetchall()
        assert len(written) == 1
        # Each check writes, but at most once per second.
        until(lambda: get(server, "/readyz")[0] == 200 and changed(connection, written))


def changed(connection: sqlite3.Connection, before: list[Any]) -> bool:
    return connection.execute("SELECT checked_at FROM readiness").fetchall() != before


def test_a_locked_database_is_healthy_and_not_ready(server: RunningServer) -> None:
    with closing(sqlite3.connect(server.data_dir / DATABASE_FILE)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        until(lambda: get(server, "/readyz")[0] == 503)
        status, found = get(server, "/readyz")
        assert status == 503
        assert found["failing"] == {"database": "another process has locked the database"}
        assert get(server, "/healthz")[0] == 200
        other.execute("ROLLBACK")
    until(lambda: get(server, "/readyz")[0] == 200)


def test_a_sandbox_that_stops_working_is_reported(tmp_path: Path) -> None:
    if (real := shutil.which("bwrap")) is None:
        pytest.skip("bubblewrap is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "bwrap"
    program.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    with RunningServer.start(tmp_path / "data", PATH=path) as server:
        assert get(server, "/readyz")[0] == 200
        program.write_text("#!/bin/sh\necho no namespaces >&2\nexit 1\n")
        until(lambda: get(server, "/readyz")[0] == 503)
        failing = get(server, "/readyz")[1]["failing"]
        assert list(failing) == ["sandbox"]
        assert "no namespaces" in failing["sandbox"]
        assert get(server, "/healthz")[0] == 200


async def test_the_thread_of_the_event_log_responds(tmp_path: Path) -> None:
    with opened(tmp_path / "db.sqlite3") as repositories:
        event_log = repositories.new_event_log()
        event_log.start()
        assert await event_log.responds(30.0)
        await event_log.close()
        assert not await event_log.responds(0.01)


async def test_a_thread_that_hangs_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, resumed = threading.Event(), threading.Event()
    insert = LogTransaction.insert

    def hang(self: LogTransaction, events: Sequence[NewEvent]) -> None:
        hung.set()
        resumed.wait(30)
        insert(self, events)

    monkeypatch.setattr(LogTransaction, "insert", hang)
    with opened(tmp_path / "db.sqlite3") as repositories:
        user_id = repositories.user_id()
        task = repositories.tasks.create(user_id, TaskSpec("!true"), held=True)
        event_log = repositories.new_event_log()
        event_log.start()
        pending = event_log.enqueue(task.id, TaskStatusChanged(status="QUEUED"))
        await asyncio.to_thread(hung.wait, 30)
        assert not await event_log.responds(0.01)
        resumed.set()
        assert await pending == 1
        assert await event_log.responds(30.0)
        await event_log.close()
