"""A disk that is full for a while: every run gets its end once there is space again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import sleepers, text, until

from beray import APIError
from beray.testing import RunningServer


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        for size in (1_000_000, 4096):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    continue
    return filler


def test_tasks_end_once_the_disk_has_space(small_disk: Path) -> None:
    server = RunningServer.start(small_disk / "data", BERAY_SLOTS="4")
    with server, server.sign_up() as client:
        tasks = [client.create_task(f"!sleep {seconds}") for seconds in (2.5, 3.5)]
        stopped = client.create_task("!sleep 600")
        until(
            lambda: {client.get_task(t["id"])["status"] for t in [*tasks, stopped]} == {"RUNNING"}
        )
        filler = fill(small_disk)
        client.stop_task(stopped["id"])
        until(lambda: not [one for mark in ("2.5", "3.5", "600") for one in sleepers(mark)])
        assert {task["status"] for task in client.list_tasks()} == {"RUNNING"}
        filler.unlink()
        until(lambda: "RUNNING" not in {task["status"] for task in client.list_tasks()})
        ends = {task["id"]: (task["status"], task["reason"]) for task in client.list_tasks()}
        assert ends[tasks[0]["id"]][0] in ("COMPLETED", "FAILED")
        assert ends[stopped["id"]] == ("STOPPED", "user")
        for task in [*tasks, stopped]:
            statuses = [
                event["status"]
                for event in client.stream_task_updates(task["id"])
                if event["type"] == "TASK_STATUS"
            ]
            assert len(statuses) == 3


def test_a_chat_goes_on_once_the_disk_has_space(small_disk: Path) -> None:
    with RunningServer.start(small_disk / "data") as server, server.sign_up() as client:
        chat = client.open_chat("notes")
        client.send_chat_message("notes", "!sleep 2.5")
        until(lambda: sleepers("2.5"))
        filler = fill(small_disk)
        until(lambda: not sleepers("2.5"))
        with pytest.raises(APIError):
            client.send_chat_message("notes", "!echo again")
        filler.unlink()
        until(lambda: client.get_task(chat["id"])["status"] == "INPUT_REQUIRED")
        client.send_chat_message("notes", "!echo again")
        until(lambda: "again\n" in text(client.get_task(chat["id"])["events"]))
        until(lambda: client.get_task(chat["id"])["status"] == "INPUT_REQUIRED")
