"""Parsing of a program's output, and construction of its arguments."""

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
from beray.server.runners.command import expand_command
from beray.server.runners.command_line import ProgramError
from beray.server.runners.output_lines import MAX_EVENT_CHARACTERS, OutputLines


def read(*pieces: bytes) -> list[Any]:
    """Return the parsed text and events."""
    lines = OutputLines()
    items = [item for piece in pieces for item in lines.feed(piece)] + lines.end()
    return [item if isinstance(item, str) else item[0] for item in items]


def test_text_is_returned_at_once() -> None:
    lines = OutputLines()
    assert lines.feed(b"thinking") == ["thinking"]
    assert lines.feed(b" ... ") == [" ... "]
    assert lines.feed(b"\nnext {") == ["\nnext {"]


def test_a_character_split_over_chunks_is_decoded() -> None:
    euro = "€".encode()
    assert read(b"a" + euro[:1], euro[1:] + b"b", b"\xff") == ["a", "€b", "\ufffd"]


def test_lines_with_known_events_are_events() -> None:
    lines: list[dict[str, Any]] = [
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "hi", "source": "thinking"},
        {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": "t", "call_id": "1"},
        {"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "t", "result": [1, None]},
        {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": {"kind": "progress", "message": "m"}},
        {"type": "ERROR", "code": "C", "details": "d"},
    ]
    assert read("".join(f"{json.dumps(line)}\n" for line in lines).encode()) == [
        MsgEventTextChunk(text="hi", source="thinking"),
        MsgEventToolCallChunk(tool_name="t", call_id="1"),  # type: ignore[call-arg]
        MsgEventToolResult(tool_name="t", result=[1, None]),
        MsgEventCustomUpdate(payload={"kind": "progress", "message": "m"}),
        MsgError(code="C", details="d"),
    ]


def test_envelope_fields_are_ignored() -> None:
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


def test_a_possible_event_is_buffered_until_its_line_ends() -> None:
    lines = OutputLines()
    line = b'  {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x"}'
    assert lines.feed(line[:1]) == lines.feed(line[1:10]) == lines.feed(line[10:]) == []
    assert lines.feed(b"\n") == [(MsgEventTextChunk(text="x"), f"{line.decode()}\n")]


def test_text_and_events_keep_their_order() -> None:
    event = b'{"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x"}\r\n'
    got = read(b"1\n2\n" + event + b"3\n" + event + event + b"4")
    chunk = MsgEventTextChunk(text="x")
    assert got == ["1\n2\n", chunk, "3\n", chunk, chunk, "4"]


def test_a_line_longer_than_the_limit_is_text() -> None:
    lines = OutputLines()
    held = b"{" + b"x" * (MAX_EVENT_CHARACTERS - 1)
    assert lines.feed(held) == []
    assert lines.feed(b"y") == [held.decode() + "y"]
    assert lines.feed(b"z") == ["z"]
    assert lines.feed(b'\n{"a"') == ["\n"]


def job(goal: str, model: str | None = None) -> Job:
    return Job(task_id=1, goal=goal, tools=None, work_dir=Path("/w"), model=model)


def test_any_goal_is_exactly_one_argument() -> None:
    goal = '\'; rm -rf "$HOME" `x` $(y) {model} {goal}\n-- \\'
    assert expand_command("a -p {goal} --x='=\"{goal}\"'", job(goal, "m")) == (
        ["a", "-p", goal, f'--x=="{goal}"'],
        b"",
    )


def test_without_a_placeholder_the_goal_is_written_to_standard_input() -> None:
    assert expand_command("a 'b c'", job("größer")) == (["a", "b c"], "größer".encode())


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("a --model {model} {goal}", ["a", "--model", "m", "g"]),
        ("a --model={model} {goal}", ["a", "--model=m", "g"]),
        ("a {model}", ["a", "m"]),
    ],
)
def test_the_model_of_the_task_is_substituted(command: str, arguments: list[str]) -> None:
    assert expand_command(command, job("g", "m"))[0] == arguments


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("a --model {model} {goal}", ["a", "g"]),
        ("a --model={model} {goal}", ["a", "g"]),
        ("a {model} b", ["a", "b"]),
        ("a b {model}", ["a", "b"]),
    ],
)
def test_without_a_model_its_option_is_omitted(command: str, arguments: list[str]) -> None:
    assert expand_command(command, job("g"))[0] == arguments


@pytest.mark.parametrize("command", [None, "", "  ", "'open", "''"])
def test_a_setting_without_a_program_is_an_error(command: str | None) -> None:
    with pytest.raises(ProgramError, match="BERAY_COMMAND"):
        expand_command(command, job("g"))


def test_a_goal_with_nul_cannot_be_an_argument() -> None:
    with pytest.raises(ProgramError, match="NUL"):
        expand_command("a {goal}", job("x\0y"))


@pytest.mark.parametrize(
    "command",
    ["a {goal}", "a -p {goal}", "a --prompt {goal}", "a {goal}.txt", "a -- -p {goal}",
     "env -- a {goal}", "a -- {goal} {goal}"],
)  # fmt: skip
@pytest.mark.parametrize("goal", ["-x", "--help", "-", "--", "-rf /", "--x=y"])
def test_a_goal_that_looks_like_an_option_is_an_error(command: str, goal: str) -> None:
    with pytest.raises(ProgramError) as caught:
        expand_command(command, job(goal))
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
def test_goals_that_do_not_look_like_options_are_accepted(
    command: str, goal: str, arguments: list[str]
) -> None:
    assert expand_command(command, job(goal))[0] == arguments


@pytest.mark.parametrize("command", ["a --model {model}", "a {model}", "a {model}{goal}"])
def test_a_model_that_looks_like_an_option_is_an_error(command: str) -> None:
    with pytest.raises(ProgramError, match="model '--yolo"):
        expand_command(command, job("x", "--yolo"))
    assert expand_command("a --model={model} -- {goal}", job("-x", "--yolo"))[0] == [
        "a", "--model=--yolo", "--", "-x",
    ]  # fmt: skip


def test_the_end_of_options_is_kept_without_a_model() -> None:
    assert expand_command("a -- {model} {goal}", job("-x"))[0] == ["a", "--", "-x"]


def test_the_path_of_a_file_may_contain_surrogates() -> None:
    line = json.dumps({"type": "AGENT_EVENT_SEND_FILE", "path": "caf\udce9"})
    assert read(f"{line}\n".encode()) == [MsgEventSendFile(path="caf␦E9")]
