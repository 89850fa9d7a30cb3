"""Tests of the actions on tasks, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.exceptions import APIError, AuthenticationError, ConnectionFailed, TransferCancelled
from beray.testing import RunningServer
from tests.tui import dashboard_stub as stub
from tests.tui.controller_fakes import Surroundings
from tui import messages
from tui.controllers.task_actions import TaskActions
from tui.state.task_draft import TaskDraft

DRAFT = TaskDraft("do it")


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    made = Surroundings(stub.full_client(), tmp_path)
    made.know(*stub.TASKS, stub.CHAT)
    yield made
    made.user_state.close()


def actions(around: Surroundings) -> TaskActions:
    return TaskActions(
        server=around.server,
        tasks=around.tasks,
        user_state=around.user_state,
        target=around.target,
        dialogs=around.dialogs,
        notify=around.notify,
        failures=around.failures,
        on_change=around.on_change,
    )


def client(around: Surroundings) -> stub.StubClient:
    found: Any = around.server.client
    assert isinstance(found, stub.StubClient)
    return found


def saved(around: Surroundings) -> TaskDraft | None:
    return around.user_state.draft(around.server.account)


# Creating


def test_a_created_task_is_announced_and_its_draft_removed(around: Surroundings) -> None:
    client(around).created = stub.task(14, "do it", "QUEUED")
    around.dialogs.drafts = [DRAFT]
    actions(around).compose()
    assert around.target.next(messages.TaskCreated).task["id"] == 14
    assert saved(around) is None
    assert [draft.goal for draft in around.user_state.history()] == ["do it"]
    assert around.dialogs.opened == [("compose", None, "")]


def test_the_goal_is_kept_if_the_task_cannot_be_created(around: Surroundings) -> None:
    client(around).created = ConnectionFailed("no server there")
    actions(around).create(DRAFT)
    failed = around.target.next(messages.OperationFailed)
    around.failures.report(failed.action, failed.error)
    assert around.notices == [
        ("Could not create the task (press n to edit the draft): no server there", "error")
    ]
    assert saved(around) == DRAFT


@pytest.mark.parametrize(
    ("error", "problem"),
    [(ConnectionFailed("it is dead"), "it is dead"), (TransferCancelled(), "")],
)
def test_the_composer_is_opened_again_if_attachments_were_not_sent(
    around: Surroundings, tmp_path: Path, error: Exception, problem: str
) -> None:
    client(around).create_task = lambda *_, **__: _raise(error)  # type: ignore[method-assign]
    (tmp_path / "notes.md").write_text("x")
    draft = TaskDraft("read", attachments=(tmp_path / "notes.md",))
    actions(around).create(draft)
    assert around.dialogs.opened == [("send", "read"), ("compose", None, problem)]
    assert saved(around) == draft and not around.target.has(messages.TaskCreated)


def test_a_rejected_token_leads_to_the_sign_in_instead_of_the_composer(
    around: Surroundings, tmp_path: Path
) -> None:
    error = AuthenticationError("it has ended", status_code=401)
    client(around).create_task = lambda *_, **__: _raise(error)  # type: ignore[method-assign]
    (tmp_path / "notes.md").write_text("x")
    actions(around).create(TaskDraft("read", attachments=(tmp_path / "notes.md",)))
    assert "it has ended" in around.target.next(messages.SessionEnded).reason
    assert around.dialogs.opened == [("send", "read")]


def test_a_rejected_token_is_an_ordinary_failure_while_the_server_may_be_replaced(
    tmp_path: Path,
) -> None:
    around = Surroundings(stub.StubClient(), tmp_path, has_successor=True)
    around.failures.report("stop the task", AuthenticationError("no", status_code=401))
    assert around.notices and not around.target.has(messages.SessionEnded)
    around.user_state.close()


def test_running_again_repeats_goal_and_options_but_no_chat(around: Surroundings) -> None:
    client(around).created = stub.task(14, "!make release", "QUEUED")
    around.select(10)
    actions(around).run_again()
    around.target.next(messages.TaskCreated)
    assert [draft.goal for draft in around.user_state.history()] == ["!make release"]
    around.select(13)
    actions(around).run_again()
    assert len(around.user_state.history()) == 1


def test_the_client_of_a_new_session_is_used(around: Surroundings) -> None:
    made, new = actions(around), stub.StubClient()
    new.created = stub.task(20, "g", "QUEUED")
    around.server.replace(around.server.target, new)  # type: ignore[arg-type]
    made.create(DRAFT)
    assert around.target.next(messages.TaskCreated).task["id"] == 20


# Stopping


@pytest.mark.parametrize(
    ("task_id", "text"), [(10, "Task #10 has already ended"), (13, "The agent is not answering")]
)
def test_stopping_a_task_that_has_ended_reports_it(
    around: Surroundings, task_id: int, text: str
) -> None:
    stopped: list[int] = []
    client(around).stop_task = stopped.append  # type: ignore[assignment]
    around.select(task_id)
    actions(around).stop()
    assert around.notices == [(text, "information")]
    assert stopped == [] and not around.tasks.stopping


def test_a_task_is_shown_as_stopping_until_the_request_fails(around: Surroundings) -> None:
    client(around).message = APIError("no", status_code=500, error_detail="the disk is full")
    around.select(9)
    made = actions(around)
    made.stop()
    assert around.tasks.stopping == {9} and around.changes == 1
    failed = around.target.next(messages.StopFailed)
    made.stop_failed(failed.task_id, failed.error)
    assert around.tasks.stopping == set() and around.changes == 2
    assert around.notices == [("Could not stop the task: the disk is full", "error")]


def test_without_a_selected_task_nothing_happens(around: Surroundings) -> None:
    made = actions(around)
    for action in (made.stop, made.delete, made.run_again, made.save_zip):
        action()
    assert around.dialogs.opened == [] and around.target.messages == []


# Deleting


def test_deleting_a_task_asks_first(around: Surroundings) -> None:
    around.select(10)
    made = actions(around)
    made.delete()
    assert around.target.messages == []
    around.dialogs.agrees = True
    made.delete()
    assert around.target.next(messages.TaskDeleted).task_id == 10
    assert around.dialogs.opened[0] == (
        "confirm",
        "Delete this task?",
        "#10 !make release",
        "Its events and files are deleted too. This cannot be undone.",
        "Delete",
    )


def test_deleting_a_chat_asks_with_a_description_of_the_loss(
    beray_server: RunningServer, tmp_path: Path
) -> None:
    with beray_server.sign_up() as client:
        around = Surroundings(client, tmp_path)
        chat = client.open_chat("chat 1")
        around.know(chat)
        around.select(chat["id"])
        around.dialogs.agrees = True
        actions(around).delete()
        around.target.next(messages.TaskDeleted)
        _, title, subject, question, _ = around.dialogs.opened[0]
        assert title == "Delete this chat?" and "chat 1" in subject
        assert question.startswith("Its messages, its files")
        assert client.list_tasks() == []
        around.user_state.close()


# Saving files


def test_saved_files_are_reported(around: Surroundings, here: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    client(around).download_file = lambda *values, **_: calls.append(values)  # type: ignore[method-assign,assignment]
    around.select(12)
    around.dialogs.target = here / "saved"
    actions(around).save_file("data/q1.csv")
    assert calls == [(12, "data/q1.csv", here / "saved")]
    assert around.dialogs.opened == [("save", "data/q1.csv of task #12", here / "q1.csv")]
    assert around.notices == [(f"Saved {here / 'saved'}", "information")]
    actions(around).save_zip()
    assert around.dialogs.opened[1] == (
        "save",
        "All files of task #12 as a ZIP",
        here / "task-12.zip",
    )


def _raise(error: Exception) -> Any:
    raise error
