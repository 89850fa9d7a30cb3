"""Minimal responses of other servers and of the mocks in published test suites."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import requests
import responses

from beray import BeRayClient, InvalidResponseError
from beray.testing import FaultServer, ScriptedResponse

API = "http://localhost:8000/api/v1"

Call = Callable[[BeRayClient], Any]

SIGN_IN: list[tuple[str, Call]] = [
    ("/auth/register", lambda c: c.register("e@x", "123456", "a password")),
    ("/auth/login", lambda c: c.login("e@x", "a password")),
    ("/auth/token", lambda c: c.login_with_form("e@x", "a password")),
]
SESSIONS: list[dict[str, Any]] = [
    {"access_token": "t"},
    {"access_token": "t", "token_type": None, "user": None},
    {"access_token": "t", "token_type": "bearer", "user": {}},
    {"access_token": "t", "user": {"email": "e@x"}},
    {"access_token": "t", "user": {"id": 1}},
    {"access_token": "t", "user": {"id": "u-1", "email": None, "created_at": None}},
]
MESSAGE_CALLS: list[tuple[str, str, Call]] = [
    ("POST", "/auth/request-verification-code", lambda c: c.request_verification_code("e@x")),
    ("POST", "/auth/logout", lambda c: c.logout()),
    ("POST", "/tasks/7/stop", lambda c: c.stop_task(7)),
    ("DELETE", "/tasks/7", lambda c: c.delete_task(7)),
    ("PUT", "/tasks/7/files/content", lambda c: c.upload_file(7, "a", "text")),
    ("DELETE", "/apikeys/3", lambda c: c.revoke_api_key(3)),
]
OTHER_CALLS: list[tuple[str, str, Any, Call]] = [
    ("GET", "/users/me", {}, lambda c: c.get_current_user()),
    ("GET", "/users/me", {"email": "e@x"}, lambda c: c.get_current_user()),
    ("GET", "/users/me", {"id": 1}, lambda c: c.get_current_user()),
    ("POST", "/tasks/", {"id": 1, "status": "RUNNING"}, lambda c: c.create_task("g")),
    ("POST", "/tasks/", {"id": "a-1", "status": "X", "goal": None}, lambda c: c.create_task("g")),
    ("GET", "/tasks/", [], lambda c: c.list_tasks()),
    ("GET", "/tasks/", [{"id": "1", "status": "RUNNING"}], lambda c: c.list_tasks()),
    ("GET", "/tasks/7", {"id": 7, "status": "COMPLETED", "events": None}, lambda c: c.get_task(7)),
    ("GET", "/tasks/7", {"id": 7, "status": "S", "events": [{"any": 1}]}, lambda c: c.get_task(7)),
    ("GET", "/tasks/7", {"id": 7, "status": "S", "tags": None}, lambda c: c.get_task(7)),
    ("GET", "/tasks/7/files/tree", [{"name": "a", "type": "file", "size": "12"}],
     lambda c: c.list_files_tree(7)),
    ("GET", "/tasks/7/files/tree", [{"name": "a", "type": "directory", "size": None}],
     lambda c: c.list_files_tree(7)),
    ("PUT", "/tasks/7/files/content", {"message": "m", "size": "4"},
     lambda c: c.upload_file(7, "a", "text")),
]  # fmt: skip


@pytest.fixture
def client() -> BeRayClient:
    return BeRayClient(token="tok")


@pytest.mark.parametrize(("path", "call"), SIGN_IN)
@pytest.mark.parametrize("session", SESSIONS)
@responses.activate
def test_a_session_requires_only_an_access_token(path: str, call: Call, session: Any) -> None:
    responses.post(f"{API}{path}", json=session)
    client = BeRayClient()
    assert call(client) == session
    assert client.access_token == "t"


@pytest.mark.parametrize(("path", "call"), SIGN_IN)
@responses.activate
def test_a_session_without_a_token_is_an_error(path: str, call: Call) -> None:
    responses.post(f"{API}{path}", json={"user": {"id": 1}})
    with pytest.raises(InvalidResponseError, match="access_token"):
        call(BeRayClient())


@pytest.mark.parametrize(("method", "path", "call"), MESSAGE_CALLS)
@pytest.mark.parametrize("answer", [{"message": "m"}, {"message": None}, {"status": "success"}, {}])
@responses.activate
def test_a_confirmation_requires_no_keys(
    client: BeRayClient, method: str, path: str, call: Call, answer: Any
) -> None:
    responses.add(method, f"{API}{path}", json=answer)
    assert call(client) == answer


@pytest.mark.parametrize(("method", "path", "call"), MESSAGE_CALLS)
@pytest.mark.parametrize("body", ["", "deleted", "null", "[]"])
@responses.activate
def test_a_204_is_a_confirmation_with_an_empty_message(
    client: BeRayClient, method: str, path: str, call: Call, body: str
) -> None:
    responses.add(method, f"{API}{path}", status=204, body=body)
    assert call(client) == {"message": ""}


@pytest.mark.parametrize(("method", "path", "answer", "call"), OTHER_CALLS)
@responses.activate
def test_a_204_may_be_mocked_with_a_body(
    client: BeRayClient, method: str, path: str, answer: Any, call: Call
) -> None:
    responses.add(method, f"{API}{path}", status=204, json=answer)
    assert call(client) == answer


@pytest.mark.parametrize(
    ("path", "call", "empty"),
    [
        ("/users/me", lambda c: c.get_current_user(), {}),
        ("/tasks/", lambda c: c.list_tasks(), []),
        ("/tasks/7/events", lambda c: c.list_events(7), []),
        ("/tasks/7/files/tree", lambda c: c.list_files_tree(7), []),
        ("/apikeys", lambda c: c.list_api_keys(), []),
    ],
)
def test_a_real_204_is_an_empty_result(path: str, call: Call, empty: Any) -> None:
    with FaultServer([ScriptedResponse(b"", 204)]) as server, BeRayClient(server.url) as client:
        assert call(client) == empty
        assert server.requests[0].path.startswith(f"/api/v1{path}")


@responses.activate
def test_a_204_cannot_be_a_task(client: BeRayClient) -> None:
    responses.get(f"{API}/tasks/7", status=204)
    with pytest.raises(InvalidResponseError, match="id"):
        client.get_task(7)


@pytest.mark.parametrize(("method", "path", "answer", "call"), OTHER_CALLS)
@responses.activate
def test_minimal_responses_are_returned_unchanged(
    client: BeRayClient, method: str, path: str, answer: Any, call: Call
) -> None:
    responses.add(method, f"{API}{path}", json=answer)
    assert call(client) == answer


TASK_CALLS: list[tuple[str, str, Any, Callable[[BeRayClient, Any], Any]]] = [
    ("GET", "", {"id": "a-1", "status": "S"}, lambda c, i: c.get_task(i)),
    ("POST", "/start", {"id": "a-1", "status": "S"}, lambda c, i: c.start_task(i)),
    ("POST", "/stop", {"message": ""}, lambda c, i: c.stop_task(i)),
    ("DELETE", "", {"message": ""}, lambda c, i: c.delete_task(i)),
    ("GET", "/events", [], lambda c, i: c.list_events(i)),
    ("GET", "/files/tree", [], lambda c, i: c.list_files_tree(i)),
    ("PUT", "/files/content", {"message": ""}, lambda c, i: c.upload_file(i, "a", "b")),
]


@pytest.mark.parametrize(("method", "path", "answer", "call"), TASK_CALLS)
@responses.activate
def test_the_id_of_a_task_may_be_a_string(
    client: BeRayClient,
    method: str,
    path: str,
    answer: Any,
    call: Callable[[BeRayClient, Any], Any],
) -> None:
    responses.post(f"{API}/tasks/", json={"id": "a-1", "status": "RUNNING"})
    task = client.create_task("g")
    assert task["id"] == "a-1"  # type: ignore[comparison-overlap]
    responses.add(method, f"{API}/tasks/a-1{path}", json=answer)
    assert call(client, task["id"]) == answer


@responses.activate
def test_files_of_a_task_with_a_string_as_id(client: BeRayClient, tmp_path: Path) -> None:
    responses.get(f"{API}/tasks/a-1/files/content", body=b"text")
    responses.post(f"{API}/tasks/a-1/files/download", body=b"PK")
    assert client.get_file_content("a-1", "a").content == b"text"
    assert client.download_files_as_zip("a-1").content == b"PK"
    assert client.download_file("a-1", "a", tmp_path / "a").read_bytes() == b"text"


def test_a_stream_of_a_task_with_a_string_as_id() -> None:
    end = {"type": "TASK_STATUS", "status": "COMPLETED"}
    stream = ScriptedResponse(
        f"data: {json.dumps(end)}\n\n".encode(), headers={"Content-Type": "text/event-stream"}
    )
    task = ScriptedResponse(b'{"id": "a-1", "status": "COMPLETED"}')
    with FaultServer([task, stream]) as server, BeRayClient(server.url) as client:
        assert list(client.stream_task_updates(client.get_task("a-1")["id"])) == [end]
        assert server.requests[1].path == "/api/v1/tasks/a-1/stream"


class TestPublishedSuites:
    """Typical tests of scripts for the published client."""

    @responses.activate
    def test_login_create_and_delete(self) -> None:
        responses.post(f"{API}/auth/login", json={"access_token": "fake", "user": {}})
        responses.post(f"{API}/tasks/", json={"id": 1, "goal": "test", "status": "RUNNING"})
        responses.delete(f"{API}/tasks/1", json={"message": "Task deleted"})
        responses.post(f"{API}/auth/logout", status=204)
        client = BeRayClient("http://localhost:8000")
        client.login("test@example.com", "password")
        assert client.access_token == "fake"
        assert client.create_task("test")["id"] == 1
        assert client.delete_task(1)["message"] == "Task deleted"
        client.logout()
        assert client.access_token is None

    def test_a_mocked_session(self) -> None:
        answer = requests.Response()
        answer.status_code = 200
        answer._content = b'[{"id": 1, "goal": "a", "status": "COMPLETED"}]'  # noqa: SLF001 - as users do
        answer.request = requests.Request("GET", f"{API}/tasks/").prepare()
        with patch.object(requests.Session, "request", return_value=answer) as request:
            assert len(BeRayClient().list_tasks()) == 1
        assert request.call_args.args[:2] == ("GET", f"{API}/tasks/")

    def test_a_session_that_is_a_mock(self) -> None:
        session = Mock(spec=requests.Session, headers={}, verify=True, proxies={})
        answer = requests.Response()
        answer.status_code = 204
        answer._content = b""  # noqa: SLF001 - as users do
        session.request.return_value = answer
        client = BeRayClient(session=session)
        assert client.stop_task(1) == {"message": ""}


def test_null_stands_for_a_missing_field() -> None:
    """Return a response of a server that serializes all fields of its models."""
    task: dict[str, Any] = {
        "id": 7, "status": "RUNNING", "goal": None, "tools": None, "reason": None, "held": None,
        "last_seq": None, "first_seq": None, "events_truncated": None, "tags": None,
        "limits": {"tokens": None, "requests": 3, "cost_usd": None, "seconds": None},
        "usage": {"requests": 1, "input_tokens": 2, "output_tokens": 3, "cost_usd": None,
                  "estimated": None, "cache_read_tokens": None},
        "unknown": None,
    }  # fmt: skip
    kept = {
        "id": 7, "status": "RUNNING", "goal": None, "tools": None, "reason": None, "tags": None,
        "limits": {"requests": 3},
        "usage": {"requests": 1, "input_tokens": 2, "output_tokens": 3, "cost_usd": None},
        "unknown": None,
    }  # fmt: skip
    tree = [{"name": "a", "type": "file", "path": None, "size": None, "modified_at": None}]
    answers = [task, [task], tree, {"id": None, "email": None}]
    with FaultServer(
        [ScriptedResponse(json.dumps(answer).encode()) for answer in answers]
    ) as server:
        client = BeRayClient(server.url)
        assert client.get_task(7) == kept
        assert client.list_tasks() == [kept]
        assert client.list_files_tree(7) == [
            {"name": "a", "type": "file", "size": None, "modified_at": None}
        ]
        user: Any = client.get_current_user()
        assert user == {"id": None, "email": None}


def test_null_in_a_required_field_is_an_error() -> None:
    with (
        FaultServer([ScriptedResponse(b'{"id": 7, "status": null}')]) as server,
        pytest.raises(InvalidResponseError, match="status"),
    ):
        BeRayClient(server.url).get_task(7)
