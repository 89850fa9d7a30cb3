"""Tasks that ask for the gateway (``limits.gateway``): what their commands and agents get."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient
from beray.testing import RunningServer
from tests.gateway_support import refusal
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer
from tests.support import text

AGENT = Path(__file__).with_name("agents") / "acp_agent.py"
ASK = """
import json, os, sys
from urllib.request import Request, urlopen
token, url = os.environ.get("X_INTERNAL_TOKEN"), os.environ.get("BERAY_GATEWAY_URL")
found = {"url": url, "token": token}
if token:
    for path in ("/v1/prefabs", "/internal/files/list"):
        request = Request(url + path, headers={"X-Internal-Token": token})
        found[path] = urlopen(request, timeout=20).status
    open("token.txt", "w").write(token)
print("FOUND " + json.dumps(found))
"""
COMMAND = f"/usr/bin/python3 -c {shlex.quote(ASK)}"


@pytest.fixture(scope="module", params=["auto", "none"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    with RunningServer.start(
        tmp_path_factory.mktemp("server") / "data",
        BERAY_SANDBOX=request.param,
        BERAY_COMMAND=COMMAND,
        BERAY_ACP=shlex.join([sys.executable, str(AGENT)]),
        BERAY_AGENT_PATHS=",".join([sys.prefix, sys.base_prefix, str(AGENT.parent)]),
        BERAY_AGENT_NETWORK="false",
    ) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[BeRayClient]:
    with server.sign_up() as client:
        yield client


def found(client: BeRayClient, goal: str, **options: Any) -> tuple[Any, int]:
    """Return the output of the script and the task."""
    task = client.create_task(goal, **options)
    said = text(list(client.stream_task_updates(task["id"])))
    assert "FOUND " in said, said
    line = said.partition("FOUND ")[2].splitlines()[0]
    return json.loads(line), task["id"]


def require_access(server: RunningServer, client: BeRayClient, task_id: int, seen: Any) -> None:
    assert seen["url"].startswith("http://127.0.0.1:")
    assert seen["token"] == "[secret]", "it is cut out of events"
    assert seen["/v1/prefabs"] == seen["/internal/files/list"] == 200
    token = client.get_file_content(task_id, "token.txt").text
    assert len(token) > 40
    ended = requests.get(
        f"{server.url}/v1/prefabs", headers={"X-Internal-Token": token}, timeout=30
    )
    assert refusal(ended) == (401, "INVALID_TOKEN")
    assert token not in server.log.read_text()


@pytest.mark.parametrize(
    ("goal", "runner"),
    [(f"!{COMMAND}", "shell"), ("ask", "command"), (f"gateway {json.dumps(ASK)}", "acp")],
)
def test_processes_have_a_token_and_a_url_where_the_task_asks_for_it(
    server: RunningServer, client: BeRayClient, goal: str, runner: str
) -> None:
    seen, task_id = found(client, goal, runner=runner, limits={"gateway": True})
    assert client.get_task(task_id)["limits"] == {"gateway": True}
    require_access(server, client, task_id, seen)
    for limits in (None, {"gateway": False}, {"seconds": 60}):
        seen, _ = found(client, goal, runner=runner, limits=limits)
        assert seen == {"url": None, "token": None}


def test_the_commands_of_a_model_have_it_where_the_task_asks_for_it(models: ModelServer) -> None:
    with models.server.sign_up() as client:
        for asked in (True, False):
            call = Call("run_command", {"command": COMMAND})
            goal = models.script(f"ask {asked}", Reply(calls=[call]), Reply("done"))
            limits: Any = {"gateway": True} if asked else None
            seen, task_id = found(client, goal, limits=limits)
            if asked:
                require_access(models.server, client, task_id, seen)
            else:
                assert seen == {"url": None, "token": None}


def test_a_stopped_task_leaves_no_token(server: RunningServer, client: BeRayClient) -> None:
    goal = "!echo $X_INTERNAL_TOKEN > token.txt; echo written; sleep 98762"
    task = client.create_task(goal, limits={"gateway": True})
    for event in client.stream_task_updates(task["id"]):
        if "written" in str(event.get("text", "")):
            token = client.get_file_content(task["id"], "token.txt").text.strip()
            url, headers = f"{server.url}/v1/prefabs", {"X-Internal-Token": token}
            assert requests.get(url, headers=headers, timeout=30).status_code == 200
            client.stop_task(task["id"])
    assert requests.get(url, headers=headers, timeout=30).status_code == 401
