"""Hundreds of runs on one server, which must not lose events or leave processes and files.

Not among the usual tests, because it takes a minute: ``pytest -m soak``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from beray import BeRayClient
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer, model_server
from tests.support import text, until

TASKS = 200
AT_ONCE = 8
WARM = 48
"""Number of tasks after which the server has allocated its permanent resources."""
GOAL = "print hello world"
REPLIES = (
    Reply(text=["I ", "write ", "it."], calls=[
        Call("write_file", {"path": "hello.py", "content": "print('hello world')\n"}),
        Call("report_progress", {"message": "half of it"}),
    ]),
    Reply(calls=[Call("run_command", {"command": "python3 hello.py; (sleep 300 &)"})]),
    Reply(text=["Done."]),
)  # fmt: skip


def one(client: BeRayClient) -> None:
    task = client.create_task(GOAL)
    events: list[Any] = list(client.stream_task_updates(task["id"]))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["status"] for event in events if event["type"] == "TASK_STATUS"] == [
        "QUEUED", "RUNNING", "COMPLETED",
    ]  # fmt: skip
    main_events = [event for event in events if event.get("source") == "main"]
    assert text(main_events) == "I write it.Done."
    assert "hello world\n" in [event.get("text") for event in events]
    assert [event["payload"]["path"] for event in events if event.get("source") == "files"] == [
        "hello.py"
    ]
    assert events == client.get_task(task["id"])["events"]
    usage = client.get_task(task["id"])["usage"]
    assert usage is not None and (usage["requests"], usage["input_tokens"]) == (3, 300)


def many(models: ModelServer, clients: list[BeRayClient], number: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(one, clients[n % AT_ONCE]) for n in range(number)]:
            done.result()
    until(lambda: not models.processes())


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_hundreds_of_runs_leave_no_processes_and_files(tmp_path: Path) -> None:
    with model_server(tmp_path / "data", BERAY_SLOTS=str(AT_ONCE)) as models:
        models.script(GOAL, *REPLIES)
        clients = [models.server.sign_up() for _ in range(AT_ONCE)]
        server = psutil.Process(models.server.pid)
        many(models, clients, WARM)
        family = [server, *server.children()]
        descriptors = [process.num_fds() for process in family]
        resident = [process.memory_info().rss for process in family]
        many(models, clients, TASKS - WARM)
        assert [server, *server.children()] == family
        for process, before, bytes_before in zip(family, descriptors, resident, strict=True):
            # The number of pooled connections of clients and of the database varies slightly.
            assert process.num_fds() <= before + AT_ONCE
            assert process.memory_info().rss < bytes_before * 1.1 + 4 * 1024**2
        assert list((models.server.data_dir / "scratch").iterdir()) == []
