"""Interactive chats: ``beray chat`` with a user at a terminal."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals are POSIX", allow_module_level=True)

from beray.client import BeRayClient
from tests.cli.cli_support import ScriptedServer, stream
from tests.cli.cli_terminal import Terminal
from tests.support import until

OBEYED = "\x1b]0;owned\x07\x1b[2J\x9b2J\x85\x7f\r\x08\u202e\u2066\u2028[/b]"
HOSTILE = OBEYED + "\ud800"
"""Control sequences, bidirectional controls, markup, and an unencodable character."""
HIDDEN = (
    "&#27;[2J &#x9b;2J &#x202e; [a](http://x/%1b%E2%80%AE) <http://a/%1b[2J%E2%80%AE> "
    "![](x/%1b%0d) <b>shown</b> <!-- shown, too -->\n\n```\x1b[2J\n\x9b2J\n```\n\n| a |\n|---|\n| \x1b |\n"
)
"""Markdown that contains such text, or produces it when it is parsed."""

FANCY = {"TERM": "xterm-256color", "NO_COLOR": "", "COLUMNS": "80", "LINES": "24"}
_ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Control sequences of readline and rich: paste and key modes, visibility and position of the
# cursor, erasing, insertion, colours.
_OURS = re.compile(r"\x1b(?:\[\?(?:1|25|1034|2004)[hl]|\[[0-9;]*m|\[\d*[ABCDGKPJ@](?<!2J)|[=>])")

AGENT = """
import json, sys, time
said = sys.stdin.read().split()[-1]
say = lambda **event: print(json.dumps(event), flush=True)
say(type="AGENT_EVENT_TEXT_CHUNK", text="# Title of " + said + "\\n\\nSome **bo")
say(type="AGENT_EVENT_TEXT_CHUNK", text="ld** words.\\n\\n- first\\n- sec")
say(type="AGENT_EVENT_TEXT_CHUNK", text="ond\\n")
say(type="AGENT_EVENT_TEXT_CHUNK", text="pondering\\n", source="thinking")
say(type="AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="look", args_chunk='{"at": ')
say(type="AGENT_EVENT_TOOL_CALL_CHUNK", args_chunk='"all"}')
say(type="AGENT_EVENT_TEXT_CHUNK", text="what it saw\\n", source="tools:look")
say(type="AGENT_EVENT_TOOL_RESULT", tool_name="look", result=[1, 2])
time.sleep(0.3)  # the watcher reports the change later, not in the middle of the text above
open("made.txt", "w").write("made of " + said)
say(type="AGENT_EVENT_SEND_FILE", path="made.txt")
say(type="AGENT_EVENT_TEXT_CHUNK", text="The *end*.")
"""


def acting(seen: str) -> list[str]:
    """Return control sequences in ``seen`` that are not written by the command itself."""
    # The terminal changes newlines to CRLF; readline writes CR at the start of a line.
    left = _OURS.sub("", seen).replace("\r", "").replace("\n", "").replace("\t", "")
    return _ACTS.findall(left)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_an_interactive_chat(agent: BeRayClient, here: Path) -> None:
    with Terminal(["chat"]) as terminal:
        terminal.expect("you> ")
        terminal.type("hello\n")
        answer = terminal.expect("you> ")
        terminal.type("/get 1\n")
        assert "made.txt: 13 bytes" in terminal.expect("you> ")
        terminal.type("/get 1\n")
        assert "to save it under another name" in terminal.expect("you> ")
        terminal.type("/get made.txt other.txt\n")
        assert "other.txt: 13 bytes" in terminal.expect("you> ")
        terminal.type("/get 2\n")
        assert "the agent has sent 1 file;" in terminal.expect("you> ")
        terminal.type("/files\n")
        assert "13  made.txt" in terminal.expect("you> ")
        terminal.type("/nothing\n")
        assert "/help lists" in terminal.expect("you> ")
        terminal.type("/help\n")
        assert "/attach" in terminal.expect("you> ")
        terminal.type("//path\n")
        assert "# Title of /path" in terminal.expect("you> ")
        terminal.type("/quit\n")
        terminal.expect("<exit 0>")
        seen = terminal.end()
    assert "Some **bold** words.\r\n\r\n- first\r\n- second\r\n" in answer
    assert '-- look called with {"at": "all"} -> [1, 2]\r\n' in answer
    assert "-- file 1: made.txt (ctrl+t or /get 1 downloads it)\r\n" in answer
    assert "what it saw" not in answer and "pondering" not in answer
    assert (here / "made.txt").read_text() == "made of hello"
    assert (here / "other.txt").read_text() == "made of hello"
    assert "Traceback" not in seen


def test_answers_are_rendered_as_markdown_on_capable_terminals(agent: BeRayClient) -> None:
    with Terminal(["chat"], program=None, **FANCY) as terminal:
        terminal.expect("you> ")
        terminal.type("hello\n")
        terminal.expect("downloads it)")
        terminal.expect("you> ")
        terminal.type("!printf '**literal** %s' [b]\n")
        terminal.expect("**literal** [b]")
        terminal.expect("you> ")
        terminal.type("\x04")
        seen = terminal.end()
    assert "<exit 0>" in seen
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "Some bold words." in plain and "**bold" not in plain
    assert "\x1b[1mbold\x1b[0m" in seen
    assert "\u2022 second" in plain
    assert "The end." in plain
    assert "\x1b[2mlook ..." in seen, "a running tool is shown before its line"
    assert acting(seen) == []


def test_a_key_downloads_the_newest_file_and_keeps_the_draft(
    agent: BeRayClient, here: Path
) -> None:
    with Terminal(["chat"], program=None, **FANCY) as terminal:
        terminal.expect("you> ")
        terminal.type("\x14")
        terminal.expect("the agent has not sent a file yet")
        terminal.expect("you> ")
        terminal.type("hello\n")
        terminal.expect("(ctrl+t or /get 1 downloads it)")
        terminal.expect("you> ")
        terminal.type("say thi\x14")
        terminal.expect("made.txt: 13 bytes")
        terminal.expect("you> say thi")
        terminal.type("s\n")
        terminal.expect("downloads it)")
        terminal.expect("you> ")
        terminal.type("\x1b[A\x14")  # the key is not in the input history
        terminal.expect("all files from the agent are downloaded")
        terminal.expect("you> say this")
        terminal.type("\x15\x04")
        terminal.expect("<exit 0>")
        seen = terminal.end()
    assert (here / "made.txt").read_text() == "made of hello"
    assert acting(seen) == []


def test_an_answer_is_unfolded(agent: BeRayClient) -> None:
    with Terminal(["chat"]) as terminal:
        terminal.expect("you> ")
        terminal.type("/unfold\n")
        assert "no answer in this session yet" in terminal.expect("you> ")
        terminal.type("hello\n")
        assert "pondering" not in terminal.expect("you> ")
        terminal.type("/unfold\n")
        again = terminal.expect("INPUT_REQUIRED")
        terminal.expect("you> ")
        terminal.type("\x04")
        terminal.end()
    assert "| pondering\r\n" in again and "| what it saw\r\n" in again
    assert "# Title of hello" in again


def test_files_are_attached_to_the_next_message(account: BeRayClient, here: Path) -> None:
    (here / "with space").write_text("x")
    (here / "first").write_text("y")
    with Terminal(["chat", "--attach", "first"]) as terminal:
        terminal.expect("you> ")
        terminal.type("/attach 'with space'\n")
        assert "the next message has 2 attachments" in terminal.expect("you> ")
        terminal.type("/attach missing\n")
        assert "no such file" in terminal.expect("you> ")
        terminal.type("!cat first 'with space'\n")
        assert "yx" in terminal.expect("you> ")
        terminal.type("!echo no more\n")
        terminal.expect("no more\r\n")
        terminal.expect("you> ")
        terminal.type("/history\n")
        shown = terminal.expect("-- with first, with space")
        assert "you> !cat first 'with space'" in shown
        assert "yx" in terminal.expect("you> !echo no more")
        assert "no more" in terminal.expect("you> ")
        terminal.type("/quit\n")
        terminal.end()
    (task,) = account.list_tasks()
    events: list[Any] = list(account.get_task(task["id"])["events"])
    messages = [event for event in events if event["type"] == "USER_MESSAGE"]
    assert [event["attachments"] for event in messages] == [["first", "with space"], []]


def test_ctrl_c_stops_an_answer_and_at_the_prompt_it_leaves(account: BeRayClient) -> None:
    with Terminal(["chat"], ["chat"]) as terminal:
        terminal.expect("you> ")
        terminal.type("!echo beg''un; sleep 600\n")
        terminal.expect("begun")
        terminal.type("\x03")
        assert "error STOPPED" in terminal.expect("you> ")
        terminal.type("!echo ne''xt\n")
        terminal.expect("next")
        terminal.expect("you> ")
        terminal.type("\x03")
        terminal.expect("<exit 130>")
        terminal.expect("you> ")
        terminal.type("\x04")
        terminal.expect("<exit 0>")
        seen = terminal.end()
    assert "Traceback" not in seen
    (task,) = account.list_tasks()
    assert task["status"] == "INPUT_REQUIRED"


def test_a_busy_chat_shows_the_prompt_again(account: BeRayClient) -> None:
    task = account.send_chat_message("mine", "!sleep 600")
    until(lambda: account.get_task(task["id"])["status"] == "RUNNING")
    with Terminal(["chat", "--chat", "mine"]) as terminal:
        assert "an answer is running; /stop" in terminal.expect("you> ")
        terminal.type("!echo no\n")
        assert "(409)" in terminal.expect("you> ")
        terminal.type("/stop\n")
        terminal.expect("you> ")
        until(lambda: account.get_task(task["id"])["status"] == "INPUT_REQUIRED")
        terminal.type("!echo y''es\n")
        terminal.expect("yes")
        terminal.expect("you> ")
        terminal.type("/quit\n")
        assert "<exit 0>" in terminal.end()


def test_the_input_history_is_saved_in_a_private_file(account: BeRayClient, own_home: Path) -> None:
    with Terminal(["chat"], program=None, **FANCY) as terminal:
        terminal.expect("you> ")
        terminal.type("!echo kep''t\n")
        terminal.expect("kept")
        terminal.expect("you> ")
        terminal.type("/quit\n")
        terminal.end()
    file = own_home / "beray" / "chat_history"
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        "!echo kep''t", "/quit",
    ]  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o600
    with Terminal(["chat"], program=None, **FANCY) as terminal:
        terminal.expect("you> ")
        terminal.type("\x1b[A\x1b[A\n")
        terminal.expect("kept")
        terminal.expect("you> ")
        terminal.type("\x04")
        assert "<exit 0>" in terminal.end()


@pytest.mark.parametrize("environ", [{}, FANCY], ids=["plain", "fancy"])
def test_text_of_agents_has_no_effect_on_the_terminal(
    scripted: ScriptedServer, here: Path, environ: dict[str, str]
) -> None:
    kinds: list[dict[str, Any]] = [
        {"type": "USER_MESSAGE", "text": HOSTILE, "attachments": [HOSTILE]},
        {"type": "TASK_STATUS", "status": HOSTILE, "reason": HOSTILE},
        *({"type": "AGENT_EVENT_TEXT_CHUNK", "text": piece} for piece in HIDDEN),
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": HIDDEN + HOSTILE},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": HOSTILE, "source": "tools:shell"},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": HOSTILE, "source": "stderr"},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": HOSTILE, "source": "thinking"},
        {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": HOSTILE, "args_chunk": HOSTILE},
        {"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": HOSTILE, "result": {HOSTILE: HOSTILE}},
        {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": HOSTILE, "args_chunk": HOSTILE},
        {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": {HOSTILE: HOSTILE}},
        {"type": "AGENT_EVENT_SEND_FILE", "path": HOSTILE},
        {"type": "ERROR", "code": HOSTILE, "details": HOSTILE},
        {"type": "AGENT_EVENT_END", "tokens_used": HOSTILE},
        {"type": HOSTILE, "what": HOSTILE},
        {"type": "TASK_STATUS", "status": "INPUT_REQUIRED", "reason": HOSTILE},
    ]
    events = [{"seq": seq, **event} for seq, event in enumerate(kinds, 1)]
    task = {"id": 1, "goal": HOSTILE, "status": HOSTILE, "last_seq": 0}
    item = {"name": HOSTILE, "path": HOSTILE, "type": "file", "size": 1, "modified_at": HOSTILE}
    scripted.answers |= {
        "PUT /chats/0": (200, task),
        "POST /chats/0/messages": [(202, task), (202, task), (409, {"detail": HOSTILE})],
        "GET /tasks/1/stream": stream(events),
        "GET /tasks/1/events": (200, events),
        "GET /tasks/1/files/tree": (200, [item]),
        "POST /tasks/1/stop": (200, {"message": HOSTILE}),
    }
    commands = [["chat", "x"], ["chat", "--json", "x"], ["chat"]]
    with Terminal(*commands, program=None, PYTHONUTF8="1", **environ) as terminal:
        terminal.expect("<begin 'chat'>")
        terminal.expect("<begin 'chat'>")
        terminal.expect("<begin 'chat'>")
        terminal.expect("you> ")
        for typed, answered in [
            ("refused", "(409)"),
            ("/files", "[/b]"),
            ("/history", "downloads it)"),
            ("/get 1", "cannot be saved here"),
            ("/stop", "[/b]"),
        ]:
            terminal.type(f"{typed}\n")
            terminal.expect(answered)
            terminal.expect("you> ")
        terminal.type("/quit\n")
        seen = terminal.end()
    assert "Traceback" not in seen
    assert seen.count("<exit 0>") == 3, "AGENT_EVENT_END follows the error"
    assert acting(seen) == []
    assert "shown" in seen and "shown, too" in seen
