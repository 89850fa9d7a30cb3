"""``beray run`` with a model, and options of tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.client import BeRayClient
from tests.cli.cli_support import Command, ScriptedServer, use
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer

GOAL = "write me a small Python script that prints hello world"
REPLIES = (
    Reply(
        text=["I write it."],
        calls=[
            Call("write_file", {"path": "hello.py", "content": "print('hello world')\n"}),
            Call("report_progress", {"message": "half of it"}),
        ],
    ),
    Reply(calls=[Call("run_command", {"command": "python3 hello.py"})], cached_tokens=30),
    Reply(text=["Done: ", "`hello.py`"]),
)


@pytest.fixture
def client(models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[BeRayClient]:
    models.script(GOAL, *REPLIES)
    with models.server.sign_up() as client:
        use(client, monkeypatch)
        yield client


def test_a_model_is_watched_at_work(beray: Command, client: BeRayClient) -> None:
    outcome = beray("run", GOAL, "--tag", "first", "--limit", "tokens=1000", "--output", "out")
    assert outcome.status == 0
    # Text of the agent in paragraphs, and tool calls on stderr.
    assert outcome.out == "I write it.\nDone: `hello.py`"
    for expected in (
        'write_file [1] called with {"path": "hello.py"', "progress: half of it", "| hello world",
        'run_command called with {"command": "python3 hello.py"}', "added hello.py (21 bytes)",
        'run_command returned {"exit_code": 0}', "360 tokens used", "COMPLETED",
    ):  # fmt: skip
        assert expected in outcome.err
    assert (Path("out") / "hello.py").read_text() == "print('hello world')\n"
    task = client.list_tasks()[0]
    shown = beray("show", str(task["id"])).out
    for line in (
        "runner:   model", "model:    openai:gpt-4o", "tags:     first", "limits:   tokens 1,000",
        "used:     300 input and 60 output tokens (30 of them from the cache) in 3 requests, $0.",
    ):  # fmt: skip
        assert line in shown
    assert beray("tasks", "--tag", "first").out.startswith(f"{task['id']}\tCOMPLETED")
    assert beray("tasks", "--tag", "first", "--tag", "second").out == ""


def test_an_exhausted_budget_gives_status_1(beray: Command, client: BeRayClient) -> None:
    outcome = beray("run", GOAL, "--limit", "requests=1")
    assert outcome.status == 1
    assert "error BUDGET: The task was terminated: the limit of 1 request" in outcome.err
    assert "FAILED (budget)" in outcome.err


def test_a_task_asks_for_the_gateway(beray: Command, client: BeRayClient) -> None:
    goal = "!echo ${X_INTERNAL_TOKEN:+it has a token}"
    assert beray("run", goal, "--gateway", "--limit", "seconds=60").out == "it has a token\n"
    (task,) = client.list_tasks()
    assert task["limits"] == {"seconds": 60, "gateway": True}
    assert "gateway yes" in beray("show", str(task["id"])).out
    assert beray("run", goal).out.strip() == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--limit", "apples=3"], "use one of tokens, requests, cost_usd, seconds"),
        (["--limit", "tokens"], "expects a whole number, got ''"),
        (["--limit", "tokens=1.5"], "expects a whole number, got '1.5'"),
        (["--limit", "cost_usd=nan"], "expects a number, got 'nan'"),
        (["--tool", "https://docs.example"], "expected NAME=URL"),
        (["--tool", "docs="], "expected NAME=URL"),
        (["--tool", "docs={"], "not valid JSON"),
    ],
)
def test_invalid_options_send_nothing(
    beray: Command, client: BeRayClient, options: list[str], expected: str
) -> None:
    outcome = beray("run", GOAL, *options)
    assert outcome.status == 2
    assert expected in outcome.err
    assert client.list_tasks() == []


def test_mcp_servers_are_given_as_urls_names_and_json(beray: Command, client: BeRayClient) -> None:
    json_text = '{"command": "npx", "args": ["x"]}'
    tools = ["docs=https://docs.example/mcp", "github", "tickets=jira", f"mine={json_text}"]
    options = [word for tool in tools for word in ("--tool", tool)]
    assert beray("run", "!true", "--detach", *options).status == 0
    assert client.list_tasks()[0]["tools"] == [
        {"docs": {"url": "https://docs.example/mcp"}},
        {"github": {"server": "github"}},
        {"tickets": {"server": "jira"}},
        {"mine": {"command": "npx", "args": ["x"]}},
    ]


def test_the_message_of_the_server_is_shown(beray: Command, client: BeRayClient) -> None:
    outcome = beray("run", GOAL, "--runner", "robot")
    assert outcome.status != 0
    assert "Runner 'robot' does not exist; this server has shell, model." in outcome.err


def test_options_that_the_server_ignores_are_reported(
    beray: Command, scripted: ScriptedServer
) -> None:
    created: dict[str, Any] = {"id": 1, "goal": "x", "status": "QUEUED"}
    scripted.answers["POST /tasks/"] = (200, created)
    outcome = beray("run", "x", "--detach", "--tag", "a", "--limit", "tokens=5")
    assert outcome.out == "1\n"
    assert "this server does not support and ignored: limits, tags" in outcome.err
