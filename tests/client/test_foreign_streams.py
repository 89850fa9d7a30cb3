"""Streams of other servers, with other numbering and ids than those of BeRay."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beray import (
    BeRayClient,
    InvalidResponseError,
    NotFoundError,
    StreamGapError,
    StreamInterrupted,
)
from beray.testing import FaultServer, ScriptedResponse

END = {"type": "TASK_STATUS", "status": "COMPLETED"}
FAST = b"retry: 1\n\n"


def block(event: dict[str, Any], event_id: object = None) -> bytes:
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + f"data: {json.dumps(event)}\n\n".encode()


def stream(*blocks: bytes, **options: Any) -> ScriptedResponse:
    body = FAST + b"".join(blocks)
    return ScriptedResponse(
        body, headers={"Content-Type": "text/event-stream"}, framing="chunked", **options
    )


def numbered(*seqs: int) -> list[dict[str, Any]]:
    return [{"seq": seq, "n": at} for at, seq in enumerate(seqs)]


def read(
    *answers: ScriptedResponse, last_event_id: str | None = None
) -> tuple[list[Any], list[str | None]]:
    """Return the events, and the ``Last-Event-ID`` of each connection."""
    with FaultServer(answers) as server:
        client = BeRayClient(server.url)
        events = list(client.stream_task_updates(1, last_event_id=last_event_id))
        return events, [request.headers.get("last-event-id") for request in server.requests]


@pytest.mark.parametrize("first", [0, -3])
@pytest.mark.parametrize("ids", [True, False])
def test_numbers_may_begin_before_one(first: int, ids: bool) -> None:
    events = [*numbered(first, first + 1), END | {"seq": first + 2}]
    blocks = [block(event, event["seq"] if ids else None) for event in events]
    assert read(stream(*blocks)) == (events, [None])
    again = read(stream(*blocks[:1]), stream(*blocks[1:2]), stream(*blocks))
    assert again == (events, [None, str(first), str(first + 1)])


def test_an_id_of_zero_is_valid() -> None:
    events: list[Any] = [{"a": 1}, END]
    blocks = [block(event, number) for number, event in enumerate(events)]
    assert read(stream(blocks[0]), stream(blocks[1])) == (events, [None, "0"])


def test_a_stream_after_id_zero_does_not_repeat_it() -> None:
    events = [*numbered(0, 1), END | {"seq": 2}]
    blocks = [block(event, event["seq"]) for event in events]
    assert read(stream(*blocks), last_event_id="0") == (events[1:], ["0"])


@pytest.mark.parametrize("ids", [True, False])
def test_a_constant_number_drops_nothing(ids: bool) -> None:
    events = [*numbered(0, 0, 0), END | {"seq": 0}]
    blocks = [block(event, f"x{at}" if ids else None) for at, event in enumerate(events)]
    assert read(stream(*blocks)) == (events, [None])
    if ids:
        assert read(stream(*blocks[:2]), stream(*blocks[2:])) == (events, [None, "x1"])


def test_a_constant_number_without_ids_cannot_be_resumed() -> None:
    events = numbered(0, 0)
    task = ScriptedResponse(json.dumps({"id": 1, "goal": "g", "status": "RUNNING"}).encode())
    with FaultServer([stream(*map(block, events)), task]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert [next(updates), next(updates)] == events
        with pytest.raises(StreamInterrupted):
            next(updates)


def test_numbers_that_restart_drop_nothing() -> None:
    # The numbers start again with each answer of an agent; the ids continue.
    events = [*numbered(1, 2, 3, 1, 2), END | {"seq": 3}]
    blocks = [block(event, f"e{at}") for at, event in enumerate(events)]
    assert read(stream(*blocks)) == (events, [None])
    assert read(stream(*blocks[:4]), stream(*blocks[4:])) == (events, [None, "e3"])


@pytest.mark.parametrize("ids", [True, False])
def test_an_event_repeated_in_one_connection_is_yielded_once(ids: bool) -> None:
    events = [*numbered(1, 2, 3), END | {"seq": 4}]
    blocks = [block(event, event["seq"] if ids else None) for event in events]
    first, second, third, last = blocks
    assert read(stream(first, second, second, third, last)) == (events, [None])
    if ids:
        assert read(stream(first, second, first, second, third, last)) == (events, [None])


def test_ids_that_differ_from_the_numbers() -> None:
    events = [*numbered(1, 2, 3), END | {"seq": 4}]
    blocks = [block(event, event["seq"] + 1) for event in events]
    assert read(stream(*blocks[:2]), stream(*blocks[2:])) == (events, [None, "3"])
    # In a later process: "3" is an id, not the number of an event.
    assert read(stream(*blocks[2:]), last_event_id="3") == (events[2:], ["3"])


def test_a_server_that_ignores_last_event_id() -> None:
    events: list[dict[str, Any]] = [{"n": 1}, {"n": 2}, {"n": 3}, END]
    blocks = [block(event, f"i{at}") for at, event in enumerate(events)]
    whole = stream(*blocks)
    assert read(stream(*blocks[:1]), whole)[0] == events
    assert read(stream(*blocks[:2]), stream(*blocks[:3]), whole)[0] == events


def test_events_without_ids_after_the_last_id_cannot_be_resumed() -> None:
    body = (block({"n": 1}, "a"), block({"n": 2}))
    with FaultServer([stream(*body, drop_at=len(FAST + b"".join(body)))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        found: list[Any] = [next(updates), next(updates)]
        assert found == [{"n": 1}, {"n": 2}]
        # After "a", the second event would be repeated, and could not be recognized.
        with pytest.raises(StreamInterrupted, match="2 events"):
            next(updates)


@pytest.mark.parametrize("number", [True, 1.0, "1", None, [1]])
def test_a_seq_that_is_not_a_number_is_passed_on(number: Any) -> None:
    events = [{"seq": number}, {"seq": number}, END]
    blocks = [block(event, f"i{at}") for at, event in enumerate(events)]
    assert read(stream(*blocks)) == (events, [None])


def test_events_with_and_without_numbers() -> None:
    events: list[dict[str, Any]] = [{"seq": 1}, {"n": 1}, {"seq": 2}, END | {"seq": 3}]
    blocks = [block(event, event.get("seq")) for event in events]
    assert read(stream(*blocks)) == (events, [None])
    assert read(stream(*blocks[:3]), stream(*blocks[3:])) == (events, [None, "2"])


def test_numbers_that_begin_late_are_a_gap() -> None:
    late = stream(block({"seq": 5}, 5))
    with FaultServer([late, late]) as server, pytest.raises(StreamGapError) as caught:
        next(BeRayClient(server.url).stream_task_updates(1))
    assert (caught.value.expected, caught.value.received) == (1, 5)


def test_odd_bytes_between_events() -> None:
    odd = b": heartbeat\n\n:\n\n\xef\xbb\xbfdata: {}\n\nretry: soon\n\nretry: -5\n\nevent: x\n\nid: 1\0\n\n\n\n"
    events = [*numbered(1, 2), END | {"seq": 3}]
    blocks = b"".join(odd + block(event, event["seq"]) for event in events)
    answer = ScriptedResponse(
        blocks, headers={"Content-Type": "text/event-stream; charset=iso-8859-1"}
    )
    # Only at the very beginning is it a byte order mark; elsewhere it is part of the field name.
    assert read(answer) == (events, [None])


def test_the_charset_of_the_header_is_ignored() -> None:
    body = 'data: {"status": "STOPPED", "t": "ü事"}\n\n'.encode()
    answer = ScriptedResponse(body, headers={"Content-Type": "text/event-stream; charset=latin-1"})
    assert read(answer)[0] == [{"status": "STOPPED", "t": "ü事"}]


@pytest.mark.parametrize("status", ["COMPLETED", "RUNNING"])
def test_an_empty_connection_is_checked_against_the_task(status: str) -> None:
    task = ScriptedResponse(json.dumps({"id": 1, "goal": "g", "status": status}).encode())
    nothing = ScriptedResponse(b"", 204, {"Content-Type": "text/event-stream"})
    rest = [] if status == "COMPLETED" else [stream(block(END | {"seq": 1}, 1))]
    events, _ = read(nothing, nothing, task, *rest)
    assert len(events) == len(rest)


def test_a_redirected_stream_on_the_same_server() -> None:
    moved = ScriptedResponse(b"", 301, {"Location": "/api/v1/elsewhere"})
    with FaultServer([moved, stream(block(END))]) as server:
        assert list(BeRayClient(server.url).stream_task_updates(1)) == [END]
        assert server.requests[1].path == "/api/v1/elsewhere"
        assert server.requests[1].headers["accept"] == "text/event-stream"


def test_a_stream_redirected_to_another_server_ends() -> None:
    moved = ScriptedResponse(b"", 301, {"Location": "http://localhost:1/x"})
    with FaultServer([moved]) as server, pytest.raises(InvalidResponseError, match="another"):
        next(BeRayClient(server.url).stream_task_updates(1))


def test_a_task_that_was_deleted_meanwhile_ends_as_not_found() -> None:
    with FaultServer(
        [stream(block({"n": 1}, "a")), ScriptedResponse(b'{"detail": "gone"}', 404)]
    ) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        first: Any = next(updates)
        assert first == {"n": 1}
        with pytest.raises(NotFoundError, match="gone"):
            next(updates)
        assert list(updates) == []


def test_retry_after_may_be_a_date() -> None:
    busy = ScriptedResponse(b"{}", 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    far = ScriptedResponse(b"{}", 503, {"Retry-After": "not a date"})
    assert read(busy, far, stream(block(END)))[0] == [END]


@pytest.mark.parametrize("ids", [True, False])
def test_null_and_unknown_types_are_passed_on(ids: bool) -> None:
    events: list[dict[str, Any]] = [
        {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": "t", "args_chunk": None, "seq": None},
        {"type": "A_NEWER_TYPE", "reason": None},
        {"type": None},
        {"type": "TASK_STATUS", "status": None},
        {"type": None, "status": "COMPLETED", "reason": None},
    ]
    blocks = [block(event, at if ids else None) for at, event in enumerate(events, 1)]
    assert read(stream(*blocks)) == (events, [None])
