"""Rejection of requests from other machines by a personal server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from beray.server.api.personal import problem
from beray.testing import RunningServer
from tests.raw_http import send_raw


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "a.localhost", "127.0.0.1", "127.0.0.1:1", "127.8.9.1",
     "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]", "localhost:"],
)  # fmt: skip
def test_hosts_of_this_machine(host: str) -> None:
    assert problem(Headers({"host": host})) is None


@pytest.mark.parametrize(
    "host",
    ["example.test", "example.test:8000", "192.0.2.1", "10.0.0.1", "0.0.0.0", "[::]", "[2001:db8::1]", "",
     "localhost.example.test", "127.0.0.1.example.test", "notlocalhost", "127.1", "2130706433",
     "localhost:80:80", "[::ffff:192.0.2.1]", "[127.0.0.1.example]", "0177.0.0.1", "::1x"],
)  # fmt: skip
def test_other_hosts(host: str) -> None:
    found = problem(Headers({"host": host}))
    assert found is not None and "BERAY_PUBLIC_URL" in found and repr(host) in found


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "X-FORWARDED-PREFIX"],
)
def test_headers_of_proxies(name: str) -> None:
    found = problem(Headers({"host": "localhost", name: "a"}))
    assert found is not None and "BERAY_TRUSTED_PROXIES" in found
    assert problem(Headers({"host": "localhost", f"Not-{name}": "a"})) is None


@pytest.fixture(scope="module", params=["personal", "proxied", "public"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    settings = {
        "personal": {},
        "proxied": {"BERAY_TRUSTED_PROXIES": "192.0.2.1"},
        "public": {"BERAY_PUBLIC_URL": "https://beray.example.test"},
    }[request.param]
    data_dir: Path = tmp_path_factory.mktemp(request.param)
    with RunningServer.start(data_dir, settings) as server:
        yield server


@pytest.mark.parametrize(
    "headers", [b"Host: evil.example\r\n", b"Host: {host}\r\nX-Forwarded-For: 192.0.2.9\r\n"]
)
def test_only_a_personal_server_rejects(headers: bytes, server: RunningServer) -> None:
    is_personal = "personal" in str(server.data_dir)
    health = send_raw(server.url, b"GET /healthz HTTP/1.1\r\n" + headers + b"\r\n")
    assert health.status == (400 if is_personal else 200)
    assert (b"BERAY_" in health.body) is is_personal
    upgrade = (
        b"GET /v1/agent_ws/0/ HTTP/1.1\r\n"
        + headers
        + b"Connection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert send_raw(server.url, upgrade).status == (400 if is_personal else 401)
    assert send_raw(server.url, b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").status == 200
