"""Limits of JSON, bodies, wrong passwords and runs."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient
from beray.server import lifecycle
from beray.testing import RunningServer, raw_request
from tests.shared_servers import ServerPool
from tests.support import WAIT_SECONDS, WITHOUT_BUBBLEWRAP, done, sleepers, text

MIB = 1024 * 1024
PUBLIC_URL = "https://beray.example.test"
"""Makes a server a shared one, which other hosts and proxies may use."""


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def post(client: BeRayClient, body: str) -> requests.Response:
    headers = {"Content-Type": "application/json"}
    return raw_request(client, "POST", "/api/v1/tasks/", data=body.encode(), headers=headers)


@pytest.mark.parametrize(
    "value",
    ['"\\ud800"', '{"\\udfff": 1}', nested(900), nested(30), nested(100_000), "NaN", "Infinity",
     "-Infinity", "1e400", "-1e400", "9" * 5000],
    # Of a value of 200,000 characters no name is made: it is in the environment of each process.
    ids=lambda value: value[:12],
)  # fmt: skip
def test_json_that_cannot_be_encoded_again_is_rejected(
    beray_client: BeRayClient, value: str
) -> None:
    response = post(beray_client, f'{{"goal": "!true", "tools": [{{"a": {{"b": {value}}}}}]}}')
    assert response.status_code == 422
    assert response.json()["detail"]
    assert beray_client.list_tasks() == []


def test_a_key_that_is_not_valid_unicode_is_rejected(beray_client: BeRayClient) -> None:
    response = post(beray_client, '{"goal": "!true", "tools": [{"\\ud800": {"b": 1}}]}')
    assert response.status_code == 422
    assert response.json()["detail"]
    assert beray_client.list_tasks() == []


def test_json_at_the_limits_is_stored_unchanged(beray_client: BeRayClient) -> None:
    tools = [{"a": {"b": json.loads(nested(29)), "c": [1e308, -0.5, 10**300, "\U0001f680", None]}}]
    task = beray_client.create_task("!true", tools=tools)
    assert beray_client.get_task(task["id"])["tools"] == tools


@pytest.mark.parametrize(
    "damage",
    [
        'tools = \'[{"a": {"b": "\\ud800"}}]\'',
        'tools = \'[{"a": {"b": NaN}}]\'',
        f"tools = '{nested(900)}'",
        "tools = '[{'",
        "tools = '{\"a\": 1}'",
        "goal = CAST(X'ff' AS TEXT)",
    ],
)
def test_a_damaged_row_does_not_hide_the_others(
    beray_server: RunningServer, beray_client: BeRayClient, damage: str
) -> None:
    good = done(beray_client, "!true")[0]["task_id"]
    bad = done(beray_client, "!true")[0]["task_id"]
    database = sqlite3.connect(beray_server.data_dir / "beray.sqlite3")
    with database:
        database.execute(f"UPDATE tasks SET {damage} WHERE id = ?", (bad,))
    database.close()
    assert [task["id"] for task in beray_client.list_tasks()] == [bad, good]
    events: list[Any] = beray_client.get_task(bad)["events"]
    assert events[-1]["status"] == "COMPLETED"


def test_a_chunked_body_beyond_the_limit_is_rejected(beray_client: BeRayClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(16):
            yield b" " * MIB
        yield b" "

    headers = {"Content-Type": "application/json"}
    response = raw_request(beray_client, "POST", "/api/v1/tasks/", data=chunks(), headers=headers)
    assert response.status_code == 413
    assert "at most 16777216 bytes" in response.json()["detail"]
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("query", ["", "?a=b"])
def test_a_redirect_stays_on_the_host(server_pool: ServerPool, query: str) -> None:
    server = server_pool.server(BERAY_PUBLIC_URL=PUBLIC_URL)
    response = requests.post(
        f"{server.url}/api/v1/tasks{query}",
        headers={"Host": "evil.example"},
        allow_redirects=False,
        timeout=10,
    )
    assert response.status_code == 307
    assert response.headers["Location"] == f"/api/v1/tasks/{query}"


def statuses(server: RunningServer, email: str, count: int, *, elsewhere: bool) -> list[int]:
    """Return the statuses of ``count`` simultaneous sign-ins with a wrong password."""

    def attempt(number: int) -> int:
        return requests.post(
            f"{server.url}/api/v1/auth/login",
            json={"email": email, "password": "wrong"},
            headers={"X-Forwarded-For": f"198.51.100.{number}"} if elsewhere else {},
            timeout=60,
        ).status_code

    with ThreadPoolExecutor(count) as pool:
        return sorted(pool.map(attempt, range(count)))


def test_simultaneous_wrong_passwords_are_counted(tmp_path: Path) -> None:
    # A real check takes long enough for all of them to be on their way before one has ended.
    with RunningServer.start(
        tmp_path / "data", cheap_passwords=False, BERAY_PUBLIC_URL=PUBLIC_URL
    ) as server:
        for elsewhere in (False, True):
            found = statuses(server, f"side{elsewhere}@example.test", 16, elsewhere=elsewhere)
            assert found == [401] * 10 + [429] * 6


def test_a_trusted_proxy_reports_the_client_address(tmp_path: Path) -> None:
    environ = {"BERAY_TRUSTED_PROXIES": "127.0.0.1", **WITHOUT_BUBBLEWRAP}
    with RunningServer.start(tmp_path / "data", environ) as server:
        assert statuses(server, "behind@example.test", 12, elsewhere=True) == [401] * 12


def test_signing_in_is_not_counted(beray_server: RunningServer) -> None:
    beray_server.sign_up("often@example.test", "a right password")
    client = beray_server.client()
    for _ in range(12):
        client.login("often@example.test", "a right password")


def test_a_task_whose_creation_fails_does_not_exist(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        workspaces = server.data_dir / "workspaces"
        workspaces.rename(tmp_path / "aside")
        workspaces.touch()

        def create() -> requests.Response:
            body, headers = {"goal": "!echo made"}, {"Idempotency-Key": "once"}
            return raw_request(client, "POST", "/api/v1/tasks/", json=body, headers=headers)

        assert create().status_code == 500
        assert client.list_tasks() == []
        workspaces.unlink()
        (tmp_path / "aside").rename(workspaces)
        task = create().json()
        assert text(list(client.stream_task_updates(task["id"]))) == "made\n"


@pytest.fixture(params=["auto", "none"])
def bounded(request: pytest.FixtureRequest, server_pool: ServerPool) -> Iterator[BeRayClient]:
    environ = {
        "BERAY_SANDBOX": str(request.param),
        "BERAY_TASK_MAX_FILE_BYTES": "1000000",
        "BERAY_TASK_MAX_OPEN_FILES": "100",
        "BERAY_TASK_MAX_PROCESSES": "50",
        "BERAY_TASK_MAX_MEMORY_BYTES": "100000000",
        "BERAY_TASK_OUTPUT_BYTES": "200000",
    }
    with server_pool.server(**environ).sign_up() as client:
        yield client


def test_a_command_has_limits(bounded: BeRayClient) -> None:
    assert text(done(bounded, "!ulimit -c; ulimit -n")).split() == ["0", "100"]
    events = done(bounded, "!head -c 2000000 /dev/zero > large; echo $?; stat -c %s large")
    assert text(events).split()[-2:] == ["153", "1000000"]


def test_a_command_that_forks_without_end_is_ended(bounded: BeRayClient) -> None:
    mark = f"91{os.getpid()}"
    fork = f"sleep {mark} & (setsid sh -c 'while :; do sleep {mark} & done' &); while :; do sleep {mark} & done"
    events = done(bounded, f"!{fork}")
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "exit_code")
    assert text(events).strip().endswith("[The command was ended: more than 50 processes.]")
    assert sleepers(mark) == []


def test_a_server_with_many_open_files_can_run_commands() -> None:
    theirs, ours = socket.socketpair()
    high = fcntl.fcntl(theirs, fcntl.F_DUPFD, 3000)
    spec = json.dumps({"command": ["/bin/echo", "fine"], "limits": {"core": 0}}).encode()
    ours.sendall(len(spec).to_bytes(4, "big") + spec)
    launcher = Path(lifecycle.__file__).parent / "sandbox" / "launcher"
    command = [sys.executable, "-I", "-S", str(launcher), str(high)]
    try:
        done = subprocess.run(
            command, pass_fds=[high], capture_output=True, timeout=WAIT_SECONDS, check=True
        )
    finally:
        theirs.close()
        ours.close()
        os.close(high)
    assert done.stdout == b"fine\n"


def test_a_command_that_takes_too_much_memory_is_ended(bounded: BeRayClient) -> None:
    # tail keeps what it may have to show: a line that does not end.
    events = done(bounded, "!head -c 300000000 /dev/zero | tail | sleep 30")
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "exit_code")
    assert text(events).strip() == "[The command was ended: more than 100,000,000 bytes of memory.]"


def test_output_beyond_the_limit_ends_the_task(bounded: BeRayClient) -> None:
    events = done(bounded, "!yes")
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "output_limit")
    assert events[-2]["code"] == "OUTPUT_LIMIT"
    assert "200,000 bytes" in events[-2]["details"]
    assert 100_000 < len(text(events)) <= 200_000
    assert done(bounded, "!echo next")[-1]["status"] == "COMPLETED"
