"""Retries of requests, depending on whether the server may have processed them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from beray import (
    APIError,
    BeRayClient,
    ConnectionFailed,
    DeadlineExceeded,
    OutcomeUnknown,
    RateLimitError,
)
from beray.http.retry import backoff
from beray.testing import FaultServer, ScriptedResponse, raw_request
from beray.testing.server import free_port

TASK = json.dumps({"id": 1, "goal": "g", "status": "QUEUED"}).encode()
MESSAGE = b'{"message": "m"}'
DROPPED = ScriptedResponse(b"x" * 10, drop_at=0, reset=True)
KEYS = {"X-Idempotency-Seconds": "86400"}


def calls(server: FaultServer) -> list[str]:
    return [
        f"{request.method} {request.path.removeprefix('/api/v1')}" for request in server.requests
    ]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda c: c.get_task(1), TASK),
        (lambda c: c.delete_task(1), b'{"status": "s", "message": "m"}'),
        (lambda c: c.upload_file(1, "f", b"1"), b'{"message": "m", "path": "f", "size": 1}'),
    ],
)
@pytest.mark.parametrize(
    "fault",
    [
        DROPPED,
        ScriptedResponse(b"x", 500),
        ScriptedResponse(b"x", 502),
        ScriptedResponse(b"x", 503),
        ScriptedResponse(b"x", 504),
    ],
)
def test_idempotent_requests_are_retried(
    call: Callable[[BeRayClient], Any], answer: bytes, fault: ScriptedResponse
) -> None:
    with FaultServer([fault, fault, ScriptedResponse(answer)]) as server:
        assert call(BeRayClient(server.url)) == json.loads(answer)
        assert len(server.requests) == 3


def test_a_get_is_retried_after_a_timeout() -> None:
    with FaultServer([ScriptedResponse(TASK, stall_at=3), ScriptedResponse(TASK)]) as server:
        assert BeRayClient(server.url, timeout=(5, 0.1)).get_task(1)["id"] == 1


def test_the_number_of_retries_is_limited() -> None:
    with FaultServer([ScriptedResponse(b"{}", 503)] * 20) as server:
        with pytest.raises(APIError):
            BeRayClient(server.url, max_retries=2).list_tasks()
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int) -> None:
    busy = ScriptedResponse(b"{}", status, {"Retry-After": "0"})
    with FaultServer([busy, busy, ScriptedResponse(TASK)]) as server:
        assert BeRayClient(server.url).create_task("g")["id"] == 1
        assert calls(server) == ["POST /tasks/"] * 3


def test_a_longer_retry_after_is_final() -> None:
    with FaultServer([ScriptedResponse(b"{}", 429, {"Retry-After": "61"})]) as server:
        with pytest.raises(RateLimitError):
            BeRayClient(server.url).list_tasks()
        assert len(server.requests) == 1


def test_sign_in_is_not_retried_after_an_error_response() -> None:
    busy = ScriptedResponse(b'{"detail": "ask again in 30 s"}', 429, {"Retry-After": "30"})
    with FaultServer([busy, busy]) as server:
        client = BeRayClient(server.url)
        with pytest.raises(RateLimitError, match="ask again"):
            client.request_verification_code("a@b.example")
        with pytest.raises(RateLimitError):
            client.login("a@b.example", "p")


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_post_with_a_response_is_not_retried(status: int) -> None:
    with FaultServer([ScriptedResponse(b"{}", status)]) as server:
        with pytest.raises(APIError):
            BeRayClient(server.url).create_task("g")
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [DROPPED, ScriptedResponse(TASK, stall_at=0)])
def test_a_post_with_an_unknown_outcome_is_not_retried(fault: ScriptedResponse) -> None:
    plain = ScriptedResponse(b'{"id": 1, "email": "e"}')
    with FaultServer([fault, plain]) as server:
        with pytest.raises(OutcomeUnknown, match="POST /tasks/") as caught:
            BeRayClient(server.url, timeout=(5, 0.2)).create_task("g")
        assert calls(server) == ["POST /tasks/", "GET /users/me"]
    assert (caught.value.method, caught.value.path) == ("POST", "/tasks/")
    assert isinstance(caught.value, ConnectionFailed)


def test_no_other_post_is_retried() -> None:
    with FaultServer([DROPPED]) as server:
        with pytest.raises(OutcomeUnknown, match="POST /tasks/1/stop"):
            BeRayClient(server.url).stop_task(1)
        assert calls(server) == ["POST /tasks/1/stop"]


def test_a_post_with_an_honoured_key_is_retried() -> None:
    me = ScriptedResponse(b'{"detail": "no"}', 401, KEYS)
    with FaultServer([DROPPED, me, DROPPED, ScriptedResponse(TASK)]) as server:
        assert BeRayClient(server.url).create_task("g")["id"] == 1
        assert calls(server) == ["POST /tasks/", "GET /users/me", "POST /tasks/", "POST /tasks/"]
        posts = [request for request in server.requests if request.method == "POST"]
        assert len({request.headers["idempotency-key"] for request in posts}) == 1


def test_each_creation_has_its_own_key() -> None:
    with FaultServer([ScriptedResponse(TASK), ScriptedResponse(TASK)]) as server:
        client = BeRayClient(server.url)
        client.create_task("g")
        client.create_task("g")
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


def test_a_refused_connection_is_retried() -> None:
    port = free_port()
    listening = threading.Event()
    answered: list[bytes] = []

    def late() -> None:
        with socket.create_server(("127.0.0.1", port)) as listener:
            listening.set()
            connection, _ = listener.accept()
            with connection:
                answered.append(connection.recv(65536))
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(TASK)}\r\n\r\n"
                connection.sendall(head.encode() + TASK)

    client = BeRayClient(f"http://127.0.0.1:{port}", max_retries=10)
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(client.create_task, "g")
        thread = threading.Timer(0.2, late)
        thread.start()
        assert creating.result(30)["id"] == 1
    thread.join()
    assert len(answered) == 1


def test_a_request_has_its_own_deadline() -> None:
    trickle = ScriptedResponse([b" "] * 200 + [TASK], framing="chunked", pause=0.02)
    with FaultServer([trickle] * 5) as server, pytest.raises(DeadlineExceeded):
        BeRayClient(server.url, deadline=0.3).list_tasks()


def test_an_upload_of_a_file_starts_over(tmp_path: Any) -> None:
    local = tmp_path / "f"
    local.write_bytes(b"0123456789" * 1000)
    answer = ScriptedResponse(b'{"message": "m", "path": "f", "size": 10000}')
    with FaultServer([ScriptedResponse(b"x", 503), answer]) as server:
        assert BeRayClient(server.url).upload_path(1, local)["size"] == 10000
        assert [request.body for request in server.requests] == [local.read_bytes()] * 2


def test_backoff_doubles_with_jitter_up_to_a_limit() -> None:
    for attempt in range(1, 40):
        waits = [backoff(attempt, 0.5, 8.0) for _ in range(50)]
        ceiling = min(0.5 * 2 ** (attempt - 1), 8.0)
        assert all(ceiling / 2 <= wait <= ceiling for wait in waits)
        assert len(set(waits)) > 1


@pytest.mark.parametrize("count", [8, pytest.param(32, marks=pytest.mark.long)])
def test_threads_share_a_client(beray_client: BeRayClient, count: int) -> None:
    def work(number: int) -> bool:
        task = beray_client.create_task(f"!cat in; echo {number}", start=False)
        beray_client.upload_file(task["id"], "in", f"<{number}>")
        beray_client.start_task(task["id"])
        events = list(beray_client.stream_task_updates(task["id"]))
        text = "".join(str(event.get("text", "")) for event in events)
        seqs = [event["seq"] for event in events]
        return text == f"<{number}>{number}\n" and seqs == list(range(1, len(seqs) + 1))

    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(work, range(count + 2)))
    assert len(beray_client.list_tasks()) == count + 2


def test_a_beray_server_creates_one_task_per_key(beray_client: BeRayClient) -> None:
    body = {"goal": "!echo once", "tools": None}

    def create(body: Any) -> requests.Response:
        headers = {"Idempotency-Key": "k1"}
        return raw_request(beray_client, "POST", "/api/v1/tasks/", json=body, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        ids = {made.json()["id"] for made in pool.map(create, [body] * 16)}
    assert len(ids) == 1
    assert [task["id"] for task in beray_client.list_tasks()] == list(ids)
    assert create({"goal": "!echo twice"}).status_code == 422
    beray_client.delete_task(ids.pop())
    assert create(body).status_code == 409


def test_an_upload_has_no_deadline() -> None:
    slow = ScriptedResponse([b'{"message": "m", "path": "f",', b' "size": 1}'], pause=0.2)
    with FaultServer([slow]) as server:
        assert BeRayClient(server.url, deadline=0.1).upload_file(1, "f", b"x")["size"] == 1
