"""Requests that can be read in more than one way are rejected, and their connection is closed."""

from __future__ import annotations

import json

import pytest
import requests

from beray.server.connections import request_head
from beray.testing import RunningServer, authorization
from tests.raw_http import RawConnection, send_raw

GET = b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n"
LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
CHUNKED = LOGIN + b"Transfer-Encoding: chunked\r\n\r\n"
INVALID = {
    "length-and-coding": LOGIN + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding-and-length": LOGIN + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two-lengths": LOGIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "equal-lengths": LOGIN + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "list-of-lengths": LOGIN + b"Content-Length: 2, 2\r\n\r\n{}",
    "signed-length": LOGIN + b"Content-Length: +2\r\n\r\n{}",
    "negative-length": LOGIN + b"Content-Length: -2\r\n\r\n{}",
    "hexadecimal-length": LOGIN + b"Content-Length: 0x2\r\n\r\n{}",
    "fraction": LOGIN + b"Content-Length: 2.0\r\n\r\n{}",
    "empty-length": LOGIN + b"Content-Length:\r\n\r\n{}",
    "huge-length": LOGIN + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "bare-lf-head": b"GET /healthz HTTP/1.1\nHost: {host}\n\n",
    "bare-lf-line": b"GET /healthz HTTP/1.1\r\nHost: {host}\nX: y\r\n\r\n",
    "bare-lf-request-line": b"GET /healthz HTTP/1.1\nHost: {host}\r\n\r\n",
    "bare-lf-end": GET + b"\n",
    "bare-cr": GET + b"X: a\rb\r\n\r\n",
    "lf-first": b"\n" + GET + b"\r\n",
    "folded": GET + b"X: a\r\n b\r\n\r\n",
    "folded-tab": GET + b"X: a\r\n\tb\r\n\r\n",
    "folded-length": LOGIN + b"Content-Length:\r\n 2\r\n\r\n{}",
    "folded-first": b"GET /healthz HTTP/1.1\r\n X: y\r\nHost: {host}\r\n\r\n",
    "space-before-colon": GET + b"X : a\r\n\r\n",
    "space-before-colon-of-length": LOGIN + b"Content-Length : 2\r\n\r\n{}",
    "tab-before-colon": GET + b"X\t: a\r\n\r\n",
    "no-colon": GET + b"X\r\n\r\n",
    "no-name": GET + b": a\r\n\r\n",
    "name-with-brackets": GET + b"X(y): a\r\n\r\n",
    "name-not-ascii": GET + b"X\xe9: a\r\n\r\n",
    "nul": GET + b"X: a\0b\r\n\r\n",
    "escape": GET + b"X: a\x1b[2Jb\r\n\r\n",
    "vertical-tab": GET + b"X: a\x0bb\r\n\r\n",
    "delete": GET + b"X: a\x7fb\r\n\r\n",
    "control-in-target": b"GET /heal\x01thz HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "space-in-target": b"GET /heal thz HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "two-spaces": b"GET  /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "lower-case-protocol": b"GET /healthz http/1.1\r\nHost: {host}\r\n\r\n",
    "no-host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two-hosts": GET + b"Host: {host}\r\n\r\n",
    "two-hosts-1.0": b"GET /healthz HTTP/1.0\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
    "empty-host": b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
    "host-with-a-path": b"GET /healthz HTTP/1.1\r\nHost: {host}/x\r\n\r\n",
    "host-with-a-user": b"GET /healthz HTTP/1.1\r\nHost: a@{host}\r\n\r\n",
    "list-of-hosts": b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
    "other-coding": LOGIN + b"Transfer-Encoding: gzip\r\n\r\n",
    "identity": LOGIN + b"Transfer-Encoding: identity\r\n\r\n",
    "list-of-codings": LOGIN + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked-twice": LOGIN + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two-codings": LOGIN + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "quoted-coding": LOGIN + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding-with-vertical-tab": LOGIN + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "empty-coding": LOGIN + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "coding-of-1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "chunk-size-0x": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "chunk-size-signed": CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    "chunk-size-negative": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "chunk-size-empty": CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
    "chunk-size-spaced": CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n",
    "chunk-size-trailing-space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "chunk-size-underscore": CHUNKED + b"0_2\r\n{}\r\n0\r\n\r\n",
    "chunk-size-huge": CHUNKED + b"1" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    "chunk-size-bare-lf": CHUNKED + b"2\n{}\r\n0\r\n\r\n",
    "chunk-extension-control": CHUNKED + b"2;a=\x01\r\n{}\r\n0\r\n\r\n",
    "chunk-extension-bare-lf": CHUNKED + b"2;a\n{}\r\n0\r\n\r\n",
    "chunk-longer-than-said": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "chunk-end-bare-lf": CHUNKED + b"2\r\n{}\n0\r\n\r\n",
    "chunk-line-endless": CHUNKED + b"2;" + b"a" * 2000,
    "trailer-folded": CHUNKED + b"2\r\n{}\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailer-bare-lf": CHUNKED + b"2\r\n{}\r\n0\r\nX: a\n\r\n",
    "trailer-length": CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 3\r\n\r\n",
    "trailer-space-before-colon": CHUNKED + b"2\r\n{}\r\n0\r\nX : a\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_request_is_rejected(name: str, beray_server: RunningServer) -> None:
    with RawConnection(beray_server.url) as connection:
        connection.send(INVALID[name])
        answer = connection.read_response()
        assert (answer.status, answer.header("connection")) == (400, "close")
        assert b"detail" in answer.body
        assert connection.ended()


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_request_after_a_valid_one_is_rejected(
    name: str, beray_server: RunningServer
) -> None:
    with RawConnection(beray_server.url) as connection:
        connection.send(GET + b"\r\n" + INVALID[name] + GET + b"\r\n")
        assert connection.read_response().status == 200
        assert connection.read_response().status == 400
        assert connection.ended()
        assert connection.received == b"", "nothing after it is answered"


@pytest.mark.parametrize("line", ["GET  /", "GET\t/\tHTTP/1.1", "GET / x HTTP/1.1", "GET /"])
def test_an_invalid_request_line_is_quoted(line: str, beray_server: RunningServer) -> None:
    answer = send_raw(beray_server.url, line.encode() + b"\r\nHost: {host}\r\n\r\n")
    assert answer.status == 400
    detail = json.loads(answer.body)["detail"]
    assert detail == f"The request is invalid: {line!r} is neither a request line nor a header."


@pytest.mark.parametrize("name", ["two-lengths", "bare-lf-line", "folded", "chunk-size-signed"])
def test_a_request_is_checked_however_it_arrives(name: str, beray_server: RunningServer) -> None:
    with RawConnection(beray_server.url) as connection:
        data = INVALID[name].replace(b"{host}", connection.host.encode())
        for start in range(len(data)):
            try:
                connection.send(data[start : start + 1])
            except OSError:
                break  # it was rejected before its end
        assert connection.read_response().status == 400


@pytest.mark.parametrize(
    "request_line", [b"POST /v1/agent_ws/0/ HTTP/1.1\r\n", b"GET /v1/agent_ws/0/ HTTP/1.1\r\n"]
)
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"\r\n"],
)
def test_a_web_socket_is_opened_by_a_get_without_a_body(
    request_line: bytes, body: bytes, beray_server: RunningServer
) -> None:
    fields = (
        b"Host: {host}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    with RawConnection(beray_server.url) as connection:
        connection.send(request_line + fields + body)
        is_valid = request_line.startswith(b"GET") and body == b"\r\n"
        assert connection.read_response().status == (401 if is_valid else 400)
        assert connection.ended()


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.7"])
def test_other_versions_are_not_supported(version: bytes, beray_server: RunningServer) -> None:
    request = b"GET /healthz HTTP/" + version + b"\r\nHost: {host}\r\n\r\n"
    assert send_raw(beray_server.url, request).status == 505


@pytest.mark.parametrize(
    "fields",
    [
        b"X: " + b"a" * request_head.HEAD_BYTES + b"\r\n",
        b"X: a\r\n" * (request_head.HEAD_BYTES // 6),
        b"X: " + b"a" * 10 * request_head.HEAD_BYTES,
    ],
)
def test_an_oversized_head_is_431(fields: bytes, beray_server: RunningServer) -> None:
    with RawConnection(beray_server.url) as connection:
        connection.send(GET + fields + b"\r\n")
        assert connection.read_response().status == 431
        assert connection.ended()


def test_valid_requests_are_answered(beray_server: RunningServer) -> None:
    url = beray_server.url
    assert send_raw(url, GET + b"X:\r\nY: \xe9\tz \r\n\r\n").status == 200
    assert send_raw(url, b"GET /healthz HTTP/1.0\r\n\r\n").status == 200
    assert (
        send_raw(url, GET + b"X: " + b"a" * (request_head.HEAD_BYTES - 200) + b"\r\n\r\n").status
        == 200
    )
    for body in (
        b"2\r\n{}\r\n0\r\n\r\n",
        b'2;a="b;c" ; d\r\n{}\r\n0;x\r\nX: y\r\n\r\n',
        b"0000002\r\n{}\r\n0\r\n\r\n",
    ):
        assert send_raw(url, CHUNKED + body).status == 422, "it was read: the fields are missing"
    with RawConnection(url) as connection:
        connection.send((GET + b"\r\n") * 3)
        assert [connection.read_response().status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(
    "task_id",
    [
        "1.0", "+1", "01", "1e0", "1_0", " 1", "1 ", "%201", "1%20", "１", "١", "0x1", "-1", "0", "1,0",
        "9" * 19, "9" * 40, "one", "1%00", "%2B1", "1%0A", "²", "00", "--1", "1.", ".1", "NaN", "true",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/stream"), ("POST", "/start"),
        ("POST", "/stop"), ("GET", "/files/tree"), ("GET", "/files/content?path=a"),
        ("PUT", "/files/content?path=a"),
    ],
)  # fmt: skip
def test_an_id_that_is_not_canonical_is_404(
    method: str, path: str, task_id: str, beray_server: RunningServer, signed_in: dict[str, str]
) -> None:
    url = f"{beray_server.url}/api/v1/tasks/{task_id}{path}"
    answer = requests.request(method, url, headers=signed_in, timeout=30)
    assert answer.status_code == 404


@pytest.fixture(scope="module")
def signed_in(beray_server: RunningServer) -> dict[str, str]:
    client = beray_server.sign_up()
    client.create_task("!true")
    return authorization(client)


@pytest.mark.parametrize("value", ["1.0", "+1", "01", " 1", "1e1", "１", "1_0"])
def test_numbers_in_queries_and_of_keys_are_canonical(
    value: str, beray_server: RunningServer, signed_in: dict[str, str]
) -> None:
    api = f"{beray_server.url}/api/v1"
    task = requests.post(
        f"{api}/tasks/", json={"goal": "!true"}, headers=signed_in, timeout=30
    ).json()

    def status(method: str, url: str, **params: str) -> int:
        answer = requests.request(method, url, params=params, headers=signed_in, timeout=30)
        return answer.status_code

    assert status("DELETE", f"{api}/apikeys/{value}") == 404
    assert status("GET", f"{api}/tasks/{task['id']}/events", limit=value) == 422
    assert status("GET", f"{api}/tasks/{task['id']}/events", after=value) == 422
    assert status("GET", f"{api}/tasks/{task['id']}/events", after="0", limit="1") == 200
    assert status("GET", f"{beray_server.url}/internal/files/list", limit=value) == 422
    # Spaces around the value of a header do not belong to it.
    headers = signed_in | {"Last-Event-ID": value.strip().encode()}
    answer = requests.get(f"{api}/tasks/{task['id']}/stream", headers=headers, timeout=30)
    assert (answer.status_code == 422) is (value.strip() != "1")
