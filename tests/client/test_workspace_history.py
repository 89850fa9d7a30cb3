"""Requests for the history of a work_dir, and tasks that continue another one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beray import BeRayClient, InvalidArgument
from beray.testing import FaultServer, ScriptedResponse

CREATED = ScriptedResponse(b'{"id": 8, "status": "QUEUED", "goal": "g"}')


@pytest.mark.parametrize(
    "origin",
    [{"task": 5}, {"task": 5, "seq": 0}, {"task": 5, "seq": 17}, {"task": 5, "checkpoint": "c3"}],
)
def test_the_origin_of_a_task_is_sent(origin: Any) -> None:
    with FaultServer([CREATED, CREATED]) as server, BeRayClient(server.url) as client:
        client.create_task("g", from_task=origin)
        # The origin of a response is accepted as well.
        client.create_task("g", from_task={**origin, "conversation": True})
        bodies = [json.loads(request.body) for request in server.requests]
    assert bodies == [{"goal": "g", "tools": None, "from": origin}] * 2


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (5, "must be a dictionary with the id of a task, .* got 5$"),
        ({"seq": 3}, "must be a dictionary with the id of a task"),
        ({"task": 5, "seq": 1, "checkpoint": "c1"}, "either 'seq' or 'checkpoint', got 1 and 'c1'"),
        ({"task": 5, "seq": -1}, "must be the seq of an event, .* got -1$"),
        ({"task": 5, "seq": True}, "got True$"),
        ({"task": 5, "seq": "c3"}, r"from_task\['seq'\] must be an integer, got 'c3'$"),
        ({"task": 5, "checkpoint": 3}, r"from_task\['checkpoint'\] must be a string, got 3$"),
        ({"task": 5, "checkpoint": "c0"}, "got 'c0'$"),
    ],
)
def test_an_invalid_origin_is_rejected_before_a_request(origin: Any, reason: str) -> None:
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        with pytest.raises(InvalidArgument, match=reason):
            client.create_task("g", from_task=origin)
        assert server.requests == []
