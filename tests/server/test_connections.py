"""Connections that do nothing: their number, how long they last, and what they cost others."""

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
from raw_http import RawConnection, send_raw
from support import done, sleepers, text, until
from websockets.sync.client import connect

from beray.server import lifecycle
from beray.server.connections import open_files
from beray.server.connections.table import ConnectionTable
from beray.server.http.client_address import client_at
from beray.server.runtime.log_throttle import Throttle
from beray.server.settings import Settings
from beray.testing import RunningServer
from beray.testing.server import free_port

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
    """A server in a process of its own, whose hard limit of open files is ``hard``."""
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
        until(server._answers)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def open_many(server: RunningServer, count: int, opened: contextlib.ExitStack) -> None:
    for number in range(count):
        connection = opened.enter_context(RawConnection(server.url))
        with contextlib.suppress(OSError):  # its place has been given to another one
            connection.send(HALF[number % len(HALF)])


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let the test itself have as many connections as it opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"the hard limit of open files is {hard}; this test needs 4,096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("hard", [1024, 4096])
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
    wanted = open_files.WANTED if hard == resource.RLIM_INFINITY else min(hard, open_files.WANTED)
    with RunningServer.start(
        tmp_path / "data", BERAY_TASK_MAX_OPEN_FILES="512", BERAY_MODEL="test:test"
    ) as server, server.sign_up() as client:  # fmt: skip
        assert psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == wanted
        events = list(
            client.stream_task_updates(client.create_task("!ulimit -n; ulimit -Hn")["id"])
        )
        assert text(events).split() == ["512", "512"]
        nurseries = [
            child
            for child in psutil.Process(server.pid).children()
            if "beray.server.runners.subprocess.fork_server_process" in " ".join(child.cmdline())
        ]
        for nursery in nurseries:
            until(lambda found=nursery: found.rlimit(psutil.RLIMIT_NOFILE)[0] == soft)  # type: ignore[misc]
        assert nurseries


def test_heads_bodies_and_idle_connections_have_their_time(tmp_path: Path) -> None:
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


def test_a_head_that_comes_a_byte_at_a_time_has_no_more_time(tmp_path: Path) -> None:
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
            pytest.fail("it lasted for 50 seconds")


