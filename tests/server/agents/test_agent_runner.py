"""Tasks that are executed through the agent WebSocket API by another BeRay server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.testing import RunningServer, access_token
from tests.support import PROMPT_SECONDS, sleepers, text, until

AGENT = """
import json, os, sys
print("looking at", sorted(os.listdir(".")), open("in/given.txt").read())
os.makedirs("out", exist_ok=True)
open("out/made.bin", "wb").write(bytes(range(256)) * 1000)
os.chmod("out/made.bin", os.stat("in/given.txt").st_mode)
print(json.dumps({"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": "make", "args_chunk": "{}"}))
print(json.dumps({"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "make", "result": {"n": 1}}))
print(json.dumps({"type": "AGENT_EVENT_SEND_FILE", "path": "out/made.bin"}))
print(json.dumps({"type": "AGENT_EVENT_END", "tokens_used": 34}))
"""


class Pair:
    """Server whose tasks are executed by an agent on another server."""

    def __init__(self, here: RunningServer, there: RunningServer, agents: BeRayClient) -> None:
        self.here = here
        self.there = there
        self.agents = agents
        """Account on the other server that owns the agent's chats."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with started_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@contextmanager
def started_pair(folder: Path) -> Iterator[Pair]:
    program = folder / "agent.py"
    program.write_text(AGENT)
    paths = ",".join([sys.prefix, sys.base_prefix, str(program)])
    command = f"{sys.executable} {program}"
    with RunningServer.start(
        folder / "there", BERAY_COMMAND=command, BERAY_AGENT_PATHS=paths
    ) as there:
        agents = there.sign_up()
        token = access_token(agents)
        with RunningServer.start(
            folder / "here", BERAY_AGENT_URL=there.url, BERAY_AGENT_TOKEN=token
        ) as here:
            yield Pair(here, there, agents)


def test_the_agents_events_and_files_become_the_tasks(pair: Pair) -> None:
    client = pair.here.sign_up()
    task = client.create_task("make it", start=False)
    client.upload_file(task["id"], "in/given.txt", "given", mode=0o750)
    client.start_task(task["id"])
    events: list[Any] = list(client.stream_task_updates(task["id"]))
    assert events[-1]["status"] == "COMPLETED"
    modes = {item["path"]: item["mode"] for item in client.list_files_tree(task["id"], "out")}
    assert modes == {"out/made.bin": "750"}
    assert text(events) == "looking at ['in'] given\n"
    types = [event["type"] for event in events if event.get("source") not in ("files", "history")]
    assert types == [
        "TASK_STATUS", "TASK_STATUS", "AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_TOOL_CALL_CHUNK",
        "AGENT_EVENT_TOOL_RESULT", "AGENT_EVENT_SEND_FILE", "AGENT_EVENT_END", "TASK_STATUS",
    ]  # fmt: skip
    assert [event["tokens_used"] for event in events if "tokens_used" in event] == [34]
    sent = client.get_file_content(task["id"], "out/made.bin").content
    assert sent == bytes(range(256)) * 1000
    found = client.get_task(task["id"])
    assert found["runner"] == "agent" and found["usage"] is not None
    assert found["usage"]["output_tokens"] == 34
    until(lambda: pair.agents.list_tasks() == [])


def test_a_work_dir_may_have_more_entries_than_one_page_of_a_listing(pair: Pair) -> None:
    client = pair.here.sign_up()
    task = client.create_task("make it", start=False)
    client.upload_file(task["id"], "in/given.txt", "given")
    work_dir = pair.here.data_dir / "workspaces" / str(task["id"])
    for number in range(10_000):
        (work_dir / f"{number}").mkdir()
    client.start_task(task["id"])
    events: list[Any] = list(client.stream_task_updates(task["id"]))
    assert events[-1]["status"] == "COMPLETED"
    assert text(events) == "looking at ['in'] given\n"


def test_a_lost_agent_is_a_lost_worker(tmp_path: Path) -> None:
    with started_pair(tmp_path) as pair:
        require_lost_worker(pair)


def require_lost_worker(pair: Pair) -> None:
    mark = f"59{os.getpid()}"
    client = pair.here.sign_up()
    task = client.create_task(f"!sleep {mark}", runner="agent")
    until(lambda: sleepers(mark))
    pair.there.kill()
    events: list[Any] = list(client.stream_task_updates(task["id"]))
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "lost_worker")
    assert events[-2]["code"] == "LOST_WORKER"
    # No server listens at the URL.
    again = client.create_task("hello", runner="agent")
    events = list(client.stream_task_updates(again["id"]))
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "lost_worker")


def test_a_stop_reaches_the_agent(pair: Pair) -> None:
    mark = f"58{os.getpid()}"
    client = pair.here.sign_up()
    task = client.create_task(f"!sleep {mark}", runner="agent")
    until(lambda: sleepers(mark))
    started = time.monotonic()
    client.stop_task(task["id"])
    last = list(client.stream_task_updates(task["id"]))[-1]
    assert (last["status"], last["reason"]) == ("STOPPED", "user")
    assert time.monotonic() - started < PROMPT_SECONDS
    until(lambda: not sleepers(mark) and pair.agents.list_tasks() == [])


def test_a_rejected_token_is_reported_without_its_value(
    beray_server: RunningServer, tmp_path: Path
) -> None:
    token = "wrong-token-123456"
    with RunningServer.start(
        tmp_path / "here", BERAY_AGENT_URL=beray_server.url, BERAY_AGENT_TOKEN=token
    ) as here:
        client = here.sign_up()
        events: list[Any] = list(client.stream_task_updates(client.create_task("hi")["id"]))
        assert events[-1]["status"] == "FAILED"
        assert "401" in events[-2]["details"]
        assert token not in repr(events) + here.log.read_text()
