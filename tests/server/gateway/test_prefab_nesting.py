"""Functions with gateway access, which call other functions as agents of their caller."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.server.prefabs import archives
from beray.server.prefabs.scheduler import MAX_NESTED_CALLS
from beray.testing import RunningServer
from tests.gateway_support import refusal
from tests.network_support import needs_own_network
from tests.server.gateway.prefab_calls import Caller, add, put
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import sleepers, until

EXAMPLE = Path(__file__).parents[3] / "examples" / "prefabs" / "word-report"
MODULE = """
import json, os, time
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from beray.prefab import Call

def ask(method, path, body=None, **headers):
    token = {"X-Internal-Token": os.environ["X_INTERNAL_TOKEN"]}
    request = Request(
        os.environ["BERAY_GATEWAY_URL"] + path, None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Accept": "application/json"} | token | headers,
        method=method,
    )
    try:
        with urlopen(request) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)

def run(*calls):
    return ask("POST", "/v1/internal/run", {"calls": calls})

def one(function, **parameters):
    return {"prefab_id": "probe", "function_name": function, "inputs": {"parameters": parameters}}

def outer(call: Call, *, calls: list) -> dict:
    status, answer = run(*[one(name, **given) for name, given in calls])
    return {"status": status, "answer": answer}

def deep(call: Call, *, depth: int) -> dict:
    if not depth:
        return {"reached": True}
    _, answer = run(one("deep", depth=depth - 1))
    (result,) = answer["results"]
    return result["output"]["output"] if result["output"] else {"error": result["error"]}

def inner(call: Call) -> dict:
    call.output("copy", "a.txt").write_text("a")
    return {name: os.environ.get(name) for name in ("BERAY_GATEWAY_URL", "X_INTERNAL_TOKEN")}

def ways(call: Call, *, secret_url: str) -> dict:
    token = os.environ["X_INTERNAL_TOKEN"]
    found = {
        "list": ask("GET", "/internal/files/list")[0],
        "upload_url": ask("POST", "/internal/files/generate_upload_url", {"filename": "a"})[1],
        "prefabs": ask("GET", "/v1/prefabs")[0],
        "secrets": ask("GET", "/v1/prefabs/probe/secrets")[0],
        "tasks": ask("GET", "/api/v1/tasks/")[0],
        "as_bearer": ask("GET", "/api/v1/users/me", Authorization="Bearer " + token)[0],
        "remove": ask("DELETE", "/internal/files?s3_url=" + secret_url)[0],
    }
    upload = Request(found["upload_url"]["upload_url"], b"content", method="PUT")
    with urlopen(upload) as answer:
        found["put"] = answer.status
    return found

def after(call: Call):
    yield "begun"
    while not ask("GET", "/internal/files/list_temp?session_id=go")[1]["files"]:
        time.sleep(0.05)
    return {"status": run(one("inner"))[0]}

def tell(call: Call) -> dict:
    token = os.environ["X_INTERNAL_TOKEN"]
    return {"token": token, "length": len(token)}

def fail(call: Call) -> dict:
    raise RuntimeError("my token is " + os.environ["X_INTERNAL_TOKEN"])

def keep(call: Call) -> dict:
    call.output("copy", "token.txt").write_text(os.environ["X_INTERNAL_TOKEN"])
    return {}

def sleep(call: Call, *, mark: str) -> dict:
    os.execvp("sleep", ["sleep", mark])

def wait(call: Call, *, mark: str) -> dict:
    return {"answer": run(one("sleep", mark=mark))}
