"""Users share the slots of a server: tasks, chats and their limits, on real servers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient
from beray.testing import RunningServer, authorization, raw_request
from tests.support import until

SHARED = {"BERAY_PUBLIC_URL": "https://beray.example"}


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[RunningServer]:
    """A shared server with three slots, of which one user may have two."""
    slots = {"BERAY_SLOTS": "3", "BERAY_CHAT_SLOTS": "3", "BERAY_USER_QUEUED": "1000"}
    with RunningServer.start(tmp_path / "data", SHARED | slots) as server:
        yield server


def status(client: BeRayClient, task_id: int) -> str:
    return client.get_task(task_id)["status"]


def started(server: RunningServer) -> list[tuple[int, int]]:
    """Ids of the tasks that have been started, with their users', in the order of the starts."""
    database = sqlite3.connect(server.data_dir / "beray.sqlite3")
    try:
        rows = "SELECT id, user_id FROM tasks WHERE started_at NOT NULL ORDER BY started_at, id"
        return database.execute(rows).fetchall()
    finally:
        database.close()


def create(client: BeRayClient, goal: str, **headers: str) -> requests.Response:
    return raw_request(client, "POST", "/api/v1/tasks/", json={"goal": goal}, headers=headers)


def test_endless_tasks_of_a_user_leave_a_slot_to_others(shared: RunningServer) -> None:
    greedy, other = shared.sign_up(), shared.sign_up()
    endless = [greedy.create_task("!sleep infinity")["id"] for _ in range(3)]
    events = list(other.stream_task_updates(other.create_task("!echo mine")["id"]))
    assert events[-1]["status"] == "COMPLETED"
    assert [status(greedy, task) for task in endless] == ["RUNNING", "RUNNING", "QUEUED"]
    greedy.stop_task(endless[0])
    until(lambda: status(greedy, endless[2]) == "RUNNING")


def test_many_tasks_of_a_user_do_not_delay_anothers(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="1") as server:
        greedy, other = server.sign_up(), server.sign_up()
        blocker = greedy.create_task("!while [ ! -e go ]; do sleep 0.02; done")["id"]
        with ThreadPoolExecutor(4) as pool:
            many = list(pool.map(lambda _: greedy.create_task("!true")["id"], range(200)))
        mine = [other.create_task("!true")["id"] for _ in range(3)]
        requests.put(
            f"{server.url}/api/v1/tasks/{blocker}/files/content?path=go",
            data=b"",
            headers=authorization(greedy),
            timeout=10,
        ).raise_for_status()
        for task in mine:
            assert list(other.stream_task_updates(task))[-1]["status"] == "COMPLETED"
        order = [task for task, _ in started(server)]
        # One of each, in turn, and each user's in order of creation.
        assert [order.index(task) for task in mine] == [1, 3, 5]
        assert [task for task in order if task in set(many)] == sorted(many)[: len(order) - 4]


def test_a_restart_keeps_the_turns(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="1") as server:
        first, second = server.sign_up(), server.sign_up()
        first.create_task("!sleep infinity")
        ones = [first.create_task("!true")["id"] for _ in range(5)]
        twos = [second.create_task("!true")["id"] for _ in range(2)]
        held = second.create_task("!true", start=False)["id"]
        server.restart()
        for client, tasks in ((first, ones), (second, twos)):
            for task in tasks:
                assert list(client.stream_task_updates(task))[-1]["status"] == "COMPLETED"
        order = [task for task, _ in started(server)][1:]
        assert order == [ones[0], twos[0], ones[1], twos[1], *ones[2:]]
        assert status(second, held) == "QUEUED"


def test_stopping_a_queued_task_takes_it_out_of_the_queue(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="1") as server:
        client = server.sign_up()
        blocker = client.create_task("!sleep infinity")["id"]
        queued = [client.create_task("!true")["id"] for _ in range(4)]
        client.stop_task(queued[1])
        client.delete_task(queued[2])
        assert status(client, queued[1]) == "STOPPED"
        client.stop_task(blocker)
        for task in (queued[0], queued[3]):
            assert list(client.stream_task_updates(task))[-1]["status"] == "COMPLETED"
        assert [task for task, _ in started(server)] == [blocker, queued[0], queued[3]]


