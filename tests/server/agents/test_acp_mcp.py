"""MCP servers of tasks that ACP agents execute."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners.base import Outcome
from beray.server.setting_types.allow_list import AllowList
from tests.server.agents.agent_bench import Bench, bench, both_sandboxes
from tests.server.agents.tiny_mcp_server import SOURCE
from tests.support import descendants

PYTHON = shutil.which("python3", path="/usr/bin:/bin")
TINY: dict[str, Any] = {"command": PYTHON, "args": ["-c", SOURCE]}
needs_python = pytest.mark.skipif(PYTHON is None, reason="no Python in /usr/bin for the sandbox")
TOOLS: list[dict[str, Any]] = [
    {"web": {"url": "https://mcp.example/x", "headers": {"Authorization": "Bearer k"}}},
    {"local": {"command": "/bin/mcp", "env": {"A": "secret"}}, "odd": {"port": 1}},
]


def operators(tmp_path: Path) -> Path:
    path = tmp_path / "mcp.json"
    program = {
        "command": sys.executable,
        "args": ["-c", SOURCE],
        "env": {"TOKEN": "of-the-operator"},
    }
    path.write_text(json.dumps({"tiny": program}))
    return path


def messages(work: Bench) -> dict[str, str]:
    return {payload["server"]: payload["message"] for payload in work.recorder.payloads("mcp")}


async def test_mcp_servers_are_passed_to_the_agent(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    await work.run(work.acp("mcp", mcp_stdio=True), "session", tools=TOOLS)
    web, local = json.loads(work.recorder.text())["servers"]
    assert (web["type"], web["name"], web["url"]) == ("http", "web", "https://mcp.example/x")
    assert [(header["name"], header["value"]) for header in web["headers"]] == [
        ("Authorization", "Bearer k")
    ]
    # The agent gets a command that connects to the program, without its environment variables.
    assert local["command"] == sys.executable
    assert local["env"] == []
    assert list(messages(work)) == ["odd"]


async def test_mcp_servers_that_the_agent_does_not_support_are_logged(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    outcome = await work.run(work.acp(), "session", tools=TOOLS)
    assert outcome == Outcome("COMPLETED")
    assert json.loads(work.recorder.text())["servers"] == []
    logged = messages(work)
    assert "does not support HTTP" in logged["web"]
    assert "BERAY_MCP_STDIO" in logged["local"]
    assert "Bearer" not in str(work.recorder.events)


@needs_python
@both_sandboxes
async def test_programs_run_outside_of_the_agents_sandbox_and_end_with_it(
    tmp_path: Path, kind: Any
) -> None:
    work = await bench(tmp_path, kind)
    (work.work_dir / "file.txt").write_text("x")
    runner = work.acp(mcp_stdio=True, mcp_servers=operators(tmp_path))
    tools = [{"mine": {**TINY, "env": {"A": "b"}}}, {"named": {"server": "tiny"}}]
    goal = 'mcp ["ls -A", "echo $A$TOKEN"]'
    assert await work.run(runner, goal, tools=tools) == Outcome("COMPLETED")
    answers = json.loads(work.recorder.text())
    assert answers == {"mine": ["file.txt", "b"], "named": ["", "of-the-operator"]}
    assert descendants() == []
    assert work.scratch == []


@needs_python
async def test_a_users_program_has_no_access_to_the_agents_files(tmp_path: Path) -> None:
    work = await bench(tmp_path, "bubblewrap")
    sign_in = tmp_path / "sign-in"
    sign_in.mkdir()
    (sign_in / "token").write_text("of the operator")
    paths = f"{work.settings().agent_paths},{sign_in}=rw"
    runner = work.acp(mcp_stdio=True, agent_paths=paths, agent_env="SIGN_IN")
    goal = f'mcp ["cat {sign_in}/token; env"]'
    await work.run(runner, goal, tools=[{"mine": TINY}])
    [answer] = json.loads(work.recorder.text())["mine"]
    assert "No such file" in answer
    assert "of the operator" not in answer


async def test_a_program_that_cannot_be_started_ends_its_connection(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    tools = [{"missing": {"command": "/no/such/program"}}]
    runner = work.acp(mcp_stdio=True)
    assert await work.run(runner, 'mcp ["true"]', tools=tools) == Outcome("COMPLETED")
    assert json.loads(work.recorder.text()) == {"missing": [None]}


@both_sandboxes
async def test_urls_that_a_shared_server_does_not_permit_are_excluded(
    tmp_path: Path, kind: Any
) -> None:
    async def names(host: str, _port: int) -> list[str]:
        return ["10.0.0.1" if host == "internal.example" else "1.1.1.1"]

    work = await bench(tmp_path, kind)
    policy = OutboundPolicy(allow=AllowList.parse("allowed.example:443"), resolver=names)
    runner = work.acp("mcp", outbound=policy)
    tools = [
        {host: {"url": f"https://{host}.example/mcp"}} for host in ("internal", "allowed", "public")
    ]
    await work.run(runner, "session", tools=tools)
    names_of_servers = [server["name"] for server in json.loads(work.recorder.text())["servers"]]
    if kind == "bubblewrap":
        assert names_of_servers == ["allowed", "public"]
        assert "is not reachable" in messages(work)["internal"]
    else:
        # An agent without a sandbox resolves names and follows redirects without restrictions.
        assert names_of_servers == ["allowed"]
        assert "without a sandbox" in messages(work)["public"]
