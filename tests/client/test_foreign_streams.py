"""Streams of servers that are not ours: other numbers, other ids, other habits."""

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
from beray.testing import Answer, FaultServer

END = {"type": "TASK_STATUS", "status": "COMPLETED"}
FAST = b"retry: 1\n\n"


def block(event: dict[str, Any], event_id: object = None) -> bytes:
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + f"data: {json.dumps(event)}\n\n".encode()


def stream(*blocks: bytes, **options: Any) -> Answer:
    body = FAST + b"".join(blocks)
    return Answer(body, headers={"Content-Type": "text/event-stream"}, framing="chunked", **options)


def numbered(*seqs: int) -> list[dict[str, Any]]:
    return [{"seq": seq, "n": at} for at, seq in enumerate(seqs)]


def read(*answers: Answer, last_event_id: str | None = None) -> tuple[list[Any], list[str | None]]:
    """The events, and the id that each connection asked to go on behind."""
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


def test_an_id_of_nought_is_one() -> None:
    events = [{"a": 1}, END]
    blocks = [block(event, number) for number, event in enumerate(events)]
    assert read(stream(blocks[0]), stream(blocks[1])) == (events, [None, "0"])


def test_who_begins_behind_nought_is_not_given_it_again() -> None:
    events = [*numbered(0, 1), END | {"seq": 2}]
    blocks = [block(event, event["seq"]) for event in events]
    assert read(stream(*blocks), last_event_id="0") == (events[1:], ["0"])


@pytest.mark.parametrize("ids", [True, False])
def test_a_number_that_never_moves_drops_nothing(ids: bool) -> None:
    events = [*numbered(0, 0, 0), END | {"seq": 0}]
    blocks = [block(event, f"x{at}" if ids else None) for at, event in enumerate(events)]
    assert read(stream(*blocks)) == (events, [None])
    if ids:
        assert read(stream(*blocks[:2]), stream(*blocks[2:])) == (events, [None, "x1"])


def test_a_number_that_never_moves_and_no_id_cannot_be_resumed() -> None:
    events = numbered(0, 0)
    task = Answer(json.dumps({"id": 1, "goal": "g", "status": "RUNNING"}).encode())
    with FaultServer([stream(*map(block, events)), task]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert [next(updates), next(updates)] == events
        with pytest.raises(StreamInterrupted):
            next(updates)


def test_numbers_that_begin_again_drop_nothing() -> None:
    # One count for each answer of an agent; the ids go on.
    events = [*numbered(1, 2, 3, 1, 2), END | {"seq": 3}]
    blocks = [block(event, f"e{at}") for at, event in enumerate(events)]
    assert read(stream(*blocks)) == (events, [None])
    assert read(stream(*blocks[:4]), stream(*blocks[4:])) == (events, [None, "e3"])


@pytest.mark.parametrize("ids", [True, False])
def test_what_comes_twice_in_one_connection_is_given_once(ids: bool) -> None:
    events = [*numbered(1, 2, 3), END | {"seq": 4}]
    blocks = [block(event, event["seq"] if ids else None) for event in events]
    first, second, third, last = blocks
    assert read(stream(first, second, second, third, last)) == (events, [None])
    if ids:
        assert read(stream(first, second, first, second, third, last)) == (events, [None])


def test_ids_of_another_count_than_the_numbers() -> None:
    events = [*numbered(1, 2, 3), END | {"seq": 4}]
    blocks = [block(event, event["seq"] + 1) for event in events]
    assert read(stream(*blocks[:2]), stream(*blocks[2:])) == (events, [None, "3"])
    # In a later process: "3" is no number of events here.
    assert read(stream(*blocks[2:]), last_event_id="3") == (events[2:], ["3"])


def test_a_server_that_always_begins_at_the_beginning() -> None:
    events: list[dict[str, Any]] = [{"n": 1}, {"n": 2}, {"n": 3}, END]
    blocks = [block(event, f"i{at}") for at, event in enumerate(events)]
    whole = stream(*blocks)
    assert read(stream(*blocks[:1]), whole)[0] == events
    assert read(stream(*blocks[:2]), stream(*blocks[:3]), whole)[0] == events


def test_events_behind_the_last_id_cannot_be_resumed() -> None:
    body = (block({"n": 1}, "a"), block({"n": 2}))
    with FaultServer([stream(*body, drop_at=len(FAST + b"".join(body)))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert [next(updates), next(updates)] == [{"n": 1}, {"n": 2}]
        # Behind "a" the second would come again, and nothing says that it is the same.
        with pytest.raises(StreamInterrupted, match="2 events"):
            next(updates)


@pytest.mark.parametrize("number", [True, 1.0, "1", None, [1]])
def test_a_seq_that_is_no_number_is_left_alone(number: Any) -> None:
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
    answer = Answer(blocks, headers={"Content-Type": "text/event-stream; charset=iso-8859-1"})
    # The mark is one only at the very beginning; elsewhere it makes another field of "data".
    assert read(answer) == (events, [None])


def test_the_charset_of_the_header_is_ignored() -> None:
    body = 'data: {"status": "STOPPED", "t": "ü事"}\n\n'.encode()
    answer = Answer(body, headers={"Content-Type": "text/event-stream; charset=latin-1"})
    assert read(answer)[0] == [{"status": "STOPPED", "t": "ü事"}]


@pytest.mark.parametrize("status", ["COMPLETED", "RUNNING"])
def test_nothing_more_to_say_is_checked_against_the_task(status: str) -> None:
    task = Answer(json.dumps({"id": 1, "goal": "g", "status": status}).encode())
    nothing = Answer(b"", 204, {"Content-Type": "text/event-stream"})
    rest = [] if status == "COMPLETED" else [stream(block(END | {"seq": 1}, 1))]
    events, _ = read(nothing, nothing, task, *rest)
    assert len(events) == len(rest)


def test_a_stream_that_has_moved_on_the_same_server() -> None:
    moved = Answer(b"", 301, {"Location": "/api/v1/elsewhere"})
    with FaultServer([moved, stream(block(END))]) as server:
        assert list(BeRayClient(server.url).stream_task_updates(1)) == [END]
        assert server.requests[1].path == "/api/v1/elsewhere"
        assert server.requests[1].headers["accept"] == "text/event-stream"


def test_a_stream_that_has_moved_to_another_server_ends() -> None:
    moved = Answer(b"", 301, {"Location": "http://localhost:1/x"})
    with FaultServer([moved]) as server, pytest.raises(InvalidResponseError, match="another"):
        next(BeRayClient(server.url).stream_task_updates(1))


def test_a_task_that_was_deleted_meanwhile_ends_as_not_found() -> None:
    with FaultServer([stream(block({"n": 1}, "a")), Answer(b'{"detail": "gone"}', 404)]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert next(updates) == {"n": 1}
        with pytest.raises(NotFoundError, match="gone"):
            next(updates)
        assert list(updates) == []


def test_a_busy_server_may_say_when_as_a_date() -> None:
    busy = Answer(b"{}", 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    far = Answer(b"{}", 503, {"Retry-After": "not a date"})
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
