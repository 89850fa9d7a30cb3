"""Tests of runs without a stream: requests, results and error responses."""

from __future__ import annotations

import json
import pickle
import socket
import threading
from typing import Any

import pytest

import beray
from beray.gateway import (
    AgentContextRequiredError,
    AuthenticationError,
    CallStatus,
    GatewayClient,
    GatewayError,
    GatewayFailure,
    GatewayTimeout,
    InvalidAnswer,
    MissingSecretError,
    PrefabCall,
    PrefabInfo,
    PrefabNotFoundError,
    PrefabResult,
    QuotaExceededError,
    RefusedError,
    RejectedInput,
    RunInterrupted,
    RunOutcomeUnknown,
    ServiceUnavailableError,
    Unreachable,
    ValidationError,
)
from beray.testing import FaultServer, ScriptedResponse
from tests.gateway.gateway_responses import (
    DONE,
    SSE,
    START,
    TWO_LEVELS,
    event,
    failure_result,
    json_response,
    run_response,
    stream_response,
    success_result,
)


def test_a_run_is_sent_as_documented() -> None:
    with FaultServer([run_response(success_result()), run_response(success_result())]) as server:
        client = GatewayClient("token", server.url)
        result = client.run("text", "1.0.0", "count", {"x": (1, 2)}, files={"in": ["s3://b/k"]})
        client.prefab("text", "1.0.0").call("count", x=1)
        first, second = server.requests
    assert (first.method, first.path) == ("POST", "/v1/internal/run")
    assert first.headers["x-internal-token"] == "token"
    assert first.headers["accept"] == "application/json"
    assert "authorization" not in first.headers
    assert json.loads(first.body) == {
        "calls": [
            {
                "prefab_id": "text",
                "version": "1.0.0",
                "function_name": "count",
                "inputs": {"parameters": {"x": [1, 2]}, "files": {"in": ["s3://b/k"]}},
            }
        ]
    }
    assert json.loads(second.body)["calls"][0]["inputs"] == {"parameters": {"x": 1}}
    assert result == PrefabResult(CallStatus.SUCCESS, TWO_LEVELS, None, "j1")


def test_methods_of_results_hide_the_two_levels() -> None:
    value = {"success": True, "message": "m", "error": None, "error_code": "E"}
    files = {"a": ["s3://b/1", "s3://b/2"], "b": ["s3://b/3"]}
    output = {"status": "SUCCESS", "output": value, "files": files}
    result = PrefabResult(CallStatus.SUCCESS, output, None, "j")
    assert result.is_success()
    assert result.status == "SUCCESS"
    assert result.get("files") is files
    assert result.get("other", 7) == 7
    assert result.get_result() is output
    assert result.get_function_result() is value
    assert result.get_files() == files
    assert result.get_file_urls() == ["s3://b/1", "s3://b/2", "s3://b/3"]
    assert result.get_file_urls("b") == ["s3://b/3"]
    assert result.get_file_urls("c") == []
    assert result.get_business_success() is True
    assert result.get_business_message() == "m"
    assert result.get_business_error() is None
    assert result.get_business_error_code() == "E"


@pytest.mark.parametrize(
    "output",
    [
        None,
        {},
        {"output": None},
        {"output": [1]},
        {"output": "text"},
        {"files": [1]},
        {"files": {"a": 1}},
        {"files": {"a": [1, None]}},
        {"output": {"message": 0, "error": False, "error_code": 0}},
        {"output": {"message": [], "error": {}, "error_code": None}},
    ],
)
def test_results_without_the_requested_values(output: Any) -> None:
    result = PrefabResult("FAILED", output, {"code": "X"})
    assert not result.is_success()
    assert result.get_function_result() is not None
    assert result.get_file_urls() == []
    assert result.get_business_success() is False
    assert result.get_business_message() == ""
    assert result.get_business_error() is None
    assert result.get_business_error_code() is None


def test_a_url_without_a_list_is_a_list_of_one() -> None:
    files = {"a": "s3://b/1", "b": ["s3://b/2", 7], "c": None}
    result = PrefabResult(CallStatus.SUCCESS, {"files": files})
    assert result.get_files() == {"a": ["s3://b/1"], "b": ["s3://b/2"]}
    assert result.get_file_urls() == ["s3://b/1", "s3://b/2"]
    assert result.get_file_urls("a") == ["s3://b/1"]
    assert result.get_file_urls("c") == []


