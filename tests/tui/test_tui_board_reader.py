"""The reader of the board: all updates once, whatever happens to the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.config import Target
from beray.exceptions import AuthenticationError, BeRayException, ConnectionFailed
from beray.testing import RunningServer
from tests.support import PROMPT_SECONDS, WAIT_SECONDS, done
from tests.tui.controller_fakes import MessageInbox
from tests.tui.dashboard_stub import StubClient
from tui import messages
from tui.io import task_feed_reader
from tui.io.task_feed_reader import TaskFeedReader

NEXT = Target("http://127.0.0.1:2", "local", "next", embedded=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_feed_reader, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(task_feed_reader, "MAX_WAIT_SECONDS", 0.01)


@pytest.fixture
def readers() -> Iterator[list[TaskFeedReader]]:
    """Whatever is put in here is closed."""
    opened: list[TaskFeedReader] = []
    yield opened
    for reader in opened:
        reader.close()


def is_waiting(got: list[Any]) -> bool:
    return any(isinstance(one, messages.UpdatesWaiting) for one in got)


def failures(got: list[Any]) -> list[Exception]:
    return [one.error for one in got if isinstance(one, messages.TaskFeedFailed)]


def test_the_updates_of_a_real_server_come_once_across_its_restart(
    tmp_path: Path, readers: list[TaskFeedReader]
) -> None:
    server = RunningServer.start(tmp_path / "data")
    try:
        with server.sign_up() as client:
            inbox: Any = MessageInbox()
            reader = TaskFeedReader(client, inbox)
            readers.append(reader)
            inbox.wait_for(is_waiting)
            assert [update["type"] for update in reader.take()] == ["TASKS"]
            done(client, "!echo one")
            server.restart()
            done(client, "!echo two")
            seen: list[Any] = []
            inbox.wait_for(
                lambda got: seen.extend(reader.take()) or sum("seq" in one for one in seen) >= 6
            )
            assert [one["seq"] for one in seen if "seq" in one] == [1, 2, 3, 4, 5, 6]
            live = inbox.wait_for(lambda got: isinstance(got[-1], messages.Message))
            assert sum(isinstance(one, messages.TaskFeedConnected) for one in live) >= 2
            assert reader.close() == ([], "6")
    finally:
        server.stop()


def test_a_server_without_the_stream_is_asked_for_its_tasks(readers: list[TaskFeedReader]) -> None:
    client: Any = StubClient()
    client.tasks = [{"id": 1, "goal": "g", "status": "RUNNING"}]
    inbox: Any = MessageInbox()
    reader = TaskFeedReader(client, inbox)
    readers.append(reader)
    inbox.wait_for(is_waiting)
    assert reader.take()[0] == {"type": "TASKS", "tasks": client.tasks}


def test_an_answer_from_before_a_change_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, readers: list[TaskFeedReader]
) -> None:
    monkeypatch.setattr(task_feed_reader, "POLL_SECONDS", 60.0)
    client: Any = StubClient()
    asked: list[int] = []
    go_on = threading.Event()

    def list_tasks() -> list[Any]:
        asked.append(len(asked))
        go_on.wait(WAIT_SECONDS)
        return [{"id": len(asked), "goal": "g", "status": "RUNNING"}]

    client.list_tasks = list_tasks
    inbox: Any = MessageInbox()
    reader = TaskFeedReader(client, inbox)
    readers.append(reader)
    while not asked:
        pass
    reader.refresh()
    go_on.set()
    inbox.wait_for(is_waiting)
    assert [update["tasks"][0]["id"] for update in reader.take()] == [2]


def test_a_failure_is_told_and_the_next_attempt_is_made(readers: list[TaskFeedReader]) -> None:
    client: Any = StubClient()
    client.tasks = ConnectionFailed("gone")
    inbox: Any = MessageInbox()
    readers.append(TaskFeedReader(client, inbox))
    inbox.wait_for(lambda got: len(failures(got)) > 1)
    client.tasks = []
    inbox.wait_for(is_waiting)


def test_a_token_that_only_the_old_server_knew_is_not_the_end_of_the_session(
    readers: list[TaskFeedReader],
) -> None:
    old: Any = StubClient()
    new: Any = StubClient()
    old.tasks = AuthenticationError("no", status_code=401)
    inbox: Any = MessageInbox()
    reader = TaskFeedReader(old, inbox, successor=lambda: messages.SuccessorFound(NEXT, new))
    readers.append(reader)
    got = inbox.wait_for(is_waiting)
    assert isinstance(got[0], messages.SuccessorFound) and reader.client is new
    assert failures(got) == []


def test_a_token_that_the_same_server_refuses_is(readers: list[TaskFeedReader]) -> None:
    client: Any = StubClient()
    client.tasks = AuthenticationError("no", status_code=401)
    inbox: Any = MessageInbox()
    readers.append(TaskFeedReader(client, inbox, successor=lambda: None))
    assert failures(inbox.wait_for(failures))[0] is client.tasks


def test_a_server_that_cannot_be_started_is_said_and_not_tried_every_second(
    readers: list[TaskFeedReader],
) -> None:
    client: Any = StubClient()
    client.tasks = ConnectionFailed("gone")
    tries: list[None] = []

    def successor() -> messages.SuccessorFound:
        tries.append(None)
        raise BeRayException("it does not start")

    inbox: Any = MessageInbox()
    readers.append(TaskFeedReader(client, inbox, successor=successor))
    got = failures(inbox.wait_for(lambda got: len(failures(got)) >= 20))
    assert [str(error) for error in got[:3]] == ["gone", "it does not start", "gone"]
    assert len(tries) == 1


def test_closing_returns_at_once_from_a_server_that_says_nothing(
    beray_server: RunningServer,
) -> None:
    with beray_server.sign_up() as client:
        inbox: Any = MessageInbox()
        reader = TaskFeedReader(client, inbox)
        inbox.wait_for(is_waiting)
        task_state = [thread for thread in threading.enumerate() if thread.name == "beray-board"]
        reader.close()
        for thread in task_state:
            thread.join(PROMPT_SECONDS)
            assert not thread.is_alive()
