"""Requests of ACP agents: permissions, files, terminals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from beray.events import MsgEventTextChunk
from beray.server.runners.base import Outcome
from beray.server.sandbox.sandbox import Kind
from beray.transfers.wire_names import ANY_BYTES
from tests.network_support import needs_own_network
from tests.server.agents.agent_bench import Bench, alive, bench, both_sandboxes, running
from tests.support import descendants

ONCE = {"outcome": "selected", "optionId": "once"}
NO = {"outcome": "selected", "optionId": "no"}


async def permission(work: Bench, call: dict[str, Any], **settings: Any) -> tuple[Any, bool]:
    """Return the outcome of a permission request, and whether the log shows it as allowed."""
    call = {"title": "Do it", **call}
    assert await work.run(work.acp(**settings), f"ask {json.dumps(call)}") == Outcome("COMPLETED")
    outcome = json.loads(work.recorder.text())
    outcome.pop("_meta", None)
    [payload] = work.recorder.payloads("permission")
    assert "Do it" in payload["message"]
    assert payload["call_id"] == "t1"
    return outcome, payload["allowed"]


async def test_allow_permits_once(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    call = {"kind": "other", "locations": [{"path": "/etc/passwd"}]}
    assert await permission(work, call, acp_permissions="allow") == (ONCE, True)


async def test_deny_rejects_every_request(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await permission(work, {"kind": "think"}, acp_permissions="deny") == (NO, False)


@pytest.mark.parametrize(
    ("policy", "kind", "chosen", "allowed"),
    [
        ("allow", "allow_always", "x", True),
        ("allow", "reject_once", None, False),
        ("deny", "allow_once", None, False),
        ("deny", "reject_always", "x", False),
        ("work_dir", "allow_always", None, False),
    ],
)
async def test_the_request_is_cancelled_without_a_matching_option(
    tmp_path: Path, policy: str, kind: str, chosen: str | None, allowed: bool
) -> None:
    work = await bench(tmp_path, "none")
    call = {"kind": "think", "options": [{"optionId": "x", "name": "X", "kind": kind}]}
    expected = {"outcome": "selected", "optionId": chosen} if chosen else {"outcome": "cancelled"}
    assert await permission(work, call, acp_permissions=policy) == (expected, allowed)


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ({"kind": "edit", "locations": [{"path": "{work}/a"}]}, True),
        ({"kind": "edit", "locations": [{"path": "{work}/a"}, {"path": "/etc/b"}]}, False),
        ({"kind": "edit", "locations": [{"path": "{work}/../a"}]}, False),
        ({"kind": "edit", "locations": [{"path": "{work}x/a"}]}, False),
        ({"kind": "edit", "content": [{"type": "diff", "path": "/x", "newText": ""}]}, False),
        ({"kind": "edit", "rawInput": {"content": "/x", "file_path": "a/b"}}, True),
        ({"kind": "edit", "rawInput": {"edits": [{"filePath": "../b"}]}}, False),
        ({"kind": "edit"}, False),
        ({"kind": "read", "locations": [{"path": "{work}/link/passwd"}]}, False),
        ({"kind": "search"}, True),
        ({"kind": "search", "rawInput": {"path": "/"}}, False),
        ({"kind": "think"}, True),
        ({"kind": "execute", "rawInput": {"command": "ls"}}, False),
        ({"kind": "fetch"}, True),
        ({"kind": "other", "locations": [{"path": "{work}/a"}]}, False),
        ({"locations": [{"path": "{work}/a"}]}, False),
    ],
)
async def test_work_dir_permits_calls_inside_the_work_dir(
    tmp_path: Path, call: dict[str, Any], allowed: bool
) -> None:
    work = await bench(tmp_path, "none")
    (work.work_dir / "link").symlink_to("/etc")
    call = json.loads(json.dumps(call).replace("{work}", str(work.work_dir)))
    assert await permission(work, call) == (ONCE if allowed else NO, allowed)


async def test_work_dir_permits_commands_in_bubblewrap(tmp_path: Path) -> None:
    work = await bench(tmp_path, "bubblewrap")
    assert await permission(work, {"kind": "execute"}) == (ONCE, True)


async def test_work_dir_accepts_the_path_inside_the_sandbox(tmp_path: Path) -> None:
    work = await bench(tmp_path, "bubblewrap")
    call = {"kind": "delete", "locations": [{"path": "/workspace/a"}]}
    assert await permission(work, call) == (ONCE, True)


async def test_work_dir_rejects_fetching_without_network(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await permission(work, {"kind": "fetch"}, agent_network=False) == (NO, False)


async def test_a_permission_request_is_combined_with_earlier_updates_of_its_call(
    tmp_path: Path,
) -> None:
    work = await bench(tmp_path, "none")
    update = {"sessionUpdate": "tool_call", "toolCallId": "t1", "title": "Write", "kind": "edit"}
    known = {**update, "locations": [{"path": "/etc/x"}]}
    update_line = {
        "jsonrpc": "2.0",
        "method": "session/update",
        "params": {"sessionId": "s", "update": known},
    }
    ask = {
        "jsonrpc": "2.0",
        "id": "r1",
        "method": "session/request_permission",
        "params": {
            "sessionId": "s",
            "toolCall": {"toolCallId": "t1"},
            "options": [{"optionId": "once", "name": "", "kind": "allow_once"}],
            "_meta": {"tool_call": {"kind": "think"}},
        },
    }
    lines = [json.dumps(line) for line in (update_line, ask)]
    async with running(work.run(work.acp(), f"raw_and_wait {json.dumps(lines)}")):
        await work.recorder.until(lambda recorder: bool(recorder.payloads("permission")))
    [payload] = work.recorder.payloads("permission")
    assert payload["allowed"] is False
    assert payload["message"] == "Denied: Write (it is outside the work_dir)"


async def answers(work: Bench, calls: list[list[Any]], **options: Any) -> list[Any]:
    """Return the responses to the agent's requests; ``options`` are fields of the job."""
    outcome = await work.run(work.acp(), f"calls {json.dumps(calls)}", **options)
    assert outcome == Outcome("COMPLETED"), work.recorder.errors()
    return list(json.loads(work.recorder.text()))


