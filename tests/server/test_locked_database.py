"""A lock that another process holds on the database: work waits, requests get 503."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from beray import BeRayClient
from beray.server.services import DATABASE_FILE
from beray.testing import RunningServer, authorization, raw_request
from tests.gateway_files import removed, up, up_temp
from tests.gateway_support import Agent, exchange
from tests.support import text, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("locked")
    # The time limit of a request's head is shorter than the wait for the lock.
    settings = {"BERAY_SLOTS": "1", "BERAY_HEAD_SECONDS": "5"}
    with RunningServer.start(folder / "data", settings) as server:
        yield server


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the write lock, as a shell with BEGIN IMMEDIATE does."""
    with closing(sqlite3.connect(data_dir / DATABASE_FILE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def go_on(server: RunningServer, task_id: int) -> None:
    (server.data_dir / "workspaces" / str(task_id) / "go").touch()


def waits(server: RunningServer) -> int:
    return server.log.read_text().count("events wait for the end of a shortage")


def request(client: BeRayClient, method: str, path: str, **options: Any) -> requests.Response:
    """Make a request once, without the repeats of the client."""
    return raw_request(client, method, f"/api/v1{path}", timeout=60, **options)


def test_a_running_task_continues_without_losing_events(server: RunningServer) -> None:
    with server.sign_up() as client:
        task = client.create_task("!i=0; until [ -e go ]; do echo $((i+=1)); sleep 0.01; done")
        until(lambda: client.get_task(task["id"])["last_seq"] > 5)
        before = waits(server)
        with locked(server.data_dir):
            until(lambda: waits(server) > before)
            assert client.get_task(task["id"])["status"] == "RUNNING"
            go_on(server, task["id"])
        events = list(client.stream_task_updates(task["id"]))
        assert events[-1]["status"] == "COMPLETED"
        numbers = [int(line) for line in text(events).split()]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_end_of_a_run_and_a_stop_wait_for_the_lock(server: RunningServer) -> None:
    with server.sign_up() as client:
        first = client.create_task("!until [ -e go ]; do sleep 0.01; done")["id"]
        second = client.create_task("!echo never")["id"]
        until(lambda: client.get_task(first)["status"] == "RUNNING")
        with locked(server.data_dir):
            assert client.stop_task(second)["message"] == f"Task {second} is being stopped."
            go_on(server, first)
            assert client.get_task(second)["status"] == "QUEUED"
        assert list(client.stream_task_updates(first))[-1]["status"] == "COMPLETED"
        last = list(client.stream_task_updates(second))[-1]
        assert (last["status"], last["reason"]) == ("STOPPED", "user")


def test_requests_that_write_are_answered_with_503(server: RunningServer) -> None:
    with server.sign_up() as client:
        kept = client.create_task("!true", start=False)["id"]

        def open_chat() -> None:
            connect(
                f"{server.url.replace('http', 'ws', 1)}/v1/agent_ws/opened/",
                additional_headers=authorization(client),
                proxy=None,
                open_timeout=60,
            )

        with locked(server.data_dir), ThreadPoolExecutor() as threads:
            answers = [
                threads.submit(request, client, "POST", "/tasks/", json={"goal": "!true"}),
                threads.submit(request, client, "DELETE", f"/tasks/{kept}"),
                threads.submit(request, client, "PUT", "/chats/new"),
            ]
            opened = threads.submit(open_chat)
            assert client.get_task(kept)["status"] == "QUEUED"  # reads go on
            with pytest.raises(InvalidStatus) as caught:
                opened.result()
            assert caught.value.response.status_code == 503
            wait(answers)
        for answer in (answer.result() for answer in answers):
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) >= 1
            assert "locked" in answer.json()["detail"]
        assert request(client, "DELETE", f"/tasks/{kept}").status_code == 200
        assert client.list_tasks() == []


def test_a_server_stops_while_its_database_is_locked(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task = client.create_task("!while :; do echo more; sleep 0.01; done")["id"]
        until(lambda: client.get_task(task)["last_seq"] > 5)
        before = waits(server)
        with locked(server.data_dir):
            until(lambda: waits(server) > before)
            server.stop()
        server.restart()
        last = list(client.stream_task_updates(task))[-1]
        assert (last["status"], last["reason"]) == ("FAILED", "lost_worker")


def test_gateway_files_wait_for_the_lock_and_then_fail(server: RunningServer) -> None:
    agent = Agent.new(server)
    kept = up(agent)["s3_url"]
    with locked(server.data_dir), ThreadPoolExecutor() as threads:
        answers = [
            threads.submit(up_temp, agent),
            threads.submit(removed, agent, kept),
            threads.submit(exchange, server, agent.api_key),
        ]
        wait(answers)
    for answer in (answer.result() for answer in answers):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "locked" in answer.json()["detail"]["message"]
    assert removed(agent, kept).json() == {"deleted_count": 1}