def test_business_values_are_strings() -> None:
    value = {"message": 5, "error": {"why": "ü"}, "error_code": 404}
    result = PrefabResult(CallStatus.SUCCESS, {"output": value})
    assert result.get_business_message() == "5"
    assert result.get_business_error() == '{"why": "ü"}'
    assert result.get_business_error_code() == "404"


def test_the_results_of_a_batch_are_in_the_order_of_its_calls() -> None:
    with FaultServer(
        [
            run_response(success_result(), failure_result(), success_result()),
            run_response(success_result(), success_result()),
        ]
    ) as server:
        client = GatewayClient("token", server.url)
        calls = [PrefabCall("p", "1", "f", {"n": n}) for n in range(3)]
        batch = client.run_batch(calls)
        sent = json.loads(server.requests[0].body)["calls"]
        good = client.run_batch(calls[:2])
    assert [call["inputs"]["parameters"]["n"] for call in sent] == [0, 1, 2]
    assert [result.status for result in batch.results] == ["SUCCESS", "FAILED", "SUCCESS"]
    assert not batch.all_success()
    assert batch.get_failed() == [batch.results[1]]
    assert batch.get_failed()[0].error["code"] == "FUNCTION_ERROR"
    assert batch.job_id == "j1"
    assert good.all_success()
    assert good.get_failed() == []


def test_an_unknown_status_is_kept() -> None:
    answer = {"status": "PAUSED", "output": None, "error": None, "new": 1}
    with FaultServer([run_response(answer)]) as server:
        result = GatewayClient("t", server.url).run("p", "1", "f")
    assert result.status == "PAUSED"
    assert not result.is_success()


ERROR_RESPONSES: list[tuple[int, Any, type[GatewayError], type[Exception]]] = [
    (400, {"error_code": "MISSING_SECRET", "message": "m"}, MissingSecretError, beray.APIError),
    (400, {"error_code": "MISSING_AGENT_CONTEXT", "message": "m"}, AgentContextRequiredError, beray.APIError),
    (400, {"error_code": "OTHER", "message": "m"}, RefusedError, beray.APIError),
    (400, "m", RefusedError, beray.APIError),
    (401, "m", AuthenticationError, beray.AuthenticationError),
    (403, {"error_code": "NO", "message": "m"}, AuthenticationError, beray.AuthenticationError),
    (404, {"error_code": "PREFAB_NOT_FOUND", "message": "m"}, PrefabNotFoundError, beray.NotFoundError),
    (404, "m", PrefabNotFoundError, beray.NotFoundError),
    (405, "m", RefusedError, beray.APIError),
    (413, "m", RefusedError, beray.APIError),
    (422, {"error_code": "INVALID_INPUT", "message": "m"}, RejectedInput, beray.UnprocessableEntityError),
    (422, [{"loc": ["body", "calls"], "msg": "m", "input": "PASSWORD"}], ValidationError, beray.UnprocessableEntityError),
    (429, {"error_code": "QUOTA_EXCEEDED", "message": "m"}, QuotaExceededError, beray.RateLimitError),
    (429, "m", QuotaExceededError, beray.RateLimitError),
    (500, {"error_code": "X", "message": "m"}, GatewayFailure, beray.APIError),
    (502, "m", ServiceUnavailableError, beray.APIError),
    (503, "m", ServiceUnavailableError, beray.APIError),
    (418, None, RefusedError, beray.APIError),
]  # fmt: skip


@pytest.mark.parametrize(("status", "detail", "error_class", "beray_class"), ERROR_RESPONSES)
def test_every_error_response_has_its_class(
    status: int, detail: Any, error_class: type[GatewayError], beray_class: type[Exception]
) -> None:
    with FaultServer([json_response({"detail": detail}, status)]) as server:
        with pytest.raises(error_class) as caught:
            GatewayClient("the-token", server.url).run("p", "1", "f")
        assert len(server.requests) == 1
    error = caught.value
    assert isinstance(error, beray_class)
    assert error.status_code == status
    assert error.message == str(error)
    if detail:
        assert "m" in error.message
    assert "PASSWORD" not in repr((error, error.details, error.error_detail, error.__dict__))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, error_class)
    assert (again.args, again.__dict__) == (error.args, error.__dict__)
    assert b"the-token" not in pickle.dumps(error)


