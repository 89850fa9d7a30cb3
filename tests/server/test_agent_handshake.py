"""Handshakes of the agent WebSocket: credentials, listed addresses, paths, error responses."""

from __future__ import annotations

import base64
import json
import shlex
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from beray import BeRayClient
from beray.agent import AgentApi, AgentBusyException, AgentException
from beray.server.setting_types.address_users import AddressUser, email_of, parse_users
from beray.testing import RunningServer, access_token
from tests.network_support import needs_own_network
from tests.server.account_requests import rows
from tests.shared_servers import ServerPool
from tests.support import text

CHAT = "/v1/agent_ws/0/"


def token_of(client: BeRayClient) -> str:
    return access_token(client)


def address(server: RunningServer, path: str = CHAT, userinfo: str = "") -> str:
    return server.url.replace("http://", f"ws://{userinfo}", 1) + path


@asynccontextmanager
async def socket(url: str, **headers: str) -> AsyncIterator[ClientConnection]:
    """Connect and receive STATUS, or raise ``InvalidStatus``."""
    async with connect(url, additional_headers=headers, proxy=None) as connection:
        assert json.loads(await connection.recv()) == {"type": "STATUS"}
        yield connection


async def refused(url: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with socket(url, **headers):
            pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


def status_of(url: str, **headers: str) -> int:
    return requests.get(url, headers=headers, timeout=30).status_code


async def answer(connection: ClientConnection, words: str) -> list[dict[str, Any]]:
    await connection.send(json.dumps({"type": "USER_MESSAGE", "text": words}))
    come: list[dict[str, Any]] = [json.loads(await connection.recv())]
    while come[-1]["type"] not in ("AGENT_EVENT_END", "ERROR"):
        come.append(json.loads(await connection.recv()))
    return come


async def test_a_url_may_have_the_token_as_its_password(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        token = token_of(client)
        async with socket(address(beray_server, userinfo=f"x:{token}@")) as connection:
            assert (await answer(connection, "!echo hello"))[-1]["type"] == "AGENT_EVENT_END"
        (chat,) = client.list_tasks()
        assert chat["status"] == "INPUT_REQUIRED"
        assert token not in beray_server.log.read_text()


async def test_an_invalid_token_as_password_is_rejected(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        token = token_of(client)
        for userinfo in ("x:wrong@", f"{token}:@", f"{token}:x@"):
            status, detail = await refused(address(beray_server, userinfo=userinfo))
            assert status == 401 and token not in detail
        url = address(beray_server)
        encoded = base64.b64encode(f"x:{token}".encode()).decode()
        for header in ("Basic", "Basic !", "Basic dTpw=", f"Basic {token}", f"Basic {encoded}?"):
            assert (await refused(url, Authorization=header))[0] == 401
        # Requests over HTTP do not accept it.
        for path in ("/api/v1/users/me", "/v1/prefabs"):
            url = beray_server.url + path
            assert await to_thread(status_of, url, Authorization=f"Basic {encoded}") == 401


async def test_a_connection_ends_with_the_session_in_its_url(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        url = address(beray_server, userinfo=f"x:{token_of(client)}@")
        async with socket(url) as connection:
            client.logout()
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 1008
        assert (await refused(url))[0] == 401


@pytest.mark.parametrize(
    "path",
    ["", "/", "/nothing", "/v1/agent_ws/0", "/v1/agent_ws/", "/v1/agent_ws", "/agent_ws",
     "/v1/agent_ws/a/b/", "/api/v1/tasks/", "/healthz", "/v1/agent_ws/0//"],
)  # fmt: skip
async def test_other_paths_are_not_found(beray_server: RunningServer, path: str) -> None:
    with beray_server.sign_up() as client:
        for headers in ({}, {"Authorization": f"Bearer {token_of(client)}"}):
            status, detail = await refused(address(beray_server, path), **headers)
            assert status == 404 and "/v1/agent_ws/CHAT_ID/" in detail


@pytest.mark.parametrize("name", ["a%00", "a%2Fb", "%2f", "%1b[31m", "a%0a", "%7f", "a" * 101])
async def test_an_invalid_chat_id_is_not_a_busy_chat(
    beray_server: RunningServer, name: str
) -> None:
    with beray_server.sign_up() as client:
        url = address(beray_server, f"/v1/agent_ws/{name}/", f"x:{token_of(client)}@")
        status, detail = await refused(url)
        assert status == 422
        assert "1 to 100 characters" in detail and detail.isprintable()
        assert client.list_tasks() == []


async def test_the_client_distinguishes_the_error_responses(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        token, url = token_of(client), beray_server.url

        async def failure(base_url: str, token: str, chat: str = "0") -> AgentException:
            with pytest.raises(AgentException) as caught:
                async with AgentApi("a", base_url, token=token, chat_id=chat):
                    pass
            assert caught.value.lasting is not isinstance(caught.value, AgentBusyException)
            return caught.value

        async with AgentApi("a", url, token=token, chat_id="0"):
            busy = await failure(url, token)
        assert isinstance(busy, AgentBusyException) and busy.status_code == 403
        for error, status, words in (
            (await failure(f"{url}/elsewhere", token), 404, "This path has no WebSocket"),
            (await failure(url, token, "a\n"), 422, "chat id 'a\\n' is invalid"),
            (await failure(url, "wrong"), 401, "Sign in again"),
        ):
            assert (error.code, error.status_code) == ("CONNECTION_ERROR", status)
            assert words in error.details and not isinstance(error, AgentBusyException)


@pytest.mark.parametrize("path", ["/agent_ws/", "/ws", "/ws/"])
async def test_clients_of_version_1_0_have_chat_0(server_pool: ServerPool, path: str) -> None:
    """They end an answer at ``AGENT_EVENT_SEND_FILE``, which their version does not have."""
    events = [
        {"type": "AGENT_EVENT_SEND_FILE", "path": "a.txt"},
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "made", "source": "main"},
    ]
    lines = "\n".join(map(json.dumps, events))
    script = f"echo text > a.txt; printf '%s\\n' {shlex.quote(lines)}"
    command = f"/bin/sh -c {shlex.quote(script)}"
    server = server_pool.server(BERAY_COMMAND=command)
    with server.sign_up() as client:
        userinfo = f"x:{token_of(client)}@"
        async with socket(address(server, path, userinfo)) as connection:
            assert (await refused(address(server, CHAT, userinfo)))[0] == 403
            old = await answer(connection, "send me a file")
        payload = {"kind": "send_file", "path": "a.txt"}
        assert {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": payload, "source": "main"} in old
        assert "made" in text(old)
        assert not any(event["type"] == "AGENT_EVENT_SEND_FILE" for event in old)
        async with socket(address(server, CHAT, userinfo)) as connection:
            assert events[0] in await answer(connection, "once more")
        (chat,) = client.list_tasks()
        assert chat["goal"] and (await refused(address(server, path)))[0] == 401


@needs_own_network
async def test_a_listed_address_is_a_fixed_user(tmp_path: Path) -> None:
    email = "bot@example.test"
    allow = f"10.0.0.0/8=other@example.test, 127.0.0.0/8={email}"
    with RunningServer.start(tmp_path / "data", BERAY_AGENT_WS_ALLOW=allow) as server:
        assert "an account in BERAY_AGENT_WS_ALLOW does not exist" in server.log.read_text()
        assert (await refused(address(server)))[0] == 401
        with server.sign_up(email) as bot, server.sign_up() as other:
            for path in (CHAT, "/agent_ws/"):
                async with socket(address(server, path)) as connection:
                    end = (await answer(connection, "!echo hello"))[-1]
                    assert end["type"] == "AGENT_EVENT_END"
            (chat,) = bot.list_tasks()
            assert other.list_tasks() == []
            # A credential that is sent counts, and an invalid one is not ignored.
            async with socket(address(server, userinfo=f"x:{token_of(other)}@")):
                assert len(other.list_tasks()) == 1
            for header in ("Bearer wrong", "", "Basic", "Basic eDp3cm9uZw=="):
                assert (await refused(address(server), Authorization=header))[0] == 401
            # Any page could connect with the address of its reader.
            assert (await refused(address(server), Origin="https://evil.example"))[0] == 401
            # Nothing else is open to the address.
            for path in ("/api/v1/tasks/", "/v1/prefabs"):
                assert await to_thread(status_of, server.url + path) == 401
            disable = "UPDATE users SET disabled_at = created_at WHERE email = ?"
            rows(server, disable, email)
            assert (await refused(address(server)))[0] == 401
        assert (await refused(address(server, "/v1/agent_ws/a%00/")))[0] == 422
        assert chat["id"]


HANDSHAKE = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
connection.request("GET", "/agent_ws/", headers={
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
})
print("status", connection.getresponse().status)
"""


@needs_own_network
async def test_a_task_is_never_a_listed_address(tmp_path: Path) -> None:
    email = "bot@example.test"
    allow = f"0.0.0.0/0={email},::/0={email}"
    with (
        RunningServer.start(tmp_path / "data", BERAY_AGENT_WS_ALLOW=allow) as server,
        server.sign_up(email) as client,
    ):
        async with socket(address(server)):
            pass
        place = server.url.removeprefix("http://")
        server.restart(BERAY_NETWORK_ALLOW=place)
        goal = f"!/usr/bin/python3 -c {shlex.quote(HANDSHAKE)} {place} 2>&1"
        task = client.create_task(goal, limits={"network": True})
        assert "status 401" in text(list(client.stream_task_updates(task["id"])))


async def test_without_a_sandbox_no_own_address_is_listed(tmp_path: Path) -> None:
    email = "bot@example.test"
    allow = {
        "BERAY_SANDBOX": "none",
        "BERAY_AGENT_WS_ALLOW": f"127.0.0.1={email},10.0.0.0/8={email}",
    }
    for proxies in ("", "127.0.0.1"):
        environ = allow | {"BERAY_TRUSTED_PROXIES": proxies}
        with (
            RunningServer.start(tmp_path / f"data{proxies}", environ) as server,
            server.sign_up(email),
        ):
            assert (
                "BERAY_AGENT_WS_ALLOW does not apply to addresses of this host"
                in server.log.read_text()
            )
            assert (await refused(address(server)))[0] == 401
            if proxies:
                forwarded = {"X-Forwarded-For": "10.1.2.3"}
                assert (await refused(address(server), **forwarded))[0] == 401


@needs_own_network
async def test_a_trusted_proxy_reports_the_address_of_a_client(tmp_path: Path) -> None:
    email = "bot@example.test"
    environ = {
        "BERAY_AGENT_WS_ALLOW": f"10.0.0.0/8={email},127.0.0.1={email}",
        "BERAY_TRUSTED_PROXIES": "127.0.0.1",
    }
    with RunningServer.start(tmp_path / "data", environ) as server, server.sign_up(email):
        async with socket(address(server), **{"X-Forwarded-For": "10.1.2.3"}):
            pass
        for forwarded in ("11.1.2.3", "10.1.2.3, 11.1.2.3", "127.0.0.1", "10.1.2.3 or so"):
            headers = {"X-Forwarded-For": forwarded}
            assert (await refused(address(server), **headers))[0] == 401


@pytest.mark.parametrize(
    "allow",
    ["10.0.0.1", "10.0.0.1=", "=a@x.org", "host=a@x.org", "10.0.0.1/8=a@x.org", "10.0.0.1=a",
     "10.0.0.1=a@x.org;10.0.0.2=b@x.org", "*=a@x.org", "10.0.0.1=a@x.org b@x.org"],
)  # fmt: skip
def test_entries_that_are_not_address_and_account_are_rejected(allow: str) -> None:
    with pytest.raises(ValueError, match="is not ADDRESS=EMAIL"):
        parse_users(allow)


def test_the_first_matching_entry_applies() -> None:
    users = parse_users(" 10.1.2.3 = a@x.org,10.0.0.0/8=b=c@x.org ,, ::1=d@x.org")
    assert users[1] == AddressUser("10.0.0.0/8", "b=c@x.org")
    found = {
        "10.1.2.3": "a@x.org", "10.9.9.9": "b=c@x.org", "::ffff:10.9.9.9": "b=c@x.org",
        "::1": "d@x.org", "11.1.1.1": None, "": None, "localhost": None,
    }  # fmt: skip
    assert {place: email_of(place, users) for place in found} == found
