"""beray tasks, show, stop and rm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from beray.cli.times import age
from beray.client import BeRayClient
from beray.exceptions import NotFoundError
from tests.cli.cli_support import Command


def finished(client: BeRayClient, goal: str) -> int:
    task_id = client.create_task(goal)["id"]
    list(client.stream_task_updates(task_id))
    return task_id


def test_tasks_in_a_pipe_are_tab_separated_newest_first(
    beray: Command, account: BeRayClient
) -> None:
    long = "!true # " + "x" * 1000
    first, second = finished(account, "!false # one\n# two"), finished(account, long)
    outcome = beray("tasks")
    assert outcome.status == 0
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    created_at = {task["id"]: task.get("created_at") for task in account.list_tasks()}
    assert rows == [
        [str(second), "COMPLETED", created_at[second], long],
        [str(first), "FAILED", created_at[first], "!false # one # two"],
    ]
    assert [task["id"] for task in beray("tasks", "--json").json] == [second, first]


def test_an_empty_list_has_no_output(beray: Command, account: BeRayClient) -> None:
    outcome = beray("tasks")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


def test_show_has_the_task_and_its_events(beray: Command, account: BeRayClient) -> None:
    task_id = finished(account, "!echo hello; exit 2")
    outcome = beray("show", str(task_id))
    assert outcome.status == 0
    assert "FAILED" in outcome.out
    assert "!echo hello; exit 2" in outcome.out
    assert "TEXT_CHUNK        hello" in outcome.out
    (task,) = beray("show", str(task_id), "--json").json
    assert task == account.get_task(task_id)


def test_stop_stops(beray: Command, account: BeRayClient) -> None:
    task_id = account.create_task("!sleep 600")["id"]
    outcome = beray("stop", str(task_id))
    assert (outcome.status, outcome.out) == (0, "")
    assert str(task_id) in outcome.err
    assert beray("watch", str(task_id)).status == 1
    assert account.get_task(task_id)["status"] == "STOPPED"
    (answer,) = beray("stop", str(task_id), "--json").json
    assert "message" in answer


def test_rm_deletes(beray: Command, account: BeRayClient) -> None:
    task_id = finished(account, "!true")
    outcome = beray("rm", str(task_id), "--yes")
    assert (outcome.status, outcome.out) == (0, "")
    with pytest.raises(NotFoundError):
        account.get_task(task_id)
    assert beray("rm", str(task_id), "--yes").status == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (86399, "23h"), (86400, "1d")],
)
def test_an_age_is_shown_in_its_largest_unit(seconds: int, expected: str) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    created_at = (now - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    assert age(created_at, now) == expected


@pytest.mark.parametrize("created_at", [None, "", "yesterday", "2026-01-31T12:00:00"])
def test_an_unknown_age_is_empty(created_at: str | None) -> None:
    assert age(created_at, datetime.now(UTC)) == ""
