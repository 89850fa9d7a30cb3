"""``show`` of a task whose log is larger than a response of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beray import BeRayClient
from beray.testing import RunningServer
from tests.cli.cli_support import Command
from tests.stored_rows import add_events
from tests.support import done

EVENTS = 10_020


@pytest.fixture
def task_id(beray_server: RunningServer, account: BeRayClient) -> Iterator[int]:
    task_id = done(account, "!true")[0]["task_id"]
    add_events(beray_server, task_id, ["x"] * (EVENTS - account.get_task(task_id)["last_seq"]))
    yield task_id
    account.delete_task(task_id)


def test_show_has_every_event(beray: Command, account: BeRayClient, task_id: int) -> None:
    assert account.get_task(task_id)["events_truncated"] is True
    shown = beray("show", str(task_id)).out.splitlines()
    numbers = [line.split()[0] for line in shown if line.lstrip()[:1].isdigit()]
    assert numbers == [str(seq) for seq in range(1, EVENTS + 1)]


def test_show_as_json_has_every_event(beray: Command, task_id: int) -> None:
    (task,) = beray("show", str(task_id), "--json").json
    assert [event["seq"] for event in task["events"]] == list(range(1, EVENTS + 1))
    assert (task["first_seq"], task["events_truncated"]) == (1, False)
