"""Access of tasks to the gateway: only through a relay, with the token of the task."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

from beray.server.api.middleware import Activity
from beray.server.app import create_app
from beray.server.runners.token_listener import TokenListener
from beray.server.sandbox import network_policy
from beray.server.sandbox.network_policy import GatewayRelay
from beray.server.services import Services, running
from beray.server.settings import Settings
from beray.server.workspace.ownership import set_owner
from beray.testing import RunningServer
from tests.network_support import (
    ASK,
    needs_bubblewrap,
    needs_own_network,
    run,
    without_slirp4netns,
)
from tests.support import text

GATEWAY = """
import http.client, json, os, sys
from urllib.parse import urlsplit
url = urlsplit(os.environ["BERAY_GATEWAY_URL"])
found = []
for method, path, headers in json.loads(sys.argv[1]):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.request(method, path, "{}", headers)
    response = connection.getresponse()
    found.append([response.status, response.read().decode()])
print(json.dumps(found))
"""


@asynccontextmanager
async def gateway_of(tmp_path: Path, token: str) -> AsyncIterator[GatewayRelay]:
    """Run an application on the real listener; its responses contain the received request."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        names = sorted(name.decode() for name, _ in scope["headers"])
        body = json.dumps([scope["path"], scope["client"], names]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    directory = tmp_path / "sockets"
    directory.mkdir()
    async with TokenListener(app=app, directory=directory).listening(token) as path:
        yield GatewayRelay("http://unused.invalid", str(path))
    assert list(directory.iterdir()) == []


@needs_own_network
@pytest.mark.parametrize("network", [True, False])
async def test_the_gateway_needs_the_token_of_the_task(tmp_path: Path, network: bool) -> None:
    right, wrong = {"X-Internal-Token": "right"}, {"X-Internal-Token": "another"}
    forged = right | {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    calls = [
        ("GET", "/v1/prefabs", right), ("GET", "/internal/files/list", forged),
        ("GET", "/v1/prefabs", {}), ("GET", "/v1/prefabs", wrong),
        ("GET", "/v1/prefabs", {"Authorization": "Bearer session"}),
        ("GET", "/api/v1/tasks/", right), ("GET", "/healthz", right), ("GET", "/v1", right),
        ("GET", "/internal/objects/a?signature=b", {}),
    ]  # fmt: skip
    async with gateway_of(tmp_path, "right") as gateway:
        output = await run(tmp_path, GATEWAY, json.dumps(calls), gateway=gateway, network=network)
    found = json.loads(output)
    assert [status for status, _ in found] == [200, 200, 401, 401, 401, 404, 404, 404, 200]
    path, client, names = json.loads(found[1][1])
    assert (path, client) == ("/internal/files/list", None)
    assert not {"forwarded", "x-forwarded-for", "authorization"} & set(names)


async def test_the_gateway_has_no_websocket(tmp_path: Path) -> None:
    async with gateway_of(tmp_path, "right") as gateway:
        directory = os.open(os.path.dirname(str(gateway.socket)), os.O_RDONLY)
        try:
            path = f"/proc/self/fd/{directory}/{os.path.basename(str(gateway.socket))}"
            headers = {"X-Internal-Token": "right"}
            with pytest.raises(InvalidStatus) as rejected:
                uri = "ws://localhost/v1/agent_ws/0/"
                async with unix_connect(path, uri, additional_headers=headers):
                    pass
        finally:
            os.close(directory)
    # A client would interpret 403 as a busy chat.
    assert rejected.value.response.status_code == 404


@needs_own_network
async def test_other_commands_have_no_gateway(tmp_path: Path) -> None:
    code = "import os; print(os.environ.get('BERAY_GATEWAY_URL'), os.path.exists('/proc/net/tcp'))"
    assert await run(tmp_path, code) == "None True"
    host, port = network_policy.GATEWAY_ADDRESS
    assert "refused" in await run(tmp_path, ASK, host, str(port))


@needs_own_network
async def test_the_gateway_of_the_server_accepts_the_token_and_no_address(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", gateway_allow="0.0.0.0/0,::/0")
    settings.data_dir.mkdir()
    app = create_app(Activity())
    async with running(app, settings):
        services: Services = app.state.services
        user = services.account_repository.create("user@example.test", None)
        create = services.gateway.tokens.create
        token, other, ended = (create(user.id, f"task-{number}", 60) for number in range(3))
        services.gateway.tokens.delete(ended)
        tokens = [token, other, ended, ""]
        calls = [("GET", "/internal/files/list", {"X-Internal-Token": value}) for value in tokens]
        work_dir = tmp_path / "work"
        work_dir.mkdir()
        set_owner(work_dir, services.sandbox.uid_of(None))
        statuses = []
        for listening in (token, ended):
            listener = TokenListener(app=app, directory=settings.data_dir / "scratch")
            async with listener.listening(listening) as path:
                command = ["/usr/bin/python3", "-c", GATEWAY, json.dumps(calls)]
                gateway = GatewayRelay("http://unused.invalid", str(path))
                async with services.sandbox.process(command, work_dir, gateway=gateway) as process:
                    assert process.stdout is not None
                    output = await process.stdout.read()
            statuses.append([status for status, _ in json.loads(output)])
    assert statuses == [[200, 401, 401, 401], [401, 401, 401, 401]]


def anonymous_status(server: RunningServer, **headers: str) -> int:
    """Return the status of the response to a request without a credential."""
    url = f"{server.url}/internal/files/generate_upload_url"
    response = requests.post(url, json={"filename": "a"}, headers=headers, timeout=30)
    return response.status_code


@needs_bubblewrap
def test_with_the_network_of_the_host_its_addresses_are_not_allowed(tmp_path: Path) -> None:
    with (
        without_slirp4netns(tmp_path) as path,
        RunningServer.start(
            tmp_path / "data", PATH=path, BERAY_GATEWAY_ALLOW="127.0.0.0/8"
        ) as server,
    ):
        assert (
            "BERAY_GATEWAY_ALLOW does not apply to addresses of this host" in server.log.read_text()
        )
        assert anonymous_status(server) == 401


def test_without_a_sandbox_addresses_of_the_host_are_not_allowed(tmp_path: Path) -> None:
    allowed = {"BERAY_SANDBOX": "none", "BERAY_GATEWAY_ALLOW": "127.0.0.1,10.0.0.0/8"}
    for proxies in ("", "127.0.0.1"):
        environ = allowed | {"BERAY_TRUSTED_PROXIES": proxies}
        with RunningServer.start(tmp_path / f"data{proxies}", environ) as server:
            assert anonymous_status(server) == 401
            assert anonymous_status(server, **{"X-Forwarded-For": "10.1.2.3"}) == (
                401 if proxies else 400
            )


@needs_own_network
def test_a_relay_to_the_server_itself_does_not_replace_a_credential(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    call = (
        "import sys\nfrom urllib.request import Request, urlopen\n"
        "call = Request(sys.argv[1], b'{\"filename\": \"a\"}', {'Content-Type': 'application/json'})\n"
        "print(urlopen(call).status)\n"
    )
    with (
        RunningServer.start(data_dir, BERAY_GATEWAY_ALLOW="127.0.0.1") as server,
        server.sign_up() as client,
    ):
        server.restart(BERAY_NETWORK_ALLOW=server.url.removeprefix("http://"))
        url = f"{server.url}/internal/files/generate_upload_url"
        goal = f"!/usr/bin/python3 -c {shlex.quote(call)} {url} 2>&1"
        task = client.create_task(goal, limits={"network": True})
        assert "HTTP Error 401" in text(list(client.stream_task_updates(task["id"])))
