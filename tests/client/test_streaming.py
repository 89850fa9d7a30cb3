"""Stream of a task: every event once and in order, up to its terminal status."""

from __future__ import annotations

import json
import random
import socket
import threading
import zlib
from pathlib import Path
from typing import Any

import psutil
import pytest

from beray import (
    APIError,
    AuthenticationError,
    BeRayClient,
    ConnectionFailed,
    InvalidResponseError,
    NotFoundError,
    StreamGapError,
    StreamInterrupted,
    StreamState,
)
from beray.http import retry
from beray.streaming import reconnect as reconnecting
from beray.streaming import sse
from beray.testing import FaultServer, RunningServer, ScriptedResponse
from tests.support import done

SSE = {"Content-Type": "text/event-stream"}
FAST = b"retry: 1\n\n"


def reconnect_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a fixed delay before each reconnection."""
    monkeypatch.setattr(retry, "backoff", lambda *_: seconds)


def event(seq: int, status: str | None = None) -> dict[str, Any]:
    body = {"type": "TASK_STATUS", "status": status} if status else {"type": "X", "text": "ü\n"}
    return {"seq": seq, "task_id": 1, **body}


EVENTS = [event(1, "QUEUED"), event(2), event(3), event(4, "COMPLETED")]


def wire(*events: dict[str, Any], ids: bool = True) -> bytes:
    blocks = [
        (f"id: {item['seq']}\n" if ids else "")
        + f"data: {json.dumps(item, ensure_ascii=False)}\n\n"
        for item in events
    ]
    return "".join(blocks).encode()


def stream(*bodies: ScriptedResponse) -> list[ScriptedResponse]:
    return list(bodies)


def answer(body: bytes | list[bytes], **options: Any) -> ScriptedResponse:
    return ScriptedResponse(body, headers=SSE, **({"framing": "chunked"} | options))


def test_events_in_order_until_the_terminal_status() -> None:
    with FaultServer([answer(FAST + wire(*EVENTS) + b"data: never given\n\n")]) as server:
        updates = BeRayClient(server.url, "tok").stream_task_updates(1)
        assert list(updates) == EVENTS
        assert updates.state is StreamState.ENDED
        assert updates.last_event_id == "4"
        assert server.requests[0].headers["accept"] == "text/event-stream"
        assert server.requests[0].headers["authorization"] == "Bearer tok"
        assert "last-event-id" not in server.requests[0].headers


SHORT: list[dict[str, Any]] = [{"seq": 1, "a": "é"}, {"seq": 2, "status": "STOPPED"}]


def framed(pieces: list[bytes], framing: str, cut: int) -> ScriptedResponse:
    """Return a response with these pieces, truncated after a number of encoded bytes."""
    if framing == "gzip":
        # Flushed after each piece, as servers that compress a stream must do.
        zipper = zlib.compressobj(wbits=31)
        zipped = [zipper.compress(piece) + zipper.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        return ScriptedResponse(zipped, headers=SSE | {"Content-Encoding": "gzip"}, drop_at=cut)
    if framing == "bytewise":
        whole = b"".join(pieces)
        single = [whole[at : at + 1] for at in range(len(whole))]
        return ScriptedResponse(single, headers=SSE, framing="chunked", drop_at=cut)
    return answer(b"".join(pieces), framing=framing, drop_at=cut)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("framing", ["chunked", "bytewise", "close", "length", "gzip"])
def test_a_cut_at_any_byte_loses_nothing_and_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch, framing: str, newline: bytes
) -> None:
    reconnect_after(0.0, monkeypatch)
    pieces = [part.replace(b"\n", newline) for part in (b": hello\n\n", *map(wire, SHORT))]
    body = framed(pieces, framing, 0).body
    length = len(body) if isinstance(body, bytes) else sum(map(len, body))
    with FaultServer([]) as server:
        client = BeRayClient(server.url)
        for cut in range(0, length, 5 if framing == "bytewise" else 1):
            given: list[Any] = []

            def go_on(state: StreamState, given: list[Any] = given) -> None:
                if state is StreamState.RECONNECTING:
                    server.add_responses(answer(wire(*SHORT[len(given) :])))

            server.requests.clear()
            server.add_responses(framed(pieces, framing, cut))
            for item in client.stream_task_updates(1, on_state=go_on):
                given.append(item)  # noqa: PERF402 - on_state reads the list meanwhile
            assert given == SHORT, cut
            # Bytes after the last event are not needed.
            assert len(server.requests) == 2 or cut > length - 32
            assert "last-event-id" not in server.requests[0].headers


def test_restarts_of_a_real_server_lose_nothing(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        goal = "!i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); sleep 0.001; done"
        events = done(client, goal)
        generator = random.Random(7)
        breaks = sorted(generator.sample(range(1, len(events) - 1), 2))
        seen: list[Any] = []
        for update in client.stream_task_updates(events[0]["task_id"]):
            seen.append(update)
            if breaks and len(seen) == breaks[0]:
                breaks.pop(0)
                generator.choice([server.kill, server.stop])()
                server.restart()
        assert seen == events
        assert not breaks


def test_repeated_events_are_dropped() -> None:
    script = [answer(FAST + wire(*EVENTS[:2]), drop_at=None), answer(wire(*EVENTS))]
    with FaultServer(script) as server:
        assert list(BeRayClient(server.url).stream_task_updates(1)) == EVENTS


def test_an_orderly_close_before_the_end_is_a_failure() -> None:
    with FaultServer([answer(FAST + wire(*EVENTS[:3])), answer(wire(EVENTS[3]))]) as server:
        assert list(BeRayClient(server.url).stream_task_updates(1)) == EVENTS


def test_a_stream_can_start_after_any_event() -> None:
    with FaultServer([answer(wire(*EVENTS[2:]))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, last_event_id="2")
        assert list(updates) == EVENTS[2:]
        assert server.requests[0].headers["last-event-id"] == "2"


def test_a_gap_causes_a_reconnection() -> None:
    script = [answer(FAST + wire(EVENTS[0], EVENTS[2])), answer(wire(*EVENTS[1:]))]
    with FaultServer(script) as server:
        assert list(BeRayClient(server.url).stream_task_updates(1)) == EVENTS


def test_a_persistent_gap_is_an_error_with_both_numbers() -> None:
    gap = answer(FAST + wire(EVENTS[0], EVENTS[2]))
    with FaultServer([gap, gap]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert next(updates) == EVENTS[0]
        with pytest.raises(StreamGapError) as caught:
            next(updates)
        assert (caught.value.expected, caught.value.received) == (2, 3)


def test_a_truncated_stream_without_ids_is_an_error() -> None:
    plain: list[Any] = [{"step": 1}, {"step": 2}]
    body = b"".join(b"data: %s\n\n" % json.dumps(item).encode() for item in plain)
    with FaultServer([answer(body + b"data: {}", drop_at=len(body) + 5)]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert [next(updates), next(updates)] == plain
        with pytest.raises(StreamInterrupted, match="2 events"):
            next(updates)


@pytest.mark.parametrize("status", ["COMPLETED", "RUNNING"])
def test_an_orderly_end_without_ids_is_checked_against_the_task(status: str) -> None:
    task = json.dumps({"id": 1, "goal": "g", "status": status}).encode()
    script = [answer(b'data: {"step": 1}\n\n'), ScriptedResponse(task)]
    with FaultServer(script) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        first: Any = next(updates)
        assert first == {"step": 1}
        if status == "COMPLETED":
            assert list(updates) == []
        else:
            with pytest.raises(StreamInterrupted):
                next(updates)


def test_a_published_mock_of_a_stream_with_a_final_status_ends() -> None:
    body = b'data: {"status": "RUNNING"}\n\ndata: {"status": "COMPLETED"}\n\n'
    with FaultServer([answer(body)]) as server:
        updates = list(BeRayClient(server.url).stream_task_updates(1))
    assert updates == [{"status": "RUNNING"}, {"status": "COMPLETED"}]


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (404, NotFoundError)])
def test_an_error_response_after_a_reconnection_is_raised(
    status: int, kind: type[Exception]
) -> None:
    with FaultServer([answer(FAST + wire(EVENTS[0])), ScriptedResponse(b"{}", status)]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        next(updates)
        with pytest.raises(kind):
            next(updates)


def test_retry_after_delays_the_reconnection() -> None:
    busy = ScriptedResponse(b"{}", 503, {"Retry-After": "0"})
    with FaultServer([busy, answer(FAST + wire(*EVENTS))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert list(updates) == EVENTS


def test_silence_counts_as_a_failure() -> None:
    body = FAST + wire(*EVENTS)
    cut = len(FAST + wire(*EVENTS[:2]))
    with FaultServer([answer(body, stall_at=cut), answer(wire(*EVENTS[2:]))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, idle=0.2)
        assert list(updates) == EVENTS


def test_the_stream_is_given_up_if_the_server_stays_unreachable() -> None:
    with FaultServer([answer(FAST + wire(EVENTS[0]))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, reconnect=0.05)
        next(updates)
    with pytest.raises(ConnectionFailed):
        next(updates)


@pytest.mark.parametrize("data", ["nonsense", "[1]", '"x"', "NaN{"])
def test_an_event_that_is_not_an_object_is_an_error(data: str) -> None:
    with FaultServer([answer(f"data: {data}\n\n".encode())]) as server:
        with pytest.raises(InvalidResponseError) as caught:
            next(BeRayClient(server.url).stream_task_updates(1))
        assert caught.value.body == data


def test_close_from_another_thread_ends_a_blocked_reader() -> None:
    body = FAST + wire(*EVENTS)
    with FaultServer([answer(body, stall_at=len(FAST + wire(EVENTS[0])))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert next(updates) == EVENTS[0]
        rest: list[Any] = []
        reader = threading.Thread(target=lambda: rest.extend(updates))
        reader.start()
        assert server.stalled.wait(10)
        updates.close()
        reader.join(10)
        assert not reader.is_alive()
        assert rest == []
        assert updates.state is StreamState.ENDED


def test_close_ends_the_wait_for_a_reconnection() -> None:
    reconnecting = threading.Event()

    def seen(state: StreamState) -> None:
        if state is StreamState.RECONNECTING:
            reconnecting.set()

    with FaultServer([answer(b"retry: 60000\n\n" + wire(EVENTS[0]))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, on_state=seen)
        next(updates)
        reader = threading.Thread(target=lambda: list(updates))
        reader.start()
        assert reconnecting.wait(10)
        updates.close()
        reader.join(10)
        assert not reader.is_alive()


def test_state_changes_are_reported() -> None:
    states: list[StreamState] = []
    with FaultServer([answer(FAST + wire(*EVENTS[:2])), answer(wire(*EVENTS[2:]))]) as server:
        list(BeRayClient(server.url).stream_task_updates(1, on_state=states.append))
    assert states == ["live", "reconnecting", "connecting", "live", "ended"]


def test_a_context_manager_closes_it() -> None:
    with FaultServer([answer(FAST + wire(*EVENTS))]) as server:
        with BeRayClient(server.url).stream_task_updates(1) as updates:
            next(updates)
        assert list(updates) == []


def test_leaving_a_loop_releases_the_connection() -> None:
    body = FAST + wire(*EVENTS)
    with FaultServer([answer(body, stall_at=len(FAST + wire(EVENTS[0])))]) as server:
        client = BeRayClient(server.url)
        for _ in client.stream_task_updates(1):
            break
        port = int(server.url.rpartition(":")[2])
        left = [
            connection
            for connection in psutil.Process().net_connections()
            if connection.raddr and connection.raddr.port == port
        ]
        assert [connection for connection in left if connection.status == "ESTABLISHED"] == []


def test_close_while_the_server_does_not_respond() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        updates = BeRayClient(url).stream_task_updates(1)
        reader = threading.Thread(target=lambda: list(updates), daemon=True)
        reader.start()
        connection, _ = silent.accept()
        updates.close()  # returns even if the reader is blocked
        connection.close()
        reader.join(10)
        assert not reader.is_alive()


def test_an_event_above_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.Parser.__init__, "__defaults__", (1000,))
    script = [answer(b"data: " + b"x" * 2000)]
    with FaultServer(script) as server, pytest.raises(InvalidResponseError, match="larger than"):
        next(BeRayClient(server.url).stream_task_updates(1))


@pytest.mark.parametrize("framing", ["chunked", "bytewise", "close", "length", "gzip", "deflate"])
def test_an_event_is_yielded_when_its_last_byte_has_arrived(framing: str) -> None:
    pieces = [wire(event(seq)) for seq in range(1, 6)]
    encoding = framing if framing in ("gzip", "deflate") else None
    zipper = zlib.compressobj(wbits=31 if framing == "gzip" else 15)
    if encoding:
        pieces = [zipper.compress(piece) + zipper.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    elif framing == "bytewise":
        whole = b"".join(pieces)
        pieces = [whole[at : at + 1] for at in range(len(whole))]
    size = sum(map(len, pieces))
    # More bytes are announced and never arrive; the fifth event must be yielded regardless.
    headers = SSE | ({"Content-Encoding": encoding} if encoding else {})
    kind: Any = {"bytewise": "chunked", "gzip": "chunked", "deflate": "close"}.get(framing, framing)
    stalling = ScriptedResponse([*pieces, b"x" * 100], headers=headers, framing=kind, stall_at=size)
    with FaultServer([stalling]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, idle=20, reconnect=0.1)
        assert [next(updates)["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        updates.close()
        assert len(server.requests) == 1


def test_early_keep_alives_do_not_count_as_success(monkeypatch: pytest.MonkeyPatch) -> None:
    reconnect_after(0.01, monkeypatch)
    body = FAST + b": alive\n\n: alive\n\n" + wire(EVENTS[1])
    broken = answer(body, drop_at=len(body) - 1)
    script = [answer(FAST + wire(EVENTS[0])), *[broken] * 100]
    with FaultServer(script) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, reconnect=0.2)
        assert next(updates) == EVENTS[0]
        with pytest.raises(ConnectionFailed, match=r"failed \d+ times in a row, within 0.2 s"):
            list(updates)
        assert len(server.requests) > 2


@pytest.mark.parametrize(
    "failure", [ScriptedResponse(b'{"detail":"damaged"}', 500), answer(b": hi\n\n")]
)
def test_events_between_failures_stop_the_clock(
    monkeypatch: pytest.MonkeyPatch, failure: ScriptedResponse
) -> None:
    reconnect_after(0.03, monkeypatch)
    script: list[ScriptedResponse] = []
    for seq in range(1, 30):
        script += [answer(FAST + wire(event(seq))), failure]
    script.append(answer(wire(event(30, "COMPLETED"))))
    with FaultServer(script) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, reconnect=0.5)
        assert [update["seq"] for update in updates] == list(range(1, 31))


def test_an_idle_task_is_not_given_up_if_a_proxy_cuts_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnecting, "HEALTHY_SECONDS", 0.05)
    alive = answer([FAST, *[b": alive\n\n"] * 4], pause=0.03, drop_at=len(FAST) + 40, reset=True)
    with FaultServer([*[alive] * 12, answer(wire(*EVENTS))]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, reconnect=0.05)
        assert list(updates) == EVENTS
        assert updates.healthy_at > 0.0
        assert len(server.requests) == 13


def test_a_permanent_failure_is_raised_immediately() -> None:
    damaged = ScriptedResponse(b'{"detail":"damaged"}', 500, {"X-Should-Retry": "false"})
    with FaultServer([answer(FAST + wire(EVENTS[0])), damaged, damaged]) as server:
        client = BeRayClient(server.url)
        updates = client.stream_task_updates(1)
        assert next(updates) == EVENTS[0]
        with pytest.raises(APIError, match="damaged") as caught:
            next(updates)
        assert caught.value.is_permanent
        with pytest.raises(APIError, match="damaged"):
            client.get_task(1)
        assert len(server.requests) == 3
