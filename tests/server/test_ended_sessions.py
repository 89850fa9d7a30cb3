"""Streams, transfers and sockets end with their session; tasks continue."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from beray import AuthenticationError, BeRayClient
from beray.server.http.active_requests import (
    ActiveRequests,
    RequestConnection,
    RequestCredential,
)
from beray.server.prefabs import archives
from beray.server.storage.times import utc_now
from beray.testing import RunningServer, access_token, authorization
from tests.gateway_support import Agent, exchange
from tests.raw_http import RawConnection
from tests.server.gateway.prefab_calls import COUNT, MANIFEST, Caller, add, call
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import FollowingThread, sleepers, until

MIB = 1024 * 1024
ENDED = "The session has expired or was ended. Sign in again."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir = tmp_path_factory.mktemp("server")
    with RunningServer.start(data_dir, BERAY_PREFAB_AUTHORS="*", BERAY_SLOTS="4") as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[BeRayClient]:
    with server.sign_up() as client:
        yield client


@pytest.fixture
def other(server: RunningServer, client: BeRayClient) -> Iterator[BeRayClient]:
    """Another session of the same account."""
    with server.client() as other:
        other.login(client.get_current_user()["email"], "correct horse battery")
        yield other


def log_out(server: RunningServer, headers: dict[str, str]) -> None:
    """End a session without the client that has it."""
    url = f"{server.url}/api/v1/auth/logout"
    assert requests.post(url, headers=headers, timeout=30).status_code == 200


def running_task(client: BeRayClient, mark: str) -> int:
    task = client.create_task(f"!echo begun; sleep {mark}; echo done")
    until(lambda: sleepers(mark))
    return task["id"]


def test_streams_end_and_their_tasks_continue(
    server: RunningServer, client: BeRayClient, other: BeRayClient
) -> None:
    task_id = running_task(client, "98310")
    one = FollowingThread(lambda: client.stream_task_updates(task_id))
    every = FollowingThread(lambda: client.stream_all_updates())
    still = FollowingThread(lambda: other.stream_task_updates(task_id))
    until(lambda: one.seen and every.seen and still.seen)
    log_out(server, authorization(client))
    for stream in (one, every):
        stream.join(30)
        assert isinstance(stream.error, AuthenticationError)
    assert sleepers("98310") and still.is_alive()
    assert other.get_task(task_id)["status"] == "RUNNING"
    for sleeper in sleepers("98310"):
        sleeper.terminate()
    still.join(30)
    assert still.error is None and still.seen[-1]["type"] == "TASK_STATUS"


@contextmanager
def chat(client: BeRayClient, name: str) -> Iterator[ClientConnection]:
    url = client.base_url.replace("http", "ws", 1) + f"/v1/agent_ws/{name}/"
    with connect(url, additional_headers=authorization(client), proxy=None) as connection:
        assert json.loads(connection.recv(30)) == {"type": "STATUS"}
        yield connection


def test_an_agent_socket_closes_and_ignores_later_messages(
    server: RunningServer, client: BeRayClient, other: BeRayClient
) -> None:
    with (
        chat(client, "first") as first,
        chat(client, "second") as second,
        chat(other, "third") as third,
    ):
        message = {"type": "USER_MESSAGE", "text": "!sleep 98320", "attachments": []}
        first.send(json.dumps(message))
        until(lambda: sleepers("98320"))
        log_out(server, authorization(client))
        late = {"type": "USER_MESSAGE", "text": "!touch late", "attachments": []}
        for connection in (first, second):
            with pytest.raises(ConnectionClosed) as closed:
                for _ in range(3):
                    connection.send(json.dumps(late))
                while True:
                    connection.recv(30)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, ENDED)
        assert sleepers("98320"), "an answer goes on without its client"
        for sleeper in sleepers("98320"):
            sleeper.terminate()
        third.send(json.dumps(late))
        while json.loads(third.recv(30))["type"] not in ("AGENT_EVENT_END", "ERROR"):
            continue
    for name, files in (("first", []), ("second", []), ("third", ["late"])):
        url = f"{server.url}/api/v1/chats/{name}"
        task_id = requests.get(url, headers=authorization(other), timeout=30).json()["id"]
        assert [item["name"] for item in other.list_files_tree(task_id)] == files


def arrived(server: RunningServer) -> list[Path]:
    """Return the files of unfinished uploads."""
    files = (server.data_dir / "workspaces").rglob("*")
    return [path for path in files if path.is_file() and path.stat().st_size >= MIB // 4]


def test_an_upload_ends(server: RunningServer, client: BeRayClient, other: BeRayClient) -> None:
    task_id = client.create_task("!true", start=False)["id"]
    token = access_token(client).encode()
    path = f"/api/v1/tasks/{task_id}/files/content?path=big".encode()
    with RawConnection(server.url) as connection:
        connection.send(
            b"PUT " + path + b" HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer " + token
            + b"\r\nContent-Length: 100000000\r\n\r\n" + b"x" * MIB
        )  # fmt: skip
        until(lambda: arrived(server))
        log_out(server, authorization(client))
        answer = connection.read_response()
        assert (answer.status, json.loads(answer.body)["detail"]) == (401, ENDED)
        assert connection.ended()
    until(lambda: not arrived(server))
    assert other.list_files_tree(task_id) == []


@pytest.mark.parametrize("way", ["download", "zip"])
def test_a_download_ends(
    way: str, server: RunningServer, client: BeRayClient, other: BeRayClient
) -> None:
    task_id = client.create_task("!true", start=False)["id"]
    work_dir = server.data_dir / "workspaces" / str(task_id)
    with (work_dir / "big").open("wb") as file:
        file.truncate(200 * MIB)
    url = f"{server.url}/api/v1/tasks/{task_id}/files/"
    method, place = ("GET", "content?path=big") if way == "download" else ("POST", "download")
    with requests.request(
        method, url + place, json={"paths": []} if way == "zip" else None,
        headers=authorization(client), stream=True, timeout=30,
    ) as answer:  # fmt: skip
        assert answer.status_code == 200
        blocks = answer.iter_content(MIB)
        received = len(next(blocks))
        log_out(server, authorization(client))
        with pytest.raises(requests.RequestException):
            for block in blocks:
                received += len(block)
        assert received < 200 * MIB


def test_the_same_connection_may_sign_in_again(server: RunningServer, client: BeRayClient) -> None:
    email = client.get_current_user()["email"]
    client.logout()
    client.login(email, "correct horse battery")
    assert client.get_current_user()["email"] == email


@pytest.fixture(scope="module")
def probe(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_prefab(tmp_path_factory.mktemp("probe"), COUNT, MANIFEST)
    with server.sign_up() as author:
        added = add(author, archives.pack(folder))
        assert added.status_code == 201, added.text


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_runs_end_with_their_api_key(
    accept: str, server: RunningServer, client: BeRayClient
) -> None:
    caller = Caller.of(server, client)
    kept = Agent.of(server, client)
    mark = "98330" if accept == "application/json" else "98331"
    answers: list[requests.Response] = []

    def attempts() -> Iterator[Any]:
        with caller.run(call("sleep", mark=mark), accept=accept) as answer:
            answers.append(answer)
            yield answer.content

    following = FollowingThread(attempts)
    until(lambda: sleepers(mark))
    (revoked,) = [key for key in client.list_api_keys() if key["start"] == caller.api_key[:8]]
    client.revoke_api_key(revoked["id"])
    following.join(30)
    assert isinstance(following.error, requests.RequestException)
    assert len(answers) == (accept == "text/event-stream"), (
        "without one, what happened is not known"
    )
    until(lambda: not sleepers(mark))
    assert caller.call("GET", "/v1/prefabs").status_code == 401
    assert kept.call("GET", "/v1/prefabs").status_code == 200
    assert exchange(server, caller.api_key).status_code == 401


def test_an_active_upload_is_a_use_of_its_token(tmp_path: Path) -> None:
    with (
        RunningServer.start(tmp_path / "data") as server,
        closing(sqlite3.connect(server.data_dir / "beray.sqlite3", isolation_level=None)) as opened,
    ):
        agent = Agent.new(server)
        first_expiry = utc_now(5.0)
        opened.execute("UPDATE internal_tokens SET expires_at = ?", (first_expiry,))
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            b"content\r\n--b--\r\n"
        )
        with RawConnection(server.url) as connection:
            connection.send(
                b"POST /internal/files/upload HTTP/1.1\r\nHost: {host}\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n"
                + f"Content-Length: {len(body)}\r\n".encode()
                + f"X-Internal-Token: {agent.token}\r\n\r\n".encode()
                + body[:-10]
            )
            until(lambda: first_expiry < utc_now())
            connection.send(body[-10:])
            assert connection.read_response().status == 200


def test_a_stream_ends_when_its_session_expires(server: RunningServer, client: BeRayClient) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat(timespec="microseconds")
    user_id = client.get_current_user()["id"]
    with sqlite3.connect(server.data_dir / "beray.sqlite3") as database:
        database.execute(
            "UPDATE tokens SET expires_at = ? WHERE user_id = ?",
            (soon.replace("+00:00", "Z"), user_id),
        )
    database.close()
    every = FollowingThread(lambda: client.stream_all_updates())
    until(lambda: every.seen)
    every.join(30)
    assert isinstance(every.error, AuthenticationError)


class Noted(RequestConnection):
    def __init__(self) -> None:
        self.details: list[object] = []
        self.ended: asyncio.Queue[object] = asyncio.Queue()

    def authenticated(self) -> None:
        return

    def end(self, detail: object) -> None:
        self.details.append(detail)
        self.ended.put_nowait(detail)


async def test_a_credential_that_ends_during_authentication_is_rejected() -> None:
    requests_ = ActiveRequests()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    by_key = RequestCredential(("token", "api-key:1"), later, "ended")
    before, after, others = Noted(), Noted(), Noted()
    first = requests_.add(by_key, before)
    other = requests_.add(RequestCredential(("token 2", "api-key:2"), later, "ended"), others)
    requests_.end("api-key:1")
    assert first.ended and before.details == ["ended"]
    assert requests_.add(by_key, after).ended and after.details == []
    assert not other.ended
    for opened in (first, other, other):
        requests_.remove(opened)
    requests_.end("token 2")
    assert others.details == []
    assert requests_.is_empty


async def test_a_credential_that_has_expired_ends_at_once() -> None:
    requests_ = ActiveRequests()
    noted = Noted()
    opened = requests_.add(
        RequestCredential(("a",), datetime.now(UTC).isoformat(), "expired"), noted
    )
    assert await asyncio.wait_for(noted.ended.get(), 30) == "expired"
    assert opened.ended
