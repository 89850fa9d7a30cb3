"""Agents that fail, misbehave or are stopped."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

import pytest

from beray.events import MsgError, MsgEventEnd
from beray.server.runners.base import Outcome
from beray.server.sandbox.sandbox import Kind
from tests.server.agents.agent_bench import Bench, alive, bench, both_sandboxes, running, until
from tests.support import PROMPT_SECONDS, descendants

FAILED = Outcome("FAILED", "agent")


def error_of(work: Bench) -> str:
    """Return the details of the only error."""
    [(code, details)] = work.recorder.errors()
    assert code == "AGENT"
    assert str(work.data_dir) not in details
    return details


@both_sandboxes
async def test_an_agent_that_is_not_installed_is_named(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    runner = work.acp(acp="/opt/none/no-such-agent --acp")
    assert await work.run(runner, "hello") == FAILED
    details = error_of(work)
    assert "BERAY_ACP" in details and "'no-such-agent'" in details
    assert "cannot be started: No such file or directory" in details


@pytest.mark.parametrize("command", ["", "'unclosed"])
async def test_an_invalid_command_line_is_reported(tmp_path: Path, command: str) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(acp=command), "hello") == FAILED
    assert "BERAY_ACP" in error_of(work)


@both_sandboxes
async def test_an_agent_that_exits_at_once_is_reported_with_its_last_output(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    assert await work.run(work.acp("dies"), "hello") == FAILED
    details = error_of(work)
    assert "exited without finishing its answer (exit status 3)" in details
    assert details.endswith("no licence")


@both_sandboxes
async def test_an_agent_that_exits_during_its_answer_fails_and_its_text_is_kept(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    assert await work.run(work.acp(), "die 7") == FAILED
    assert work.recorder.text() == "so far"
    assert "(exit status 7)" in error_of(work)
    assert [type(event) for event in work.recorder.events[-2:]] == [MsgError, MsgEventEnd]


async def test_lines_that_are_not_messages_are_ignored(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp("garbage"), "hello") == Outcome("COMPLETED")
    odd = [
        "not json",
        "[1, 2]",
        '{"jsonrpc": "2.0", "id": {"a": 1}, "result": 1}',
        '{"jsonrpc": "2.0", "id": 999, "result": 1}',
        '{"jsonrpc": "2.0", "method": 5}',
        '{"jsonrpc": "2.0", "id": 998, "error": "text"}',
        '{"jsonrpc": "2.0", "method": "session/update", "params": [1]}',
        '{"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": NaN}',
        "[" * 100_000,
        "\\u0000",
    ]
    assert await work.run(work.acp(), f"raw {json.dumps(odd)}") == Outcome("COMPLETED")
    assert work.recorder.text() == "hellobefore"


@pytest.mark.parametrize(
    ("mode", "goal", "words"),
    [
        ("huge", "hello", "more than 16 MiB"),
        ("", f"huge {100 * 1024**2}", "more than 16 MiB"),
        ("only-garbage", "hello", "does not conform to the Agent Client Protocol"),
        ("", f"noise {4 * 1024**2}", "does not conform to the Agent Client Protocol"),
    ],
)
async def test_endless_output_is_an_error_and_not_buffered(
    tmp_path: Path, mode: str, goal: str, words: str
) -> None:
    work = await bench(tmp_path, "none")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await work.run(work.acp(mode), goal) == FAILED
    assert words in error_of(work)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB
    assert descendants() == []


async def test_too_many_pending_waits_end_the_run(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(), "flood_of_requests") == FAILED
    assert "more than 256 pending requests" in error_of(work)
    assert descendants() == []


async def test_any_number_of_concurrent_requests_is_answered(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    (work.work_dir / "a").write_text("x" * 100_000)
    goal = f"many_reads {json.dumps({'path': f'{work.work_dir}/a', 'count': 300})}"
    assert await work.run(work.acp(), goal) == Outcome("COMPLETED")
    assert work.recorder.text() == str(300 * 100_000)


async def test_an_agent_that_reads_no_responses_does_not_fill_memory(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    (work.work_dir / "a").write_text("x" * 1024**2)
    agent = f"""
import json, sys, time
for id, result in ((0, {{"protocolVersion": 1}}), (1, {{"sessionId": "s"}})):
    sys.stdin.readline()
    print(json.dumps({{"jsonrpc": "2.0", "id": id, "result": result}}), flush=True)
