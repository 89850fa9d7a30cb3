"""Watching goes on where the user's own server goes and another takes its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("a server of one's own is POSIX", allow_module_level=True)

from beray import local_server


@pytest.fixture(autouse=True)
def no_server_stays(own_home: Path) -> Iterator[None]:
    yield
    local_server.stop()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_task_that_went_with_its_server_ends_with_what_the_next_one_says(how: str) -> None:
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
            out, told = running.communicate(timeout=60)
        finally:
            running.kill()
    after = local_server.status()
    assert after is not None and after.token != first.token
    assert out == ""  # what was shown before is not shown again
    assert running.returncode == 1
    lines = told.splitlines()
    assert lines.count("-- the connection broke; reconnecting") <= 1
    if how == "killed":
        assert "-- the connection broke; reconnecting" in lines
        assert "-- connected again" in lines
        assert lines[-1] == "-- FAILED (lost_worker)"
    else:
        assert lines[-1].startswith(("-- FAILED", "-- STOPPED"))
    assert "Traceback" not in told


def test_output_is_fetched_from_the_next_server(tmp_path: Path) -> None:
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
            _, told = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (out / "made.txt").read_text() == "made\n", told
    assert running.returncode == 1
