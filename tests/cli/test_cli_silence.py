"""Servers that do not respond, and closed output streams."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from beray.cli import context
from beray.config import Target
from beray.testing import FaultServer, ScriptedResponse
from tests.cli.cli_support import Command, ScriptedServer, stream

BERAY = shlex.join([sys.executable, "-m", "beray.cli"])
TASKS = (200, [{"id": 1, "goal": "x", "status": "RUNNING"}])
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("BERAY_URL", url)
        monkeypatch.setenv("BERAY_TOKEN", "a-token")
        yield url


@pytest.mark.parametrize("argv", [["tasks"], ["whoami"], ["watch", "1"], ["rm", "1", "--yes"]])
def test_a_silent_server_is_reported_within_the_deadline(
    beray: Command, stalled: str, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    assert context.CALL_DEADLINE_SECONDS <= 30
    monkeypatch.setattr(context, "CALL_DEADLINE_SECONDS", 0.5)
    began = time.monotonic()
    outcome = beray(*argv)
    assert time.monotonic() - began < 10
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("beray: ") and stalled in outcome.err


def test_files_and_streams_have_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CALL_DEADLINE_SECONDS", 0.1)
    slow = ScriptedResponse([b"one", b"two"], pause=0.3)
    with FaultServer([slow]) as server:
        connection = context.ServerConnection(Target(server.url, "x"))
        found = connection.transfer_client.get_file_content(1, "f")
    assert found.content == b"onetwo"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True)


@posix_only
@pytest.mark.parametrize(
    "command", ["tasks", "tasks --json", "--version", "--help", "cat 1 f", "watch 1"]
)
def test_a_closed_stdout_is_a_line_and_status_1(scripted: ScriptedServer, command: str) -> None:
    text = {"seq": 1, "type": "AGENT_EVENT_TEXT_CHUNK", "text": "hi"}
    scripted.answers |= {
        "GET /tasks/": TASKS,
        "GET /tasks/1/files/content": (200, b"content"),
        "GET /tasks/1/stream": stream([text, {"seq": 2, "type": "TASK_STATUS", "status": "DONE"}]),
    }
    done = shell(f"{BERAY} {command} >&-")
    assert done.returncode == 1
    assert done.stderr == "beray: stdout is closed\n"


@posix_only
def test_a_closed_stderr_does_not_change_the_result(scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/"] = TASKS
    done = shell(f"{BERAY} tasks 2>&-")
    assert (done.returncode, done.stdout) == (0, "1\tRUNNING\t\tx\n")
    assert shell(f"{BERAY} show 9 2>&-").returncode == 1


@posix_only
@pytest.mark.parametrize("command", ["tasks", "tasks --json"])
def test_a_closed_pipe_is_not_reported(scripted: ScriptedServer, command: str) -> None:
    scripted.answers["GET /tasks/"] = TASKS
    done = shell(f"set -o pipefail; {BERAY} {command} | exec true")
    assert done.stderr == ""
    assert done.returncode == 1