@pytest.mark.parametrize("without", [{}, {"message": None}])
@pytest.mark.parametrize(
    ("status", "detail", "message"),
    [
        (400, {"error_code": "MISSING_SECRET", "prefab_id": "p", "secret_name": "KEY"},
         "prefab p needs the secret KEY"),
        (400, {"error_code": "MISSING_AGENT_CONTEXT"}, "this call requires the credentials of an agent"),
        (404, {"error_code": "PREFAB_NOT_FOUND", "prefab_id": None}, "prefab p@1 not found"),
    ],
)  # fmt: skip
def test_error_responses_without_a_message(
    status: int, detail: dict[str, Any], message: str, without: dict[str, Any]
) -> None:
    response = json_response({"detail": detail | without}, status)
    with FaultServer([response]) as server, pytest.raises(GatewayError) as caught:
        GatewayClient("t", server.url).run("p", "1", "f")
    assert str(caught.value) == caught.value.message
    assert caught.value.message.startswith(message)
    assert caught.value.details == detail | without


def test_job_ids_that_are_numbers() -> None:
    answer = {"job_id": 7, "results": [{"status": "SUCCESS", "output": {"output": {}}}]}
    with FaultServer([json_response(answer)]) as server:
        assert GatewayClient("t", server.url).run("p", "1", "f").job_id == "7"


def test_the_fields_of_error_responses() -> None:
    secret = {
        "error_code": "MISSING_SECRET", "message": "needs KEY", "prefab_id": "p",
        "secret_name": "KEY", "instructions": "see the website",
    }  # fmt: skip
    quota = {
        "error_code": "QUOTA_EXCEEDED", "message": "enough", "limit": 10, "used": 10,
        "quota_type": "daily_calls",
    }  # fmt: skip
    problems = [
        {"loc": ["calls", 0, "inputs", "parameters", "x"], "msg": "is needed", "input": "PRIVATE"}
    ]
    invalid = {"error_code": "INVALID_INPUT", "message": "no fit", "errors": problems}
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(json_response({"detail": secret}, 400))
        with pytest.raises(MissingSecretError) as missing:
            client.run("p", "1", "f")
        server.add_responses(json_response({"detail": quota}, 429))
        with pytest.raises(QuotaExceededError) as exceeded:
            client.run("p", "1", "f")
        server.add_responses(json_response({"detail": invalid}, 422))
        with pytest.raises(ValidationError) as rejected:
            client.run("p", "1", "f")
        server.add_responses(json_response({"detail": "no"}, 404))
        with pytest.raises(PrefabNotFoundError) as unknown:
            client.run("p", "7", "f")
        # Fields with undocumented types are ignored.
        server.add_responses(
            json_response({"detail": {**quota, "limit": "10", "used": True, "quota_type": 1}}, 429)
        )
        with pytest.raises(QuotaExceededError) as malformed:
            client.run("p", "1", "f")
    assert (missing.value.prefab_id, missing.value.secret_name) == ("p", "KEY")
    assert missing.value.instructions == "see the website"
    assert missing.value.message == "needs KEY"
    assert (exceeded.value.limit, exceeded.value.used) == (10, 10)
    assert exceeded.value.quota_type == "daily_calls"
    assert exceeded.value.details == quota
    assert rejected.value.message == "no fit: calls.0.inputs.parameters.x: is needed"
    assert "PRIVATE" not in repr(rejected.value.details)
    assert rejected.value.details["errors"][0]["loc"] == problems[0]["loc"]
    assert (unknown.value.prefab_id, unknown.value.version) == ("p", "7")
    assert (malformed.value.limit, malformed.value.used, malformed.value.quota_type) == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    "answer",
    [
        ScriptedResponse(b"<html>", 200, {"Content-Type": "text/html"}),
        ScriptedResponse(b""),
        json_response([]),
        json_response({"job_id": "j", "results": {}}),
        json_response({"job_id": "j"}),
        json_response({"job_id": "j", "results": [{"output": {}}]}),
        json_response({"job_id": "j", "results": [{"status": "SUCCESS", "output": "text"}]}),
        run_response(),
        run_response(success_result(), success_result()),
        ScriptedResponse(b"[" * 100_000),
    ],
)
def test_invalid_responses(answer: ScriptedResponse) -> None:
    with FaultServer([answer, answer]) as server:
        client = GatewayClient("t", server.url)
        with pytest.raises(InvalidAnswer) as caught:
            client.run("p", "1", "f")
        assert isinstance(caught.value, beray.InvalidResponseError)
        with pytest.raises(GatewayError):
            list(client.run("p", "1", "f", stream=True))


