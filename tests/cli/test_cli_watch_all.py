"""beray watch --all."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from beray.client import BeRayClient
from tests.cli.cli_support import Command, ScriptedServer, program, stream
from tests.cli.cli_terminal import Terminal
from tests.support import done


def task(number: int, status: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "goal": f"goal {number}", "status": status, **more}


def change(seq: int, number: int, status: str, **more: Any) -> dict[str, Any]:
    fields = {"seq": seq, "task_id": number, "created_at": "T", "type": "TASK_STATUS"}
    return {**fields, "status": status, "task": task(number, status), **more}


UPDATES: list[dict[str, Any]] = [
    {"seq": 7, "type": "TASKS", "tasks": [task(2, "RUNNING"), task(1, "COMPLETED")]},
    {"task_id": 2, "created_at": "T", "type": "TASK_PROGRESS", "last_seq": 3, "last_line": "half"},
    change(8, 2, "FAILED", reason="exit_code"),
    {"seq": 9, "task_id": 1, "created_at": "T", "type": "TASK_DELETED"},
    {"seq": 10, "type": "OF_A_LATER_VERSION"},
]


def test_each_change_is_a_tab_separated_row_in_a_pipe(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/stream"] = [stream(UPDATES), (404, {"detail": "nothing"})]
    outcome = beray("watch", "--all")
    assert outcome.status == 1
    assert [line.split("\t") for line in outcome.out.splitlines()] == [
        ["", "2", "RUNNING", "goal 2"],
        ["T", "2", "", "| half"],
        ["T", "2", "FAILED (exit_code)", "goal 2"],
        ["T", "1", "deleted", ""],
    ]


def test_json_has_every_update_unchanged(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/stream"] = [stream(UPDATES), (404, {"detail": "nothing"})]
    assert beray("watch", "--all", "--json").json == UPDATES


def test_a_server_without_the_stream_is_reported(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/stream"] = (422, {"detail": "no such task: stream"})
    outcome = beray("watch", "-a")
    assert (outcome.status, outcome.out) == (1, "")
    assert "no such task: stream" in outcome.err


def test_one_task_or_all_of_them(beray: Command, scripted: ScriptedServer) -> None:
    for argv in (["watch"], ["watch", "1", "--all"]):
        outcome = beray(*argv)
        assert outcome.status == 2
        assert "--all" in outcome.err


def test_it_continues_until_ctrl_c(account: BeRayClient) -> None:
    watching = subprocess.Popen(
        program("watch", "--all", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["type"] == "TASKS"
        task_id = done(account, "!echo hello")[0]["task_id"]
        updates: list[Any] = []
        while not updates or updates[-1].get("status") != "COMPLETED":
            updates.append(json.loads(watching.stdout.readline()))
        watching.send_signal(signal.SIGINT)
        _, stderr = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert "Traceback" not in stderr
    assert {update["task_id"] for update in updates} == {task_id}


def test_external_text_has_no_effect_on_the_terminal(scripted: ScriptedServer) -> None:
    hostile = "\x1b]0;EVIL\x07\x1b[2J\x9b31m\u202e[/b]"
    updates = [
        {"seq": 7, "type": "TASKS", "tasks": [task(2, hostile, reason=hostile, goal=hostile)]},
        {"task_id": 2, "type": "TASK_PROGRESS", "last_seq": 3, "last_line": hostile},
        change(8, 2, hostile, reason=hostile, created_at=hostile),
    ]
    scripted.answers["GET /tasks/stream"] = [stream(updates), (404, {"detail": hostile})]
    with Terminal(["watch", "--all"], PYTHONUTF8="1") as terminal:
        terminal.expect("<exit 1>")
        seen = terminal.end()
    assert seen.count("[/b]") >= 4
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(seen)
