"""The sender of a request is authenticated before its body is read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import psutil
import pytest
import requests

from beray.server.api.middleware import ANONYMOUS_BODY_BYTES, MAX_BODY_BYTES
from beray.testing import RunningServer, access_token, authorization
from tests.gateway_support import Agent
from tests.raw_http import RawConnection, RawResponse

MIB = 1024 * 1024
PUBLIC = {
    ("GET", "/healthz"): 200,
    ("GET", "/readyz"): 200,
    ("POST", "/api/v1/auth/request-verification-code"): 413,
    ("POST", "/api/v1/auth/register"): 413,
    ("POST", "/api/v1/auth/login"): 413,
    ("POST", "/api/v1/auth/token"): 413,
    ("POST", "/api/v1/auth/request-password-reset"): 413,
    ("POST", "/api/v1/auth/reset-password"): 413,
    ("POST", "/api/v1/auth/setup"): 413,
    ("GET", "/setup"): 200,
    ("POST", "/v1/auth/convert_to_internal_token"): 401,
}
"""Requests that need no token, and the response to a body of which only the length was sent."""
HIDDEN = [
    ("HEAD", "/api/v1/tasks/1/files/content?path=a", 401),
    ("PUT", "/internal/objects/a", 403),
    ("POST", "/internal/objects/a", 403),
    ("POST", "/nonesuch", 404),
    ("PUT", "/api/v1/nonesuch", 404),
    ("PATCH", "/api/v1/tasks/1", 405),
    ("POST", "/api/v1/tasks", 307),
    ("POST", "/openapi.json", 405),
]
LENGTHS = {
    "declared": b"Content-Length: 10000000\r\n",
    "beyond-the-limit": b"Content-Length: 1000000000000\r\n",
    "chunked": b"Transfer-Encoding: chunked\r\n",
}
TYPES = ["application/json", "multipart/form-data; boundary=b", "application/x-www-form-urlencoded"]


def calls(server: RunningServer) -> Iterator[tuple[str, str]]:
    schema = requests.get(f"{server.url}/openapi.json", timeout=30).json()
    for path, methods in schema["paths"].items():
        for method in methods:
            yield method.upper(), path.replace("{task_id}", "1").replace("{key_id}", "1")


def answer(
    server: RunningServer, method: str, path: str, headers: bytes, body: bytes = b""
) -> RawResponse:
    """Return the answer to a request whose body is incomplete."""
    with RawConnection(server.url) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: ".encode() + b"{host}\r\n" + headers
        connection.send(head + b"\r\n" + body)
        return connection.read_response(to_head=method == "HEAD")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_call_is_answered_before_its_body_is_sent(
    length: str, kind: str, beray_server: RunningServer
) -> None:
    headers = f"Content-Type: {kind}\r\n".encode() + LENGTHS[length]
    found = 0
    for method, path in calls(beray_server):
        expected = PUBLIC.get((method, path), 401)
        if expected == 413 and length == "chunked":
            continue  # how long it is cannot be known before
        found += 1
        status = answer(beray_server, method, path, headers).status
        if path == "/api/v1/auth/token" and kind == "application/json":
            assert status == 422, "the content type alone shows that it cannot be read"
        else:
            assert status == expected, (method, path)
    assert found > 30
    for method, path, expected in HIDDEN:
        assert answer(beray_server, method, path, headers).status == expected, (method, path)


@pytest.mark.parametrize(
    "credential",
    [b"Authorization: Bearer wrong\r\n", b"Authorization: Basic abc\r\n", b"Authorization: Bearer\r\n",
     b"X-Internal-Token: wrong\r\n", b"X-Internal-Token:\r\n", b"Authorization: Bearer sk-wrong\r\n"],
)  # fmt: skip
def test_a_wrong_credential_is_rejected_before_the_body(
    credential: bytes, beray_server: RunningServer
) -> None:
    headers = credential + b"Content-Type: application/json\r\nContent-Length: 9000000\r\n"
    for method, path in calls(beray_server):
        if (method, path) not in PUBLIC:
            assert answer(beray_server, method, path, headers).status == 401, (method, path)


def test_100_continue_is_not_sent_before_authentication(beray_server: RunningServer) -> None:
    expecting = (
        b"Content-Type: application/json\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n"
    )
    for method, path in calls(beray_server):
        if path == "/api/v1/auth/token":
            continue  # it takes forms only
        found = answer(beray_server, method, path, expecting)
        assert found.status == PUBLIC.get((method, path), 401), (method, path)
        assert found.header("connection") == "close", "where the next request begins is not known"


def test_100_continue_is_sent_after_authentication(beray_server: RunningServer) -> None:
    client = beray_server.sign_up()
    body = json.dumps({"goal": "!true"}).encode()
    with RawConnection(beray_server.url) as connection:
        connection.send(
            b"POST /api/v1/tasks/ HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\n"
            + f"Authorization: Bearer {access_token(client)}\r\n".encode()
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        assert connection.read_response().status == 100
        connection.send(body)
        assert connection.read_response().status == 200


@pytest.mark.parametrize("path", ["/api/v1/auth/login", "/api/v1/auth/token"])
def test_a_body_without_a_length_ends_at_the_limit(path: str, beray_server: RunningServer) -> None:
    chunk = b"%x\r\n" % ANONYMOUS_BODY_BYTES + b" " * ANONYMOUS_BODY_BYTES + b"\r\n"
    kind = b"application/json" if path.endswith("login") else b"application/x-www-form-urlencoded"
    headers = b"Content-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n"
    assert answer(beray_server, "POST", path, headers, chunk + b"1\r\n \r\n").status == 413


def test_limits_of_bodies(beray_server: RunningServer) -> None:
    login = f"{beray_server.url}/api/v1/auth/login"

    def padded(fields: dict[str, str], size: int) -> bytes:
        body = json.dumps(fields).encode()
        return body + b" " * (size - len(body))

    def post(url: str, fields: dict[str, str], size: int, **headers: str) -> int:
        kind = {"Content-Type": "application/json"}
        body = padded(fields, size)
        return requests.post(url, body, headers=kind | headers, timeout=60).status_code

    fields = {"email": "stranger@example.test", "password": "wrong password"}
    assert post(login, fields, ANONYMOUS_BODY_BYTES) == 401
    assert post(login, fields, ANONYMOUS_BODY_BYTES + 1) == 413
    signed_in = authorization(beray_server.sign_up())
    tasks = f"{beray_server.url}/api/v1/tasks/"
    assert post(tasks, {"goal": "!true"}, MAX_BODY_BYTES, **signed_in) == 200
    assert post(tasks, {"goal": "!true"}, MAX_BODY_BYTES + 1, **signed_in) == 413
    assert post(tasks, {"goal": "!true"}, MAX_BODY_BYTES + 1) == 401


def test_unauthenticated_senders_use_no_memory(beray_server: RunningServer) -> None:
    process = psutil.Process(beray_server.pid)
    paths = ["/api/v1/tasks/", "/v1/internal/run", "/internal/files/upload", "/api/v1/auth/login"]
    block = b" " * MIB
    before = process.memory_info().rss
    with contextlib.ExitStack() as opened:
        for number in range(40):
            connection = opened.enter_context(RawConnection(beray_server.url))
            path = paths[number % len(paths)]
            connection.send(
                f"POST {path} HTTP/1.1\r\nHost: ".encode()
                + b"{host}\r\nContent-Type: application/json\r\nContent-Length: 16000000\r\n\r\n"
            )
            with contextlib.suppress(OSError):  # it is answered, and the rest is not wanted
                for _ in range(4):
                    connection.socket.sendall(block)
            assert connection.read_response().status in (401, 413)
        assert process.memory_info().rss - before < 32 * MIB


def test_a_connection_can_be_reused_after_an_error_response(beray_server: RunningServer) -> None:
    with RawConnection(beray_server.url) as connection:
        body = b" " * 100_000
        connection.send(
            b"POST /api/v1/tasks/ HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000\r\n\r\n"
            + body
            + b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"
        )
        assert [connection.read_response().status for _ in range(2)] == [401, 200]


def test_a_published_client_reads_the_error_response_to_a_large_body(
    beray_server: RunningServer,
) -> None:
    url = f"{beray_server.url}/api/v1/tasks/1/files/content?path=a"
    assert requests.put(url, b" " * 10 * MIB, timeout=60).status_code == 401
    refused = Agent.new(beray_server)
    form = {"file": ("a", b" " * 10 * MIB)}
    url = f"{beray_server.url}/internal/files/upload"
    assert requests.post(url, files=form, timeout=60).status_code == 401
    assert refused.call("POST", "/internal/files/upload", files=form).status_code == 200