def test_an_error_response_without_json() -> None:
    page = ScriptedResponse(b"<html>\x1b[31mBad gateway", 502, {"Content-Type": "text/html"})
    with FaultServer([page]) as server, pytest.raises(ServiceUnavailableError) as caught:
        GatewayClient("t", server.url).run("p", "1", "f")
    assert "502" in caught.value.message


def test_a_run_that_may_have_been_delivered_is_not_retried() -> None:
    with FaultServer(
        [ScriptedResponse(b"x" * 99, drop_at=0, reset=True), run_response(success_result())]
    ) as server:
        with pytest.raises(RunOutcomeUnknown) as caught:
            GatewayClient("t", server.url).run("p", "1", "f")
        assert len(server.requests) == 1
    assert isinstance(caught.value, ServiceUnavailableError)
    assert isinstance(caught.value, beray.OutcomeUnknown)


def test_a_run_that_was_certainly_not_processed_is_retried() -> None:
    busy = json_response({"detail": "later"}, 503, **{"Retry-After": "0"})
    with FaultServer([busy, run_response(success_result())]) as server:
        assert GatewayClient("t", server.url).run("p", "1", "f").is_success()


def test_an_unreachable_gateway() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = GatewayClient("t", url, max_retries=0)
    with pytest.raises(Unreachable) as caught:
        client.run("p", "1", "f")
    assert isinstance(caught.value, beray.ConnectionFailed)
    assert not caught.value.delivered


def test_timeouts_of_runs_and_other_calls() -> None:
    with FaultServer([ScriptedResponse(b"x", stall_at=0)]) as server:
        client = GatewayClient("t", server.url, timeout=0.3)
        with pytest.raises(RunOutcomeUnknown, match=r"in time|within"):
            client.run("p", "1", "f")
        assert len(server.requests) == 1
        server.add_responses(ScriptedResponse(b"x", stall_at=0))
        with pytest.raises(GatewayTimeout) as caught:
            GatewayClient("t", server.url, deadline=0.3).list_prefabs()
    assert isinstance(caught.value, beray.DeadlineExceeded)


def test_a_run_may_be_silent_longer_than_other_calls() -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url, timeout=30, connection=(5, 0.2), deadline=0.3)
        answer = run_response(success_result())
        assert isinstance(answer.body, bytes)
        slow = ScriptedResponse([answer.body[:5], answer.body[5:]], framing="chunked", pause=0.4)
        server.add_responses(slow)
        assert client.run("p", "1", "f").is_success()


def test_a_plain_run_may_be_answered_with_a_stream() -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(
            stream_response(START, event("content", "a"), b": life\n\n", event("content"), DONE)
        )
        complete = client.run("p", "1", "f")
        server.add_responses(
            stream_response(event("content", "a"), event("done", {"output": 1, "content": "own"}))
        )
        own = client.run("p", "1", "f")
        server.add_responses(
            stream_response(START, event("error", {"code": "TIMEOUT", "message": "m"}))
        )
        failed = client.run("p", "1", "f")
        server.add_responses(
            stream_response(event("done", {"status": "SUCCESS", "output": {"n": 2}, "files": {}}))
        )
        partial = client.run("p", "1", "f")
        server.add_responses(stream_response(event("done", 7)))
        bare = client.run("p", "1", "f")
        server.add_responses(ScriptedResponse(START, headers=SSE, framing="close"))
        with pytest.raises(RunInterrupted):
            client.run("p", "1", "f")
        server.add_responses(stream_response(START, b"data: {\n\n", DONE))
        with pytest.raises(InvalidAnswer):
            client.run("p", "1", "f")
    assert complete == PrefabResult("SUCCESS", {**TWO_LEVELS, "content": ["a", None]}, None, "j1")
    assert own.get("content") == "own"
    assert failed == PrefabResult("FAILED", None, {"code": "TIMEOUT", "message": "m"}, "j1")
    assert partial.get_function_result() == {"n": 2}
    assert bare.get_function_result() == 7


