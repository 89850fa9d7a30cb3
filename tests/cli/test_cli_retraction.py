"""Answers that break off and start again, as the command shows them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("rich")

from beray.cli.chat.answer import ChatView, show_events
from beray.cli.render import EventView, TextView
from tests.cli.cli_screen import Screen
from tests.cli.cli_support import Command, ScriptedServer, stream

RESTART = "\n\n[The answer broke off. It starts again:]\n\n"


def text(seq: int, words: str, source: str = "main", **fields: Any) -> dict[str, Any]:
    kind = "AGENT_EVENT_TEXT_CHUNK"
    return {"seq": seq, "type": kind, "text": words, "source": source, **fields}


def call(seq: int, name: str) -> dict[str, Any]:
    kind = "AGENT_EVENT_TOOL_CALL_CHUNK"
    return {"seq": seq, "type": kind, "tool_name": name, "args_chunk": "{}", "source": "main"}


def retract(seq: int, first: int) -> dict[str, Any]:
    return text(seq, RESTART, retracts=[first, seq - 1])


END: list[dict[str, Any]] = [
    {"seq": 10, "type": "AGENT_EVENT_END", "tokens_used": 0},
    {"seq": 11, "type": "TASK_STATUS", "status": "COMPLETED"},
]
BEFORE: list[dict[str, Any]] = [
    {"seq": 1, "type": "TASK_STATUS", "status": "RUNNING"},
    text(2, "I look."),
    call(3, "look"),
    {"seq": 4, "type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "look", "result": "x"},
]
BROKEN = [text(5, "The answer\n"), text(6, "is 4"), call(7, "wrong")]
EVENTS = [*BEFORE, *BROKEN, retract(8, 5), text(9, "The answer is 42."), *END]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    for name, value in {"TERM": "xterm", "COLUMNS": "40", "LINES": "12"}.items():
        monkeypatch.setenv(name, value)
    made = Screen()
    made.columns = 40
    return made


def shown(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, kind: str, events: Iterable[dict[str, Any]]
) -> list[str]:
    """Return the rows that a terminal shows after the events."""
    if kind == "plain":
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    view: EventView = TextView() if kind == "lines" else ChatView([])
    for event in events:
        view.event(event)
    view.finish()
    return screen.lines()


@pytest.mark.parametrize("kind", ["lines", "plain", "markdown"])
def test_a_broken_answer_is_erased_from_the_terminal(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lines = shown(screen, monkeypatch, kind, EVENTS)
    assert "I look." in lines and "The answer is 42." in lines
    everything = "\n".join(lines)
    assert "is 4\n" not in everything and "wrong" not in everything
    assert "broke off" not in everything
    assert everything.count("The answer") == 1


@pytest.mark.parametrize("kind", ["lines", "plain", "markdown"])
def test_each_broken_answer_is_erased(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wide = "wide " * 30 + "\n\n\n- one\n- two\n\nmore"
    events = [
        *BEFORE,
        text(5, "let me\nthink", "thinking") if kind != "lines" else text(5, "x"),
        text(6, wide),
        retract(7, 5),
        text(8, "first\n\nagain"),
        retract(9, 8),
        text(10, "The end."),
        *END,
    ]
    lines = [line for line in shown(screen, monkeypatch, kind, events) if line]
    assert lines[0] == ("-- RUNNING" if kind == "lines" else "I look.")
    assert "The end." in lines
    assert not {"wide", "again", "first", "more"} & set(" ".join(lines).split())


@pytest.mark.parametrize("kind", ["lines", "plain", "markdown"])
def test_text_that_has_left_the_screen_is_followed_by_the_sentence(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    long = "".join(f"line {number}\n\n" for number in range(40))
    events = [*BEFORE, text(5, long), retract(6, 5), text(7, "The end."), *END]
    everything = "\n".join(shown(screen, monkeypatch, kind, events))
    assert "line 7" in everything and everything.index("broke off") < everything.index("The end.")


def test_a_note_in_between_is_not_erased(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = {"kind": "file_changed", "change": "added", "path": "out.txt"}
    note = {"seq": 6, "type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": payload, "source": "files"}
    events = [*BEFORE, text(5, "The ans"), note, text(7, "wer"), retract(8, 5), text(9, "42"), *END]
    everything = "\n".join(shown(screen, monkeypatch, "lines", events))
    assert "out.txt" in everything and "broke off" in everything


def test_earlier_events_have_no_retracted_text(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    show_events(EVENTS, TextView())
    assert "is 4\n" not in screen.getvalue() and "wrong" not in screen.getvalue()
    assert "broke off" not in screen.getvalue() and "is 42." in screen.getvalue()


def test_a_pipe_gets_the_sentence_and_json_gets_everything(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/1/stream"] = stream(EVENTS)
    outcome = beray("watch", "1")
    assert outcome.out.endswith(f"The answer\nis 4\n{RESTART}The answer is 42.")
    assert "wrong" not in outcome.err
    scripted.answers["GET /tasks/1/stream"] = stream(EVENTS)
    outcome = beray("watch", "1", "--json")
    assert [json.loads(line) for line in outcome.out.splitlines()] == EVENTS


def test_show_has_no_retracted_events(beray: Command, scripted: ScriptedServer) -> None:
    task = {"id": 1, "goal": "x", "status": "COMPLETED", "events": EVENTS}
    scripted.answers["GET /tasks/1"] = 200, task
    outcome = beray("show", "1")
    assert "The answer is 42." in outcome.out
    assert "wrong" not in outcome.out and "broke off" not in outcome.out
    assert json.loads(beray("show", "1", "--json").out)["events"] == EVENTS