def test_a_full_queue_refuses_new_tasks_and_answers_repeated_ones(tmp_path: Path) -> None:
    environ = {"BERAY_SLOTS": "1", "BERAY_USER_QUEUED": "2"}
    with RunningServer.start(tmp_path / "data", SHARED | environ) as server:
        client, other = server.sign_up(), server.sign_up()
        running = create(client, "!sleep infinity").json()["id"]
        until(lambda: status(client, running) == "RUNNING")
        key = {"Idempotency-Key": "the second"}
        first, second = create(client, "!true"), create(client, "!true", **key)
        assert (first.status_code, second.status_code) == (200, 200)
        refused = create(client, "!true", **{"Idempotency-Key": "the third"})
        assert refused.status_code == 429
        assert "2 of your tasks" in refused.json()["detail"]
        assert "BERAY_USER_QUEUED" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        assert create(client, "!true", **key).json()["id"] == second.json()["id"]
        body = {"goal": "!true", "start": False}
        held = raw_request(client, "POST", "/api/v1/tasks/", json=body)
        assert held.status_code == 429
        assert len(client.list_tasks()) == 3
        assert create(other, "!true").status_code == 200
        client.stop_task(first.json()["id"])
        # The refusal has not used up the key.
        assert create(client, "!true", **{"Idempotency-Key": "the third"}).status_code == 200


def test_creations_side_by_side_do_not_exceed_the_limit(tmp_path: Path) -> None:
    environ = {"BERAY_SLOTS": "1", "BERAY_USER_QUEUED": "5"}
    with RunningServer.start(tmp_path / "data", SHARED | environ) as server:
        client = server.sign_up()
        running = create(client, "!sleep infinity").json()["id"]
        until(lambda: status(client, running) == "RUNNING")

        def attempt(_: int) -> int:
            return create(client, "!true").status_code

        with ThreadPoolExecutor(16) as pool:
            found = sorted(pool.map(attempt, range(30)))
        assert found == [200] * 5 + [429] * 25


def test_a_personal_server_has_no_limits_of_users(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="2") as server:
        client = server.sign_up()
        endless = [client.create_task("!sleep infinity")["id"] for _ in range(2)]
        until(lambda: all(status(client, task) == "RUNNING" for task in endless))
        for _ in range(101):
            client.create_task("!true", start=False)


def send(client: BeRayClient, chat: str, message: str) -> requests.Response:
    path = f"/api/v1/chats/{chat}/messages"
    return raw_request(client, "POST", path, json={"text": message})


def test_endless_answers_of_a_user_leave_a_slot_to_others(shared: RunningServer) -> None:
    greedy, other = shared.sign_up(), shared.sign_up()
    chats = [send(greedy, f"chat{n}", "!sleep infinity").json()["id"] for n in range(3)]
    until(lambda: [status(greedy, chat) for chat in chats[:2]] == ["RUNNING"] * 2)
    answered = send(other, "mine", "!echo mine").json()["id"]

    def ends() -> list[Any]:
        events: list[Any] = other.get_task(answered)["events"]
        return [event for event in events if event["type"] == "AGENT_EVENT_END"]

    until(ends)
    assert status(greedy, chats[2]) == "INPUT_REQUIRED"
    greedy.stop_task(chats[0])
    until(lambda: status(greedy, chats[2]) == "RUNNING")


def test_too_many_waiting_messages_are_rejected(tmp_path: Path) -> None:
    environ = {"BERAY_CHAT_SLOTS": "1", "BERAY_USER_QUEUED": "1"}
    with RunningServer.start(tmp_path / "data", SHARED | environ) as server:
        client, other = server.sign_up(), server.sign_up()
        running = send(client, "one", "!sleep infinity").json()["id"]
        until(lambda: status(client, running) == "RUNNING")
        assert send(client, "two", "!true").status_code == 202
        refused = send(client, "three", "!true")
        assert refused.status_code == 429
        assert "1 of your chat messages" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        assert send(other, "one", "!true").status_code == 202
        client.stop_task(running)
        until(lambda: send(client, "three", "!true").status_code == 202)


def test_a_task_on_a_shared_server_ends_after_its_time(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", SHARED, BERAY_TASK_SECONDS="0.5") as server:
        client = server.sign_up()
        events = list(client.stream_task_updates(client.create_task("!sleep infinity")["id"]))
        assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "budget")
