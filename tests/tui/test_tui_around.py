"""What is written to the terminal around the dashboard, as data."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.tui.hostile_text import HOSTILE
from tui.account import ResendTimer, extract_code
from tui.terminal import (
    TaskSummary,
    TerminalCapabilities,
    detect_capabilities,
    notification,
    status_notifications,
    update_sequence,
    window_title,
)
from tui.theme import DARK, LIGHT, initial_theme

ALL = TerminalCapabilities(window_title=True, progress_value=True, notify=9)
NONE = TerminalCapabilities()
SEQUENCE = re.compile(
    r"\x1b\](?:0|9|9;4|777);[^\x00-\x1f\x7f-\x9f]*\x1b\\|\x1b\[2[23];0t|\x1b\]0;\x1b\\"
)


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (TaskSummary(), "BeRay"),
        (TaskSummary(running=2), "BeRay · 2 running"),
        (TaskSummary(running=2, waiting=(12,), failed_unread=1), "BeRay · #12 needs input"),
        (TaskSummary(waiting=(12, 9)), "BeRay · 2 need input"),
        (TaskSummary(failed_unread=1), "BeRay · 1 failed"),
    ],
)
def test_the_title_says_first_what_needs_somebody(standing: TaskSummary, words: str) -> None:
    assert window_title(standing) == words
    assert f"\x1b]0;{words}\x1b\\" in update_sequence(None, standing, ALL)


def test_only_what_has_changed_is_written_and_all_of_it_is_taken_back() -> None:
    idle, two, three = TaskSummary(), TaskSummary(running=2), TaskSummary(running=3)
    failed = TaskSummary(running=2, failed_unread=1)
    assert update_sequence(None, idle, ALL) == "\x1b[22;0t\x1b]0;BeRay\x1b\\"
    assert update_sequence(idle, two, ALL) == "\x1b]0;BeRay · 2 running\x1b\\\x1b]9;4;3;0\x1b\\"
    assert update_sequence(two, three, ALL) == "\x1b]0;BeRay · 3 running\x1b\\"
    assert update_sequence(two, failed, ALL) == "\x1b]9;4;2;100\x1b\\"
    assert update_sequence(two, idle, ALL).endswith("\x1b]9;4;0;0\x1b\\")
    assert update_sequence(failed, None, ALL) == "\x1b]9;4;0;0\x1b\\\x1b]0;\x1b\\\x1b[23;0t"
    assert update_sequence(idle, None, ALL) == "\x1b]0;\x1b\\\x1b[23;0t"
    assert (
        update_sequence(None, two, NONE)
        == update_sequence(two, None, NONE)
        == notification("x", NONE)
        == ""
    )


ITERM2 = {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}


@pytest.mark.parametrize(
    ("environ", "progress", "notify"),
    [
        ({"TERM": "xterm-256color"}, True, 9),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, True, 777),
        ({"TERM": "foot"}, False, 777),
        ({"TERM": "rxvt-unicode-256color"}, False, 777),
        ({**ITERM2, "TERM_PROGRAM_VERSION": "3.6.6"}, True, 9),
        ({**ITERM2, "TERM_PROGRAM_VERSION": "3.10.1beta2"}, True, 9),
        ({**ITERM2, "TERM_PROGRAM_VERSION": "3.6.5"}, False, 9),
        ({**ITERM2, "TERM_PROGRAM_VERSION": "a"}, False, 9),
        (ITERM2, False, 9),
        ({"TERM": "xterm", "LC_TERMINAL": "iTerm2", "LC_TERMINAL_VERSION": "3.5"}, False, 9),
    ],
)
def test_a_terminal_gets_what_it_takes(
    environ: dict[str, str], progress: bool, notify: int
) -> None:
    assert detect_capabilities(environ, windows=False) == TerminalCapabilities(
        True, progress, notify
    )


def test_a_terminal_that_takes_nothing_gets_nothing() -> None:
    for environ in ({"TERM": "linux"}, {"TERM": "dumb"}, {"TERM": ""}, {}):
        assert detect_capabilities(environ, windows=False) == NONE
    assert detect_capabilities({}, windows=True) == ALL


@pytest.mark.parametrize("notify", [9, 777])
@pytest.mark.parametrize(
    "text", [HOSTILE, "4;3;", "9;5", "\x9c\x9dx;y", "\x1b\\\x07end", "x" * 9999, ""]
)
def test_no_text_from_outside_ends_or_divides_a_sequence(notify: int, text: str) -> None:
    written = notification(text, TerminalCapabilities(notify=notify))
    assert SEQUENCE.fullmatch(written), ascii(written)
    assert len(written) < 250
    parts = written[2:-2].split(";")
    assert parts[:-1] == (["9"] if notify == 9 else ["777", "notify", "BeRay"])
    assert notify == 777 or parts[1].startswith("BeRay: ")
    written.encode()


def task(number: int, status: str, goal: str = "!make") -> Any:
    return {"id": number, "goal": goal, "status": status}


def test_news_are_ends_and_questions_of_tasks_that_were_known() -> None:
    before = [task(1, "RUNNING"), task(2, "RUNNING"), task(3, "QUEUED"), task(4, "RUNNING")]
    after = [
        task(1, "COMPLETED"),
        task(2, "FAILED"),
        task(3, "RUNNING"),
        task(4, "STOPPED"),
        task(5, "COMPLETED"),
    ]
    assert status_notifications(before, after) == ["#1 completed: !make", "#2 failed: !make"]
    assert status_notifications(after, after) == status_notifications([], after) == []
    assert status_notifications([task(1, "RUNNING")], [task(1, "INPUT_REQUIRED")]) == [
        "#1 needs input: !make"
    ]
    many = [task(number, "RUNNING") for number in range(5)]
    ended = [task(number, "FAILED" if number == 3 else "COMPLETED") for number in range(5)]
    assert status_notifications(many, ended) == ["4 completed, 1 failed"]


@pytest.mark.parametrize(
    ("pasted", "code"),
    [
        ("123456", "123456"),
        (" 123 456\n", "123456"),
        ("\n123-456", "123456"),
        ("Your code is 123 456", "123456"),
        ("Your verification code is 123456\n\nIt is valid for 10 minutes.\n", "123456"),
        ("2026-03-14 09:30  code: 042 311.", "042311"),
        ("Use 12 34 56 now", "123456"),
        ("1 2 3 4 5 6", "123456"),
        ("12 3456", "123456"),
        ("１２３４５６", "123456"),
        ("code 4711", "4711"),
        ("A1234B", "A1234B"),
        ("AB 12", "AB12"),
        ("", ""),
    ],
)
def test_a_code_is_found_in_what_is_pasted(pasted: str, code: str) -> None:
    assert extract_code(pasted) == code


def test_the_time_to_the_next_code_is_counted_for_each_address() -> None:
    now = 100.0
    resend = ResendTimer(lambda: now)
    assert resend.seconds_left("ada") == 0
    resend.record_sent("ada")
    resend.record_sent("bob", 2.5)
    assert (resend.seconds_left("ada"), resend.seconds_left("bob"), resend.seconds_left("eve")) == (
        60,
        3,
        0,
    )
    now = 159.5
    assert (resend.seconds_left("ada"), resend.seconds_left("bob")) == (1, 0)
    now = 160.0
    assert resend.seconds_left("ada") == 0


def test_the_first_theme_suits_the_terminal_and_a_chosen_one_stays() -> None:
    known = {DARK.name, LIGHT.name, "nord"}
    for ground in ("15;0", "15;default;0", "default;default", "15", "7;8", "", "x;y"):
        expected = LIGHT.name if ground == "15" else DARK.name
        assert initial_theme("", known, {"COLORFGBG": ground}) == expected, ground
    assert initial_theme("", known, {}) == DARK.name
    assert initial_theme("", known, {"COLORFGBG": "0;15"}) == LIGHT.name
    assert initial_theme("nord", known, {"COLORFGBG": "0;15"}) == "nord"
    assert initial_theme("gone", known, {}) == DARK.name
