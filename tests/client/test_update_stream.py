"""Stream over all tasks, with faulty servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beray import (
    AuthenticationError,
    BeRayClient,
    NotFoundError,
    StreamGapError,
    UnprocessableEntityError,
)
from beray.testing import FaultServer, ScriptedResponse

SSE = {"Content-Type": "text/event-stream"}


def board(seq: int) -> dict[str, Any]:
    return {"seq": seq, "type": "TASKS", "tasks": []}


def change(seq: int, status: str = "RUNNING") -> dict[str, Any]:
    return {"seq": seq, "task_id": 1, "type": "TASK_STATUS", "status": status}


def progress(last_seq: int) -> dict[str, Any]:
    return {"task_id": 1, "type": "TASK_PROGRESS", "last_seq": last_seq, "last_line": "x"}


def answer(*updates: dict[str, Any], **options: Any) -> ScriptedResponse:
    blocks = [
        (f"id: {update['seq']}\n" if "seq" in update else "") + f"data: {json.dumps(update)}\n\n"
        for update in updates
    ]
    body = "retry: 1\n\n" + "".join(blocks)
    return ScriptedResponse(body.encode(), headers=SSE, **({"framing": "chunked"} | options))


def test_the_stream_continues_after_terminal_statuses_and_reconnections() -> None:
    answers = [
        answer(board(3), change(4, "COMPLETED"), progress(5)),
        answer(progress(6), change(5, "FAILED"), progress(7)),
        answer(change(6)),
        ScriptedResponse(b'{"detail": "gone"}', 404),
    ]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        got: list[Any] = []
        with pytest.raises(NotFoundError):
            got.extend(client.stream_all_updates())
        assert [update["seq"] for update in got if "seq" in update] == [3, 4, 5, 6]
        assert [request.headers.get("last-event-id") for request in server.requests] == [
            None, "4", "5", "6",
        ]  # fmt: skip


def test_every_update_is_yielded_once() -> None:
    answers = [
        answer(board(3), progress(1), change(4), progress(2)),
        # The server ignores Last-Event-ID and repeats the events.
        answer(change(4), change(5)),
        ScriptedResponse(b"{}", 404),
    ]
    got: list[Any] = []
    with (
        FaultServer(answers) as server,
        BeRayClient(server.url) as client,
        pytest.raises(NotFoundError),
    ):
        got.extend(client.stream_all_updates())
    assert got == [board(3), progress(1), change(4), progress(2), change(5)]


def test_a_restarted_stream_has_no_gap() -> None:
    answers = [
        answer(board(3), change(4)),
        answer(board(90), change(91)),
        ScriptedResponse(b"{}", 404),
    ]
    got: list[Any] = []
    with (
        FaultServer(answers) as server,
        BeRayClient(server.url) as client,
        pytest.raises(NotFoundError),
    ):
        got.extend(client.stream_all_updates())
    assert got == [board(3), change(4), board(90), change(91)]


def test_a_persistent_gap_in_updates_is_an_error() -> None:
    answers = [answer(board(3), change(5)), answer(change(5))]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        stream = client.stream_all_updates()
        assert next(stream)["type"] == "TASKS"
        with pytest.raises(StreamGapError) as caught:
            next(stream)
    assert (caught.value.expected, caught.value.received) == (4, 5)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AuthenticationError), (404, NotFoundError), (422, UnprocessableEntityError)],
)
def test_a_rejected_stream_is_an_immediate_error(status: int, error: type[Exception]) -> None:
    answers = [ScriptedResponse(b'{"detail": "no"}', status)]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        with pytest.raises(error):
            next(client.stream_all_updates())
        assert len(server.requests) == 1


def test_nothing_is_sent_before_the_first_next_and_close_ends_it() -> None:
    with FaultServer([answer(board(3), stall_at=20)]) as server, BeRayClient(server.url) as client:
        stream = client.stream_all_updates(last_event_id="2")
        assert server.requests == []
        stream.close()
        assert list(stream) == []
