"""Tasks that continue from a checkpoint of another task: their files, errors and cancellation."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient
from beray.testing import RunningServer, authorization
from tests.server.recorded_task import RecordedTask
from tests.small_disk import fill, mounted
from tests.support import FollowingThread, until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def source(beray_server: RunningServer, account: BeRayClient) -> RecordedTask:
    """Return a task with two states; tests do not change it."""
    task = RecordedTask.run(
        beray_server, account, "!mkdir -m 750 d; echo one > d/a; ln -s d/a link; mkdir empty"
    )
    account.upload_file(task.id, "d/a", "two")
    account.list_checkpoints(task.id)
    return task


def create(
    server: RunningServer, client: BeRayClient, origin: Any, **fields: Any
) -> requests.Response:
    """Request a task with an origin; ``key`` is its ``Idempotency-Key``."""
    headers = authorization(client)
    if key := fields.pop("key", None):
        headers["Idempotency-Key"] = key
    body = {"goal": "!cat d/a > copy", "from": origin, **fields}
    return requests.post(f"{server.url}/api/v1/tasks/", json=body, headers=headers, timeout=60)


def created(task: RecordedTask, **origin: Any) -> RecordedTask:
    """Run a task that continues a task, and return it."""
    response = create(task.server, task.client, {"task": task.id, **origin})
    assert response.status_code == 200, response.text
    new = RecordedTask(task.server, task.client, response.json()["id"])
    list(task.client.stream_task_updates(new.id))
    return new


QUERIES = (
    "SELECT 'task', id FROM tasks WHERE id > :newest",
    "SELECT 'checkpoint', task_id FROM checkpoints WHERE task_id > :newest",
    "SELECT 'restore', task_id FROM pending_restores WHERE task_id > :newest",
    "SELECT 'key', task_id FROM creation_keys WHERE task_id > :newest",
    "SELECT 'event', task_id FROM events WHERE task_id > :newest",
    "SELECT 'deletion', task_id FROM deleted_tasks WHERE task_id > :newest",
    "SELECT 'pack', id FROM blob_packs WHERE NOT stored",
)


class Unchanged:
    """Checks that requests leave neither rows nor files of new tasks behind."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.newest = self._select("SELECT seq FROM sqlite_sequence WHERE name = 'tasks'")[0][0]

    def check(self) -> None:
        until(lambda: self.remains() == [])

    def remains(self) -> list[Any]:
        """Return what exists of newer tasks."""
        rows = [row for query in QUERIES for row in self._select(query, newest=self.newest)]
        work_dirs = [int(name) for name in os.listdir(workspaces(self.server)) if name.isdigit()]
        return [*rows, *(one for one in work_dirs if one > self.newest), *staged(self.server)]

    def _select(self, query: str, **values: int) -> list[Any]:
        with closing(sqlite3.connect(self.server.data_dir / "beray.sqlite3")) as connection:
            return connection.execute(query, values).fetchall()


def workspaces(server: RunningServer) -> Path:
    return server.data_dir / "workspaces"


def staged(server: RunningServer) -> list[str]:
    """Return the restores and copies for which contents are staged."""
    folder = workspaces(server) / ".restoring"
    return os.listdir(folder) if folder.exists() else []


def test_the_files_of_a_checkpoint(source: RecordedTask) -> None:
    new = created(source, checkpoint="c2")
    assert new.state() == {"d/a": b"one\n", "link": b"one\n", "copy": b"one\n"}
    assert (new.work_dir / "link").is_symlink()
    assert (new.work_dir / "empty").is_dir()
    assert (new.work_dir / "d").stat().st_mode & 0o777 == 0o750
    assert new.checkpoints() == [("c1", "fork"), ("c2", "start"), ("c3", "step"), ("c4", "end")]
    first, *_ = new.client.list_checkpoints(new.id)
    assert (first["seq"], first["files"]) == (0, 2)
    task = new.client.get_task(new.id)
    assert task.get("from") == {
        "task": source.id,
        "checkpoint": "c2",
        "seq": source.client.list_checkpoints(source.id)[1]["seq"],
        "conversation": False,
    }
    diff = new.get("diff").json()
    assert [file["path"] for file in diff["files"]] == ["copy"]


