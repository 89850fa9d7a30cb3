"""Complete tasks of ACP agents and commands on a server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from beray import BeRayClient
from beray.testing import RunningServer
from tests.support import PROMPT_SECONDS, done, sleepers, text, until

AGENT = Path(__file__).with_name("acp_agent.py")
SAY = """
import json, sys
print("working on", sys.argv[1])
print(json.dumps({"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": "look", "args_chunk": "{}"}))
print(json.dumps({"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "look", "result": [1, 2]}))
open("made.txt", "w").write("made")
print(json.dumps({"type": "AGENT_EVENT_SEND_FILE", "path": "made.txt"}))
print(json.dumps({"type": "AGENT_EVENT_END", "tokens_used": 12}))
"""


@pytest.fixture(scope="module", params=["auto", "none"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "say.py").write_text(SAY)
    paths = [sys.prefix, sys.base_prefix, str(AGENT.parent), str(folder / "say.py")]
    with RunningServer.start(
        folder / "data",
        BERAY_SANDBOX=str(request.param),
        BERAY_ACP=f"{sys.executable} {AGENT}",
        BERAY_COMMAND=f"{sys.executable} {folder / 'say.py'} {{goal}}",
        BERAY_AGENT_PATHS=",".join(paths),
    ) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[BeRayClient]:
    with server.sign_up() as client:
        yield client


def finished(client: BeRayClient, goal: str, runner: str) -> list[Any]:
    task = client.create_task(goal, runner=runner)
    return list(client.stream_task_updates(task["id"]))


def test_a_command_executes_a_goal(client: BeRayClient) -> None:
    events = finished(client, "this; and 'that'", "command")
    assert events[-1]["status"] == "COMPLETED"
    assert text(events) == "working on this; and 'that'\n"
    kinds = [event["type"] for event in events if event.get("source") not in ("files", "history")]
    assert kinds[3:] == [
        "AGENT_EVENT_TOOL_CALL_CHUNK", "AGENT_EVENT_TOOL_RESULT", "AGENT_EVENT_SEND_FILE",
        "AGENT_EVENT_END", "TASK_STATUS",
    ]  # fmt: skip
    assert [event["tokens_used"] for event in events if "tokens_used" in event] == [12]
    task = client.get_task(events[0]["task_id"])
    assert task["usage"] is not None and task["usage"]["output_tokens"] == 12
    assert client.get_file_content(task["id"], "made.txt").content == b"made"


def test_an_acp_agent_executes_goals_if_it_is_the_default_runner(client: BeRayClient) -> None:
    events = done(client, "chunks 3")
    assert client.get_task(events[0]["task_id"])["runner"] == "acp"
    assert events[-1]["status"] == "COMPLETED"
    assert text(events)


def test_a_stop_ends_an_acp_agent_that_ignores_it(
    server: RunningServer, client: BeRayClient
) -> None:
    mark = f"71{os.getpid()}"
    goal = f'hang {{"child": "{mark}", "away": "{mark}", "terminal": "{mark}"}}'
    task = client.create_task(goal, runner="acp")
    until(lambda: len(sleepers(mark)) == 3)
    started = time.monotonic()
    client.stop_task(task["id"])
    assert time.monotonic() - started < PROMPT_SECONDS
    last = list(client.stream_task_updates(task["id"]))[-1]
    assert (last["status"], last["reason"]) == ("STOPPED", "user")
    assert time.monotonic() - started < PROMPT_SECONDS
    assert sleepers(mark) == []
    until(lambda: len(psutil.Process(server.pid).children(recursive=True)) <= 1)
