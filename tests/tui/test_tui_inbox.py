"""The inbox: its order, its filter, and how it takes over what the server says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tui import status, terminal
from tui.state import inbox
from tui.state.tasks import ConnectionState, TasksState

NOW = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)


def task(number: int, status: str, last_seq: int = 1, **more: Any) -> Any:
    return {"id": number, "goal": f"goal {number}", "status": status, "last_seq": last_seq} | more


def test_the_order_is_the_order_of_attention() -> None:
    tasks = [
        task(1, "COMPLETED"),
        task(2, "COMPLETED", 5),
        task(3, "RUNNING"),
        task(4, "FAILED", 9, ended_at="2026-03-01T00:00:00Z"),
        task(5, "INPUT_REQUIRED"),
        task(6, "QUEUED"),
        task(7, "FAILED", ended_at="2026-03-14T09:00:00Z"),
        task(8, "FAILED", ended_at="2026-03-01T00:00:00Z"),
        task(9, "STOPPED", 2),
        task(10, "SOMETHING_NEW"),
        task(11, "RUNNING"),
    ]
    seen = {1: 1, 2: 3, 7: 1, 8: 1}
    # Waits, failed (unread, or of today), running, finished unread, queued, the rest.
    assert inbox.ordered(tasks, seen, NOW) == [5, 7, 4, 11, 3, 9, 2, 10, 6, 8, 1]


def test_tasks_that_continue_each_other_are_together_within_their_group() -> None:
    def continued(number: int, origin: int, status: str = "COMPLETED") -> Any:
        return task(number, status, **{"from": {"task": origin, "checkpoint": "c1"}})

    tasks = [
        task(1, "COMPLETED"),
        task(2, "COMPLETED"),
        continued(3, 1),
        task(4, "COMPLETED"),
        continued(5, 3),
        continued(6, 1, "RUNNING"),
        continued(7, 9),  # an origin is never newer
        continued(8, 0),  # the origin was deleted
        task(9, "COMPLETED", **{"from": None}),
        continued(10, 0),
    ]
    seen = dict.fromkeys(range(11), 1)
    assert inbox.ordered(tasks, seen, NOW) == [6, 8, 10, 9, 7, 1, 3, 5, 4, 2]
    assert inbox.thread_roots(tasks)[5] == 1 and inbox.thread_roots(tasks)[7] == 7


def test_the_filter_finds_the_continuations_of_a_task() -> None:
    child = task(3, "COMPLETED", **{"from": {"task": 12, "checkpoint": "c4"}})
    assert inbox.matches(child, "#12") and inbox.matches(child, "#12@c4 goal")
    assert not inbox.matches(child, "#13")


def test_what_is_unread_where_the_server_counts_and_where_not() -> None:
    assert inbox.unread(task(1, "RUNNING", 40), {1: 3}) == 37
    assert inbox.unread(task(1, "RUNNING", 40), {1: 50}) == 0
    foreign: Any = {"id": 1, "goal": "g", "status": "COMPLETED"}
    assert inbox.unread(foreign, {}) == 1
    assert inbox.unread(foreign, {1: 1}) == 0
    assert inbox.unread({**foreign, "status": "RUNNING"}, {}) == 0


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True), ("  ", True), ("REPORT", True), ("report fail", True), ("#12", True),
        ("12", True), ("FAILED", True), ("running", False), ("stopping", False), ("ärger", True),
    ],
)  # fmt: skip
def test_the_filter_looks_at_goal_state_and_id(query: str, found: bool) -> None:
    subject = task(12, "FAILED", goal="Write the report, Ärger included")
    assert inbox.matches(subject, query) is found
    assert inbox.matches(task(1, "RUNNING"), "stopping", {1})


def task_state() -> TasksState:
    task_state = TasksState()
    task_state.apply(
        [{"type": "TASKS", "seq": 3, "tasks": [task(2, "RUNNING"), task(1, "QUEUED")]}]
    )
    task_state.sort(NOW)
    return task_state


def test_updates_change_what_they_are_about_and_nothing_else() -> None:
    known = task_state()
    assert (known.loaded, known.connection) == (True, ConnectionState.ONLINE)
    assert (
        known.apply([{"type": "TASK_PROGRESS", "task_id": 2, "last_seq": 7, "last_line": "x"}])
        is False
    )
    assert (known.tasks[2]["last_seq"], known.tasks[2]["last_line"]) == (7, "x")
    # Older news of it does not take it back, and no line is not an empty one.
    known.apply([{"type": "TASK_PROGRESS", "task_id": 2, "last_seq": 5, "last_line": None}])
    assert (known.tasks[2]["last_seq"], known.tasks[2]["last_line"]) == (7, "x")
    assert known.apply([{"type": "TASK_STATUS", "task_id": 3, "task": task(3, "QUEUED")}]) is True
    known.sort(NOW)
    assert known.order == [2, 3, 1]
    assert known.apply([{"type": "TASK_DELETED", "task_id": 2}]) is True
    assert known.order == [3, 1]
    assert (
        known.apply([{"type": "OF_A_LATER_VERSION"}, {"type": "TASK_STATUS", "task_id": 9}])
        is False
    )


def test_a_task_that_has_ended_does_not_run_again() -> None:
    known = task_state()
    known.stopping.add(2)
    told = {"type": "TASK_STATUS", "seq": 7, "status": "STOPPED", "reason": "user"}
    assert known.ended(2, told)
    assert known.stopping == set()
    assert known.unread(known.tasks[2]) == 7, "its end has not been looked at"
    assert not known.ended(2, told), "it is no news any more"
    assert not known.ended(99, told)
    known.apply([{"type": "TASK_STATUS", "task_id": 2, "task": task(2, "RUNNING")}])
    assert known.tasks[2]["status"] == "STOPPED"


def test_looking_at_a_task_is_news_once() -> None:
    known = task_state()
    assert [known.mark_seen(2), known.mark_seen(2), known.mark_seen(99)] == [1, None, None]
    known.apply([{"type": "TASK_PROGRESS", "task_id": 2, "last_seq": 4, "last_line": ""}])
    assert known.mark_seen(2) == 4


def test_only_what_matches_is_shown_in_the_same_order() -> None:
    known = task_state()
    known.query = "goal 1"
    assert [shown["id"] for shown in known.shown] == [1]


def test_a_chat_whose_user_has_the_word_is_as_a_finished_task() -> None:
    chat = task(1, "INPUT_REQUIRED", 4, chat="1")
    assert inbox.attention(chat, {1: 4}, NOW) is inbox.Attention.REST
    assert inbox.attention(chat, {1: 3}, NOW) is inbox.Attention.UNREAD
    assert inbox.attention(task(1, "INPUT_REQUIRED"), {1: 1}, NOW) is inbox.Attention.WAITS
    assert status.task_display(chat).word == "idle" and status.title(chat) == "chat 1"
    assert inbox.matches(chat, "chat idle") and not inbox.matches(task(2, "RUNNING"), "chat")
    answering: Any = {**chat, "status": "RUNNING"}
    assert status.task_display(answering).word == "answering"
    assert inbox.attention(answering, {1: 4}, NOW) is inbox.Attention.RUNNING


def test_an_answer_that_was_stopped_is_stopped_once_and_older_news_are_none() -> None:
    known = TasksState()
    known.apply([{"type": "TASKS", "seq": 1, "tasks": [task(1, "RUNNING", 5, chat="a")]}])
    known.stopping.add(1)
    known.put(task(1, "INPUT_REQUIRED", 8, chat="a"))
    assert known.stopping == set()
    known.put(task(1, "RUNNING", 5, chat="a"))
    assert known.tasks[1]["status"] == "INPUT_REQUIRED"


def test_an_answer_is_news_unless_its_user_has_stopped_it() -> None:
    before = [task(1, "RUNNING", chat="a")]
    assert terminal.status_notifications(before, [task(1, "INPUT_REQUIRED", chat="a")]) == [
        "#1 answered: chat a"
    ]
    assert (
        terminal.status_notifications(before, [task(1, "INPUT_REQUIRED", chat="a", reason="user")])
        == []
    )
