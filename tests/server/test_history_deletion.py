"""Deletion of tasks and accounts with their checkpoints and contents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.server.recorded_task import RecordedTask, answered, packs
from tests.support import FollowingThread, until

TABLES = ("checkpoints", "blob_packs", "blobs", "pending_restores")
GOAL = "!head -c 100000 /dev/urandom > random; echo x > x"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path / "data") as server:
        yield server


def counts(server: RunningServer) -> list[int]:
    """Return the numbers of rows of the history."""
    with closing(sqlite3.connect(server.data_dir / "beray.sqlite3")) as connection:
        return [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
        ]


def is_empty(server: RunningServer) -> bool:
    return counts(server) == [0, 0, 0, 0] and packs(server) == []


def test_the_last_task_takes_all_contents_with_it(server: RunningServer) -> None:
    with server.sign_up() as client:
        tasks = [RecordedTask.run(server, client, GOAL) for _ in range(4)]
        assert counts(server)[0] == 12
        # Several deletions at once; each of them may begin during the collection of another one.
        for task in tasks[:3]:
            client.delete_task(task.id)
        until(lambda: counts(server)[0] == 3)
        until(lambda: sum(path.stat().st_size for path in packs(server)) < 150_000)
        remaining = tasks[3]
        assert remaining.restore("c1").status_code == 200
        assert remaining.restore("c2").status_code == 200
        assert len(remaining.state()["random"]) == 100_000
        client.delete_task(remaining.id)
        until(lambda: is_empty(server))


def test_a_fork_keeps_the_contents_of_a_deleted_task(server: RunningServer) -> None:
    with server.sign_up() as client:
        task = RecordedTask.run(server, client, GOAL)
        content = task.state()["random"]
        new = client.create_task("!rm random", from_task={"task": task.id})["id"]
        list(client.stream_task_updates(new))
        client.delete_task(task.id)
        until(lambda: counts(server)[0] == 4)
        fork = RecordedTask(server, client, new)
        assert fork.restore("c1").status_code == 200
        assert fork.state()["random"] == content
        origin = client.get_task(new).get("from")
        assert origin is not None
        assert origin["task"] == task.id


def test_the_contents_of_other_users_remain(server: RunningServer) -> None:
    with server.sign_up() as client, server.sign_up() as other:
        task = RecordedTask.run(server, client, "!echo same > same")
        kept = RecordedTask.run(server, other, "!echo same > same")
        client.delete_task(task.id)
        until(lambda: counts(server)[0] == 3)
        until(lambda: len(packs(server)) < 3)
        assert kept.content("same", "c2").content == b"same\n"


def test_an_account_takes_all_contents_with_it(server: RunningServer) -> None:
    with server.sign_up() as kept_client:
        kept = RecordedTask.run(server, kept_client, GOAL)
        before = counts(server)
        with server.sign_up() as client:
            for _ in range(3):
                RecordedTask.run(server, client, GOAL)
            running = client.create_task("!echo x > x; sleep 600")["id"]
            until(lambda: (server.data_dir / "workspaces" / str(running) / "x").exists())
            client.delete_account(PASSWORD)
        until(lambda: counts(server) == before)
        assert kept.restore("c1").status_code == 200


def test_a_killed_server_continues_a_deletion(server: RunningServer) -> None:
    with server.sign_up() as client:
        tasks = [RecordedTask.run(server, client, GOAL) for _ in range(3)]
        for task in tasks:
            client.delete_task(task.id)
        server.kill()
        server.restart()
        until(lambda: is_empty(server))


def test_uploads_that_wait_are_not_recorded_after_a_deletion(server: RunningServer) -> None:
    with server.sign_up() as client:
        for _ in range(3):
            task = RecordedTask.run(server, client, "!true")
            client.upload_file(task.id, "late", b"late")
            client.delete_task(task.id)
        until(lambda: is_empty(server))
        # The delay of the recording is over at the latest when the server has stopped.
        server.restart()
        assert is_empty(server)


def test_a_deletion_ends_a_restore(server: RunningServer) -> None:
    with server.sign_up() as client:
        goal = "!for n in $(seq 8); do head -c 30000000 /dev/urandom > $n; done"
        task = RecordedTask.run(server, client, goal)
        assert task.restore("c1").status_code == 200
        statuses: list[int] = []

        def restore() -> Iterator[None]:
            statuses.append(task.restore("c2").status_code)
            yield

        restoring = FollowingThread(restore)
        until(lambda: any((server.data_dir / "workspaces" / ".restoring").glob("*/*")))
        client.delete_task(task.id)
        restoring.join()
        assert statuses == [404]
        until(lambda: is_empty(server))
        workspaces = server.data_dir / "workspaces"
        assert [path for path in workspaces.glob("*/*") if path.parent.name != ".incoming"] == []
        assert client.list_tasks() == []


def test_a_deleted_task_has_no_history(server: RunningServer, tmp_path: Path) -> None:
    with server.sign_up() as client:
        task = RecordedTask.run(server, client, GOAL)
        client.delete_task(task.id)
        responses = [
            task.get("checkpoints"),
            task.get("diff"),
            task.restore("c1"),
            task.content("x", "c2"),
        ]
        assert [response.status_code for response in responses] == [404] * 4


def test_chats_are_deleted_with_their_history(server: RunningServer) -> None:
    with server.sign_up() as client:
        task_id = answered(client, "a chat", GOAL)
        assert counts(server)[0] == 2
        client.delete_task(task_id)
        until(lambda: is_empty(server))
