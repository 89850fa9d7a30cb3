"""The user's embedded server: started on demand, shared by all processes, stopped when idle."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from beray import BeRayClient, local_server
from beray.exceptions import BeRayException
from tests.support import done, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server runs on POSIX")


@pytest.fixture(autouse=True)
def no_server_stays(own_home: Path) -> Iterator[None]:
    yield
    local_server.stop()


def test_start_join_and_stop() -> None:
    assert local_server.status() is None
    assert local_server.stop() is False
    target = local_server.ensure()
    assert target.embedded
    assert target.url.startswith("http://127.0.0.1:")
    running = local_server.status()
    assert running is not None
    assert local_server.ensure() == target
    assert running.target() == target
    assert target.token is not None
    assert target.token not in f"{target!r} {running!r}"
    client = BeRayClient(target.url, target.token)
    assert done(client, "!echo hello > hello.txt; ls -l")[-1]["status"] == "COMPLETED"
    assert local_server.stop() is True
    assert local_server.status() is None
    again = local_server.ensure()
    assert again.token != target.token
    tasks = BeRayClient(again.url, again.token).list_tasks()
    assert [task["goal"] for task in tasks] == ["!echo hello > hello.txt; ls -l"]


def test_a_client_of_the_embedded_server() -> None:
    with BeRayClient.local(max_retries=0) as client:
        running = local_server.status()
        assert running is not None
        assert client.base_url == running.url
        assert client.run("!echo hello")["status"] == "COMPLETED"
    with BeRayClient.from_env() as again, BeRayClient.from_env("local") as named:
        assert again.base_url == named.base_url == running.url
        assert [task["goal"] for task in again.list_tasks()] == ["!echo hello"]


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "beray", "run", "!echo hello"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_the_file_with_the_token_is_private(own_home: Path) -> None:
    local_server.ensure()
    path = own_home / "beray" / "server" / "server.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / "server.log").exists()
    token = json.loads(path.read_text())["token"]
    assert token not in (path.parent / "server.log").read_text()


def test_concurrent_processes_share_one_server() -> None:
    script = "from beray import local_server; print(local_server.ensure().url, local_server.status().pid)"

    def ask(_: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1


def test_the_file_of_a_killed_server_is_ignored(own_home: Path) -> None:
    first = local_server.ensure()
    running = local_server.status()
    assert running is not None
    os.kill(running.pid, 9)
    until(lambda: local_server.status() is None)
    assert (own_home / "beray" / "server" / "server.json").exists()
    assert local_server.stop() is False
    assert local_server.ensure().token != first.token


def test_the_server_stops_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERAY_IDLE_SECONDS", "3")
    target = local_server.ensure()
    client = BeRayClient(target.url, target.token)
    task = client.create_task("!true")
    events = client.stream_task_updates(task["id"])
    assert next(events)["status"] == "QUEUED"
    assert list(events)[-1]["status"] == "COMPLETED"
    until(lambda: local_server.status() is None)
    # It stopped by itself and removed its files and its lock.
    until(lambda: not (local_server.data_dir() / "server.json").exists())


def test_a_running_task_keeps_the_server_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERAY_IDLE_SECONDS", "3")
    target = local_server.ensure()
    client = BeRayClient(target.url, target.token)
    client.create_task("!sleep 4; echo done > done")
    client.close()
    until(lambda: local_server.status() is None, 30)
    monkeypatch.setenv("BERAY_IDLE_SECONDS", "60")
    again = local_server.ensure()
    task = BeRayClient(again.url, again.token).list_tasks()[0]
    assert task["status"] == "COMPLETED"


def test_a_failed_start_reports_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERAY_SLOTS", "none")
    with pytest.raises(BeRayException, match="BERAY_SLOTS") as caught:
        local_server.ensure()
    assert "server.log" in str(caught.value)


def test_the_file_of_a_killed_server_is_ignored_while_a_new_one_starts(own_home: Path) -> None:
    local_server.ensure()
    running = local_server.status()
    assert running is not None
    os.kill(running.pid, 9)
    until(lambda: local_server.status() is None)
    with FileLock(local_server.data_dir() / "server.lock"):
        # Like a server that holds the lock and has not written its file yet.
        assert (local_server.data_dir() / "server.json").exists()
        assert local_server.status() is None


def test_a_relative_home_is_resolved(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own_home)
    monkeypatch.setenv("BERAY_HOME", "here")
    target = local_server.ensure()
    assert local_server.ensure() == target
    assert (own_home / "here" / "server" / "server.json").exists()
