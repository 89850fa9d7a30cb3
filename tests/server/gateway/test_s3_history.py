"""History of work_dirs in an S3 store."""

from __future__ import annotations

from pathlib import Path

import requests

from beray.testing import RunningServer, authorization
from tests.gateway_support import S3Server


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