"""
MANIFEST = """
[functions.outer]
gateway = true
parameters = { required = ["calls"], properties.calls.type = "array" }
[functions.deep]
gateway = true
parameters = { required = ["depth"], properties.depth.type = "integer" }
[functions.inner]
[functions.inner.files.outputs.copy]
[functions.ways]
gateway = true
parameters = { required = ["secret_url"], properties.secret_url.type = "string" }
[functions.after]
gateway = true
streaming = true
[functions.tell]
gateway = true
[functions.fail]
gateway = true
[functions.keep]
gateway = true
[functions.keep.files.outputs.copy]
[functions.sleep]
parameters = { required = ["mark"], properties.mark.type = "string" }
[functions.wait]
gateway = true
parameters = { required = ["mark"], properties.mark.type = "string" }
"""


def call(function: str, **parameters: Any) -> Any:
    return {"prefab_id": "probe", "function_name": function, "inputs": {"parameters": parameters}}


@pytest.fixture(scope="module", params=["auto", "none"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = write_prefab(tmp_path_factory.mktemp("probe"), MODULE, MANIFEST)
    with RunningServer.start(
        tmp_path_factory.mktemp("server"),
        BERAY_PREFAB_AUTHORS="author@example.test",
        BERAY_PREFAB_SLOTS="1",
        BERAY_SANDBOX=request.param,
    ) as server:
        with server.sign_up("author@example.test") as author:
            for prefab in (folder, EXAMPLE):
                added = add(author, archives.pack(prefab))
                assert added.status_code == 201, added.text
        yield server


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    caller = Caller.new(server)
    with caller.account:
        yield caller


def returned(caller: Caller, one: Any) -> Any:
    result = caller.result(one)
    assert result["status"] == "SUCCESS", result
    return result["output"]["output"]


def test_the_example_calls_another_prefab(caller: Caller) -> None:
    texts = {"one.txt": "three words here", "two.md": "# And\n\nfour more words"}
    urls = [put(caller, name, text) for name, text in texts.items()]
    one = {
        "prefab_id": "word-report",
        "function_name": "count",
        "inputs": {"files": {"documents": urls}},
    }
    result = caller.result(one)
    assert result["status"] == "SUCCESS", result
    assert result["output"]["output"]["words"] >= 7
    (url,) = result["output"]["files"]["report"]
    presigned = caller.files("GET", "download", params={"s3_url": url}).json()["presigned_url"]
    report = requests.get(presigned, timeout=30).text
    assert report.splitlines()[0] == "3 one.txt"
    assert caller.token not in caller.server.log.read_text()


def test_inner_calls_run_in_the_slot_of_the_outer_one(caller: Caller) -> None:
    """The server has one slot, which the outer call holds."""
    found = returned(caller, call("outer", calls=[["inner", {}], ["inner", {}], ["none", {}]]))
    assert found["status"] == 200
    first, second, third = found["answer"]["results"]
    for result in (first, second):
        # An inner function has no access of its own.
        assert result["output"]["output"] == {"BERAY_GATEWAY_URL": None, "X_INTERNAL_TOKEN": None}
        (url,) = result["output"]["files"]["copy"]
        assert f"/agent-outputs/{caller.user_id}/prefab-probe/" in url
        # The caller may fetch what was made for them.
        assert caller.files("GET", "download", params={"s3_url": url}).status_code == 200
    assert third["error"]["code"] == "PREFAB_NOT_FOUND"


def test_the_depth_of_calls_is_limited(caller: Caller) -> None:
    assert returned(caller, call("deep", depth=MAX_NESTED_CALLS - 1)) == {"reached": True}
    found = returned(caller, call("deep", depth=MAX_NESTED_CALLS))
    assert found["error"]["code"] == "NESTED_TOO_DEEP"
    assert returned(caller, call("deep", depth=0)) == {"reached": True}


def test_a_function_is_an_agent_of_its_caller_and_not_the_caller(caller: Caller) -> None:
    theirs = put(caller, "mine.txt", "mine")
    found = returned(caller, call("ways", secret_url=theirs))
    url = found.pop("upload_url")
    assert url["s3_url"].startswith(f"s3://beray/agent-inputs/{caller.user_id}/")
    # The relay passes requests for the gateway only.
    elsewhere = 404 if boxed(caller.server) else 401
    assert found == {
        "list": 200, "prefabs": 200, "put": 200, "secrets": 403, "remove": 403,
        "as_bearer": elsewhere, "tasks": elsewhere,
    }  # fmt: skip


def boxed(server: RunningServer) -> bool:
    return "sandbox: bubblewrap" in server.log.read_text()


def test_the_token_ends_with_the_run(caller: Caller) -> None:
    result = caller.result(call("keep"))
    (url,) = result["output"]["files"]["copy"]
    presigned = caller.files("GET", "download", params={"s3_url": url}).json()["presigned_url"]
    token = requests.get(presigned, timeout=30).text
    assert len(token) > 40
    answer = requests.get(
        f"{caller.server.url}/v1/prefabs", headers={"X-Internal-Token": token}, timeout=30
    )
    assert refusal(answer) == (401, "INVALID_TOKEN")


def test_the_token_is_cut_out_of_results_and_logs(caller: Caller) -> None:
    found = returned(caller, call("tell"))
    assert found["length"] > 40 and found["token"] == "[secret]"
    error = caller.failure(call("fail"))
    assert error["message"].endswith("my token is [secret]")
    assert "my token is [secret]" in caller.server.log.read_text()
    assert error["traceback"].count("[secret]") >= 1


def test_the_end_of_an_outer_call_ends_the_inner_ones(caller: Caller) -> None:
    mark = "98761"
    answer = caller.run(call("wait", mark=mark), accept="text/event-stream")
    until(lambda: sleepers(mark))
    answer.close()
    until(lambda: not sleepers(mark))
    # The slot is free again.
    assert returned(caller, call("deep", depth=0)) == {"reached": True}


def test_in_maintenance_a_call_under_way_may_make_its_calls(caller: Caller) -> None:
    server = caller.server
    same_agent = Caller.of(server, caller.account, "prefab-probe")
    with caller.run(call("after"), accept="text/event-stream") as outer:
        lines = outer.iter_lines()
        assert any(b"begun" in line for line in lines)
        os.kill(server.pid, signal.SIGUSR1)
        try:
            until(lambda: caller.run(call("inner")).status_code == 503)
            form = {"file": ("a.txt", b"a")}
            sent = same_agent.files("POST", "upload_temp", files=form, data={"session_id": "go"})
            assert sent.status_code == 200
            assert any(b'"done"' in line and b'{"status": 200}' in line for line in lines)
        finally:
            os.kill(server.pid, signal.SIGUSR1)
    until(lambda: caller.run(call("inner")).status_code == 200)


@needs_own_network
def test_functions_with_gateway_access_reject_anonymous_callers(tmp_path: Path) -> None:
    folder = write_prefab(tmp_path / "probe", MODULE, MANIFEST)
    with RunningServer.start(
        tmp_path / "data", BERAY_GATEWAY_ALLOW="127.0.0.1", BERAY_PREFAB_AUTHORS="*"
    ) as server:
        with server.sign_up() as author:
            added = add(author, archives.pack(folder))
            assert added.status_code == 201, added.text
        url = f"{server.url}/v1/run"
        refused = requests.post(url, json={"calls": [call("tell")]}, timeout=60)
        assert refusal(refused) == (403, "FORBIDDEN")
        ran = requests.post(url, json={"calls": [call("inner")]}, timeout=60)
        assert json.loads(ran.text)["status"] == "SUCCESS"


@needs_own_network
def test_urls_lead_to_the_relay_also_with_a_public_url(tmp_path: Path) -> None:
    folder = write_prefab(tmp_path / "probe", MODULE, MANIFEST)
    environ = {"BERAY_PUBLIC_URL": "https://beray.example.test", "BERAY_PREFAB_AUTHORS": "*"}
    with RunningServer.start(tmp_path / "data", environ) as server:
        caller = Caller.new(server)
        assert add(caller.account, archives.pack(folder)).status_code == 201
        found = returned(caller, call("ways", secret_url="s3://beray/a"))
        assert found["put"] == 200
        outside = caller.files("POST", "generate_upload_url", json={"filename": "a"}).json()
        assert outside["upload_url"].startswith("https://beray.example.test/")
