"""The example of a service runs: a client for each request, as who asks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from beray.testing import FaultServer
from tests.gateway.gateway_answers import DONE, START, event, failed, ran, says, streamed, succeeded

EXAMPLE = Path(__file__).parents[2] / "examples" / "gateway_service.py"
CARD = {"X-Internal-Token": "alice"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[FaultServer]:
    with FaultServer([]) as server:
        yield server


@pytest.fixture(scope="module")
def service(gateway: FaultServer) -> Iterator[str]:
    arguments = [sys.executable, str(EXAMPLE), gateway.url, "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"running on (http://\S+)", line)
            if found is not None:
                yield found[1]
                break
        else:
            pytest.fail("the service does not start")
        process.terminate()
        process.stderr.read()


def test_each_request_is_made_as_who_asks(service: str, gateway: FaultServer) -> None:
    before = len(gateway._connections)
    for person in ("alice", "bob", "alice"):
        gateway.say(ran(succeeded()))
        answer = requests.post(
            f"{service}/run/p/1/f", json={"x": 1}, headers={"X-Internal-Token": person}, timeout=30
        )
        assert answer.json() == {"result": {"n": 1}, "files": {"out": ["s3://b/out/1"]}}
        assert gateway.requests[-1].headers["x-internal-token"] == person
    assert len(gateway._connections) <= before + 1


def test_prefabs_and_failures(service: str, gateway: FaultServer) -> None:
    gateway.say(says({"prefabs": [{"prefab_id": "p"}]}))
    [prefab] = requests.get(f"{service}/prefabs", headers=CARD, timeout=30).json()
    assert prefab["prefab_id"] == "p"
    gateway.say(ran(failed("TIMEOUT")))
    answer = requests.post(f"{service}/run/p/1/f", json={}, headers=CARD, timeout=30)
    assert answer.json()["error"]["code"] == "TIMEOUT"


def test_refusals_are_handed_on(service: str, gateway: FaultServer) -> None:
    before = len(gateway.requests)
    assert requests.get(f"{service}/prefabs", timeout=30).status_code == 422
    odd = requests.get(f"{service}/prefabs", headers={"X-Internal-Token": "a b"}, timeout=30)
    assert odd.status_code == 422
    assert len(gateway.requests) == before
    for path in ("run", "stream"):
        gateway.say(says({"detail": {"error_code": "X", "message": "no more"}}, 429))
        answer = requests.post(f"{service}/{path}/p/1/f", json={}, headers=CARD, timeout=30)
        assert (answer.status_code, answer.json()) == (429, {"detail": "no more"})


def test_a_stream_is_handed_on(service: str, gateway: FaultServer) -> None:
    gateway.say(
        streamed(START, event("content", "a"), DONE), streamed(START, event("content", "a"))
    )
    whole, cut = (
        [
            json.loads(line)
            for line in requests.post(
                f"{service}/stream/p/1/f", json={}, headers=CARD, timeout=30
            ).text.splitlines()
        ]
        for _ in range(2)
    )
    assert [one["type"] for one in whole] == ["start", "content", "done"]
    assert [one["type"] for one in cut] == ["start", "content", "error"]
