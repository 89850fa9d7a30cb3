"""Tests of streamed runs: each ends with done or error, or raises."""

from __future__ import annotations

import gc
import json
import socket
import threading
from itertools import pairwise
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beray
from beray.gateway import (
    AuthenticationError,
    GatewayClient,
    GatewayTimeout,
    InvalidAnswer,
    PrefabNotFoundError,
    QuotaExceededError,
    RunInterrupted,
    RunOutcomeUnknown,
    ServiceUnavailableError,
    StreamEvent,
    StreamEventType,
)
from beray.gateway.runs import decode_events
from beray.testing import FaultServer, ScriptedResponse
from tests.gateway.gateway_responses import (
    DONE,
    SSE,
    START,
    TWO_LEVELS,
    event,
    failure_result,
    json_response,
    run_response,
    stream_response,
    success_result,
)
from tests.support import until


def run(server: FaultServer, **options: Any) -> Any:
    return GatewayClient("t", server.url, **options).run("p", "1", "f", {"x": 1}, stream=True)


def test_the_events_of_a_streamed_run() -> None:
    progress = event("progress", {"fraction": 0.5, "message": "half"})
    script = stream_response(
        START, b": life\n\n", event("content", ["any", None]), progress, DONE, event("content")
    )
    with FaultServer([script]) as server:
        events = list(run(server))
        request = server.requests[0]
    assert request.headers["accept"] == "text/event-stream"
    assert json.loads(request.body)["calls"][0]["inputs"] == {"parameters": {"x": 1}}
    assert [event.type for event in events] == ["start", "content", "progress", "done"]
    assert events[1].type is StreamEventType.CONTENT
    assert events[1].data == ["any", None]
    assert events[-1].data["output"] == TWO_LEVELS


def test_an_error_event_ends_the_stream() -> None:
    with FaultServer([stream_response(START, event("error", {"code": "CRASHED"}), DONE)]) as server:
        events = list(run(server))
    assert [event.type for event in events] == ["start", StreamEventType.ERROR]
    assert events[-1].data == {"code": "CRASHED"}


def test_events_of_unknown_types_are_kept() -> None:
    with FaultServer(
        [stream_response(event("thought", 1), b'data: {"type": "bare"}\n\n', DONE)]
    ) as server:
        events = list(run(server))
    assert events[:2] == [StreamEvent("thought", 1), StreamEvent("bare", None)]


def test_nothing_is_sent_before_the_first_event_is_requested() -> None:
    with FaultServer([stream_response(START, DONE)]) as server:
        stream = run(server)
        assert server.requests == []
        with stream as events:
            assert next(events).type == "start"
        assert list(stream) == []
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"no json",
        b"[]",
        b'"text"',
        b"7",
        b'{"type": 1}',
        b"{",
        b"[" * 99_999,
    ],
)
def test_a_malformed_event_raises(data: bytes) -> None:
    with FaultServer([stream_response(START, b"data: " + data + b"\n\n", DONE)]) as server:
        stream = run(server)
        assert next(stream).type == "start"
        with pytest.raises(InvalidAnswer) as caught:
            next(stream)
    assert data[:20].decode() in caught.value.body
    assert list(stream) == []


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_a_stream_that_is_interrupted_at_any_byte_raises(framing: Any) -> None:
    content = event("start", 1) + event("done", None)
    first = len(event("start", 1))
    cuts = range(len(content))
    script = [
        ScriptedResponse([content], headers=SSE, framing=framing, drop_at=cut) for cut in cuts
    ]
    with FaultServer(script) as server:
        for cut in cuts:
            types = []
            with pytest.raises(RunInterrupted) as caught:
                for received in run(server):
                    types.append(received.type)  # noqa: PERF401 - it raises in the middle
            assert types == (["start"] if cut >= first else []), cut
            assert isinstance(caught.value, beray.StreamInterrupted)
        assert len(server.requests) == len(content)


def test_a_stream_without_done_or_error_raises() -> None:
    with FaultServer([stream_response(START, event("content", 1))]) as server:
        stream = run(server)
        assert [next(stream).type, next(stream).type] == ["start", "content"]
        with pytest.raises(RunInterrupted, match="after 2 events"):
            next(stream)
        assert len(server.requests) == 1
        assert isinstance(RunInterrupted("m"), ServiceUnavailableError)


def test_silence_ends_a_stream_but_comments_keep_it_open() -> None:
    with FaultServer([]) as server:
        server.add_responses(stream_response(START, *[b": life\n\n"] * 6, DONE, pause=0.15))
        assert len(list(run(server, idle=0.6))) == 2
        server.add_responses(stream_response(START, DONE, stall_at=len(START)))
        stream = run(server, idle=0.3)
        assert next(stream).type == "start"
        with pytest.raises(GatewayTimeout):
            next(stream)


def test_a_silent_gateway_raises_and_is_not_asked_again() -> None:
    with FaultServer(
        [ScriptedResponse(b"", stall_at=0, headers={"Content-Length": "5"})]
    ) as server:
        stream = run(server, idle=0.3)
        with pytest.raises(GatewayTimeout):
            next(stream)
        assert len(server.requests) == 1