def test_the_newest_checkpoint_and_a_seq(source: RecordedTask) -> None:
    assert created(source).state()["copy"] == b"two"
    rows = source.client.list_checkpoints(source.id)
    assert created(source, seq=rows[-1]["seq"]).state()["copy"] == b"two"
    new = created(source, seq=rows[1]["seq"])
    assert new.state()["copy"] == b"one\n"
    origin = new.client.get_task(new.id).get("from")
    assert origin is not None
    assert origin["checkpoint"] == "c2"
    assert created(source, seq=rows[0]["seq"]).state() == {"copy": b""}
    assert source.state() == {"d/a": b"two", "link": b"two"}


def test_a_fork_of_a_fork_and_of_a_running_task(
    beray_server: RunningServer, account: BeRayClient, source: RecordedTask
) -> None:
    again = created(created(source))
    assert again.state() == {"d/a": b"two", "link": b"two", "copy": b"two"}
    running = account.create_task("!mkdir d; echo running > d/a; sleep 600")["id"]
    task = RecordedTask(beray_server, account, running)
    until(lambda: task.checkpoints() == [("c1", "start")])
    # Its files are those of the last checkpoint, not of this moment.
    until(lambda: (task.work_dir / "d/a").exists())
    assert created(task).state() == {"copy": b""}
    account.stop_task(running)
    list(account.stream_task_updates(running))
    assert created(task).state()["copy"] == b"running\n"


def test_a_held_task_has_its_files_before_it_starts(source: RecordedTask) -> None:
    response = create(source.server, source.client, {"task": source.id}, start=False)
    assert response.json()["held"] is True
    new = RecordedTask(source.server, source.client, response.json()["id"])
    assert new.state() == {"d/a": b"two", "link": b"two"}
    assert new.checkpoints() == [("c1", "fork")]
    new.client.upload_file(new.id, "d/a", "uploaded")
    assert new.restore("c1").status_code == 200
    assert new.state()["d/a"] == b"two"
    new.client.upload_file(new.id, "d/a", "uploaded")
    new.client.start_task(new.id)
    list(new.client.stream_task_updates(new.id))
    assert new.state()["copy"] == b"uploaded"


def test_a_repeated_request_returns_the_same_task(
    beray_server: RunningServer, account: BeRayClient
) -> None:
    task = RecordedTask.run(beray_server, account, "!mkdir d; echo x > d/a")
    origin = {"task": task.id, "checkpoint": "c2"}
    first = create(beray_server, account, origin, key="a key")
    again = create(beray_server, account, origin, key="a key")
    assert again.json()["id"] == first.json()["id"]
    assert create(beray_server, account, {"task": task.id}, key="a key").status_code == 422
    account.delete_task(task.id)
    # The task exists, although it could not be created any more.
    assert create(beray_server, account, origin, key="a key").json()["id"] == first.json()["id"]
    assert create(beray_server, account, origin, key="other").status_code == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ({"task": 10**6}, 404),
        ({"task": 2**63 - 1}, 404),
        ({"checkpoint": "c99"}, 404),
        ({"seq": 10**6}, 404),
        ({"seq": 0}, 404),
        ({"seq": 2**63}, 422),
        ({"seq": -1}, 422),
        ({"seq": 1.0}, 422),
        ({"seq": True}, 422),
        ({"seq": "3"}, 422),
        ({"seq": 2, "checkpoint": "c1"}, 422),
        ({"checkpoint": 3}, 422),
        ({"checkpoint": ""}, 422),
        ({"checkpoint": "c0"}, 422),
        ({"checkpoint": "c" * 30}, 422),
        ({"checkpoint": "\ud800"}, 422),
        ({"checkpoint": "c\0"}, 422),
        ({"task": 0}, 422),
        ({"task": -1}, 422),
        ({"task": 2**63}, 422),
        ({"task": True}, 422),
        ({"task": "1"}, 422),
        ({"task": 1.0}, 422),
        ({"task": None}, 422),
        ({"other": 1}, 422),
    ],
)
def test_invalid_origins_create_nothing(
    source: RecordedTask, origin: dict[str, Any], status: int
) -> None:
    unchanged = Unchanged(source.server)
    response = create(source.server, source.client, {"task": source.id, **origin}, key="free")
    assert response.status_code == status, response.text
    assert response.json()["detail"]
    unchanged.check()


