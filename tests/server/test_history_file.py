"""The file of a chat's history: what it has after a crash at any time."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from beray.server.chats.history import ChatHistory

USER = {"kind": "user", "seq": 2, "text": "hello"}
ANSWER: dict[str, Any] = {"kind": "message", "message": {"kind": "response", "parts": []}}
RESULT: dict[str, Any] = {"kind": "result", "message": {"kind": "request", "parts": []}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations" / "1.jsonl"


def test_records_are_kept_in_order_and_private(path: Path) -> None:
    ChatHistory(path).append(USER, ANSWER)
    ChatHistory(path).append(RESULT)
    assert ChatHistory(path).records() == [USER, ANSWER, RESULT]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ChatHistory(path).last_seq(earlier=9) == 2


def test_a_line_that_was_cut_off_takes_no_other_with_it(path: Path) -> None:
    ChatHistory(path).append(USER)
    with path.open("a") as file:
        file.write(json.dumps(ANSWER)[:-5])
    ChatHistory(path).append(RESULT)
    assert ChatHistory(path).records() == [USER, RESULT]


def test_a_streamed_text_is_superseded_by_its_answer(path: Path) -> None:
    history = ChatHistory(path)
    history.append(USER)
    history.begin_answer()
    history.add_text("The answer is 4")
    assert ChatHistory(path).records()[1:] == [{"kind": "text", "text": "The answer is 4"}]
    history.begin_answer()
    history.add_text("The answer ")
    history.add_text("is 42.")
    assert ChatHistory(path).records()[1:] == [{"kind": "text", "text": "The answer is 42."}]
    history.append(ANSWER)
    assert ChatHistory(path).records() == [USER, ANSWER]


def test_a_streamed_text_becomes_a_record_before_the_next_message(path: Path) -> None:
    history = ChatHistory(path)
    history.append(USER)
    history.begin_answer()
    history.add_text("half \U0001f600")
    again = USER | {"seq": 5}
    ChatHistory(path).append(again)
    half = {"kind": "text", "text": "half \U0001f600"}
    assert ChatHistory(path).records() == [USER, half, again]
    assert ChatHistory(path).last_seq(earlier=0) == 5


def test_an_empty_history_knows_nothing(path: Path) -> None:
    assert ChatHistory(path).records() == []
    assert ChatHistory(path).last_seq(earlier=9) == 0
    ChatHistory(path).delete()