def test_a_batch_of_one_may_be_answered_with_a_stream() -> None:
    calls = [PrefabCall("p", "1", "f")]
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(stream_response(START, event("content", "a"), DONE))
        good = client.run_batch(calls)
        server.add_responses(stream_response(START, event("error", {"code": "TIMEOUT"})))
        bad = client.run_batch(calls)
        server.add_responses(stream_response(START, DONE))
        with pytest.raises(InvalidAnswer):
            client.run_batch(calls * 2)
    result = PrefabResult("SUCCESS", {**TWO_LEVELS, "content": ["a"]}, None, "j1")
    assert (good.job_id, good.status, good.results) == ("j1", "SUCCESS", [result])
    assert (bad.job_id, bad.status) == ("j1", "FAILED")
    assert bad.get_failed()[0].error == {"code": "TIMEOUT"}


def test_prefabs_are_listed_and_described() -> None:
    entry = {"prefab_id": "p", "version": "2.0.0", "name": "P", "description": "d", "status": "deployed",
             "is_official": True, "requires_secrets": False, "functions": ["f"], "stars": 3}  # fmt: skip
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(
            json_response({"prefabs": [entry, {"prefab_id": "q", "description": None}]})
        )
        first, second = client.list_prefabs(status="deployed")
        server.add_responses(json_response({"id": "p", "versions": ["1"]}))
        assert client.get_prefab_spec("p") == {"id": "p", "versions": ["1"]}
        server.add_responses(json_response({}), json_response({}))
        client.get_prefab_spec("p/../q", "1 0")
        assert client.prefab("p", "3").spec() == {}
        paths = [request.path for request in server.requests]
        server.add_responses(json_response({"detail": "no"}, 404))
        with pytest.raises(PrefabNotFoundError) as caught:
            client.get_prefab_spec("p", "9")
        with pytest.raises(ValidationError):
            client.get_prefab_spec("..")
    assert paths == [
        "/v1/prefabs?status=deployed",
        "/v1/prefabs/p/latest/spec",
        "/v1/prefabs/p%2F..%2Fq/1%200/spec",
        "/v1/prefabs/p/3/spec",
    ]
    assert first.functions == ["f"]
    assert first.extra == {"stars": 3}
    assert second == PrefabInfo("q")
    assert (caught.value.prefab_id, caught.value.version) == ("p", "9")


def test_one_client_for_many_threads() -> None:
    count = 40
    with FaultServer([run_response(success_result()) for _ in range(count)]) as server:
        client = GatewayClient("t", server.url)
        done: list[bool] = []
        threads = [
            threading.Thread(target=lambda: done.append(client.run("p", "1", "f").is_success()))
            for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [True] * count


def test_exceptions_can_be_constructed_in_tests() -> None:
    error = PrefabNotFoundError("p", "1")
    assert error.message == "prefab p@1 not found"
    assert (AuthenticationError("m", {"a": 1}).status_code, RejectedInput("m").status_code) == (
        401,
        422,
    )
    assert QuotaExceededError("m", 1, 2, "d").details == {"limit": 1, "used": 2, "quota_type": "d"}
    missing = MissingSecretError("p", "NAME", "Get one at example.org.")
    assert (missing.prefab_id, missing.secret_name) == ("p", "NAME")
    assert missing.instructions == "Get one at example.org." and "NAME" in str(missing)
    assert "upload_input_file" in str(AgentContextRequiredError())
    assert InvalidAnswer("m").body == ""
    for built in (
        error,
        QuotaExceededError("m", 1, 2, "d"),
        MissingSecretError("p", "S", "i", "m"),
    ):
        assert pickle.loads(pickle.dumps(built)).__dict__ == built.__dict__