@pytest.mark.parametrize("origin", [5, "5", [], [5], {}, True])
def test_origins_of_other_types(source: RecordedTask, origin: Any) -> None:
    unchanged = Unchanged(source.server)
    assert create(source.server, source.client, origin).status_code == 422
    unchanged.check()


def test_tasks_of_other_users_do_not_exist(source: RecordedTask) -> None:
    with source.server.sign_up() as stranger:
        unchanged = Unchanged(source.server)
        for origin in ({"task": source.id}, {"task": source.id, "checkpoint": "c99"}):
            response = create(source.server, stranger, origin)
            assert response.status_code == 404
            assert response.json()["detail"] == f"Task {source.id} does not exist."
        unchanged.check()


def test_a_task_without_checkpoints(beray_server: RunningServer, account: BeRayClient) -> None:
    held = account.create_task("!true", start=False)["id"]
    unchanged = Unchanged(beray_server)
    response = create(beray_server, account, {"task": held})
    assert response.status_code == 404
    assert "has no checkpoints" in response.json()["detail"]
    unchanged.check()


def test_content_that_is_not_stored_or_damaged(tmp_path: Path) -> None:
    settings = {"BERAY_HISTORY_FILE_BYTES": str(3 * MIB)}
    with RunningServer.start(tmp_path / "data", settings) as server, server.sign_up() as client:
        task = RecordedTask.run(server, client, "!head -c 3200000 /dev/zero > large; echo x > x")
        unchanged = Unchanged(server)
        response = create(server, client, {"task": task.id}, key="key")
        assert response.status_code == 409
        assert "'large' was not stored" in response.json()["detail"]
        unchanged.check()
        damaged = RecordedTask.run(server, client, "!head -c 2000000 /dev/urandom > d; echo x > x")
        largest = max(
            (server.data_dir / "objects").rglob("*/*"), key=lambda one: one.stat().st_size
        )
        content = bytearray(largest.read_bytes())
        content[100_000] ^= 1
        largest.write_bytes(content)
        (damaged.work_dir / "d").unlink()  # otherwise the file is copied from there
        unchanged = Unchanged(server)
        response = create(server, client, {"task": damaged.id}, key="key")
        assert response.status_code == 500
        assert "'d' cannot be restored" in response.json()["detail"]
        unchanged.check()
        # The key is free, and the server works.
        response = create(server, client, {"task": task.id, "checkpoint": "c1"}, key="key")
        assert response.status_code == 200


