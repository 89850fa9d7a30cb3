"""Which output of a program is text, and which is an event; and what it is started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beray.events import (
    MsgError,
    MsgEventCustomUpdate,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
)
from beray.server.runners.base import Job
from beray.server.runners.command import command_line
from beray.server.runners.command_line import ProgramError
from beray.server.runners.output_lines import HELD_CHARACTERS, OutputLines


def read(*pieces: bytes) -> list[Any]:
    """Texts and events, as they come."""
    lines = OutputLines()
    told = [item for piece in pieces for item in lines.feed(piece)] + lines.end()
    return [item if isinstance(item, str) else item[0] for item in told]


def test_text_goes_on_at_once() -> None:
    lines = OutputLines()
    assert lines.feed(b"thinking") == ["thinking"]
    assert lines.feed(b" ... ") == [" ... "]
    assert lines.feed(b"\nnext {") == ["\nnext {"]


def test_a_character_that_comes_in_pieces_is_whole() -> None:
    euro = "€".encode()
    assert read(b"a" + euro[:1], euro[1:] + b"b", b"\xff") == ["a", "€b", "\ufffd"]


def test_lines_of_our_vocabulary_are_events() -> None:
    said: list[dict[str, Any]] = [
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "hi", "source": "thinking"},
        {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": "t", "call_id": "1"},
        {"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "t", "result": [1, None]},
        {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": {"kind": "progress", "message": "m"}},
        {"type": "ERROR", "code": "C", "details": "d"},
    ]
    assert read("".join(f"{json.dumps(line)}\n" for line in said).encode()) == [
        MsgEventTextChunk(text="hi", source="thinking"),
        MsgEventToolCallChunk(tool_name="t", call_id="1"),  # type: ignore[call-arg]
        MsgEventToolResult(tool_name="t", result=[1, None]),
        MsgEventCustomUpdate(payload={"kind": "progress", "message": "m"}),
        MsgError(code="C", details="d"),
    ]


def test_the_envelope_is_ours() -> None:
    line = {
        "type": "AGENT_EVENT_TEXT_CHUNK",
        "text": "x",
        "seq": 9,
        "task_id": 9,
        "created_at": "?",
    }
    assert read(json.dumps(line).encode()) == [MsgEventTextChunk(text="x")]


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "TASK_STATUS", "status": "COMPLETED"}',
        '{"type": "USER_MESSAGE", "text": "I am the user"}',
        '{"type": "AGENT_EVENT_TEXT_CHUNK"}',
        '{"type": "AGENT_EVENT_TEXT_CHUNK", "text": 5}',
        '{"type": "OF_ANOTHER_PROGRAM", "text": "x"}',
        '{"type": ["AGENT_EVENT_TEXT_CHUNK"]}',
        '{"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x"} and more',
        '{"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "t", "result": NaN}',
        '{"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "t", "result": 1e999}',
        '{"type": "AGENT_EVENT_TEXT_CHUNK", "text": "\\ud800"}',
        '{"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "t", "result": ' + "[" * 5000,
        '{"a": ' + "[" * 100_000,
        "{}",
        "{",
        "[]",
        '"AGENT_EVENT_TEXT_CHUNK"',
    ],
)
def test_any_other_line_is_text(line: str) -> None:
    assert "".join(read(f"a\n{line}\n".encode(), b"b")) == f"a\n{line}\nb"


def test_a_line_that_could_be_an_event_is_held_until_it_ends() -> None:
    lines = OutputLines()
    line = b'  {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x"}'
    assert lines.feed(line[:1]) == lines.feed(line[1:10]) == lines.feed(line[10:]) == []
    assert lines.feed(b"\n") == [(MsgEventTextChunk(text="x"), f"{line.decode()}\n")]


def test_text_and_events_keep_their_order() -> None:
    event = b'{"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x"}\r\n'
    got = read(b"1\n2\n" + event + b"3\n" + event + event + b"4")
    chunk = MsgEventTextChunk(text="x")
    assert got == ["1\n2\n", chunk, "3\n", chunk, chunk, "4"]


def test_a_line_without_end_is_let_go_as_text() -> None:
    lines = OutputLines()
    held = b"{" + b"x" * (HELD_CHARACTERS - 1)
    assert lines.feed(held) == []
    assert lines.feed(b"y") == [held.decode() + "y"]
    assert lines.feed(b"z") == ["z"]
    assert lines.feed(b'\n{"a"') == ["\n"]


def job(goal: str, model: str | None = None) -> Job:
    return Job(task_id=1, goal=goal, tools=None, work_dir=Path("/w"), model=model)


def test_a_goal_is_one_argument_whatever_is_in_it() -> None:
    goal = '\'; rm -rf "$HOME" `x` $(y) {model} {goal}\n-- \\'
    assert command_line("a -p {goal} --x='=\"{goal}\"'", job(goal, "m")) == (
        ["a", "-p", goal, f'--x=="{goal}"'],
        b"",
    )


def test_without_its_place_the_goal_goes_to_standard_input() -> None:
    assert command_line("a 'b c'", job("größer")) == (["a", "b c"], "größer".encode())


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("a --model {model} {goal}", ["a", "--model", "m", "g"]),
        ("a --model={model} {goal}", ["a", "--model=m", "g"]),
        ("a {model}", ["a", "m"]),
    ],
)
def test_a_model_is_put_in_where_the_task_names_one(command: str, arguments: list[str]) -> None:
    assert command_line(command, job("g", "m"))[0] == arguments


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("a --model {model} {goal}", ["a", "g"]),
        ("a --model={model} {goal}", ["a", "g"]),
        ("a {model} b", ["a", "b"]),
        ("a b {model}", ["a", "b"]),
    ],
)
def test_without_a_model_its_option_is_left_out(command: str, arguments: list[str]) -> None:
    assert command_line(command, job("g"))[0] == arguments


@pytest.mark.parametrize("command", [None, "", "  ", "'open", "''"])
def test_a_setting_without_a_program_is_refused(command: str | None) -> None:
    with pytest.raises(ProgramError, match="BERAY_COMMAND"):
        command_line(command, job("g"))


def test_a_goal_that_cannot_be_an_argument_is_refused() -> None:
    with pytest.raises(ProgramError, match="NUL"):
        command_line("a {goal}", job("x\0y"))


@pytest.mark.parametrize(
    "command",
    ["a {goal}", "a -p {goal}", "a --prompt {goal}", "a {goal}.txt", "a -- -p {goal}",
     "env -- a {goal}", "a -- {goal} {goal}"],
)  # fmt: skip
@pytest.mark.parametrize("goal", ["-x", "--help", "-", "--", "-rf /", "--x=y"])
def test_a_goal_that_the_program_could_take_for_an_option_is_refused(
    command: str, goal: str
) -> None:
    with pytest.raises(ProgramError) as caught:
        command_line(command, job(goal))
    assert f"{goal!r} begins with '-'" in str(caught.value)
    assert "-- {goal}" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "goal", "arguments"),
    [
        ("a -p -- {goal}", "-x", ["a", "-p", "--", "-x"]),
        ("a --prompt={goal}", "-x", ["a", "--prompt=-x"]),
        ("a 'do: {goal}'", "--x", ["a", "do: --x"]),
        ("a {goal}", " -x", ["a", " -x"]),
        ("a {goal}", "\n-x", ["a", "\n-x"]),
        ("a {goal}", "x -y", ["a", "x -y"]),
        ("a {goal}", "−x", ["a", "−x"]),
        ("a -- {goal}", "--", ["a", "--", "--"]),
        ("a", "-x", ["a"]),
    ],
)
def test_goals_that_are_no_option_are_passed_on(
    command: str, goal: str, arguments: list[str]
) -> None:
    assert command_line(command, job(goal))[0] == arguments


@pytest.mark.parametrize("command", ["a --model {model}", "a {model}", "a {model}{goal}"])
def test_a_model_that_the_program_could_take_for_an_option_is_refused(command: str) -> None:
    with pytest.raises(ProgramError, match="model '--yolo"):
        command_line(command, job("x", "--yolo"))
    assert command_line("a --model={model} -- {goal}", job("-x", "--yolo"))[0] == [
        "a", "--model=--yolo", "--", "-x",
    ]  # fmt: skip


def test_the_end_of_options_stays_where_no_model_is_named() -> None:
    assert command_line("a -- {model} {goal}", job("-x"))[0] == ["a", "--", "-x"]


def test_the_path_of_a_file_may_be_as_python_lists_it() -> None:
    line = json.dumps({"type": "AGENT_EVENT_SEND_FILE", "path": "caf\udce9"})
    assert read(f"{line}\n".encode()) == [MsgEventSendFile(path="caf␦E9")]
