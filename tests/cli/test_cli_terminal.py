"""The program with a user at a terminal, and in a pipe whose reader ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals are POSIX", allow_module_level=True)

from beray.client import BeRayClient
from tests.cli.cli_support import ScriptedServer, program, stream
from tests.cli.cli_terminal import Terminal

OBEYED = "\x1b]0;owned\x07\x1b[2J\x9b2J\x85\x7f\r\x08\u202e\u2066\u2028[/b]"
HOSTILE = OBEYED + "\ud800"
"""Control sequences, bidirectional controls, markup, and an unencodable character."""

SESSION = {"access_token": "t0", "token_type": "bearer", "user": {"id": 1, "email": "a@b"}}


def test_external_text_has_no_effect_on_the_terminal(
    scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("local").write_text("x")
    kinds: list[dict[str, Any]] = [
        {"type": "TASK_STATUS", "status": HOSTILE, "reason": HOSTILE},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": HOSTILE},
        {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": HOSTILE, "args_chunk": HOSTILE},
        {"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": HOSTILE, "result": {HOSTILE: HOSTILE}},
        {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": {HOSTILE: HOSTILE}},
        {"type": "AGENT_EVENT_SEND_FILE", "path": HOSTILE},
        {"type": "AGENT_EVENT_END", "tokens_used": HOSTILE},
        {"type": "ERROR", "code": HOSTILE, "details": HOSTILE},
        {"type": HOSTILE, "what": HOSTILE},
        {"type": "TASK_STATUS", "status": "COMPLETED", "reason": HOSTILE},
    ]
    events = [{"seq": seq, **event} for seq, event in enumerate(kinds, 1)]
    task = {"id": 1, "goal": HOSTILE, "status": HOSTILE, "reason": HOSTILE, "created_at": HOSTILE}
    item = {"name": HOSTILE, "path": HOSTILE, "type": "file", "size": 1, "modified_at": HOSTILE}
    fetched = {"name": OBEYED, "type": "file"}
    scripted.answers |= {
        "GET /tasks/": (200, [task]),
        "POST /tasks/": (200, task),
        "GET /tasks/1": (200, {**task, "events": events}),
        "GET /tasks/1/stream": stream(events),
        "GET /tasks/1/files/tree": [(200, [item]), (200, [fetched])],
        "GET /tasks/1/files/content": (200, HOSTILE.encode(errors="replace")),
        "PUT /tasks/1/files/content": (200, {"message": HOSTILE, "path": HOSTILE, "size": 1}),
        "POST /tasks/1/stop": (200, {"message": HOSTILE}),
        "DELETE /tasks/1": (200, {"status": "success", "message": HOSTILE}),
        "GET /tasks/2": (404, {"detail": HOSTILE}),
        "GET /tasks/3": (422, {"detail": [{"loc": ["query", HOSTILE], "msg": HOSTILE}]}),
        "GET /users/me": (200, {"id": 1, "email": HOSTILE}),
    }
    shown = [
        ["tasks"], ["show", "1"], ["watch", "1"], ["run", "x"], ["ls", "1"], ["cat", "1", "f"],
        ["get", "1", "f", "-o", "-"], ["put", "1", "local"], ["stop", "1"], ["rm", "1", "--yes"],
        ["show", "2"], ["show", "3"], ["whoami"], ["run", "x", "-o", "out"], [OBEYED],
        ["tasks", "--profile", OBEYED], ["put", "1", OBEYED],
    ]  # fmt: skip
    with Terminal(*shown, ["tasks", "--json"], ["rm", "1"], PYTHONUTF8="1") as terminal:
        terminal.expect("<begin 'rm'>")
        terminal.expect("<begin 'rm'>")
        terminal.expect("[y/N]")
        terminal.type("n\n")
        seen = terminal.end()
    assert "Traceback" not in seen
    assert "nothing was deleted" in seen
    # The terminal changes newlines to CRLF.
    allowed = re.sub("[\t\n]", "", seen.replace("\r\n", ""))
    obeyed = re.findall(
        "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", allowed
    )
    assert obeyed == []
    by_command = re.split("<begin .*>", seen)[1:]
    assert len(by_command) == len(shown) + 2
    assert all("[/b]" in part for part in by_command)


def test_ctrl_c_asks_whether_to_stop_the_task_or_only_to_stop_watching(
    account: BeRayClient,
) -> None:
    ids = [account.create_task("!echo started; sleep 600")["id"] for _ in range(3)]
    with Terminal(*(["watch", str(task_id)] for task_id in ids)) as terminal:
        terminal.expect("started")
        terminal.type("\x03")
        terminal.expect("[y/N]")
        terminal.type("y\n")
        terminal.expect("<exit 130>")
        *_, last = account.stream_task_updates(ids[0])
        assert last["status"] == "STOPPED"

        terminal.expect("started")
        terminal.type("\x03")
        terminal.expect("[y/N]")
        terminal.type("\n")
        shown = terminal.expect("<exit 130>")
        assert f"beray watch {ids[1]}" in shown
        assert account.get_task(ids[1])["status"] == "RUNNING"
        account.stop_task(ids[1])

        terminal.expect("started")
        terminal.type("\x03")
        terminal.expect("[y/N]")
        terminal.type("\x03")
        terminal.expect("<exit 130>")
        assert account.get_task(ids[2])["status"] == "RUNNING"
        account.stop_task(ids[2])
        assert "Traceback" not in terminal.end()


def test_without_a_terminal_ctrl_c_only_stops_watching(account: BeRayClient) -> None:
    task_id = account.create_task("!echo started; sleep 600")["id"]
    with subprocess.Popen(
        program("watch", str(task_id)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "started\n"
        watching.send_signal(signal.SIGINT)
        _, stderr = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"beray stop {task_id}" in stderr
    assert "Traceback" not in stderr
    assert account.get_task(task_id)["status"] == "RUNNING"
    account.stop_task(task_id)


def test_passwords_and_codes_are_not_echoed(scripted: ScriptedServer) -> None:
    scripted.answers |= {
        "POST /auth/request-verification-code": (200, {"message": "sent"}),
        "POST /auth/register": (200, SESSION),
        "POST /auth/login": (200, SESSION),
    }
    with Terminal(["register"], ["login"], ["login", "--json"]) as terminal:
        terminal.expect("E-mail:")
        terminal.type("a@b\n")
        for prompt, typed in [
            ("Code:", "135790"),
            ("Password:", "hidden words"),
            ("Password again:", "hidden wrods"),
            ("Password:", "hidden words"),
            ("Password again:", "hidden words"),
        ]:
            terminal.expect(prompt)
            terminal.type(f"{typed}\n")
        terminal.expect("<exit 0>")
        # The saved address is the default.
        terminal.expect("E-mail [a@b]:")
        terminal.type("\n")
        terminal.expect("Password:")
        terminal.type("hidden words\n")
        terminal.expect("<exit 0>")
        terminal.expect("E-mail [a@b]:")
        terminal.type("\x03")
        terminal.expect("<exit 130>")
        seen = terminal.end()
    assert "135790" not in seen
    assert "hidden" not in seen
    bodies = [json.loads(request.body) for request in scripted.requests]
    assert bodies[1]["verification_code"] == "135790"
    assert [body["password"] for body in bodies[1:]] == ["hidden words"] * 2
    assert [body["email"] for body in bodies] == ["a@b"] * 3


def test_on_a_terminal_lists_are_tables_and_rm_asks(scripted: ScriptedServer) -> None:
    tasks = [
        {"id": 9, "goal": "nine\nlines " + "x" * 200, "status": "FAILED", "reason": "user"},
        {
            "id": 10,
            "goal": "十",
            "status": "QUEUED",
            "held": True,
            "created_at": "2020-01-01T00:00:00Z",
        },
    ]
    items = [
        {"name": "a", "path": "sub", "type": "directory", "size": 0},
        {"name": "b", "path": "sub/b", "type": "file", "size": 1234, "modified_at": "2020"},
    ]
    scripted.answers |= {
        "GET /tasks/": (200, tasks),
        "GET /tasks/9": (200, tasks[0]),
        "GET /tasks/9/files/tree": (200, items),
        "DELETE /tasks/9": (200, {"status": "success", "message": "gone"}),
    }
    with Terminal(["tasks"], ["ls", "9"], ["rm", "9"]) as terminal:
        terminal.expect("<begin 'tasks'>\r\n")
        table = terminal.expect("<exit 0>").split("\r\n")
        terminal.expect("<begin 'ls'>\r\n")
        listing = terminal.expect("<exit 0>").split("\r\n")
        terminal.expect("[y/N]")
        assert "DELETE /tasks/9" not in scripted.calls()
        terminal.type("y\n")
        assert "gone" in terminal.expect("<exit 0>")
    assert table[0] == "ID  STATUS         AGE    GOAL"
    assert re.fullmatch(r"10  QUEUED \(held\)  \d{4}d  十", table[1])
    assert table[2].startswith("9   FAILED (user)         nine lines xxx")
    assert table[2].endswith("x…")
    assert len(table[2]) == 100
    assert listing[:2] == ["d              sub", "-  1234  2020  sub/b"]
    assert scripted.calls()[-1] == "DELETE /tasks/9"


def test_a_reader_that_ends_is_not_reported(scripted: ScriptedServer) -> None:
    task = {"id": 1, "goal": "x" * 1000, "status": "RUNNING"}
    scripted.answers["GET /tasks/"] = 200, [task] * 500
    with subprocess.Popen(
        program("tasks"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.readline()
        listing.stdout.close()
        stderr = listing.stderr.read()
    assert stderr == b""
    assert listing.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
def test_a_full_disk_is_reported_in_one_line(scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/"] = 200, [{"id": 1, "goal": "x", "status": "RUNNING"}]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program("tasks"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("beray: ")