def test_a_quota_applies_to_the_copy(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task = RecordedTask.run(server, client, "!head -c 4000000 /dev/urandom > large")
        server.restart(BERAY_WORK_DIR_BYTES="3000000")
        unchanged = Unchanged(server)
        response = create(server, client, {"task": task.id})
        assert response.status_code == 413
        assert response.json()["detail"].startswith("The task was not created: ")
        assert "BERAY_WORK_DIR_BYTES" in response.json()["detail"]
        unchanged.check()


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "64m") as disk:
        data_dir = disk / "data"
        data_dir.mkdir()
        (data_dir / "test-server.log").symlink_to(tmp_path / "server.log")
        settings = {"BERAY_RESERVE_BYTES": "1000000"}
        with RunningServer.start(data_dir, settings) as server, server.sign_up() as client:
            task = RecordedTask.run(server, client, "!head -c 12000000 /dev/urandom > large")
            assert client.list_checkpoints(task.id)[-1]["not_stored"] == 0
            client.upload_file(task.id, "large", b"small")
            client.list_checkpoints(task.id)
            filler = fill(disk)
            with filler.open("r+b") as file:
                file.truncate(filler.stat().st_size - 8_000_000)
            unchanged = Unchanged(server)
            response = create(server, client, {"task": task.id, "checkpoint": "c2"}, key="key")
            assert response.status_code == 507, response.text
            unchanged.check()
            refused = task.restore("c2")
            assert refused.status_code == 507
            assert refused.json()["detail"].startswith("Nothing was changed")
            assert task.state() == {"large": b"small"}
            assert staged(server) == []
            filler.unlink()
            assert task.restore("c2").status_code == 200
            response = create(server, client, {"task": task.id, "checkpoint": "c2"}, key="key")
            assert response.status_code == 200


@pytest.fixture(scope="module")
def large_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedTask]:
    """Task whose copy takes a long time."""
    data_dir = tmp_path_factory.mktemp("large") / "data"
    with RunningServer.start(data_dir) as server, server.sign_up() as client:
        goal = "!mkdir d; for n in $(seq 8); do head -c 30000000 /dev/urandom > d/$n; done"
        task = RecordedTask.run(server, client, goal)
        for number in range(1, 9):  # the copies are made from the stored contents
            (task.work_dir / "d" / str(number)).unlink()
        yield task


@pytest.mark.parametrize("action", ["delete", "stop"])
def test_a_copy_is_cancelled(large_source: RecordedTask, action: str) -> None:
    task, client = large_source, large_source.client
    unchanged = Unchanged(task.server)
    responses: list[requests.Response] = []

    def request() -> Iterator[None]:
        responses.append(create(task.server, client, {"task": task.id}, key="key"))
        yield

    creating = FollowingThread(request)
    until(lambda: any(staged_files(task.server)))
    new = client.list_tasks()[0]["id"]
    assert new != task.id
    if action == "delete":
        client.delete_task(new)
    else:
        client.stop_task(new)
    creating.join()
    (response,) = responses
    assert response.status_code == 409, response.text
    assert "was stopped while it was created" in response.json()["detail"]
    unchanged.check()
    assert [one["id"] for one in client.list_tasks()] == [task.id]


def staged_files(server: RunningServer) -> list[Path]:
    return list(workspaces(server).glob(".restoring/*/*"))


def test_an_interrupted_copy_is_completed(large_source: RecordedTask) -> None:
    task, client = large_source, large_source.client
    server = task.server

    def request() -> Iterator[None]:
        create(server, client, {"task": task.id}, goal="!ls d | wc -l > count", key="key")
        yield

    creating = FollowingThread(request)
    until(lambda: any(staged_files(server)))
    server.kill()
    creating.join()
    server.restart()
    new = client.list_tasks()[0]["id"]
    list(client.stream_task_updates(new))
    assert client.get_file_content(new, "count").content.strip() == b"8"
    # The repeated request finds the task.
    again = create(server, client, {"task": task.id}, goal="!ls d | wc -l > count", key="key")
    assert again.json()["id"] == new
    assert staged(server) == []


@pytest.mark.parametrize("scope", ["tasks:read", "files", "gateway"])
def test_scopes_of_api_keys(source: RecordedTask, scope: str) -> None:
    key = source.client.create_api_key("forks", scopes=[scope])["key"]
    unchanged = Unchanged(source.server)
    response = create(source.server, source.server.client(key), {"task": source.id})
    assert response.status_code == 403
    unchanged.check()


def test_a_server_without_history(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_HISTORY_BYTES="0") as server:
        client = server.sign_up()
        task = RecordedTask.run(server, client, "!echo x > x")
        unchanged = Unchanged(server)
        response = create(server, client, {"task": task.id})
        assert response.status_code == 409
        unchanged.check()
