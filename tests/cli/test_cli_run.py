"""beray run and beray watch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beray.client import BeRayClient
from tests.cli.cli_support import Command, ScriptedServer, stream

CREATED = (200, {"id": 1, "goal": "x", "status": "QUEUED"})
HELD = (200, {"id": 1, "goal": "x", "status": "QUEUED", "held": True})


def event(seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "task_id": 1, "type": kind, **fields}


def text(seq: int, words: str) -> dict[str, Any]:
    return event(seq, "AGENT_EVENT_TEXT_CHUNK", text=words)


def ended(seq: int, status: str = "COMPLETED") -> dict[str, Any]:
    return event(seq, "TASK_STATUS", status=status)


def test_stdout_has_the_output_and_nothing_else(beray: Command, account: BeRayClient) -> None:
    outcome = beray("run", "!echo one; echo two >&2; printf end")
    assert outcome.status == 0
    assert sorted(outcome.out.split("\n")) == ["end", "one", "two"]
    assert "COMPLETED" in outcome.err
    assert "one" not in outcome.err


def test_a_task_that_fails_gives_status_1(beray: Command, account: BeRayClient) -> None:
    outcome = beray("run", "!exit 3")
    assert outcome.status == 1
    assert "FAILED" in outcome.err
    assert "3" in outcome.err


def test_a_goal_without_a_model_gives_status_1_and_names_the_setting(
    beray: Command, account: BeRayClient
) -> None:
    outcome = beray("run", "write a poem")
    assert outcome.status == 1
    assert outcome.out == ""
    assert "NO_MODEL" in outcome.err


def test_json_gives_each_event_on_a_line(beray: Command, account: BeRayClient) -> None:
    outcome = beray("run", "!echo hello", "--json")
    assert outcome.status == 0
    assert [event["seq"] for event in outcome.json] == list(range(1, len(outcome.json) + 1))
    assert outcome.json[-1]["status"] == "COMPLETED"
    assert "hello\n" in [event.get("text") for event in outcome.json]


def test_detach_gives_the_id_and_watch_replays(beray: Command, account: BeRayClient) -> None:
    task_id = beray("run", "!echo hello; exit 1", "--detach").out.strip()
    assert account.get_task(int(task_id))["goal"] == "!echo hello; exit 1"
    for _ in range(2):
        outcome = beray("watch", task_id)
        assert (outcome.status, outcome.out) == (1, "hello\n")
    (task,) = beray("run", "!true", "--detach", "--json").json
    assert beray("watch", str(task["id"])).status == 0


def test_files_are_uploaded_before_the_task_starts(beray: Command, account: BeRayClient) -> None:
    Path("data").mkdir()
    Path("data", "in.txt").write_text("inside")
    Path("a.txt").write_text("above ")
    outcome = beray("run", "!cat a.txt data/in.txt", "--file", "a.txt", "--file", "data")
    assert (outcome.status, outcome.out) == (0, "above inside")


def test_output_downloads_all_files_of_a_failed_task(beray: Command, account: BeRayClient) -> None:
    goal = "!mkdir -p sub/empty; printf 1 > a; printf 2 > sub/b; exit 1"
    outcome = beray("run", goal, "--output", "new/out")
    assert outcome.status == 1
    out = Path("new/out")
    assert {path.relative_to(out).as_posix() for path in out.rglob("*")} == {
        "a", "sub", "sub/b", "sub/empty",
    }  # fmt: skip
    assert (out / "sub/b").read_text() == "2"


def test_output_overwrites_only_with_force(beray: Command, account: BeRayClient) -> None:
    Path("out").mkdir()
    Path("out/b").write_text("mine")
    goal = "!printf 1 > a; printf 2 > b"
    outcome = beray("run", goal, "--output", "out")
    assert outcome.status == 1
    assert "out/b" in outcome.err.replace("\\", "/")
    assert "--force" in outcome.err
    assert [path.name for path in Path("out").iterdir()] == ["b"]
    assert Path("out/b").read_text() == "mine"
    assert beray("run", goal, "--output", "out", "--force").status == 0
    assert Path("out/b").read_text() == "2"


def test_output_rejects_names_outside_the_directory(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers |= {
        "POST /tasks/": CREATED,
        "GET /tasks/1/stream": stream([ended(1)]),
        "GET /tasks/1/files/tree": (200, [{"name": "x", "path": "../../x", "type": "file"}]),
    }
    outcome = beray("run", "x", "--output", "out")
    assert outcome.status == 1
    assert "GET /tasks/1/files/content" not in scripted.calls()


def test_a_task_whose_files_do_not_arrive_is_deleted(
    beray: Command, scripted: ScriptedServer
) -> None:
    Path("a.txt").write_text("x")
    scripted.answers |= {
        "POST /tasks/": HELD,
        "PUT /tasks/1/files/content": (507, {"detail": "The disk is full."}),
        "DELETE /tasks/1": (200, {"status": "success", "message": "gone"}),
    }
    outcome = beray("run", "x", "--file", "a.txt")
    assert outcome.status == 1
    assert "The disk is full." in outcome.err
    assert scripted.calls()[-1] == "DELETE /tasks/1"
    assert "POST /tasks/1/start" not in scripted.calls()


def test_a_task_that_cannot_be_deleted_either_is_named(
    beray: Command, scripted: ScriptedServer
) -> None:
    Path("a.txt").write_text("x")
    scripted.answers |= {
        "POST /tasks/": HELD,
        "PUT /tasks/1/files/content": (507, {"detail": "The disk is full."}),
        "DELETE /tasks/1": (500, {"detail": "nor this"}),
    }
    outcome = beray("run", "x", "--file", "a.txt")
    assert outcome.status == 1
    assert "The disk is full." in outcome.err
    assert "beray rm 1" in outcome.err


def test_a_server_without_held_tasks_receives_the_files(
    beray: Command, scripted: ScriptedServer
) -> None:
    Path("a.txt").write_text("x")
    answer = {"message": "ok", "path": "a.txt", "size": 1}
    scripted.answers |= {
        "POST /tasks/": CREATED,
        "PUT /tasks/1/files/content": (200, answer),
        "GET /tasks/1/stream": stream([ended(1)]),
    }
    outcome = beray("run", "x", "--file", "a.txt")
    assert outcome.status == 0
    assert "starts tasks at once" in outcome.err
    assert json.loads(scripted.requests[0].body)["start"] is False
    assert scripted.calls()[1:] == ["PUT /tasks/1/files/content", "GET /tasks/1/stream"]


@pytest.mark.parametrize(("status", "expected"), [("COMPLETED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_the_exit_status_is_that_of_the_task(
    beray: Command, scripted: ScriptedServer, status: str, expected: int
) -> None:
    scripted.answers["GET /tasks/1/stream"] = stream([text(1, "hi\n"), ended(2, status)])
    outcome = beray("watch", "1")
    assert (outcome.status, outcome.out) == (expected, "hi\n")


def test_a_missing_last_status_is_requested(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers |= {
        "GET /tasks/1/stream": (200, b'data: {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x"}\n\n'),
        "GET /tasks/1": (200, {"id": 1, "goal": "x", "status": "FAILED"}),
    }
    outcome = beray("watch", "1")
    assert (outcome.status, outcome.out) == (1, "x")


def test_a_lost_connection_is_reported_once_and_nothing_is_lost(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/1/stream"] = [
        stream([text(1, "a")]),
        (503, {"detail": "restarting"}),
        (503, {"detail": "restarting"}),
        stream([text(2, "b"), ended(3)]),
    ]
    outcome = beray("watch", "1")
    assert (outcome.status, outcome.out) == (0, "ab")
    assert outcome.err.count("reconnecting") == 1
    assert outcome.err.count("reconnected") == 1


def test_a_missing_task_is_an_error_of_the_server(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/1/stream"] = 404, {"detail": "There is no task 1."}
    outcome = beray("watch", "1")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "beray: There is no task 1. (404)\n"


def test_every_kind_of_event_is_a_short_line(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/1/stream"] = stream(
        [
            event(1, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="search", args_chunk='{"q": '),
            event(2, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name=None, args_chunk='"x"}'),
            event(3, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="read", args_chunk=""),
            event(4, "AGENT_EVENT_TOOL_RESULT", tool_name="search", result=["y\nz"] * 500),
            event(5, "AGENT_EVENT_CUSTOM_UPDATE", payload={"done": 1}),
            event(6, "AGENT_EVENT_SEND_FILE", path="out.txt"),
            event(7, "ERROR", code="BAD", details="it\nbroke"),
            event(8, "SOMETHING_NEW", what=1),
            event(9, "AGENT_EVENT_END", tokens_used=12),
            event(10, "TASK_STATUS", status="FAILED", reason="budget"),
        ]
    )
    outcome = beray("watch", "1")
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert lines[0] == '-- search called with {"q": "x"}'
    assert lines[1] == "-- read"
    assert lines[2].startswith('-- search returned ["y\\nz", ')
    assert lines[3:6] == ['-- update {"done": 1}', "-- file out.txt", "-- error BAD: it broke"]
    assert lines[6].startswith("-- SOMETHING_NEW ")
    assert lines[7:] == ["-- 12 tokens used", "-- FAILED (budget)"]
    assert max(map(len, lines)) < 300


def call(seq: int, call_id: str, command: str) -> dict[str, Any]:
    return event(
        seq,
        "AGENT_EVENT_TOOL_CALL_CHUNK",
        tool_name="run_command",
        args_chunk=command,
        call_id=call_id,
    )


def output_of(seq: int, call_id: str, words: str) -> dict[str, Any]:
    source = "tools:run_command"
    return event(seq, "AGENT_EVENT_TEXT_CHUNK", text=words, source=source, call_id=call_id)


def result_of(seq: int, call_id: str) -> dict[str, Any]:
    result = {"exit_code": 0}
    return event(
        seq, "AGENT_EVENT_TOOL_RESULT", tool_name="run_command", result=result, call_id=call_id
    )


def test_the_output_of_parallel_commands_has_their_numbers(
    beray: Command, scripted: ScriptedServer
) -> None:
    progress = event(7, "AGENT_EVENT_CUSTOM_UPDATE", payload={"kind": "p", "message": "half"})
    events = [
        call(1, "c1", "make"),
        call(2, "c2", "test"),
        output_of(3, "c1", "a\nb"),
        output_of(4, "c2", "x\n"),
        output_of(5, "c1", "c\n"),
        output_of(6, "c2", "y"),
        progress,
        result_of(8, "c1"),
        output_of(9, "c2", "z"),
        result_of(10, "c2"),
        call(11, "c3", "ls"),
        output_of(12, "c3", "alone\n"),
        result_of(13, "c3"),
        ended(14),
    ]
    scripted.answers |= {"POST /tasks/": CREATED, "GET /tasks/1/stream": stream(events)}
    lines = beray("run", "x").err.splitlines()
    start = lines.index("-- run_command [1] called with make")
    assert lines[start : start + 12] == [
        "-- run_command [1] called with make",
        "-- run_command [2] called with test",
        "1| a",
        "2| x",
        "1| bc",
        "-- p: half",
        '-- run_command [1] returned {"exit_code": 0}',
        "2| yz",
        '-- run_command [2] returned {"exit_code": 0}',
        "-- run_command called with ls",
        "| alone",
        '-- run_command returned {"exit_code": 0}',
    ]