def test_what_takes_long_is_not_cut(tmp_path: Path) -> None:
    """Streams, sockets that are silent, uploads that rest for a while, and long answers."""
    with RunningServer.start(
        tmp_path / "data",
        BERAY_HEAD_SECONDS="0.5", BERAY_BODY_SECONDS="1.5", BERAY_HEARTBEAT_SECONDS="0.2",
    ) as server, server.sign_up() as client:  # fmt: skip
        task = client.create_task("!sleep 4; echo done")["id"]
        token = str(client._session.headers["Authorization"]).encode()
        held = client.create_task("!true", start=False)["id"]
        chat = client.base_url.replace("http", "ws", 1) + "/v1/agent_ws/silent/"
        with (
            RawConnection(server.url) as upload,
            RawConnection(server.url) as resting,
            connect(chat, additional_headers={"Authorization": token.decode()}) as silent,
        ):
            assert json.loads(silent.recv(30)) == {"type": "STATUS"}
            for connection in (upload, resting):
                connection.send(
                    f"PUT /api/v1/tasks/{held}/files/content?path=a HTTP/1.1\r\n".encode()
                    + b"Host: {host}\r\nAuthorization: " + token + b"\r\nContent-Length: 10240\r\n\r\n"
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


def test_nothing_is_closed_for_a_new_connection_while_it_is_in_use(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_MAX_CONNECTIONS="10", BERAY_HEAD_SECONDS="60"
    ) as server, contextlib.ExitStack() as opened:  # fmt: skip
        client = opened.enter_context(server.sign_up())
        client._session.close()
        task = client.create_task("!sleep 98420")["id"]
        client._session.close()
        token = str(client._session.headers["Authorization"]).encode()
        for _ in range(10):
            stream = opened.enter_context(RawConnection(server.url))
            stream.send(
                f"GET /api/v1/tasks/{task}/stream HTTP/1.1\r\n".encode()
                + b"Host: {host}\r\nAuthorization: " + token + b"\r\n\r\n"
            )  # fmt: skip
            assert b"RUNNING" in stream.until(b"RUNNING")
        with RawConnection(server.url) as refused:
            answer = refused.read_response()
            assert (answer.status, answer.header("connection")) == (503, "close")
            assert answer.header("retry-after") and json.loads(answer.body)["detail"]
            assert refused.ended()
        stream.socket.close()
        until(lambda: send_raw(server.url, HEALTH + b"\r\n").status == 200)


class Many:
    """A table with connections that are names."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self.evicted: list[str] = []
        self.table = ConnectionTable(most, most_per_address, client_at)

    def admit(self, name: str, address: str = "127.0.0.1", *, busy: bool = False) -> bool:
        is_in = self.table.admit(name, address, lambda: self.evicted.append(name))
        if busy:
            self.table.set_waiting(name, False)
        return is_in


def test_the_longest_waiting_gives_its_place() -> None:
    many = Many(3, 3)
    assert all(many.admit(name) for name in "abc")
    many.table.set_waiting("a", False)
    assert many.admit("d") and many.evicted == ["b"]
    many.table.set_waiting("a", True)
    assert many.admit("e") and many.admit("f") and many.evicted == ["b", "c", "d"]
    for name in "aef":
        many.table.set_waiting(name, False)
    assert not many.admit("g") and len(many.table) == 3
    many.table.release("e")
    many.table.release("e")
    assert many.admit("g")
    many.table.shed(5)
    assert many.evicted[-1] == "g" and len(many.table) == 2


def test_an_address_gives_its_own_places_only() -> None:
    many = Many(100, 2)
    assert many.admit("x", "192.0.2.1")
    assert many.admit("a", "192.0.2.2") and many.admit("b", "192.0.2.2")
    assert many.admit("c", "192.0.2.2") and many.evicted == ["a"]
    for name in "bc":
        many.table.set_waiting(name, False)
    assert not many.admit("d", "192.0.2.2")
    assert not many.admit("d", "::ffff:192.0.2.2")
    assert all(many.admit(f"local {number}", busy=True) for number in range(50))
    for name in "bc":
        many.table.release(name)
    assert many.admit("d", "192.0.2.2", busy=True)
    assert many.admit("v6 a", "2001:db8::1", busy=True)
    assert many.admit("v6 b", "2001:db8::2", busy=True)
    assert not many.admit("v6 c", "2001:db8::3")
    assert many.admit("v6 d", "2001:db8:0:1::1")


def test_loopback_and_proxies_have_no_limit_of_their_own(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        trusted_proxies="192.0.2.0/24",
        max_connections=50,
        max_address_connections=1,
    )
    table = lifecycle._connection_table(settings)
    assert table.most == 50
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
def test_limits_that_cannot_be_are_refused(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(data_dir=tmp_path, **{name: value})  # type: ignore[arg-type]


def test_a_stranger_who_reads_nothing_has_its_time(tmp_path: Path) -> None:
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


def test_repeated_lines_are_counted() -> None:
    written: list[str] = []

    class Written(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    handler = Written()
    handler.addFilter(Throttle(handler, most=3, seconds=0.2))
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


def test_structlog_events_are_told_apart_by_name() -> None:
    passed: list[Any] = []
    throttle = Throttle(logging.NullHandler(), most=1, seconds=60)
    for event in ({"event": "a", "n": 1}, {"event": "a", "n": 2}, {"event": "b"}):
        record = logging.LogRecord("x", logging.INFO, "", 0, event, None, None)  # type: ignore[arg-type]
        if throttle.filter(record):
            passed.append(event)
    assert passed == [{"event": "a", "n": 1}, {"event": "b"}]


def test_a_limit_that_is_too_low_for_all_still_serves() -> None:
    reserve = open_files.measured(1000)
    assert reserve.connections >= 8
    assert open_files.measured(1).connections > reserve.connections or reserve.limit < 64
    few = open_files.OpenFiles(1024, 100)
    assert few.advice is not None and "1,024" in few.advice and "LimitNOFILE" in few.advice
    assert open_files.OpenFiles(65_536, 21_000).advice is None


def test_a_reader_that_takes_nothing_does_not_keep_its_connection(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_SEND_TIMEOUT_SECONDS="1", BERAY_BODY_SECONDS="1"
    ) as server:
        client = server.sign_up()
        done(client, "!head -c 20000000 /dev/zero | tr '\\0' a | fold -w 1000")
        token = str(client._session.headers["Authorization"])
        for path in ("tasks/1/stream", "tasks/1/events?limit=5000"):
            with RawConnection(server.url) as connection:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                head = f"GET /api/v1/{path} HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: {token}"
                connection.send(f"{head}\r\n\r\n".encode())
                port = connection.socket.getsockname()[1]
                until(lambda port=port: port in peers(server))
                until(lambda port=port: port not in peers(server))


def peers(server: RunningServer) -> set[int]:
    """Return the ports of the clients that have a connection."""
    return {
        found.raddr.port
        for found in psutil.Process(server.pid).net_connections("tcp4")
        if found.raddr
    }