@both_sandboxes
async def test_files_are_read_and_written_in_the_work_dir(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    (work.work_dir / "in.txt").write_text("1\n2\n3\n4\n")
    base = "/workspace" if kind == "bubblewrap" else str(work.work_dir)
    read = "fs/read_text_file"
    got = await answers(
        work,
        [
            [read, {"path": f"{base}/in.txt"}],
            [read, {"path": f"{base}/in.txt", "line": 2, "limit": 2}],
            [read, {"path": f"{base}/x/../in.txt", "line": 4}],
            [read, {"path": f"{base}/in.txt", "line": 9, "limit": 2}],
            [read, {"path": f"{work.work_dir}/in.txt", "limit": 1}],
            ["fs/write_text_file", {"path": f"{base}/new/out.txt", "content": "grüße"}],
            ["fs/write_text_file", {"path": f"{base}/in.txt", "content": ""}],
        ],
    )
    contents = [answer.get("content") for answer in got[:5]]
    assert contents == ["1\n2\n3\n4\n", "2\n3\n", "4\n", "", "1\n"]
    assert (work.work_dir / "new/out.txt").read_text() == "grüße"
    assert (work.work_dir / "in.txt").read_text() == ""


async def test_a_written_file_keeps_its_mode(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    script = work.work_dir / "run.sh"
    script.write_text("old")
    script.chmod(0o4755)
    write = "fs/write_text_file"
    await answers(
        work,
        [
            [write, {"path": str(script), "content": "new"}],
            [write, {"path": str(work.work_dir / "a" / "b"), "content": "new"}],
        ],
    )
    assert script.read_text() == "new"
    modes = [(work.work_dir / name).stat().st_mode & 0o7777 for name in ("run.sh", "a", "a/b")]
    assert modes == [0o755, 0o755, 0o644]


async def test_secrets_of_the_server_in_written_files_are_not_redacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "production")
    work = await bench(tmp_path, "none")
    path = work.work_dir / "notes.txt"
    write = ["fs/write_text_file", {"path": str(path), "content": "production\n"}]
    await answers(work, [write])
    assert path.read_text() == "production\n"


async def test_files_outside_and_through_links_are_rejected(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    base = work.work_dir
    (base / "link").symlink_to(secret)
    (base / "up").symlink_to(tmp_path)
    (base / "binary").write_bytes(b"\xff\xfe")
    (base / "large").write_bytes(b"x" * (9 * 1024 * 1024))
    os.mkfifo(base / "fifo")
    read, write = "fs/read_text_file", "fs/write_text_file"
    calls: list[list[Any]] = [
        [read, {"path": str(secret)}],
        [read, {"path": f"{base}/../secret"}],
        [read, {"path": f"{base}/link"}],
        [read, {"path": f"{base}/up/secret"}],
        [read, {"path": "in.txt"}],
        [read, {"path": f"{base}/binary"}],
        [read, {"path": f"{base}/large"}],
        [read, {"path": f"{base}/large", "limit": 1}],
        [read, {"path": f"{base}/fifo"}],
        [read, {"path": f"{base}"}],
        [read, {"path": f"{base}/none"}],
        [write, {"path": f"{base}/link", "content": "x"}],
        [write, {"path": f"{base}/up/new", "content": "x"}],
        [write, {"path": str(tmp_path / "new"), "content": "x"}],
        [write, {"path": 5, "content": "x"}],
    ]
    got = await answers(work, calls)
    assert all("refused" in answer for answer in got), got
    assert "outside the work_dir" in got[0]["refused"]
    assert got[10]["code"] == -32002
    assert secret.read_text() == "secret"
    assert not (tmp_path / "new").exists()


@both_sandboxes
async def test_a_terminal_runs_a_command_to_its_end(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    (work.work_dir / "sub dir").mkdir()
    base = "/workspace" if kind == "bubblewrap" else str(work.work_dir)
    name = {"terminalId": "terminal-1"}
    script = "pwd; echo $A; printf 'h\\303\\251llo'; exit 3"
    got = await answers(
        work,
        [
            [
                "terminal/create",
                {
                    "command": "sh",
                    "args": ["-c", script],
                    "cwd": f"{base}/sub dir",
                    "env": [{"name": "A", "value": "$(b)"}],
                },
            ],
            ["terminal/wait_for_exit", name],
            ["terminal/output", name],
            ["terminal/release", name],
            ["terminal/output", name],
            ["terminal/create", {"command": "echo one line | tr a-z A-Z"}],
            ["terminal/wait_for_exit", {"terminalId": "terminal-2"}],
            ["terminal/output", {"terminalId": "terminal-2"}],
        ],
    )
    assert got[0] == {"terminalId": "terminal-1"}
    assert got[1]["exitCode"] == 3
    expected = f"{base}/sub dir\n$(b)\nhéllo"
    assert got[2] == {"output": expected, "truncated": False, "exitStatus": {"exitCode": 3}}
    assert "does not exist or was released" in got[4]["refused"]
    assert got[7]["output"] == "ONE LINE\n"
    assert work.recorder.text("tools:terminal") == f"{expected}ONE LINE\n"
    assert descendants() == []


@both_sandboxes
async def test_a_terminal_names_the_background_processes_that_were_terminated(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    name = {"terminalId": "terminal-1"}
    leave = "mkfifo up; sh -c 'echo >up; exec sleep 976' & cat up; printf x"
    got = await answers(
        work,
        [
            ["terminal/create", {"command": leave}],
            ["terminal/wait_for_exit", name],
            ["terminal/output", name],
        ],
    )
    assert got[1]["exitCode"] == 0
    output = got[2]["output"]
    assert output.startswith("\nx\n[1 background process was terminated when the command returned")
    assert work.recorder.text("tools:terminal") == output
    chunks = [event.model_dump() for event in work.recorder.of(MsgEventTextChunk)]
    output = [chunk for chunk in chunks if chunk["source"] == "tools:terminal"]
    assert {chunk["call_id"] for chunk in output} == {"terminal-1"}
    assert descendants() == []


async def test_the_result_of_a_tool_call_contains_its_terminals_output(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    call = {
        "sessionUpdate": "tool_call",
        "toolCallId": "t",
        "title": "sh",
        "status": "completed",
        "content": [{"type": "terminal", "terminalId": "terminal-1"}],
    }
    name = {"terminalId": "terminal-1"}
    await answers(
        work,
        [
            ["terminal/create", {"command": "echo", "args": ["hi"]}],
            ["terminal/wait_for_exit", name],
            ["terminal/release", name],
            ["_update", call],
        ],
    )
    terminal = {"command": "echo hi", "output": "hi\n", "exit_code": 0}
    expected = {"status": "completed", "content": [{"terminal": terminal}]}
    assert work.recorder.results("sh") == [expected]


async def test_only_the_end_of_a_terminals_output_is_kept(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    name = {"terminalId": "terminal-1"}
    loud = "i=0; while [ $i -lt 4000 ]; do echo é$i; i=$((i+1)); done"
    made = {"command": loud, "outputByteLimit": 10}
    got = await answers(
        work,
        [
            ["terminal/create", made],
            ["terminal/wait_for_exit", name],
            ["terminal/output", name],
        ],
    )
    assert got[2]["truncated"] is True
    assert got[2]["output"] == "98\né3999\n"


@both_sandboxes
async def test_a_killed_terminal_leaves_no_process_and_can_still_be_read(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    mark, open_mark = f"96{os.getpid()}", f"97{os.getpid()}"
    name = {"terminalId": "terminal-1"}
    got = await answers(
        work,
        [
            ["terminal/create", {"command": f"echo on; setsid sleep {mark} & wait"}],
            ["_until_output", name],
            ["terminal/output", name],
            ["terminal/kill", name],
            ["terminal/wait_for_exit", name],
            ["terminal/output", name],
            # This terminal is closed at the end of the run.
            ["terminal/create", {"command": f"setsid sleep {open_mark} & wait"}],
        ],
    )
    assert got[1] == {"output": "on\n", "truncated": False}
    assert got[3] == {"signal": "SIGKILL"}
    assert got[4] == {"output": "on\n", "truncated": False, "exitStatus": {"signal": "SIGKILL"}}
    assert alive(mark, open_mark) == []
    assert descendants() == []


async def test_invalid_terminal_requests_are_rejected(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    got = await answers(
        work,
        [
            ["terminal/create", {"command": "ls", "cwd": "/etc"}],
            ["terminal/create", {"command": "ls", "env": [{"name": "A=B", "value": "x"}]}],
            ["terminal/create", {"command": "ls\0"}],
            *[["terminal/create", {"command": "sleep 60"}]] * 33,
            ["terminal/output", {"terminalId": "terminal-99"}],
            ["no/such", {}],
        ],
    )
    assert all("refused" in answer for answer in [*got[:3], *got[-3:]]), got
    assert all("terminalId" in answer for answer in got[3:-3])
    assert descendants() == []


@needs_own_network
@pytest.mark.parametrize("network", [True, False])
async def test_a_terminal_has_the_network_that_its_task_has(tmp_path: Path, network: bool) -> None:
    work = await bench(tmp_path, "bubblewrap")
    name = {"terminalId": "terminal-1"}
    got = await answers(
        work,
        [
            ["terminal/create", {"command": "cat /proc/net/route"}],
            ["terminal/wait_for_exit", name],
            ["terminal/output", name],
        ],
        network=network,
    )
    assert ("tap0" in got[2]["output"]) is network


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
@both_sandboxes
async def test_names_that_are_not_utf8_are_accepted_in_both_encodings(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    folder = work.work_dir / os.fsdecode(b"d\xff")
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9")).write_text("in")
    base = "/workspace" if kind == "bubblewrap" else str(work.work_dir)
    got = await answers(
        work,
        [
            ["fs/read_text_file", {"path": f"{base}/d␦FF/caf␦E9"}],
            ["fs/read_text_file", {"path": f"{base}/d\udcff/caf\udce9"}],
            ["fs/write_text_file", {"path": f"{base}/d␦FF/new␦FE", "content": "out"}],
            [
                "terminal/create",
                {"command": "sh", "args": ["-c", "cat new*"], "cwd": f"{base}/d␦FF"},
            ],
            ["terminal/wait_for_exit", {"terminalId": "terminal-1"}],
            ["terminal/output", {"terminalId": "terminal-1"}],
        ],
    )
    assert [answer.get("content") for answer in got[:2]] == ["in", "in"]
    assert (folder / os.fsdecode(b"new\xfe")).read_text() == "out"
    assert got[5]["output"] == "out"


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
async def test_a_link_with_such_a_name_does_not_leave_the_work_dir(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    (work.work_dir / os.fsdecode(b"link\xff")).symlink_to("/etc")
    call = {"kind": "edit", "locations": [{"path": f"{work.work_dir}/link␦FF/passwd"}]}
    assert await permission(work, call) == (NO, False)
