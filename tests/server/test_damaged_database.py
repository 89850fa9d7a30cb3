"""A damaged page of the database: readers get a clear error, everything else works."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from beray import APIError, BeRayClient
from beray.server.services import DATABASE_FILE
from beray.testing import RunningServer, authorization
from tests.support import done

PAGE = 4096


def page_of(content: bytes) -> Callable[[Path], int]:
    """Return a function that finds the page with ``content``."""

    def found(path: Path) -> int:
        whole = path.read_bytes()
        assert whole.count(content) == 1
        return whole.index(content) // PAGE

    return found


def page_of_table(name: str) -> Callable[[Path], int]:
    """Return a function that finds the root page of a table."""

    def found(path: Path) -> int:
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            return int(connection.execute(query, (name,)).fetchone()[0]) - 1

    return found


def damage(server: RunningServer, page: Callable[[Path], int]) -> None:
    """Overwrite a page of the database while the server is not running."""
    server.stop()
    path = server.data_dir / DATABASE_FILE
    assert not path.with_name(f"{DATABASE_FILE}-wal").exists()
    start = page(path) * PAGE
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * PAGE)
    server.restart()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path / "data") as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[BeRayClient]:
    with server.sign_up() as client:
        yield client


LONG = "!for i in $(seq 3000); do echo event-$i-; sleep 0.0001; done"


def test_a_watcher_gets_the_readable_events_and_then_an_error(
    server: RunningServer, client: BeRayClient
) -> None:
    events = done(client, LONG)
    middle = next(event for event in events if "event-1500-" in event.get("text", ""))
    damage(server, page_of(f'"seq":{middle["seq"]},"task_id":{middle["task_id"]},'.encode()))
    seen = []
    with pytest.raises(APIError, match="database is damaged") as caught:
        for event in client.stream_task_updates(middle["task_id"]):
            seen.append(event)  # noqa: PERF402 - what came before the exception counts
    assert caught.value.status_code == 500 and caught.value.is_permanent
    assert seen == events[: len(seen)]
    assert len(seen) < middle["seq"]
    # Later clients get the error response at once, published clients as well.
    headers = {
        **authorization(client),
        "Last-Event-ID": str(middle["seq"] - 1),
    }
    url = f"{server.url}/api/v1/tasks/{middle['task_id']}/stream"
    answer = requests.get(url, headers=headers, timeout=30)
    assert answer.status_code == 500
    assert answer.headers["X-Should-Retry"] == "false"
    # And all the rest works.
    assert done(client, "!echo fine")[-1]["status"] == "COMPLETED"


def test_a_watcher_of_all_tasks_gets_an_error(server: RunningServer, client: BeRayClient) -> None:
    task_id = done(client, "!true")[0]["task_id"]
    damage(server, page_of_table("task_changes"))
    with pytest.raises(APIError, match="database is damaged") as caught:
        list(client.stream_all_updates())
    assert caught.value.is_permanent
    assert client.get_task(task_id)["status"] == "COMPLETED"
    client.logout()
