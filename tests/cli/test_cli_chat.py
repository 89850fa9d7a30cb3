"""``beray chat`` in scripts: text on stdout, everything else on stderr, and exit statuses."""

from __future__ import annotations

import io
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.cli.cli_support import Command, ScriptedServer, program, stream, use
from tests.support import until

AGENT = """
import json, sys
print("You said **" + sys.stdin.read().split()[-1] + "**.")
say = lambda **event: print(json.dumps(event), flush=True)
say(type="AGENT_EVENT_TEXT_CHUNK", text="pondering\\n", source="thinking")
say(type="AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="look", args_chunk='{"at": ')
say(type="AGENT_EVENT_TOOL_CALL_CHUNK", args_chunk='"all"}')
say(type="AGENT_EVENT_TEXT_CHUNK", text="looked\\n", source="tools:look")
say(type="AGENT_EVENT_TOOL_RESULT", tool_name="look", result=[1, 2])
open("made.txt", "w").write("made")
say(type="AGENT_EVENT_SEND_FILE", path="made.txt")
"""


def test_the_answer_is_written_to_stdout(account: BeRayClient, beray: Command) -> None:
    done = beray("chat", "!echo answered; echo kept > file")
    assert (done.status, done.out) == (0, "answered\n")
    assert "added file (5 bytes)" in done.err
    assert "answered" not in done.err
    assert beray("chat", "!cat file").out == "kept\n"
    assert beray("chat", "--chat", "other one", "!ls").out == ""
    assert {task["chat"] for task in account.list_tasks()} == {"0", "other one"}


def test_tool_calls_and_thoughts_go_to_stderr(agent: BeRayClient, beray: Command) -> None:
    done = beray("chat", "hello")
    assert (done.status, done.out) == (0, "You said **hello**.\n")
    lines = done.err.splitlines()
    for line in (
        "| pondering",
        '-- look called with {"at": "all"}',
        "| looked",
        "-- look returned [1, 2]",
        "-- file made.txt",
    ):
        assert line in lines


def test_the_message_can_be_piped(account: BeRayClient, beray: Command) -> None:
    done = beray("chat", stdin="!echo one\necho two\n")
    assert (done.status, done.out) == (0, "one\ntwo\n")
    nothing = beray("chat", stdin=" \n")
    assert nothing.status == 2
    assert "the message is empty" in nothing.err
    assert beray("chat", "!echo three", stdin="!echo four").out == "three\n"


def test_files_and_directories_are_attached(
    account: BeRayClient, beray: Command, tmp_path: Path
) -> None:
    folder = Path("folder")
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "sub" / "b").write_text("b")
    Path("single").write_text("s")
    arguments = ("!cat single folder/a folder/sub/b", "--attach", "single", "-a", "folder")
    assert beray("chat", *arguments).out == "sab"
    (task,) = account.list_tasks()
    events: list[Any] = list(account.get_task(task["id"])["events"])
    (message,) = [event for event in events if event["type"] == "USER_MESSAGE"]
    assert message["attachments"] == ["single", "folder/a", "folder/sub/b"]
    assert beray("chat", "x", "--attach", "missing").status == 2
    for number in range(101):
        (folder / f"{number}").write_text("")
    many = beray("chat", "x", "--attach", "folder")
    assert many.status == 2
    assert "cannot attach 103 files" in many.err
    assert len(account.get_task(task["id"])["events"]) == len(events)


def test_json_is_each_event_of_the_answer(account: BeRayClient, beray: Command) -> None:
    beray("chat", "!echo before")
    done = beray("chat", "--json", "!echo said")
    assert done.status == 0
    kinds = [event["type"] for event in done.json if event.get("source") != "files"]
    assert kinds[0] == "USER_MESSAGE"
    assert kinds[-2:] == ["AGENT_EVENT_END", "TASK_STATUS"]
    assert done.json[-1]["status"] == "INPUT_REQUIRED"
    assert [event["text"] for event in done.json if "text" in event] == ["!echo said", "said\n"]


