"""Watching that continues on the successor of the local server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("the local server needs POSIX", allow_module_level=True)

from beray import local_server


@pytest.fixture(autouse=True)
def no_server_stays(own_home: Path) -> Iterator[None]:
    yield
    local_server.stop()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_task_whose_server_ended_gets_its_status_from_the_successor(how: str) -> None:
    command = [sys.executable, "-m", "beray.cli", "run", "!echo begun; sleep 600"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "begun\n"
            first = local_server.status()
            assert first is not None
            if how == "killed":
                os.kill(first.pid, signal.SIGKILL)  # the command itself starts the next one
            else:
                local_server.stop()
                local_server.ensure()
            out, stderr = running.communicate(timeout=60)
        finally:
            running.kill()
    after = local_server.status()
    assert after is not None and after.token != first.token
    assert out == ""  # events are not shown twice
    assert running.returncode == 1
    lines = stderr.splitlines()
    assert lines.count("-- connection lost; reconnecting") <= 1
    if how == "killed":
        assert "-- connection lost; reconnecting" in lines
        assert "-- reconnected" in lines
        assert lines[-1] == "-- FAILED (lost_worker)"
    else:
        assert lines[-1].startswith(("-- FAILED", "-- STOPPED"))
    assert "Traceback" not in stderr


def test_output_is_downloaded_from_the_successor(tmp_path: Path) -> None:
    out = tmp_path / "out"
    goal = "!echo made > made.txt; echo begun; sleep 600"
    command = [sys.executable, "-m", "beray.cli", "run", goal, "--output", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "begun\n"
            first = local_server.status()
            assert first is not None
            os.kill(first.pid, signal.SIGKILL)
            _, stderr = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (out / "made.txt").read_text() == "made\n", stderr
    assert running.returncode == 1
