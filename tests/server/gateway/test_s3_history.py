"""History of work_dirs in an S3 store."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from beray.testing import RunningServer, authorization
from tests.gateway_support import S3Server
from tests.server.recorded_task import RecordedTask
from tests.support import until


def test_checkpoints_are_stored_and_restored(tmp_path: Path, s3_environ: dict[str, str]) -> None:
    with RunningServer.start(tmp_path / "data", s3_environ) as server:
        client = server.sign_up()
        task = client.run("!echo one > file; head -c 3000000 /dev/urandom > large")
        large = client.get_file_content(task["id"], "large").content
        client.upload_file(task["id"], "file", "two")
        client.upload_file(task["id"], "large", "small")
        url = f"{server.url}/api/v1/tasks/{task['id']}"
        headers = authorization(client)
        diff = requests.get(f"{url}/diff", {"from": "c2"}, headers=headers, timeout=30).json()
        assert [file["path"] for file in diff["files"]] == ["file", "large"]
        restored = requests.post(f"{url}/restore", json={"to": "c2"}, headers=headers, timeout=30)
        assert restored.status_code == 200, restored.text
        assert client.get_file_content(task["id"], "file").content == b"one\n"
        assert client.get_file_content(task["id"], "large").content == large
        assert not (server.data_dir / "objects").exists()


def test_a_task_runs_without_the_store(tmp_path: Path, s3_server: S3Server) -> None:
    environ = s3_server.environ("no-such-bucket")
    with RunningServer.start(tmp_path / "data", environ) as server:
        task = server.sign_up().run("!echo one > file")
        kinds = [
            event["payload"].get("kind")
            for event in task["events"]
            if event["type"] == "AGENT_EVENT_CUSTOM_UPDATE"
        ]
        assert "not_recorded" in kinds


def test_a_store_that_does_not_respond(tmp_path: Path, s3_environ: dict[str, str]) -> None:
    with RunningServer.start(tmp_path / "data", s3_environ) as server:
        client = server.sign_up()
        task = RecordedTask.run(server, client, "!echo one > file; echo x > x")
        client.upload_file(task.id, "file", "two")
        client.list_checkpoints(task.id)
        before = task.state()
        with unused_address() as address:
            server.restart(BERAY_S3_ENDPOINT=f"http://{address}")
            responses = [
                task.content("file", "c2"),
                task.get("diff", **{"from": "c2"}),
                task.restore("c2"),
            ]
        assert [response.status_code for response in responses] == [503] * 3
        assert all("does not respond" in response.json()["detail"] for response in responses)
        assert all(response.headers["Retry-After"] == "60" for response in responses)
        assert task.state() == before
        server.restart(**s3_environ)
        assert task.restore("c2").status_code == 200
        assert task.state() == {"file": b"one\n", "x": b"x\n"}


@contextmanager
def unused_address() -> Iterator[str]:
    """Reserve an address at which nothing listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def test_empty_files(tmp_path: Path, s3_environ: dict[str, str]) -> None:
    """S3 has no ranges without bytes."""
    with RunningServer.start(tmp_path / "data", s3_environ) as server:
        client = server.sign_up()
        task = RecordedTask.run(server, client, "!touch empty")
        client.upload_file(task.id, "empty", "full")
        server.restart()  # nothing is in memory
        assert task.restore("c2").status_code == 200
        assert task.state() == {"empty": b""}
        assert task.content("empty", "c2").content == b""
        fork = RecordedTask(
            server, client, client.create_task("!true", from_task={"task": task.id})["id"]
        )
        list(client.stream_task_updates(fork.id))
        assert fork.state() == {"empty": b""}
        client.delete_task(fork.id)
        assert task.restore(3).status_code == 200


def test_packs_are_removed_from_the_store(
    tmp_path: Path, s3_environ: dict[str, str], s3_server: S3Server
) -> None:
    def keys() -> list[str]:
        found = s3_server.client.list_objects_v2(Bucket=s3_environ["BERAY_S3_BUCKET"])
        return [one["Key"] for one in found.get("Contents", ())]

    with RunningServer.start(tmp_path / "data", s3_environ) as server:
        client = server.sign_up()
        task = RecordedTask.run(server, client, "!echo one > file")
        user = client.get_current_user()["id"]
        assert keys()
        assert all(key.startswith(f"history/{user}/") for key in keys())
        client.delete_task(task.id)
        until(lambda: keys() == [])
