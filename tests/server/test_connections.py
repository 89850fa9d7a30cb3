"""Idle and slow connections: their number, their time limits, and their effect on other clients."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from pydantic import ValidationError
from websockets.sync.client import connect

from beray.server import lifecycle
from beray.server.connections import open_files
from beray.server.connections.table import ConnectionTable
from beray.server.http.client_address import client_at
from beray.server.runtime.log_throttle import LogThrottle
from beray.server.settings import Settings
from beray.testing import RunningServer, access_token, authorization
from beray.testing.server import free_port
from tests.raw_http import RawConnection, send_raw
from tests.server.agents.model_server import is_fork_server
from tests.support import done, sleepers, text, until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n"
HALF = [
    b"",
    b"GET /hea",
    HEALTH,
    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50\r\n\r\n{",
    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
]


@contextlib.contextmanager
def limited_server(data_dir: Path, hard: int, **environ: str) -> Iterator[RunningServer]:
    """Run a server in a separate process with ``hard`` as its hard limit of open files."""
    port = free_port()
    data_dir.mkdir(parents=True)
    server = RunningServer(data_dir, port, {})
    arguments = [
        sys.executable,
        "-m",
        "beray.server",
        "--port",
        str(port),
        "--data-dir",
        str(data_dir),
    ]
    program = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])));"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    inherited = {key: value for key, value in os.environ.items() if key[:6] != "BERAY_"}
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(hard), *arguments],
            env=inherited | environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until(server.accepts_requests)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def open_many(server: RunningServer, count: int, opened: contextlib.ExitStack) -> None:
    for number in range(count):
        connection = opened.enter_context(RawConnection(server.url))
        with contextlib.suppress(OSError):  # it has been closed for a newer one
            connection.send(HALF[number % len(HALF)])


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the open-file limit of the test for its own connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"the hard limit of open files is {hard}; this test needs 4,096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("hard", [1024, pytest.param(4096, marks=pytest.mark.long)])
def test_a_flood_of_idle_connections_changes_nothing(hard: int, tmp_path: Path) -> None:
    with (
        limited_server(tmp_path / "data", hard, BERAY_HEAD_SECONDS="120") as server,
        server.sign_up() as client,
        contextlib.ExitStack() as opened,
    ):
        before = client.create_task("!echo begun; sleep 98410; echo done")["id"]
        until(lambda: sleepers("98410"))
        open_many(server, 1100, opened)
        for _ in range(3):
            assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200
        during = client.create_task("!echo during")["id"]
        events = list(client.stream_task_updates(during))
        assert events[-1]["status"] == "COMPLETED" and "during" in text(events)
        for sleeper in sleepers("98410"):
            sleeper.terminate()
        assert "begun" in text(list(client.stream_task_updates(before)))
        assert server.log.stat().st_size < 64 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are seen on Linux")
def test_only_the_server_has_the_higher_limit(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (
        open_files.MAX_SOFT_LIMIT
        if hard == resource.RLIM_INFINITY
        else min(hard, open_files.MAX_SOFT_LIMIT)
    )
    with RunningServer.start(
        tmp_path / "data", BERAY_TASK_MAX_OPEN_FILES="512", BERAY_MODEL="test:test"
    ) as server, server.sign_up() as client:  # fmt: skip
        assert psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == wanted
        events = list(
            client.stream_task_updates(client.create_task("!ulimit -n; ulimit -Hn")["id"])
        )
        assert text(events).split() == ["512", "512"]
        children = psutil.Process(server.pid).children()
        [fork_server] = [child for child in children if is_fork_server(child)]
        until(lambda: fork_server.rlimit(psutil.RLIMIT_NOFILE)[0] == soft)


def test_heads_bodies_and_idle_connections_have_time_limits(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_HEAD_SECONDS="0.5", BERAY_BODY_SECONDS="0.5"
    ) as server:
        for data, status in zip(HALF, (None, 408, 408, 408, 408), strict=True):
            with RawConnection(server.url) as connection:
                connection.send(data)
                if status is not None:
                    assert connection.read_response().status == status
                assert connection.ended()
        with RawConnection(server.url) as connection:
            connection.send(HEALTH + b"\r\n")
            assert connection.read_response().status == 200
            connection.send(b"GET /heal")
            assert connection.read_response().status == 408
            assert connection.ended()
        with RawConnection(server.url) as connection:
            connection.send(HEALTH + b"\r\n")
            assert connection.read_response().status == 200
            assert connection.ended(), "an idle connection between two requests"


def test_the_time_limit_of_a_head_is_not_extended_by_slow_data(tmp_path: Path) -> None:
    with (
        RunningServer.start(tmp_path / "data", BERAY_HEAD_SECONDS="1") as server,
        RawConnection(server.url) as connection,
    ):
        connection.send(HEALTH)
        connection.socket.settimeout(0.05)
        for _ in range(1000):
            connection.send(b"X: y\r\n")
            with contextlib.suppress(TimeoutError):
                assert connection.read_response().status == 408
                break
        else:
            pytest.fail("the connection was still open after 50 seconds")


def test_long_lasting_requests_are_not_interrupted(tmp_path: Path) -> None:
    """Streams, idle WebSockets, slow uploads and slow responses."""
    with RunningServer.start(
        tmp_path / "data",
        BERAY_HEAD_SECONDS="0.5", BERAY_BODY_SECONDS="1.5", BERAY_HEARTBEAT_SECONDS="0.2",
    ) as server, server.sign_up() as client:  # fmt: skip
        task = client.create_task("!sleep 4; echo done")["id"]
        token = access_token(client).encode()
        held = client.create_task("!true", start=False)["id"]
        chat = client.base_url.replace("http", "ws", 1) + "/v1/agent_ws/silent/"
        with (
            RawConnection(server.url) as upload,
            RawConnection(server.url) as resting,
            connect(chat, additional_headers=authorization(client)) as silent,
        ):
            assert json.loads(silent.recv(30)) == {"type": "STATUS"}
            for connection in (upload, resting):
                connection.send(
                    f"PUT /api/v1/tasks/{held}/files/content?path=a HTTP/1.1\r\n".encode()
                    + b"Host: {host}\r\nAuthorization: Bearer " + token + b"\r\nContent-Length: 10240\r\n\r\n"
                )  # fmt: skip
            events = client.stream_task_updates(task)
            for _ in range(5):
                upload.send(b"x" * 2048)
                time.sleep(0.7)
            assert upload.read_response().status == 200
            assert resting.read_response().status == 408
            assert "done" in text(list(events))
            silent.send(json.dumps({"type": "USER_MESSAGE", "text": "!true", "attachments": []}))
            assert json.loads(silent.recv(30))["type"] == "AGENT_EVENT_TOOL_RESULT"


def test_a_connection_in_use_is_not_closed_for_a_new_one(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_MAX_CONNECTIONS="10", BERAY_HEAD_SECONDS="60"
    ) as server, contextlib.ExitStack() as opened:  # fmt: skip
        with server.sign_up() as client:
            task = client.create_task("!sleep 98420")["id"]
        token = access_token(client).encode()
        for _ in range(10):
            stream = opened.enter_context(RawConnection(server.url))
            stream.send(
                f"GET /api/v1/tasks/{task}/stream HTTP/1.1\r\n".encode()
                + b"Host: {host}\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
            )  # fmt: skip
            assert b"RUNNING" in stream.until(b"RUNNING")
        with RawConnection(server.url) as rejected:
            answer = rejected.read_response()
            assert (answer.status, answer.header("connection")) == (503, "close")
            assert answer.header("retry-after") and json.loads(answer.body)["detail"]
            assert rejected.ended()
        stream.socket.close()
        until(lambda: send_raw(server.url, HEALTH + b"\r\n").status == 200)


class NamedConnections:
    """Connection table whose connections are names."""

    def __init__(self, max_connections: int, max_per_client: int) -> None:
        self.evicted: list[str] = []
        self.table = ConnectionTable(
            max_connections=max_connections, max_per_client=max_per_client, client_at=client_at
        )

    def admit(self, name: str, address: str = "127.0.0.1", *, busy: bool = False) -> bool:
        admitted = self.table.admit(name, address, lambda: self.evicted.append(name))
        if busy:
            self.table.set_waiting(name, False)
        return admitted


def test_the_longest_waiting_connection_is_closed() -> None:
    connections = NamedConnections(3, 3)
    assert all(connections.admit(name) for name in "abc")
    connections.table.set_waiting("a", False)
    assert connections.admit("d") and connections.evicted == ["b"]
    connections.table.set_waiting("a", True)
    assert (
        connections.admit("e") and connections.admit("f") and connections.evicted == ["b", "c", "d"]
    )
    for name in "aef":
        connections.table.set_waiting(name, False)
    assert not connections.admit("g") and len(connections.table) == 3
    connections.table.release("e")
    connections.table.release("e")
    assert connections.admit("g")
    connections.table.shed(5)
    assert connections.evicted[-1] == "g" and len(connections.table) == 2


def test_an_address_only_closes_its_own_connections() -> None:
    connections = NamedConnections(100, 2)
    assert connections.admit("x", "192.0.2.1")
    assert connections.admit("a", "192.0.2.2") and connections.admit("b", "192.0.2.2")
    assert connections.admit("c", "192.0.2.2") and connections.evicted == ["a"]
    for name in "bc":
        connections.table.set_waiting(name, False)
    assert not connections.admit("d", "192.0.2.2")
    assert not connections.admit("d", "::ffff:192.0.2.2")
    assert all(connections.admit(f"local {number}", busy=True) for number in range(50))
    for name in "bc":
        connections.table.release(name)
    assert connections.admit("d", "192.0.2.2", busy=True)
    assert connections.admit("v6 a", "2001:db8::1", busy=True)
    assert connections.admit("v6 b", "2001:db8::2", busy=True)
    assert not connections.admit("v6 c", "2001:db8::3")
    assert connections.admit("v6 d", "2001:db8:0:1::1")


def test_loopback_and_proxies_have_no_limit_per_address(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        trusted_proxies="192.0.2.0/24",
        max_connections=50,
        max_address_connections=1,
    )
    table = lifecycle.connection_table(settings)
    assert table.max_connections == 50
    for number, address in enumerate(["127.0.0.1", "::1", "192.0.2.7", "::ffff:192.0.2.7"] * 3):
        assert table.admit(number, address, lambda: pytest.fail("closed"))
        table.set_waiting(number, False)
    for number, admitted in ((100, True), (101, False)):
        assert table.admit(number, "198.51.100.1", lambda: None) is admitted
        table.set_waiting(number, False)


@pytest.mark.parametrize(
    "name", ["max_connections", "max_address_connections", "head_seconds", "body_seconds"]
)
@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "many", ""])
def test_invalid_limits_are_rejected(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(data_dir=tmp_path, **{name: value})  # type: ignore[arg-type]


def test_an_anonymous_client_that_reads_nothing_has_a_time_limit(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_BODY_SECONDS="0.5") as server:
        process = psutil.Process(server.pid)
        before = len(process.net_connections())
        request = b"GET /openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n"
        with contextlib.ExitStack() as opened:
            for _ in range(5):
                connection = opened.enter_context(RawConnection(server.url))
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.send(request * 300)
            until(lambda: len(process.net_connections()) > before)
            until(lambda: len(process.net_connections()) <= before)


def test_repeated_log_lines_are_counted() -> None:
    written: list[str] = []

    class Written(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    handler = Written()
    handler.addFilter(LogThrottle(handler, max_lines=3, seconds=0.2))
    logger = logging.Logger("tests.throttle")
    logger.addHandler(handler)
    for number in range(1000):
        logger.warning("flood %d", number)
        if number % 100 == 0:
            logger.warning("rare, too" if number else "rare")
    until(lambda: any("997 more" in line for line in written))
    assert [line for line in written if line.startswith("flood 0")] == ["flood 0"]
    assert len(written) <= 3 + 1 + 1 + 3 + 1
    logger.warning("flood %d", -1)
    assert written[-1] == "flood -1"


def test_structlog_events_are_distinguished_by_name() -> None:
    passed: list[Any] = []
    throttle = LogThrottle(logging.NullHandler(), max_lines=1, seconds=60)
    for event in ({"event": "a", "n": 1}, {"event": "a", "n": 2}, {"event": "b"}):
        record = logging.LogRecord("x", logging.INFO, "", 0, event, None, None)
        if throttle.filter(record):
            passed.append(event)
    assert passed == [{"event": "a", "n": 1}, {"event": "b"}]


def test_a_low_open_file_limit_still_allows_connections() -> None:
    reserve = open_files.measured(1000)
    assert reserve.connections >= 8
    assert open_files.measured(1).connections > reserve.connections or reserve.limit < 64
    few = open_files.OpenFiles(1024, 100)
    assert few.advice is not None and "1,024" in few.advice and "LimitNOFILE" in few.advice
    assert open_files.OpenFiles(65_536, 21_000).advice is None


def test_a_client_that_reads_nothing_is_disconnected(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_SEND_TIMEOUT_SECONDS="1", BERAY_BODY_SECONDS="1"
    ) as server:
        client = server.sign_up()
        done(client, "!head -c 20000000 /dev/zero | tr '\\0' a | fold -w 1000")
        token = access_token(client)
        for path in ("tasks/1/stream", "tasks/1/events?limit=5000"):
            with RawConnection(server.url) as connection:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                head = f"GET /api/v1/{path} HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: Bearer {token}"
                connection.send(f"{head}\r\n\r\n".encode())
                port = connection.socket.getsockname()[1]
                until(lambda port=port: port in peers(server))  # type: ignore[misc]
                until(lambda port=port: port not in peers(server))  # type: ignore[misc]


def peers(server: RunningServer) -> set[int]:
    """Return the ports of the clients that have a connection."""
    return {
        found.raddr.port
        for found in psutil.Process(server.pid).net_connections("tcp4")
        if found.raddr
    }
