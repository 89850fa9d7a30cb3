"""Tests of the task list's updates and notifications, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.app import App

from beray.exceptions import APIError, AuthenticationError, ConnectionFailed
from tests.tui import dashboard_stub as stub
from tests.tui.controller_fakes import Surroundings
from tui import messages
from tui.controllers.notifier import Notifier
from tui.controllers.task_feed import TaskFeedController
from tui.io import task_feed_reader
from tui.state.tasks import ConnectionState
from tui.terminal import Terminal


class RecordingTerminal(Terminal):
    """Terminal that records what it is asked to show."""

    def __init__(self) -> None:
        super().__init__(App(), {})
        self.summaries: list[dict[str, Any]] = []
        self.notices: list[str] = []

    def show(self, **summary: Any) -> None:
        self.summaries.append(summary)

    def notify(self, text: str) -> None:
        self.notices.append(text)


class Feed:
    """Controllers of the task list around a client."""

    def __init__(self, client: stub.StubClient, folder: Path) -> None:
        self.around = around = Surroundings(client, folder)
        self.client = client
        self.terminal = RecordingTerminal()
        self.on_top = True
        self.notifier = Notifier(
            tasks=around.tasks,
            server=around.server,
            user_state=around.user_state,
            terminal=self.terminal,
            notify=around.notify,
            is_on_top=lambda: self.on_top,
        )
        self.controller = TaskFeedController(
            tasks=around.tasks,
            server=around.server,
            notifier=self.notifier,
            failures=around.failures,
            target=around.target,
            clock=lambda: stub.NOW,
        )

    def update(self, *tasks: Any) -> None:
        """Have the server return ``tasks``, and apply them."""
        self.client.tasks = list(tasks)
        self.controller.start()
        shown = {task["id"]: task for task in tasks}
        while self.around.tasks.tasks != shown or not self.around.tasks.loaded:
            self.around.target.next(messages.UpdatesWaiting)
            self.controller.take_updates()


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    monkeypatch.setattr(task_feed_reader, "POLL_SECONDS", 0.01)
    made = Feed(stub.StubClient(), tmp_path)
    yield made
    made.controller.close()
    made.around.user_state.close()


RUNNING = stub.task(1, "!make", "RUNNING", last_seq=3)
COMPLETED = {**RUNNING, "status": "COMPLETED", "last_seq": 9}


def test_the_list_is_sorted_and_filtered_as_updates_arrive(feed: Feed) -> None:
    feed.update(*stub.TASKS)
    assert [task["id"] for task in feed.controller.shown] == [12, 10, 9, 11, 8, 7]
    feed.controller.filter("make")
    assert [task["id"] for task in feed.controller.shown] == [10]
    feed.update(*stub.TASKS, stub.task(14, "!make all", "RUNNING"))
    assert [task["id"] for task in feed.controller.shown] == [10, 14]
    feed.controller.filter("")
    assert len(feed.controller.shown) == 7


def test_an_end_is_announced_unless_the_user_looks_at_the_task(feed: Feed) -> None:
    feed.update(RUNNING)
    feed.update(COMPLETED)
    text = "#1 completed: !make"
    assert feed.around.notices == [(text, "information")] and feed.terminal.notices == [text]
    feed.update(RUNNING)
    feed.around.select(1)
    feed.update(COMPLETED)
    # The terminal shows nothing by itself while it has the focus.
    assert len(feed.around.notices) == 1 and feed.terminal.notices == [text, text]
    feed.update(RUNNING)
    feed.on_top = False
    feed.update(COMPLETED)
    assert len(feed.around.notices) == 2


def test_the_end_of_a_task_is_announced_once(feed: Feed) -> None:
    feed.update(RUNNING, stub.task(2, "!true", "RUNNING"))
    feed.around.tasks.stopping.add(2)
    ended = stub.event("TASK_STATUS", status="STOPPED", reason="user", seq=4)
    assert feed.controller.task_ended(2, ended)
    assert not feed.controller.task_ended(2, ended)
    assert feed.around.notices == [("#2 stopped", "information")]
    assert feed.around.tasks.stopping == set()


def test_events_count_as_seen_from_the_first_start_on(feed: Feed, tmp_path: Path) -> None:
    waiting = stub.task(3, "g", "INPUT_REQUIRED", last_seq=4)
    feed.update(COMPLETED, waiting)
    # What had ended before the first start is not new; what waits for the user is.
    assert [feed.around.tasks.unread(task) for task in (COMPLETED, waiting)] == [0, 4]
    feed.around.select(3)
    feed.notifier.see_selected()
    assert feed.around.tasks.unread(waiting) == 0  # type: ignore[arg-type]
    assert feed.around.user_state.seen(feed.around.server.account) == {1: 9, 3: 4}
    # A later start restores this, except for a server that was reset and counts anew.
    feed.around.tasks.seen = {}
    feed.around.tasks.tasks[3] = {**waiting, "last_seq": 2}  # type: ignore[typeddict-item]
    feed.notifier.recall_seen()
    assert feed.around.tasks.seen == {1: 9}


def test_the_terminal_shows_what_runs_waits_and_has_failed_unread(feed: Feed) -> None:
    feed.update(*stub.TASKS, {**stub.CHAT, "status": "INPUT_REQUIRED"})
    feed.around.tasks.seen = {}
    feed.notifier.show_summary()
    assert feed.terminal.summaries == [{"running": 1, "waiting": [12], "failed_unread": 1}]


def test_a_failure_is_recorded_with_the_time_of_the_next_attempt(feed: Feed) -> None:
    tasks = feed.around.tasks
    assert not feed.controller.connected()
    feed.controller.failed(ConnectionFailed("gone"), 5.0)
    assert (tasks.connection, tasks.failure) == (ConnectionState.OFFLINE, "gone")
    assert tasks.retry_at == stub.NOW + timedelta(seconds=5) and feed.controller.retry_in == 5
    error = APIError("500", status_code=500, error_detail="The disk is full.")
    feed.controller.failed(error, 1.0)
    assert (tasks.connection, tasks.failure) == (
        ConnectionState.REFUSED,
        "The disk is full. (500)",
    )
    feed.update(RUNNING)
    assert feed.controller.connected() and feed.controller.retry_in is None
    assert tasks.connection is ConnectionState.ONLINE


def test_a_rejected_token_ends_the_session_and_keeps_the_list(feed: Feed) -> None:
    feed.update(RUNNING)
    feed.controller.failed(AuthenticationError("no", status_code=401), 1.0)
    feed.around.target.next(messages.SessionEnded)
    assert feed.around.tasks.connection is ConnectionState.ONLINE


def test_updates_that_were_not_taken_are_applied_after_the_client_is_replaced(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed.client.tasks = [RUNNING]
    feed.controller.start()
    feed.around.target.next(messages.UpdatesWaiting)  # and not taken
    new: Any = stub.StubClient()
    new.tasks = ConnectionFailed("not yet")
    feed.around.server.replace(feed.around.server.target, new)
    feed.controller.client_replaced()
    feed.around.target.next(messages.UpdatesWaiting)
    feed.controller.take_updates()
    assert list(feed.around.tasks.tasks) == [1]
    new.tasks = [COMPLETED]
    while feed.around.tasks.tasks[1]["status"] != "COMPLETED":
        feed.around.target.next(messages.UpdatesWaiting)
        feed.controller.take_updates()
