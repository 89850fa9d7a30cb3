"""Runs of prefabs over a socket: plain, streamed, in batches, and rejected."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from beray.server.prefabs import archives
from beray.testing import RunningServer, authorization, raw_request
from tests.gateway_support import refusal
from tests.server.gateway.prefab_calls import COUNT, MANIFEST, Caller, add, call, put
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import command_line, sleepers, until


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = write_prefab(tmp_path_factory.mktemp("probe"), COUNT, MANIFEST)
    return archives.pack(folder)


@pytest.fixture(scope="module", params=["auto", "none"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, archive: bytes
) -> Iterator[RunningServer]:
    with RunningServer.start(
        tmp_path_factory.mktemp("server"),
        BERAY_PREFAB_AUTHORS="author@example.test",
        BERAY_PREFAB_SLOTS="2",
        BERAY_PREFAB_DISK_BYTES=str(64 * 1024 * 1024),
        BERAY_SANDBOX=request.param,
        BERAY_HEARTBEAT_SECONDS="0.2",
    ) as server:
        with server.sign_up("author@example.test") as author:
            added = add(author, archive)
        assert added.status_code == 201, added.text
        yield server


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    agent = Caller.new(server)
    with agent.account:
        yield agent


def test_prefabs_are_listed_with_their_specs(caller: Caller) -> None:
    (info,) = [
        one
        for one in caller.call("GET", "/v1/prefabs?status=deployed").json()["prefabs"]
        if one["prefab_id"] == "probe"
    ]
    assert info["version"] == "1.0.0" and not info["is_official"] and info["requires_secrets"]
    spec = caller.call("GET", "/v1/prefabs/probe/latest/spec").json()
    assert spec["versions"] == ["1.0.0"]
    assert [one["name"] for one in spec["functions"]] == info["functions"]
    assert spec["functions"][0]["parameters"]["required"] == ["unit"]
    for path in ("probe/2.0.0", "nothing/latest"):
        answer = caller.call("GET", f"/v1/prefabs/{path}/spec")
        assert refusal(answer) == (404, "PREFAB_NOT_FOUND")


def test_a_plain_run_has_two_levels(caller: Caller) -> None:
    answer = caller.run(call("outputs"))
    body = answer.json()
    result = body["results"][0]
    assert (body["status"], result["status"], result["error"]) == ("SUCCESS", "SUCCESS", None)
    # The library repeats requests with this header, but runs must not be repeated.
    assert "X-Idempotency-Seconds" not in answer.headers
    output = result["output"]
    assert (output["status"], output["output"]) == ("SUCCESS", {})
    scope = f"{caller.user_id}/{caller.agent_id}/{body['job_id']}"
    assert output["files"] == {"copy": [f"s3://beray/agent-outputs/{scope}/copy/a.txt"]}


def test_files_go_in_and_come_out(server: RunningServer, caller: Caller) -> None:
    urls = [put(caller, "a.txt", "one two"), put(caller, "a.txt", "three")]
    result = caller.result(call("count", {"document": urls}, unit="words"))
    assert result["output"]["output"] == {"count": 3, "note": "none"}
    assert len(result["output"]["files"]["copy"]) == 2
    stranger = Caller.new(server)
    with stranger.account:
        error = stranger.failure(call("count", {"document": urls}, unit="words"))
    assert error["code"] == "INPUT_FILE"
    gone = f"s3://beray/agent-inputs/{caller.user_id}/none/a.txt"
    assert caller.failure(call("count", {"document": [gone]}, unit="words"))["code"] == "INPUT_FILE"


@pytest.mark.parametrize(
    ("one", "place"),
    [
        (call("count", {"document": ["s3://beray/agent-inputs/1/x/a.txt"]}, unit="inches"), ["parameters", "unit"]),
        (call("count", {"document": ["s3://beray/agent-inputs/1/x/a.txt"]}), ["parameters"]),
        (call("count", unit="words"), ["files", "document"]),
        (call("count", {"document": ["s3://beray/agent-inputs/1/x/a.exe"]}, unit="words"), ["files", "document", 0]),
        (call("count", {"document": ["http://example.com/a.txt"]}, unit="words"), ["files", "document", 0]),
        (call("count", {"document": ["s3://elsewhere/agent-inputs/a.txt"]}, unit="words"), ["files", "document", 0]),
        (call("outputs", {"none": ["s3://beray/agent-inputs/1/x/a.txt"]}), ["files", "none"]),
        (call("outputs", other=1), ["parameters"]),
    ],
)  # fmt: skip
def test_invalid_inputs_are_rejected_with_their_place(
    caller: Caller, one: Any, place: list[Any]
) -> None:
    answer = caller.run(one)
    assert refusal(answer) == (422, "INVALID_INPUT")
    detail = answer.json()["detail"]
    (problem,) = detail["errors"]
    assert problem["loc"] == ["calls", 0, "inputs", *place]
    assert detail["message"] == f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def test_a_message_names_the_first_of_many_problems(caller: Caller) -> None:
    files = {"document": [f"http://example.com/{number}.txt" for number in range(6)]}
    detail = caller.run(call("count", files, unit="words")).json()["detail"]
    assert len(detail["errors"]) == 6
    assert "calls.0.inputs.files.document.4: " in detail["message"]
    assert "calls.0.inputs.files.document.5" not in detail["message"]
    assert detail["message"].endswith("(and 1 more)")


def test_a_message_names_the_problems_of_a_body_without_the_word_body(caller: Caller) -> None:
    answer = caller.run({"prefab_id": 5})
    assert refusal(answer) == (422, "INVALID_INPUT")
    message = answer.json()["detail"]["message"]
    assert message.startswith("calls.0.prefab_id: ") and "; calls.0.function_name: " in message


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream;q=0", False),
        ("application/json, text/event-stream;q=0.0", False),
        ("text/event-stream; q=0.5, application/json", True),
    ],
)
def test_unacceptable_media_types_are_not_sent(caller: Caller, accept: str, streams: bool) -> None:
    with caller.run(call("outputs"), accept=accept) as answer:
        assert answer.headers["Content-Type"].startswith("text/event") is streams


def test_null_inputs_are_empty(caller: Caller) -> None:
    for inputs in (None, {"parameters": None, "files": None}, {}):
        assert caller.result(call("outputs") | {"inputs": inputs})["status"] == "SUCCESS"


def test_errors_have_details_but_no_paths_of_the_server(
    server: RunningServer, caller: Caller
) -> None:
    path = "/v1/prefabs/probe/secrets/API_KEY"
    given = raw_request(caller.account, "PUT", path, json={"value": "of-nobody-else"})
    assert given.ok, given.text
    error = caller.failure(call("fail", how="import"))
    assert error["code"] == "FUNCTION_ERROR" and "zork" in error["message"]
    assert sys.prefix not in str(error) and sys.base_prefix not in str(error)
    error = caller.failure(call("fail", how="surrogate"))
    assert (error["code"], error["message"]) == ("FUNCTION_ERROR", "RuntimeError: half \\udc80")
    assert "probe.py" in error["traceback"]
    error = caller.failure(call("fail"))
    assert error["code"] == "INVALID_OUTPUT" and "of-nobody-else" not in str(error)


def test_wrong_input_has_no_traceback_and_a_defect_has_one_in_the_log(
    server: RunningServer, caller: Caller
) -> None:
    path = "/v1/prefabs/probe/secrets/API_KEY"
    given = raw_request(caller.account, "PUT", path, json={"value": "of-nobody-else"})
    assert given.ok, given.text
    before = len(server.log.read_text())
    assert caller.failure(call("fail", how="input")) == {
        "code": "INVALID_INPUT",
        "message": "unit: 'x' is not a unit; use words or characters",
    }
    assert "is not a unit" not in server.log.read_text()[before:]
    caller.failure(call("fail", how="surrogate"))
    log = server.log.read_text()[before:]
    assert "a function of a prefab raised an exception" in log
    assert "RuntimeError" in log and "probe.py" in log


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
def test_a_stream_gives_pieces_and_one_end(caller: Caller, accept: str) -> None:
    start, *pieces, done = caller.events(call("tell"), accept)
    job = start["data"]["job_id"]
    assert start == {"type": "start", "data": {"job_id": job}}
    assert [one["type"] for one in pieces] == ["content", "progress"] * 2
    assert pieces[:2] == [
        {"type": "content", "data": "piece 0"},
        {"type": "progress", "data": {"fraction": 0.5, "message": "on the way"}},
    ]
    assert (done["type"], done["data"]["status"]) == ("done", "SUCCESS")
    assert done["data"]["output"]["output"] == {"told": 2}
    assert done["data"]["output"]["files"]["copy"][0].endswith(f"{job}/copy/end.txt")


def test_a_function_that_does_not_stream_can_be_streamed_and_the_other_way_round(
    caller: Caller,
) -> None:
    assert [one["type"] for one in caller.events(call("outputs"))] == ["start", "done"]
    assert caller.run(call("outputs"), accept="*/*").json()["status"] == "SUCCESS"
    output = caller.result(call("tell"))["output"]
    assert (output["output"], output["content"]) == ({"told": 2}, ["piece 0", "piece 1"])


def test_a_stream_that_fails_says_so_at_its_end(caller: Caller) -> None:
    start, error = caller.events(call("wrong"))
    assert start["type"] == "start" and error["type"] == "error"
    assert error["data"]["code"] == "INVALID_OUTPUT"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("two", "INVALID_OUTPUT"), ("key", "INVALID_OUTPUT"), ("link", "INVALID_OUTPUT"),
        ("folder", "INVALID_OUTPUT"), ("fifo", "INVALID_OUTPUT"), ("moved", "INVALID_OUTPUT"),
        ("twice", "INVALID_OUTPUT"), ("name", "INVALID_OUTPUT"), ("disk", "OUTPUT_TOO_LARGE"), ("large", "OUTPUT_TOO_LARGE"),
    ],
)  # fmt: skip
def test_output_files_that_do_not_belong_there(
    server: RunningServer, caller: Caller, how: str, code: str
) -> None:
    error = caller.failure(call("outputs", how=how))
    assert error["code"] == code, error
    assert "\x1b" not in error["message"]
    until(lambda: not list((server.data_dir / "scratch").iterdir()))


def test_names_of_output_files_that_are_not_utf8_are_escaped(caller: Caller) -> None:
    urls = caller.result(call("outputs", how="bytes"))["output"]["files"]["copy"]
    names = {url.rpartition("/")[2] for url in urls}
    assert names == {"a.txt", "caf␦E9.txt", "caf␦E8.txt"}


def test_an_input_that_the_store_has_lost(server: RunningServer, caller: Caller) -> None:
    url = put(caller, "a.txt", "lost")
    for path in (server.data_dir / "objects").rglob("*"):
        if path.is_file() and path.read_bytes() == b"lost":
            path.unlink()
    error = caller.failure(call("count", {"document": [url]}, unit="words"))
    assert error["code"] == "STORAGE_UNAVAILABLE"


def test_input_files_with_the_same_long_name_get_distinct_names(caller: Caller) -> None:
    urls = [put(caller, f"{'漢' * 83}.txt", text) for text in ("one two", "three")]
    result = caller.result(call("count", {"document": urls}, unit="words"))
    assert result["output"]["output"]["count"] == 3
    assert len(result["output"]["files"]["copy"]) == 2


def test_text_counts_as_it_is_sent(caller: Caller) -> None:
    # As escapes it would be 18 MB.
    result = caller.result(call("umlauts"))
    assert result["output"]["output"]["text"] == "ü" * 3_000_000


def test_results_that_violate_their_schema_are_rejected(caller: Caller) -> None:
    error = caller.failure(call("wrong"))
    assert error["code"] == "INVALID_OUTPUT"
    assert 'count: must be an integer, got "three"' in error["message"]


def test_a_batch_has_its_results_in_order_and_one_failure_touches_no_other(caller: Caller) -> None:
    answer = caller.run(
        call("outputs"),
        call("wrong"),
        call("nothing"),
        call("count", unit="inches"),
        call("whisper"),
        call("tell", times=1),
    )
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "FAILED")
    codes = [one["error"] and one["error"]["code"] for one in body["results"]]
    assert codes == [
        None, "INVALID_OUTPUT", "PREFAB_NOT_FOUND", "INVALID_INPUT", "MISSING_SECRET", None,
    ]  # fmt: skip
    assert body["results"][4]["error"]["secret_name"] == "API_KEY"
    keys = [one["output"]["files"]["copy"][0] for one in (body["results"][0], body["results"][5])]
    assert f"{body['job_id']}-1/" in keys[0] and f"{body['job_id']}-6/" in keys[1]


@pytest.mark.parametrize(
    ("one", "status", "code"),
    [
        (call("outputs") | {"prefab_id": "none"}, 404, "PREFAB_NOT_FOUND"),
        (call("outputs") | {"version": "3.0.0"}, 404, "PREFAB_NOT_FOUND"),
        (call("__init__"), 404, "PREFAB_NOT_FOUND"),
        (call("whisper"), 400, "MISSING_SECRET"),
        ({"prefab_id": 3}, 422, "INVALID_INPUT"),
        (call("outputs") | {"inputs": {"files": {"a": "b"}}}, 422, "INVALID_INPUT"),
    ],
)  # fmt: skip
def test_invalid_calls_are_rejected(caller: Caller, one: Any, status: int, code: str) -> None:
    assert refusal(caller.run(one)) == (status, code)
    assert refusal(caller.run(one, accept="text/event-stream")) == (status, code)


def test_invalid_bodies_are_rejected(caller: Caller) -> None:
    for calls in ([], [call("outputs")] * 101):
        assert refusal(caller.run(*calls)) == (422, "INVALID_INPUT")
    both = caller.run(call("tell"), call("tell"), accept="text/event-stream")
    assert refusal(both) == (422, "INVALID_INPUT")
    plain = caller.call("POST", "/v1/internal/run", data='{"calls": []}')
    assert "Content-Type: application/json" in plain.json()["detail"]["message"]
    large = b'{"calls": "' + b"a" * 17 * 1024**2 + b'"}'
    for method, path in (("POST", "/v1/internal/run"), ("PUT", "/v1/prefabs/x/secrets/K")):
        headers = {"Content-Type": "application/json"}
        assert caller.call(method, path, data=large, headers=headers).status_code == 413
        url = f"{caller.server.url}{path}"
        assert requests.request(method, url, data=large, headers=headers).status_code == 401
    nobody = requests.post(f"{caller.server.url}/v1/internal/run", json={}, timeout=30)
    assert refusal(nobody)[0] == 401


def test_a_secret_can_be_set_but_not_read(server: RunningServer, caller: Caller) -> None:
    value = "very-secret-0123456789"
    path = f"{server.url}/v1/prefabs/probe/secrets"
    headers = authorization(caller.account)

    def ask(method: str, name: str = "", **options: Any) -> requests.Response:
        return requests.request(method, path + name, headers=headers, timeout=30, **options)

    assert refusal(ask("PUT", "/OTHER", json={"value": "x"})) == (422, "INVALID_INPUT")
    for wrong in ("", "a\0b", "x" * 40_000, 3):
        answer = ask("PUT", "/API_KEY", json={"value": wrong})
        assert refusal(answer) == (422, "INVALID_INPUT")
        assert "xxx" not in answer.text
    assert ask("PUT", "/API_KEY", json={"value": value}).ok
    assert ask("GET").json() == {"secrets": ["API_KEY"]}
    by_agent = caller.call("PUT", "/v1/prefabs/probe/secrets/API_KEY", json={"value": "x"})
    assert by_agent.status_code == 403
    error = caller.failure(call("whisper"))
    assert error["message"] == "ValueError: my key is [secret]"
    assert value not in json.dumps(error)
    data = [path for path in server.data_dir.glob("*") if path.is_file()]
    assert not [path for path in data if value.encode() in path.read_bytes()]
    assert (server.data_dir / "prefab-secrets.key").stat().st_mode & 0o777 == 0o600
    assert ask("PUT", "/API_KEY", json={"value": "\\quoted'\"word"}).ok
    assert caller.failure(call("whisper"))["message"] == "KeyError: 'my key is [secret]'"
    stranger = Caller.new(server)
    with stranger.account:
        assert refusal(stranger.run(call("whisper"))) == (400, "MISSING_SECRET")
    assert ask("DELETE", "/API_KEY").ok
    assert refusal(ask("DELETE", "/API_KEY")) == (404, "NOT_FOUND")
    assert refusal(caller.run(call("whisper"))) == (400, "MISSING_SECRET")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_client_that_disconnects_ends_its_run(
    server: RunningServer, caller: Caller, accept: str
) -> None:
    mark = "98771" if "json" in accept else "98772"
    body = json.dumps({"calls": [call("sleep", mark=mark)]}).encode()
    head = (
        f"POST /v1/internal/run HTTP/1.1\r\nHost: localhost\r\nX-Internal-Token: {caller.token}\r\n"
        f"Accept: {accept}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        until(lambda: sleepers(mark))
    until(lambda: not sleepers(mark))
    until(lambda: not list((server.data_dir / "scratch").iterdir()))


def test_slots_are_shared_in_turn(server: RunningServer, caller: Caller) -> None:
    """Another caller does not wait for a batch that was there first."""
    other = Caller.new(server)
    ended: list[str] = []

    def batch() -> None:
        caller.run(*[call("tell", times=1)] * 30)
        ended.append("batch")

    batching = threading.Thread(target=batch)
    batching.start()
    until(lambda: _functions(server))
    with other.account:
        other.result(call("outputs"))
    ended.append("other")
    batching.join()
    assert ended == ["other", "batch"]


def _functions(server: RunningServer) -> list[int]:
    children = psutil.Process(server.pid).children(recursive=True)
    return [one.pid for one in children if "prefabs/worker.py" in " ".join(command_line(one))]


def test_a_day_has_so_many_calls(tmp_path: Path, archive: bytes) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_PREFAB_AUTHORS="*", BERAY_DAILY_PREFAB_CALLS="3"
    ) as server:
        caller = Caller.new(server)
        with caller.account as account:
            assert add(account, archive).ok
            assert caller.run(call("outputs"), call("outputs")).ok
            refused = caller.run(call("outputs"), call("outputs"))
            assert refusal(refused) == (429, "QUOTA_EXCEEDED")
            detail = refused.json()["detail"]
            assert (detail["limit"], detail["used"]) == (3, 2)
            assert detail["quota_type"] == "daily_calls"
            assert caller.run(call("outputs")).ok
            assert refusal(caller.run(call("outputs"))) == (429, "QUOTA_EXCEEDED")


def test_a_server_that_stops_ends_its_runs_and_says_so(tmp_path: Path, archive: bytes) -> None:
    server = RunningServer.start(tmp_path / "data", BERAY_PREFAB_AUTHORS="*")
    caller = Caller.new(server)
    with caller.account as account:
        add(account, archive)
        found: list[Any] = []
        reading = threading.Thread(
            target=lambda: found.extend(caller.events(call("sleep", mark="98773")))
        )
        reading.start()
        until(lambda: sleepers("98773"))
        server.stop()
        reading.join()
    assert [one["type"] for one in found] == ["start", "content", "error"]
    assert found[-1]["data"]["code"] == "CANCELLED"
    assert not sleepers("98773")
