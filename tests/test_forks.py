"""Forked test servers, which behave like ``python -m beray.server``."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from beray.testing import RunningServer
from beray.testing.fork_server import ServerForker
from tests.support import WAIT_SECONDS, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server runs on POSIX")


@pytest.fixture(scope="module")
def forks() -> Iterator[ServerForker]:
    forks = ServerForker()
    yield forks
    forks.close()


def test_a_server_that_does_not_start_has_its_exit_status_and_output(
    forks: ServerForker, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    assert forks.start(["--port", "no"], os.environ, log).wait(WAIT_SECONDS) == 2
    assert "--port: invalid int value" in log.read_text()
    (tmp_path / "data").touch()
    options = ["--port", "0", "--data-dir", str(tmp_path / "data")]
    for _ in range(2):
        assert forks.start(options, os.environ, log).wait(WAIT_SECONDS) == 1
    assert "beray: " in log.read_text().splitlines()[-1]


def test_a_server_has_the_passed_environment_and_directory(
    forks: ServerForker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    environ = {"PATH": os.environ["PATH"], "BERAY_SLOTS": "none"}
    options = ["--port", "0", "--data-dir", "data"]
    assert forks.start(options, environ, log).wait(WAIT_SECONDS) == 1
    assert "BERAY_SLOTS" in log.read_text()
    fork = forks.start(options, {"PATH": ""}, log)
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0.1)
    until(lambda: '"serving"' in log.read_text())
    assert "bwrap is not installed" in log.read_text()
    assert (tmp_path / "data" / "beray.sqlite3").exists()
    os.kill(fork.pid, signal.SIGKILL)
    assert fork.wait(WAIT_SECONDS) == -signal.SIGKILL
    fork.terminate()  # has no effect any more
    assert fork.poll() == -signal.SIGKILL


def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    forks, log = ServerForker(), tmp_path / "log"
    fork = forks.start(["--port", "0", "--data-dir", str(tmp_path / "data")], os.environ, log)
    until(lambda: '"serving"' in log.read_text())
    server = psutil.Process(fork.pid)
    forks.close()
    server.wait(WAIT_SECONDS)


@pytest.mark.parametrize(("cheap", "cost"), [(True, "m=8,t=1,p=1"), (False, "m=65536,t=3,p=4")])
def test_the_cost_of_passwords_is_configurable(tmp_path: Path, cheap: bool, cost: str) -> None:
    with RunningServer.start(tmp_path / "data", cheap_passwords=cheap) as server:
        server.sign_up("ada@example.test").login("ada@example.test", "correct horse battery")
    database = sqlite3.connect(server.data_dir / "beray.sqlite3")
    ((stored,),) = database.execute("SELECT password_hash FROM users")
    database.close()
    assert stored.startswith(f"$argon2id$v=19${cost}$")