def test_an_answer_that_ends_in_an_error_is_status_1(account: BeRayClient, beray: Command) -> None:
    done = beray("chat", "plain words, which nobody answers here")
    assert (done.status, done.out) == (1, "")
    assert "error NO_MODEL" in done.err
    assert beray("chat", "--json", "plain words").status == 1
    # A failed command is not an error of the chat: its output is the answer.
    assert beray("chat", "!exit 3").status == 0


def test_a_busy_chat_is_reported_in_one_line(account: BeRayClient, beray: Command) -> None:
    task = account.send_chat_message("0", "!while [ ! -e go ]; do sleep 0.02; done")
    done = beray("chat", "!echo no")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("beray: ") and "(409)" in done.err
    assert done.err.count("\n") == 1
    account.stop_task(task["id"])
    # The end of the previous answer is not mistaken for the end of the next one.
    until(lambda: beray("chat", "!echo yes").out == "yes\n")


def test_invalid_usage_gives_status_2(beray: Command) -> None:
    for arguments in (["--chat", "", "x"], ["--chat", "a/b", "x"], ["--chat", "a\nb", "x"], [" "]):
        done = beray("chat", *arguments)
        assert (done.status, done.err.count("\n")) == (2, 1)
    help_ = beray("chat", "--help").out
    for word in ("--chat", "--attach", "--json", "/get", "/files", "/history", "Ctrl-C"):
        assert word in help_


def test_ctrl_c_stops_the_answer_and_shows_its_end(account: BeRayClient) -> None:
    with subprocess.Popen(
        program("chat", "!echo begun; sleep 600"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as talking:
        assert talking.stdout is not None
        assert talking.stdout.readline() == "begun\n"
        talking.send_signal(signal.SIGINT)
        _, stderr = talking.communicate(timeout=20)
    assert talking.returncode == 130
    assert "error STOPPED" in stderr
    assert "Traceback" not in stderr
    (task,) = account.list_tasks()
    assert task["status"] == "INPUT_REQUIRED"


def test_the_end_of_the_previous_answer_does_not_end_this_one(
    scripted: ScriptedServer, beray: Command
) -> None:
    events: list[dict[str, Any]] = [
        {"type": "ERROR", "code": "STOPPED", "details": "the one before"},
        {"type": "TASK_STATUS", "status": "INPUT_REQUIRED"},
        {"type": "USER_MESSAGE", "text": "x"},
        {"type": "TASK_STATUS", "status": "RUNNING"},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "mine\n", "source": "main"},
        {"type": "AGENT_EVENT_END", "tokens_used": 7},
        {"type": "TASK_STATUS", "status": "INPUT_REQUIRED"},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "somebody else's\n", "source": "main"},
    ]
    numbered = [{"seq": seq, **event} for seq, event in enumerate(events, 6)]
    task = {"id": 1, "goal": "", "status": "RUNNING", "last_seq": 5}
    scripted.answers |= {
        "POST /chats/0/messages": (202, task),
        "GET /tasks/1/stream": stream(numbered),
    }
    done = beray("chat", "x")
    assert (done.status, done.out, done.err) == (0, "mine\n", "-- 7 tokens used\n")
    (request,) = [request for request in scripted.requests if request.path.endswith("/stream")]
    assert request.headers["Last-Event-ID"] == "5"
    assert [event["seq"] for event in beray("chat", "x", "--json").json] == [8, 9, 10, 11, 12]


def test_a_stdin_that_is_not_text_is_an_error(scripted: ScriptedServer, beray: Command) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8", errors="surrogateescape")
    done = beray("chat", stdin=piped)
    assert done.status == 2
    assert "UTF-8" in done.err
    assert scripted.calls() == []


def test_an_answer_whose_server_is_killed_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        use(client, monkeypatch)
        with subprocess.Popen(
            program("chat", "!echo begun; sleep 600"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as talking:
            assert talking.stdout is not None
            assert talking.stdout.readline() == "begun\n"
            server.kill()
            server.restart()
            _, stderr = talking.communicate(timeout=30)
    assert talking.returncode == 1
    assert "-- connection lost; reconnecting" in stderr
    assert "-- reconnected" in stderr
    assert "error LOST_WORKER" in stderr