def test_a_run_without_a_response_is_not_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        accepted: list[bytes] = []

        def drop() -> None:
            connection, _ = listener.accept()
            with connection:
                accepted.append(connection.recv(65536))

        thread = threading.Thread(target=drop)
        thread.start()
        with pytest.raises(RunOutcomeUnknown):
            next(GatewayClient("t", url).run("p", "1", "f", stream=True))
        thread.join()
        assert len(accepted) == 1
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (401, AuthenticationError),
        (404, PrefabNotFoundError),
        (429, QuotaExceededError),
        (503, ServiceUnavailableError),
    ],
)
def test_an_error_response_raises_at_the_first_event(
    status: int, error_class: type[Exception]
) -> None:
    with FaultServer([json_response({"detail": "no"}, status, **{"Retry-After": "0"})]) as server:
        stream = run(server)
        with pytest.raises(error_class):
            next(stream)
        assert len(server.requests) == 1  # the client never repeats a streamed run


def test_a_streamed_run_may_be_answered_with_json() -> None:
    with FaultServer(
        [run_response(success_result()), run_response(failure_result("TIMEOUT"))]
    ) as server:
        good, bad = list(run(server)), list(run(server))
    assert [event.type for event in good] == ["start", "done"]
    assert good[0].data == {"job_id": "j1"}
    assert good[1].data == {"job_id": "j1", "status": "SUCCESS", "output": TWO_LEVELS}
    assert [event.type for event in bad] == ["start", "error"]
    assert bad[1].data["code"] == "TIMEOUT"


def test_a_web_page_is_not_a_stream() -> None:
    page = ScriptedResponse(b"<html>sign in", headers={"Content-Type": "text/html"})
    with FaultServer([page]) as server, pytest.raises(InvalidAnswer) as caught:
        list(run(server))
    assert caught.value.body == "<html>sign in"


def _sockets() -> int:
    connections = psutil.Process().net_connections("tcp")
    return sum(connection.status == "ESTABLISHED" for connection in connections)


def test_leaving_a_loop_releases_the_connection() -> None:
    script = stream_response(START, *[event("content", 1)] * 3, b"data: ", stall_at=len(START) + 40)
    gc.collect()
    before = _sockets()
    with FaultServer([script, script, stream_response(START, DONE)]) as server:
        client = GatewayClient("t", server.url)
        for _ in client.run("p", "1", "f", stream=True):
            break
        until(lambda: _client_sockets(server) == 0)
        with client.run("p", "1", "f", stream=True) as events:
            next(events)
        until(lambda: _client_sockets(server) == 0)
        assert len(list(client.run("p", "1", "f", stream=True))) == 2
    until(lambda: _sockets() <= before)


def _client_sockets(server: FaultServer) -> int:
    port = int(server.url.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return sum(
        bool(connection.raddr)
        and connection.raddr.port == port
        and connection.status == "ESTABLISHED"
        for connection in connections
    )


def test_closing_from_another_thread_ends_the_iteration() -> None:
    with FaultServer([stream_response(START, DONE, stall_at=len(START))]) as server:
        stream = run(server)
        rest: list[Any] = []
        assert next(stream).type == "start"
        thread = threading.Thread(target=lambda: rest.extend(stream))
        thread.start()
        assert server.stalled.wait(10)
        stream.close()
        thread.join(10)
        assert not thread.is_alive()
        assert rest == []


def test_closing_while_the_gateway_is_silent() -> None:
    with FaultServer(
        [ScriptedResponse(b"", stall_at=0, headers={"Content-Length": "5"} | SSE)]
    ) as server:
        stream = run(server)
        rest: list[Any] = []
        thread = threading.Thread(target=lambda: rest.extend(stream))
        thread.start()
        assert server.stalled.wait(10)
        stream.close()
        thread.join(10)
        assert not thread.is_alive()


def test_events_beyond_the_size_limit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    from beray.streaming import sse

    class Small(sse.Parser):
        def __init__(self) -> None:
            super().__init__(100)

    monkeypatch.setattr("beray.gateway.runs.sse.Parser", Small)
    endless = stream_response(START, b"data: " + b"x" * 200)
    with FaultServer([endless]) as server, pytest.raises(InvalidAnswer, match="larger"):
        list(run(server))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text(min_size=1), json_values), max_size=8),
    st.lists(st.integers(0, 2000), max_size=20),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_events_do_not_depend_on_the_chunks(
    events: list[tuple[str, Any]], cuts: list[int], newline: str
) -> None:
    lines = "".join(
        f": c\n\ndata: {json.dumps({'type': event_type, 'data': data}, ensure_ascii=False)}\n\n"
        for event_type, data in events
    )
    content = lines.replace("\n", newline).encode("utf-8", "surrogatepass")
    offsets = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    chunks = [content[a:b] for a, b in pairwise(offsets)]
    assert [(event.type, event.data) for event in decode_events(chunks)] == events
