"""Calls with ``X-API-Key`` and ``POST /v1/run``, as the SDK 0.2.0 to 0.3.2 makes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.testing import RunningServer, access_token, authorization
from tests.gateway_support import exchange, refusal
from tests.network_support import needs_own_network
from tests.server.gateway.prefab_calls import Caller, call
from tests.shared_servers import ServerPool
from tests.support import FollowingThread, sleepers, until


@pytest.fixture
def caller(probe_server: RunningServer) -> Iterator[Caller]:
    caller = Caller.new(probe_server)
    with caller.account:
        yield caller


def run(server: RunningServer, one: Any, **headers: str) -> requests.Response:
    """Call a function as the published SDK does, which accepts everything."""
    return requests.post(
        f"{server.url}/v1/run",
        json={"calls": [one]},
        headers={"Accept": "*/*"} | {name.replace("_", "-"): headers[name] for name in headers},
        timeout=60,
    )


def test_a_key_and_an_access_token_run_functions(caller: Caller) -> None:
    for headers in ({"X_API_Key": caller.api_key}, authorization(caller.account)):
        answer = run(caller.server, call("outputs"), **headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "application/json"
        (result,) = answer.json()["results"]
        assert result["status"] == "SUCCESS" and answer.json()["job_id"]
        agent = "scout" if "X_API_Key" in headers else "-"
        (url,) = result["output"]["files"]["copy"]
        assert f"/agent-outputs/{caller.user_id}/{agent}/" in url


def test_a_function_that_streams_is_streamed(caller: Caller) -> None:
    answer = run(caller.server, call("tell"), X_API_Key=caller.api_key)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    types = [json.loads(line.removeprefix("data: "))["type"] for line in lines]
    assert types == ["start", "content", "progress", "content", "progress", "done"]


def test_a_key_is_good_for_the_other_routes_and_in_its_own_place_only(caller: Caller) -> None:
    server, token = caller.server, access_token(caller.account)
    listed = requests.get(
        f"{server.url}/internal/files/list", headers={"X-API-Key": caller.api_key}, timeout=30
    )
    assert listed.status_code == 200
    for wrong in ("", "sk-wrong", caller.token, token, f"Bearer {caller.api_key}"):
        answer = run(server, call("outputs"), X_API_Key=wrong)
        assert refusal(answer) == (401, "INVALID_API_KEY")
        assert "wrong" in answer.text or "X-API-Key: sk-" in answer.text
    # A valid credential in another place does not make up for it.
    both = run(server, call("outputs"), X_API_Key="sk-wrong", **authorization(caller.account))
    assert refusal(both) == (401, "INVALID_API_KEY")
    assert refusal(run(server, call("outputs")))[0] == 401
    assert caller.api_key not in server.log.read_text()


def test_wrong_keys_are_limited_together_with_exchanges(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        key = server.sign_up().create_api_key("k")["key"]
        for number in range(15):
            assert run(server, call("x"), X_API_Key=f"sk-{number}").status_code == 401
            assert exchange(server, f"sk-{number}").status_code == 401
        assert refusal(run(server, call("x"), X_API_Key=key)) == (429, "TOO_MANY_TRIES")
        assert refusal(exchange(server, key)) == (429, "TOO_MANY_TRIES")


def test_the_end_of_a_key_ends_its_runs(caller: Caller) -> None:
    mark = "98764"

    def attempt() -> Iterator[bytes]:
        headers = {"X-API-Key": caller.api_key, "Accept": "text/event-stream"}
        body = {"calls": [call("sleep", mark=mark)]}
        with requests.post(
            f"{caller.server.url}/v1/run", json=body, headers=headers, stream=True, timeout=60
        ) as answer:
            yield from answer.iter_lines()

    following = FollowingThread(attempt)
    until(lambda: sleepers(mark))
    (key,) = caller.account.list_api_keys()
    caller.account.revoke_api_key(key["id"])
    following.join(30)
    assert isinstance(following.error, requests.RequestException)
    until(lambda: not sleepers(mark))
    assert run(caller.server, call("outputs"), X_API_Key=caller.api_key).status_code == 401


@needs_own_network
def test_an_allowed_address_needs_no_credential(server_pool: ServerPool) -> None:
    server = server_pool.server(BERAY_GATEWAY_ALLOW="127.0.0.1")
    assert refusal(run(server, call("x"))) == (404, "PREFAB_NOT_FOUND")
    assert refusal(run(server, call("x"), X_API_Key="sk-wrong")) == (401, "INVALID_API_KEY")
