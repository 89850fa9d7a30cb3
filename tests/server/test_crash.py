"""What a killed server leaves, and what the next one makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.testing import RunningServer
from tests.support import sleepers, text, until


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_kill_9_loses_nothing_that_a_watcher_saw(tmp_path: Path, sandbox: str) -> None:
    mark = f"84{os.getpid()}"
    environ = {"BERAY_SLOTS": "1", "BERAY_SANDBOX": sandbox}
    with RunningServer.start(tmp_path / "data", environ) as server:
        client = server.sign_up()
        running = client.create_task(
            f"!(setsid sleep {mark} &); i=0; while :; do echo $i; i=$((i+1)); sleep 0.002; done"
        )["id"]
        queued = client.create_task("!echo queued ran")["id"]
        held = client.create_task("!echo held", start=False)["id"]
        seen: list[Any] = []
        updates = client.stream_task_updates(running)
        for event in updates:
            seen.append(event)
            if len(seen) == 50:
                until(lambda: sleepers(mark))
                server.kill()
                break
        until(lambda: not sleepers(mark))
        server.restart()
        after = list(client.stream_task_updates(running))
        assert after[: len(seen)] == seen
        assert after[-1]["status"] == "FAILED"
        assert after[-1]["reason"] == "lost_worker"
        assert [event["seq"] for event in after] == list(range(1, len(after) + 1))
        assert text(list(client.stream_task_updates(queued))) == "queued ran\n"
        assert client.get_task(held)["held"] is True


def test_a_stream_goes_on_behind_a_restart(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        task_id = client.create_task("!echo one; while ! [ -e go ]; do sleep 0.01; done")["id"]
        updates = client.stream_task_updates(task_id)
        seen: list[Any] = []
        for event in updates:
            seen.append(event)
            if event.get("text") == "one\n":
                server.kill()
                server.restart()
        assert seen == client.get_task(task_id)["events"]
        assert [event.get("status") for event in seen] == ["QUEUED", "RUNNING", None, "FAILED"]


def test_sigterm_ends_streams_and_tasks_and_leaves(tmp_path: Path) -> None:
    mark = f"83{os.getpid()}"
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        task_id = client.create_task(f"!sleep {mark}")["id"]
        updates = client.stream_task_updates(task_id)
        assert next(updates)["status"] == "QUEUED"
        until(lambda: sleepers(mark))
        server.stop()
        assert sleepers(mark) == []
        server.restart()
        last = list(updates)[-1]
        assert (last["status"], last["reason"]) == ("FAILED", "shutdown")


def test_a_data_folder_has_one_server(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        with pytest.raises(RuntimeError, match="another server uses"):
            RunningServer.start(server.data_dir)
        assert BeRayClient(server.url).base_url == server.url
