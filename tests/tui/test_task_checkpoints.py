"""Tests of checkpoints in the dashboard, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.exceptions import APIError, ConflictError, ConnectionFailed, NotFoundError
from tests.tui import dashboard_stub as stub
from tests.tui.controller_fakes import Surroundings
from tui import messages
from tui.controllers.continuation import ContinuationController
from tui.controllers.task_checkpoints import TaskCheckpoints, lacks_history
from tui.state.checkpoints import CheckpointIndex
from tui.state.task_draft import DraftOrigin, TaskDraft

CHECKPOINTS: list[Any] = [
    {"checkpoint": name, "seq": seq} for name, seq in (("c1", 2), ("c3", 8), ("c4", 13), ("c5", 13))
]


def name_of(checkpoint: Any) -> str | None:
    return None if checkpoint is None else checkpoint["checkpoint"]


# Positions


def test_the_files_at_an_event_are_those_of_the_latest_checkpoint_until_then() -> None:
    index = CheckpointIndex(CHECKPOINTS)
    found = [name_of(index.at(number)) for number in (1, 2, 7, 8, 12, 13, 99)]
    assert found == ["c1", "c1", "c1", "c3", "c3", "c5", "c5"]
    found = [name_of(index.after(number)) for number in (1, 2, 3, 9, 13, 14)]
    assert found == ["c1", "c1", "c3", "c4", "c4", None]
    assert name_of(index.after("c3")) == "c3"
    assert name_of(index.at("c3")) == name_of(index.step_of("c3")) == "c3"
    assert index.at("c2") is index.step_of("c2") is None


def test_the_checkpoint_of_a_step_is_the_next_one() -> None:
    index = CheckpointIndex(CHECKPOINTS)
    found = [name_of(index.step_of(number)) for number in (1, 2, 3, 8, 9, 13, 99)]
    assert found == ["c3", "c3", "c3", "c3", "c4", "c4", "c5"]


def test_steps_without_changes_are_skipped() -> None:
    none = {"added": 0, "modified": 0, "deleted": 0}
    index = CheckpointIndex([*CHECKPOINTS[:3], {**CHECKPOINTS[3], **none}])
    assert name_of(index.step_of(99)) == "c4"
    assert [name_of(index.step_beside(name, 1)) for name in ("", "c1", "c3", "c4", "c5")] == [
        "c3",
        "c3",
        "c4",
        None,
        None,
    ]
    assert [name_of(index.step_beside(name, -1)) for name in ("", "c5", "c4", "c3", "c1")] == [
        "c4",
        "c4",
        "c3",
        None,
        None,
    ]
    unchanged = CheckpointIndex([CHECKPOINTS[0], {**CHECKPOINTS[1], **none}])
    assert name_of(unchanged.step_of(3)) == "c3"
    assert unchanged.step_beside("", 1) is unchanged.step_beside("", -1) is None


def test_checkpoints_are_in_order() -> None:
    index = CheckpointIndex(CHECKPOINTS)
    assert name_of(index.before("c3")) == "c1"
    assert index.before("c1") is index.before("c2") is None
    assert name_of(index.newest) == "c5"


def test_a_task_without_checkpoints_has_none() -> None:
    index = CheckpointIndex()
    assert index.newest is index.at(1) is index.step_of(1) is None


# Requests


class CountingClient(stub.StubClient):
    """Client that counts the requests for checkpoints."""

    requests = 0

    def list_checkpoints(self, task_id: int) -> Any:
        self.requests += 1
        return super().list_checkpoints(task_id)


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    client = CountingClient()
    client.checkpoints = CHECKPOINTS
    made = Surroundings(client, tmp_path)
    made.know(*stub.TASKS)
    made.select(12)
    yield made
    made.user_state.close()


def checkpoints_of(around: Surroundings) -> TaskCheckpoints:
    return TaskCheckpoints(tasks=around.tasks, server=around.server, target=around.target)


class Results:
    """Results of requests for checkpoints."""

    def __init__(self) -> None:
        self.found: list[str | None] = []
        self.errors: list[Exception] = []

    def use(self, index: CheckpointIndex) -> None:
        self.found.append(name_of(index.newest))


def checkpoint_event(name: str) -> Any:
    payload = {"kind": "checkpoint", "checkpoint": name}
    return stub.event("AGENT_EVENT_CUSTOM_UPDATE", source="history", payload=payload)


def test_checkpoints_are_read_when_they_are_needed_and_after_a_new_one(
    around: Surroundings,
) -> None:
    client: Any = around.server.client
    checkpoints, results = checkpoints_of(around), Results()

    def ask(number: int | None) -> None:
        checkpoints.with_position(number, results.use, results.errors.append)

    ask(5)
    ask(None)
    assert results.found == []
    checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    assert results.found == ["c5", "c5"] and client.requests == 1
    ask(None)
    checkpoints.events_received([stub.text("no checkpoint")])  # type: ignore[list-item]
    ask(20)
    assert len(results.found) == 4 and client.requests == 1
    checkpoints.events_received([checkpoint_event("c6")])
    ask(12)  # known already
    assert len(results.found) == 5 and client.requests == 1
    client.checkpoints = [*CHECKPOINTS, {"checkpoint": "c6", "seq": 20}]
    ask(20)
    checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    assert results.found[5:] == ["c6"] and client.requests == 2
    checkpoints.changed()
    ask(None)
    checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    assert client.requests == 3 and results.errors == []


def test_checkpoints_of_another_task_are_ignored(around: Surroundings) -> None:
    checkpoints, results = checkpoints_of(around), Results()
    checkpoints.with_position(None, results.use, results.errors.append)
    late = around.target.next(messages.CheckpointsArrived)
    around.select(9)
    checkpoints.task_selected()
    checkpoints.arrived(late)
    checkpoints.failed(messages.CheckpointsFailed(12, ConnectionFailed("late")))
    assert results.found == [] and results.errors == []
    checkpoints.with_position(None, results.use, results.errors.append)
    checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    assert results.found == ["c5"]


def test_a_failed_request_is_reported_and_repeated_later(around: Surroundings) -> None:
    client: Any = around.server.client
    client.checkpoints = ConnectionFailed("it is dead")
    checkpoints, results = checkpoints_of(around), Results()
    checkpoints.with_position(None, results.use, results.errors.append)
    checkpoints.failed(around.target.next(messages.CheckpointsFailed))
    assert [str(error) for error in results.errors] == ["it is dead"]
    client.checkpoints = CHECKPOINTS
    checkpoints.with_position(3, results.use, results.errors.append)
    checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    assert results.found == ["c5"]


def test_a_server_without_history_is_recognised() -> None:
    assert lacks_history(NotFoundError("no", status_code=404, error_detail="Not Found"))
    assert lacks_history(APIError("no", status_code=405, error_detail="Method Not Allowed"))
    assert not lacks_history(NotFoundError("no", status_code=404, error_detail="No task 5"))
    assert not lacks_history(ConflictError("no", status_code=409, error_detail="off"))
    assert not lacks_history(ConnectionFailed("no"))


# Continuing a task


def continuation(
    around: Surroundings, checkpoints: TaskCheckpoints, drafts: list[TaskDraft]
) -> ContinuationController:
    return ContinuationController(
        tasks=around.tasks,
        checkpoints=checkpoints,
        compose=drafts.append,
        notify=around.notify,
        failures=around.failures,
    )


@pytest.mark.parametrize(("number", "name"), [(None, "c5"), (9, "c3"), (1, "c1"), ("c3", "c3")])
def test_the_composer_opens_with_the_checkpoint_at_the_event(
    around: Surroundings, number: int | str | None, name: str
) -> None:
    drafts: list[TaskDraft] = []
    checkpoints = checkpoints_of(around)
    continuation(around, checkpoints, drafts).compose(number)
    checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    assert drafts == [TaskDraft(origin=DraftOrigin(12, name))]
    assert drafts[0].all_options == {"from_task": {"task": 12, "checkpoint": name}}


@pytest.mark.parametrize(
    ("answer", "notice"),
    [
        ([], ("Task #12 has no checkpoint to continue from.", "warning")),
        (
            NotFoundError("no", status_code=404, error_detail="Not Found"),
            ("This server keeps no history of the files of tasks.", "warning"),
        ),
        (
            ConflictError("no", status_code=409, error_detail="History is turned off."),
            ("Could not read the checkpoints of the task: History is turned off.", "error"),
        ),
    ],
)
def test_a_task_without_checkpoints_cannot_be_continued(
    around: Surroundings, answer: Any, notice: tuple[str, str]
) -> None:
    client: Any = around.server.client
    client.checkpoints = answer
    drafts: list[TaskDraft] = []
    checkpoints = checkpoints_of(around)
    continuation(around, checkpoints, drafts).compose(None)
    if isinstance(answer, list):
        checkpoints.arrived(around.target.next(messages.CheckpointsArrived))
    else:
        checkpoints.failed(around.target.next(messages.CheckpointsFailed))
    assert drafts == [] and around.notices == [notice]
