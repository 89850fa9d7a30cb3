"""A full disk: operations that free space still work, and every run gets its end event."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from beray import APIError, BeRayClient
from beray.server.storage.disk_reserve import FILE_NAME
from beray.testing import RunningServer, authorization
from beray.testing.server import PASSWORD
from tests.gateway_files import down, removed, up, up_temp
from tests.gateway_support import Agent, exchange
from tests.small_disk import fill, mounted
from tests.support import done, sleepers, text, until

RESERVE = 4 * 1024 * 1024
WAITING = "!until [ -e go ]; do sleep 0.05; done"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as disk:
        yield disk


def start(disk: Path, **settings: str) -> RunningServer:
    """Start a server whose data is on the disk, and whose log is not."""
    data_dir = disk / "data"
    data_dir.mkdir()
    (data_dir / "test-server.log").symlink_to(disk.parent / "server.log")
    return RunningServer.start(data_dir, settings)


def go_on(server: RunningServer, task_id: int) -> None:
    """End a task that waits for this; an empty file needs no space."""
    (server.data_dir / "workspaces" / str(task_id) / "go").touch()


def test_tasks_end_once_the_disk_has_space(small_disk: Path) -> None:
    server = start(small_disk, BERAY_SLOTS="4", BERAY_RESERVE_BYTES="0")
    with server, server.sign_up() as client:
        tasks = [client.create_task(WAITING)["id"] for _ in range(2)]
        stopped = client.create_task("!sleep 600")["id"]
        every = [*tasks, stopped]
        until(lambda: {client.get_task(one)["status"] for one in every} == {"RUNNING"})
        filler = fill(small_disk)
        client.stop_task(stopped)
        for task_id in tasks:
            go_on(server, task_id)
        failed = "the end of a run cannot be written"
        until(lambda: server.log.read_text().count(failed) == len(every))
        assert {task["status"] for task in client.list_tasks()} == {"RUNNING"}
        filler.unlink()
        until(lambda: "RUNNING" not in {task["status"] for task in client.list_tasks()})
        ends = {task["id"]: (task["status"], task["reason"]) for task in client.list_tasks()}
        assert ends[tasks[0]][0] in ("COMPLETED", "FAILED")
        assert ends[stopped] == ("STOPPED", "user")
        for task_id in every:
            statuses = [
                event["status"]
                for event in client.stream_task_updates(task_id)
                if event["type"] == "TASK_STATUS"
            ]
            assert len(statuses) == 3


def test_a_chat_continues_once_the_disk_has_space(small_disk: Path) -> None:
    server = start(small_disk, BERAY_RESERVE_BYTES="0")
    with server, server.sign_up() as client:
        chat = client.open_chat("notes")
        client.send_chat_message("notes", WAITING)
        until(lambda: client.get_task(chat["id"])["status"] == "RUNNING")
        filler = fill(small_disk)
        go_on(server, chat["id"])
        until(lambda: "the end of a run cannot be written" in server.log.read_text())
        with pytest.raises(APIError):
            client.send_chat_message("notes", "!echo again")
        filler.unlink()
        until(lambda: client.get_task(chat["id"])["status"] == "INPUT_REQUIRED")
        client.send_chat_message("notes", "!echo again")
        until(lambda: "again\n" in text(client.get_task(chat["id"])["events"]))
        until(lambda: client.get_task(chat["id"])["status"] == "INPUT_REQUIRED")


def reserved(disk: Path) -> int:
    return (disk / "data" / FILE_NAME).stat().st_size


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bfree * found.f_frsize


@pytest.fixture
def server(small_disk: Path) -> Iterator[RunningServer]:
    settings = {"BERAY_RESERVE_BYTES": str(RESERVE), "BERAY_SLOTS": "1"}
    with start(small_disk, **settings) as server:
        yield server


def use_up(disk: Path, client: BeRayClient) -> Path:
    """Fill the disk and the free part of the write-ahead log."""
    until(lambda: reserved(disk) == RESERVE)
    filler = fill(disk)
    for size in (100_000, 1000, 1):
        with pytest.raises(APIError):
            while True:
                client.create_task("!true " + "x" * size, start=False)
    return filler


def socket(server: RunningServer, client: BeRayClient, chat: str) -> ClientConnection:
    """Open the WebSocket of a chat."""
    url = f"{server.url.replace('http', 'ws', 1)}/v1/agent_ws/{chat}/"
    headers = authorization(client)
    return connect(url, additional_headers=headers, proxy=None)


def refused(call: Callable[[], object]) -> bool:
    with pytest.raises(APIError) as caught:
        call()
    return caught.value.status_code == 507


def test_users_sign_in_and_out_stop_and_delete_on_a_full_disk(
    small_disk: Path, server: RunningServer
) -> None:
    address = "ada@example.test"
    with server.sign_up(address) as client:
        agent = Agent.new(server)
        temporary = up_temp(agent, session_id="s").json()["s3_url"]
        permanent = up(agent)["s3_url"]
        key = client.create_api_key("k", "scout")
        chat = client.open_chat("notes")["id"]
        client.send_chat_message("notes", "!sleep 604")
        running = client.create_task("!sleep 601")["id"]
        held = client.create_task("!true", start=False)["id"]
        until(lambda: sleepers("601") and client.get_task(running)["status"] == "RUNNING")
        until(lambda: sleepers("604") and client.get_task(chat)["status"] == "RUNNING")
        use_up(small_disk, client)
        ready = requests.get(f"{server.url}/readyz", timeout=30)
        assert ready.status_code == 503
        assert {"database", "disk"} >= ready.json()["failing"].keys() >= {"disk"}
        assert refused(lambda: client.create_task("!true"))
        with pytest.raises(InvalidStatus) as caught:
            socket(server, client, "a-third").close()
        assert caught.value.response.status_code == 507
        assert refused(lambda: client.open_chat("another"))
        assert refused(lambda: client.upload_file(running, "file", b"x" * 4096))
        assert up_temp(agent).status_code == 507
        again = server.client()
        again.login(address, PASSWORD)
        again.logout()
        client.login(address, PASSWORD)
        client.stop_task(running)
        client.stop_task(held)
        client.stop_task(chat)
        until(lambda: client.get_task(chat)["status"] == "INPUT_REQUIRED")
        for task_id in (running, held):
            last = list(client.stream_task_updates(task_id))[-1]
            assert (last["status"], last["reason"]) == ("STOPPED", "user")
        assert exchange(server, key["key"]).status_code == 200
        client.revoke_api_key(key["id"])
        assert removed(agent, permanent).json() == {"deleted_count": 1}
        cleaned = agent.files("DELETE", "cleanup_temp", params={"session_id": "s"})
        assert cleaned.json() == {"deleted_count": 1}
        assert down(agent, temporary).status_code == 404
        for task in client.list_tasks():
            client.delete_task(task["id"])
        assert client.list_tasks() == []


def test_deleting_a_task_frees_space_for_others(small_disk: Path, server: RunningServer) -> None:
    with server.sign_up() as client:
        goal = "!head -c 4000000 /dev/zero > file; yes 'what fills the log' | head -c 3000000"
        large = client.create_task(goal)["id"]
        assert list(client.stream_task_updates(large))[-1]["status"] == "COMPLETED"
        until(lambda: reserved(small_disk) == RESERVE)
        fill(small_disk)
        assert free(small_disk) < 4096
        client.delete_task(large)
        # Its files, its events and their pages of the database: nothing is left of 7 MB.
        until(lambda: free(small_disk) > 6_000_000)
        until(lambda: reserved(small_disk) == RESERVE)
        events = done(client, "!echo there is space")
        assert events[-1]["status"] == "COMPLETED"


def test_a_queue_waits_for_space(small_disk: Path, server: RunningServer) -> None:
    with server.sign_up() as client:
        first = client.create_task("!sleep 603")["id"]
        queued = [client.create_task("!echo done")["id"] for _ in range(2)]
        until(lambda: sleepers("603") and client.get_task(first)["status"] == "RUNNING")
        filler = use_up(small_disk, client)
        client.stop_task(first)
        assert list(client.stream_task_updates(first))[-1]["status"] == "STOPPED"
        until(lambda: "a task waits for disk space" in server.log.read_text())
        assert {client.get_task(task_id)["status"] for task_id in queued} == {"QUEUED"}
        filler.unlink()
        for task_id in queued:
            assert list(client.stream_task_updates(task_id))[-1]["status"] == "COMPLETED"


@pytest.mark.parametrize("leaves", ["stop", "kill"])
def test_a_server_starts_on_a_full_disk(
    small_disk: Path, server: RunningServer, leaves: str
) -> None:
    address = "ada@example.test"
    with server.sign_up(address) as client:
        task = client.create_task("!sleep 602")["id"]
        until(lambda: sleepers("602") and reserved(small_disk) == RESERVE)
        fill(small_disk)
        getattr(server, leaves)()
        until(lambda: not sleepers("602"))
        fill(small_disk)
        server.restart()
        client.login(address, PASSWORD)
        last = list(client.stream_task_updates(task))[-1]
        assert last["status"] == "FAILED"
        client.delete_task(task)
        assert client.list_tasks() == []
