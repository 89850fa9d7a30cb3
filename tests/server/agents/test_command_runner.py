"""Goals that are executed by real programs."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from beray.events import (
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolResult,
)
from beray.server.runners.base import BudgetExceeded, Outcome, Usage
from beray.server.runners.shell import ShellRunner
from beray.server.sandbox.sandbox import Kind, Sandbox
from tests.server.agents.agent_bench import alive, bench, both_sandboxes, running, until
from tests.server.agents.recording import Recorder
from tests.support import PROMPT_SECONDS, descendants


def python(code: str, *arguments: str) -> str:
    """Return the command line of a Python program."""
    return shlex.join([sys.executable, "-c", code, *arguments])


@both_sandboxes
async def test_the_output_of_the_program_is_the_answer(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    goal = 'it\'s "$HOME" & `x`\n{model}'
    runner = work.command('/bin/sh -c \'printf "%s|" "$@"; pwd; echo oops >&2; cat\' sh -p {goal}')
    assert await work.run(runner, goal) == Outcome("COMPLETED")
    place = "/workspace" if kind == "bubblewrap" else str(work.work_dir)
    assert work.recorder.text() == f"-p|{goal}|{place}\n"
    assert work.recorder.text("stderr") == "oops\n"
    assert work.recorder.events[-1] == MsgEventEnd(tokens_used=0)
    assert work.recorder.usages == work.recorder.records == [Usage()]
    assert descendants() == []
    assert work.scratch == []


@both_sandboxes
async def test_a_goal_of_any_size_is_written_to_standard_input(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    assert await work.run(work.command("wc -c"), "x" * 1_000_000) == Outcome("COMPLETED")
    assert work.recorder.text().strip() == "1000000"


async def test_a_program_need_not_read_its_goal(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    outcome = await work.run(work.command("/bin/echo done"), "x" * 1_000_000)
    assert outcome == Outcome("COMPLETED")
    assert work.recorder.text() == "done\n"


async def test_a_goal_that_is_too_long_for_an_argument_is_reported(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    outcome = await work.run(work.command("/bin/echo {goal}"), "x" * 1_000_000)
    assert outcome == Outcome("FAILED", "agent")
    [(code, details)] = work.recorder.errors()
    assert code == "AGENT" and "too long" in details and "standard input" in details


async def test_text_is_logged_immediately(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    # The program continues only after the test has seen its first output.
    runner = work.command(
        "/bin/sh -c 'printf so; until [ -e go ]; do sleep 0.02; done; echo \" on\"'"
    )
    async with running(work.run(runner, "goal")) as task:
        await work.recorder.until(lambda recorder: recorder.text() == "so")
        (work.work_dir / "go").touch()
        assert await task == Outcome("COMPLETED")
    assert work.recorder.text() == "so on\n"


@both_sandboxes
async def test_lines_of_json_are_events_and_existing_files_are_sent(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    (tmp_path / "outside").write_text("secret")
    (work.work_dir / "link").symlink_to(tmp_path / "outside")
    place = "/workspace" if kind == "bubblewrap" else str(work.work_dir)
    update = {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": {"kind": "progress", "message": "m"}}
    sent = [
        "a.txt",
        f"{place}/sub/../a.txt",
        "link",
        "../outside",
        str(tmp_path / "outside"),
        "none",
    ]
    lines = [update, *({"type": "AGENT_EVENT_SEND_FILE", "path": path} for path in sent)]
    script = f"open('a.txt', 'w').close()\nprint('start')\nfor l in {lines!r}: print(__import__('json').dumps(l))"
    assert await work.run(work.command(python(script)), "g") == Outcome("COMPLETED")
    text = "".join(f"{json.dumps(line)}\n" for line in lines[3:])
    [first, *others] = work.recorder.events
    assert first == MsgEventTextChunk(text="start\n")
    assert others[0] == MsgEventCustomUpdate(payload=update["payload"])  # type: ignore[arg-type]
    assert others[1:3] == [MsgEventSendFile(path="a.txt")] * 2
    assert work.recorder.text() == f"start\n{text}"


async def test_the_end_is_emitted_once_with_the_reported_tokens(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    ends = [{"type": "AGENT_EVENT_END", "tokens_used": number} for number in (40, -5, 2)]
    script = (
        "\n".join(f"print({json.dumps(end)!r}, flush=True)" for end in ends) + "\nprint('more')"
    )
    assert await work.run(work.command(python(script)), "g") == Outcome("COMPLETED")
    assert work.recorder.events == [
        MsgEventTextChunk(text="more\n"),
        MsgEventEnd(tokens_used=42),
    ]
    assert work.recorder.usages[-1] == Usage(output_tokens=42)
    assert work.recorder.records == [Usage(output_tokens=42)]


@both_sandboxes
async def test_an_exit_status_is_a_reported_failure(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    outcome = await work.run(work.command("/bin/sh -c 'echo x; exit 7'"), "g")
    assert outcome == Outcome("FAILED", "exit_code")
    assert work.recorder.events[1:] == [
        MsgEventToolResult(tool_name="command", result={"exit_code": 7}, source="tools:command"),
        MsgEventEnd(tokens_used=0),
    ]


@both_sandboxes
async def test_a_program_that_is_not_installed_is_named(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    outcome = await work.run(work.command("/opt/none/no-such-agent -p {goal}"), "g")
    assert outcome == Outcome("FAILED", "agent")
    [(code, details)] = work.recorder.errors()
    assert code == "AGENT"
    assert "BERAY_COMMAND, 'no-such-agent', cannot be started: No such file" in details


async def test_a_setting_without_a_program_is_reported(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.command("'open"), "g") == Outcome("FAILED", "agent")
    assert "BERAY_COMMAND" in work.recorder.errors()[0][1]


async def test_an_exhausted_budget_prevents_the_run(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")

    def spent(usage: Usage) -> None:
        raise BudgetExceeded("all is spent")

    work.recorder = Recorder(spent)
    with pytest.raises(BudgetExceeded):
        await work.run(work.command("/usr/bin/touch begun {goal}"), "g")
    assert not (work.work_dir / "begun").exists()


async def test_a_budget_that_is_exhausted_during_the_run_ends_the_program(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    mark = f"94{os.getpid()}"

    def limited(usage: Usage) -> None:
        if usage.tokens > 100:
            raise BudgetExceeded("100 tokens")

    work.recorder = Recorder(limited)
    end = json.dumps({"type": "AGENT_EVENT_END", "tokens_used": 101})
    runner = work.command(shlex.join(["/bin/sh", "-c", f"echo '{end}'; sleep {mark}"]))
    with pytest.raises(BudgetExceeded, match="100 tokens"):
        await work.run(runner, "g")
    assert alive(mark) == []
    assert work.recorder.records == [Usage(output_tokens=101)]


@both_sandboxes
async def test_a_stop_ends_all_processes_of_the_program(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    child, away = f"92{os.getpid()}", f"93{os.getpid()}"
    script = (
        f"trap '' TERM; sleep {child} & (setsid sh -c 'trap \"\" TERM; exec sleep {away}' &) ; "
        "echo hanging; while :; do sleep 1; done"
    )
    runner = work.command(shlex.join(["/bin/sh", "-c", script]))
    # The program does not read standard input; pending input must not delay the stop.
    async with running(work.run(runner, "x" * 1_000_000)) as task:
        await work.recorder.until(lambda recorder: recorder.text() == "hanging\n")
        await until(lambda: len(alive(child, away)) == 2)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < PROMPT_SECONDS
    assert alive(child, away) == []
    assert descendants() == []
    assert work.scratch == []


async def test_background_processes_end_with_the_program(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    mark = f"91{os.getpid()}"
    runner = work.command(shlex.join(["/bin/sh", "-c", f"setsid sleep {mark} & echo done"]))
    assert await work.run(runner, "g") == Outcome("COMPLETED")
    assert alive(mark) == []


async def test_endless_output_waits_for_the_log(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    written = work.work_dir / "written"
    script = (
        "import os\nn = 0\n"
        "while True:\n"
        "    os.write(1, b'x' * 65536); n += 1\n"
        f"    open({str(written)!r}, 'w').write(str(n))"
    )
    seen: list[int] = []

    class Stuck(Recorder):
        async def emit(self, event: Any, count: int = 1) -> None:
            await super().emit(event, count)
            await asyncio.Event().wait()

    work.recorder = Stuck()
    async with running(work.run(work.command(python(script)), "g")):
        await work.recorder.until(lambda recorder: bool(recorder.events))

        def still() -> bool:
            seen.append(int(written.read_text() or 0) if written.exists() else -1)
            return len(seen) > 10 and len(set(seen[-10:])) == 1 and seen[-1] > 0

        await until(still)
    assert seen[-1] < 20  # the capacity of pipes and buffers, 64 KiB each
    assert descendants() == []


@both_sandboxes
async def test_a_shell_command_that_begins_with_a_dash_is_not_an_option_of_the_shell(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    runner = ShellRunner(sandbox=Sandbox(kind, settings=work.settings()))
    assert await work.run(runner, "!-x; echo next") == Outcome("COMPLETED")
    output = work.recorder.text("tools:shell")
    assert "-x" in output and output.endswith("next\n")


@both_sandboxes
async def test_the_result_of_a_shell_goal_names_background_processes_that_were_terminated(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    runner = ShellRunner(sandbox=Sandbox(kind, settings=work.settings()))
    goal = "!mkfifo up; sh -c 'echo >up; exec tail -f up' & cat up"
    assert await work.run(runner, goal) == Outcome("COMPLETED")
    [result] = work.recorder.results("shell")
    assert result["exit_code"] == 0
    assert result["terminated"] in (["tail"], ["sh"])  # before or after its exec
    assert descendants() == []
