"""Interoperability with agents that use the package ``agent-client-protocol``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from beray.server.runners.base import Outcome, Usage
from beray.server.sandbox.sandbox import Kind
from tests.server.agents.agent_bench import HERE, Bench, bench, both_sandboxes
from tests.support import descendants

COMMAND = shlex.join([sys.executable, str(HERE / "packaged_agent.py")])
TOOLS = [{"web": {"url": "https://mcp.example/x"}}, {"local": {"command": "/bin/mcp"}}]


@both_sandboxes
async def test_every_request_and_update_of_an_agent(tmp_path: Path, kind: Kind) -> None:
    work: Bench = await bench(tmp_path, kind)
    (work.work_dir / "in.txt").write_text("1\n2\n3\n")
    runner = work.acp(acp=COMMAND, mcp_stdio=True)
    outcome = await work.run(runner, "grüße 世界", tools=TOOLS)
    assert outcome == Outcome("COMPLETED"), work.recorder.errors()
    cwd = "/workspace" if kind == "bubblewrap" else str(work.work_dir)
    responses = json.loads(work.recorder.text())
    assert "outside the work_dir" in responses.pop("refused")
    assert responses == {
        "goal": "grüße 世界",
        "cwd": cwd,
        "can": [True, True, True],
        "servers": [["HttpMcpServer", "web"], ["McpServerStdio", "local"]],
        "outcome": "once",
        "read": "2\n",
        "exit_code": 3,
        "output": "b\n",
        "signal": "SIGKILL",
    }
    assert (work.work_dir / "out.txt").read_text() == "written"
    assert work.recorder.text("thinking") == "hm"
    [plan] = work.recorder.payloads("plan")
    assert plan["entries"] == [{"content": "look", "priority": "medium", "status": "completed"}]
    assert work.recorder.calls() == [("Edit in.txt", '{"path": "in.txt"}')]
    [result] = work.recorder.results("Edit in.txt")
    assert result["content"] == [{"diff": {"path": "out.txt", "new_text": "written"}}]
    assert work.recorder.records == [Usage(input_tokens=10, output_tokens=2)]
    assert descendants() == []


async def test_an_error_response_is_reported_with_its_message(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(acp=COMMAND), "refuse") == Outcome("FAILED", "agent")
    [(code, details)] = work.recorder.errors()
    assert code == "AGENT"
    assert 'rejected session/prompt: no quota: {"details": "quota"}' in details