request = {{"method": "fs/read_text_file", "params": {{"sessionId": "s", "path": {f"{work.work_dir}/a"!r}}}}}
for id in range(100000):
    print(json.dumps({{"jsonrpc": "2.0", "id": id, **request}}), flush=True)
    open("asked", "w").write(str(id))
"""
    (work.work_dir / "agent.py").write_text(agent)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = ["", ""]

    def still() -> bool:
        note = work.work_dir / "asked"
        seen.append(note.read_text() if note.exists() else "")
        return len(seen) > 20 and seen[-1] != "" and len(set(seen[-20:])) == 1

    async with running(work.run(work.acp(acp=f"{sys.executable} agent.py"), "goal")):
        await until(still)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 * 1024  # KiB
    assert descendants() == []


async def test_concurrent_requests_with_the_same_id_end_the_run(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    request = {"jsonrpc": "2.0", "id": "a", "method": "fs/read_text_file", "params": {}}
    # In one write, so that the second is read before the first is answered.
    goal = f"raw_and_wait {json.dumps([chr(10).join([json.dumps(request)] * 2)])}"
    assert await work.run(work.acp(), goal) == FAILED
    assert "two concurrent requests with the same id" in error_of(work)


async def test_initialization_has_a_timeout(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp("silent", seconds=0.5), "hello") == FAILED
    assert "did not respond to initialize within 0.5 s" in error_of(work)
    assert descendants() == []


async def test_a_required_sign_in_is_reported_with_the_next_step(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp("auth"), "hello") == FAILED
    details = error_of(work)
    for words in ("Sign in to that program once", "BERAY_AGENT_ENV", "Sign in with a browser"):
        assert words in details


async def test_another_version_of_the_protocol_is_an_error(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp("version"), "hello") == FAILED
    assert "uses version 99" in error_of(work)


async def test_an_error_response_is_reported_with_its_message(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(), 'refuse "no quota"') == FAILED
    assert 'rejected session/prompt: no quota: {"details": "quota"}' in error_of(work)


async def test_a_program_that_is_not_an_agent_is_an_error(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    talk = f"{sys.executable} -c 'print(\"usage: tool [-h]\")'"
    assert await work.run(work.acp(acp=talk), "hello") == FAILED
    assert "usage: tool [-h]" in error_of(work)


@both_sandboxes
async def test_a_stop_ends_all_processes_of_an_agent_that_ignores_it(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    marks = {
        name: f"9{number}{os.getpid()}" for number, name in enumerate(["child", "away", "terminal"])
    }
    async with running(work.run(work.acp(), f"hang {json.dumps(marks)}")) as task:
        await work.recorder.until(lambda recorder: recorder.text() == "hanging")
        await until(lambda: len(alive(*marks.values())) == 3)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < PROMPT_SECONDS
    assert alive(*marks.values()) == []
    assert descendants() == []
    assert len(work.recorder.records) == 1
    assert work.scratch == []


async def test_the_agent_is_notified_of_a_stop(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    note = work.work_dir / "stopped"
    # The agent saves its input. The cancellation is in its pipe before it is killed.
    spy = f"""
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["method"] == "session/cancel":
        # Written atomically, because the agent may be killed while it writes.
        open("note.part", "w").write(line)
        os.replace("note.part", {str(note)!r})
    result = {{"protocolVersion": 1}} if request["method"] == "initialize" else {{"sessionId": "s9"}}
    if request["method"] != "session/prompt":
        print(json.dumps({{"jsonrpc": "2.0", "id": request.get("id"), "result": result}}), flush=True)
    else:
        open({str(tmp_path / "prompted")!r}, "w").close()
"""
    (work.work_dir / "spy.py").write_text(spy)
    seen = False
    for _ in range(20):
        (tmp_path / "prompted").unlink(missing_ok=True)
        async with running(work.run(work.acp(acp=f"{sys.executable} spy.py"), "goal")) as task:
            await until((tmp_path / "prompted").exists)
            task.cancel()
            await asyncio.wait([task])
        # The agent is killed at once and may not have read its input.
        if seen := note.exists():
            break
    assert seen
    assert json.loads(note.read_text())["params"] == {"sessionId": "s9"}
