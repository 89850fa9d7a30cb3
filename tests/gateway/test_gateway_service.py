"""Tests of the example of a service, which creates a client for each request."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from beray.testing import FaultServer, RunningServer
from tests.gateway.gateway_responses import (
    DONE,
    START,
    event,
    failure_result,
    json_response,
    run_response,
    stream_response,
    success_result,
)
from tests.gateway_support import Agent
from tests.support import sleepers, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "gateway_service.py"
CARD = {"X-Internal-Token": "alice"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[FaultServer]:
    with FaultServer([]) as server:
        yield server


@contextmanager
def serving(gateway_url: str) -> Iterator[str]:
    """Run the example in a process and provide its URL."""
    arguments = [sys.executable, str(EXAMPLE), gateway_url, "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                match = re.search(r"running on (http://\S+)", line)
                if match is not None:
                    yield match[1]
                    break
            else:
                pytest.fail("the service does not start")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def service(gateway: FaultServer) -> Iterator[str]:
    with serving(gateway.url) as url:
        yield url


def test_each_request_has_the_token_of_its_caller(service: str, gateway: FaultServer) -> None:
    before = gateway.connection_count
    for person in ("alice", "bob", "alice"):
        gateway.add_responses(run_response(success_result()))
        answer = requests.post(
            f"{service}/run/p/1/f",
            json={"parameters": {"x": 1}, "files": {"in": ["s3://b/k"]}},
            headers={"X-Internal-Token": person},
            timeout=30,
        )
        assert answer.json() == {"result": {"n": 1}, "files": {"out": ["s3://b/out/1"]}}
        assert gateway.requests[-1].headers["x-internal-token"] == person
        [call] = json.loads(gateway.requests[-1].body)["calls"]
        assert call["inputs"] == {"parameters": {"x": 1}, "files": {"in": ["s3://b/k"]}}
    assert gateway.connection_count <= before + 1


def test_prefabs_and_failures(service: str, gateway: FaultServer) -> None:
    gateway.add_responses(json_response({"prefabs": [{"prefab_id": "p"}]}))
    [prefab] = requests.get(f"{service}/prefabs", headers=CARD, timeout=30).json()
    assert prefab["prefab_id"] == "p"
    gateway.add_responses(run_response(failure_result("TIMEOUT")))
    answer = requests.post(f"{service}/run/p/1/f", json={}, headers=CARD, timeout=30)
    assert answer.json()["error"]["code"] == "TIMEOUT"


def test_error_responses_are_forwarded(service: str, gateway: FaultServer) -> None:
    before = len(gateway.requests)
    assert requests.get(f"{service}/prefabs", timeout=30).status_code == 422
    invalid = requests.get(f"{service}/prefabs", headers={"X-Internal-Token": "a b"}, timeout=30)
    assert invalid.status_code == 422
    unknown = requests.post(f"{service}/run/p/1/f", json={"x": 1}, headers=CARD, timeout=30)
    assert unknown.status_code == 422
    for name in ("..", "n" * 300):
        nameless = requests.post(
            f"{service}/files", files={"file": (name, b"x")}, headers=CARD, timeout=30
        )
        assert nameless.status_code == 422
    assert len(gateway.requests) == before
    for path in ("run", "stream"):
        gateway.add_responses(
            json_response({"detail": {"error_code": "X", "message": "no more"}}, 429)
        )
        answer = requests.post(f"{service}/{path}/p/1/f", json={}, headers=CARD, timeout=30)
        assert (answer.status_code, answer.json()) == (429, {"detail": "no more"})


def test_a_stream_is_forwarded(service: str, gateway: FaultServer) -> None:
    gateway.add_responses(
        stream_response(START, event("content", "a"), DONE),
        stream_response(START, event("content", "a")),
    )
    complete, interrupted = (
        [
            json.loads(line)
            for line in requests.post(
                f"{service}/stream/p/1/f", json={}, headers=CARD, timeout=30
            ).text.splitlines()
        ]
        for _ in range(2)
    )
    assert [event["type"] for event in complete] == ["start", "content", "done"]
    assert [event["type"] for event in interrupted] == ["start", "content", "error"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_documented_commands(beray_server: RunningServer) -> None:
    """Run the commands of the docstring, with a key and the addresses of this test."""
    text = EXAMPLE.read_text()
    start = text.index("    key=")
    script = text[start : text.index("\n\n", start)].replace("curl ", "curl --fail-with-body ")
    agent = Agent.new(beray_server)
    with agent.account, serving(beray_server.url) as url:
        replacements = {"sk-…": agent.api_key, "http://127.0.0.1:8000": beray_server.url}
        for documented, actual in (replacements | {"http://127.0.0.1:8080": url}).items():
            assert documented in script
            script = script.replace(documented, actual)
        done = subprocess.run(
            ["sh", "-ec", script], cwd=EXAMPLE.parents[1], capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"prefab_id":"document-text"' in done.stdout
    assert '"name":"README.md"' in done.stdout
    assert '{"type": "start"' in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "done"


def test_closing_a_stream_ends_its_run(probe_server: RunningServer) -> None:
    agent = Agent.new(probe_server)
    with agent.account, serving(probe_server.url) as url:
        with requests.post(
            f"{url}/stream/probe/latest/sleep",
            json={"parameters": {"mark": "98776"}},
            headers={"X-Internal-Token": agent.token},
            stream=True,
            timeout=30,
        ) as answer:
            lines = answer.iter_lines()
            types = [json.loads(next(lines))["type"] for _ in range(2)]
            assert types == ["start", "content"]
            until(lambda: sleepers("98776"))
        until(lambda: not sleepers("98776"))
