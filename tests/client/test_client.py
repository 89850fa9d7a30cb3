"""Requests of the client, its results, and its validation of arguments, with mocked responses."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from responses import matchers

from beray import (
    APIError,
    AuthenticationError,
    BeRayClient,
    BeRayException,
    ConfigurationError,
    ConflictError,
    ConnectionFailed,
    InvalidArgument,
    InvalidResponseError,
    NotFoundError,
    OutcomeUnknown,
    RateLimitError,
    UnprocessableEntityError,
    exceptions,
)
from beray.http.response_body import BrokenBody
from beray.testing import FaultServer, ScriptedResponse

API = "http://localhost:8000/api/v1"
SESSION = {
    "access_token": "tok",
    "token_type": "bearer",
    "user": {"id": 1, "email": "a@b.example", "extra": None},
}
KEY = {"id": 3, "name": "n", "agent_id": None, "created_at": "2026-01-01T00:00:00Z"}
SECRET = "top secret"
MANAGED = {"id": 3, "email": "e", "role": "service"}
TASK = {"id": 7, "goal": "g", "status": "NEW_STATUS", "unknown": {"a": [1]}}


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def client() -> BeRayClient:
    return BeRayClient(token="tok")


@pytest.mark.parametrize(
    ("method", "path", "answer", "sent", "call"),
    [
        ("POST", "/auth/request-verification-code", {"message": "m"}, {"email": "e"},
         lambda c: c.request_verification_code("e")),
        ("POST", "/auth/register", SESSION,
         {"email": "e", "verification_code": "1", "password": "p"},
         lambda c: c.register("e", "1", "p")),
        ("POST", "/auth/login", SESSION, {"email": "e", "password": "p"},
         lambda c: c.login("e", "p")),
        ("POST", "/auth/logout", {"message": "m"}, None, lambda c: c.logout()),
        ("GET", "/users/me", SESSION["user"], None, lambda c: c.get_current_user()),
        ("POST", "/tasks/", TASK, {"goal": "g", "tools": None}, lambda c: c.create_task("g")),
        ("POST", "/tasks/", TASK, {"goal": "g", "tools": [{"a": {"url": "u"}}]},
         lambda c: c.create_task("g", tools=[{"a": {"url": "u"}}])),
        ("POST", "/tasks/", TASK, {"goal": "g", "tools": None, "start": False},
         lambda c: c.create_task("g", start=False)),
        ("POST", "/tasks/7/start", TASK, None, lambda c: c.start_task(7)),
        ("GET", "/tasks/", [TASK, TASK], None, lambda c: c.list_tasks()),
        ("GET", "/tasks/7", TASK | {"events": [{"any": 1}]}, None, lambda c: c.get_task(7)),
        ("POST", "/tasks/7/stop", {"message": "m"}, None, lambda c: c.stop_task(7)),
        ("DELETE", "/tasks/7", {"status": "success", "message": "m"}, None,
         lambda c: c.delete_task(7)),
        ("GET", "/tasks/7/files/tree?path=.", [{"name": "a", "type": "file"}], None,
         lambda c: c.list_files_tree(7)),
        ("GET", "/tasks/7/files/tree?path=a+b/%26", [], None,
         lambda c: c.list_files_tree(7, "a b/&")),
        ("POST", "/apikeys", KEY | {"key": "sk-1"}, {"name": "n", "agent_id": None},
         lambda c: c.create_api_key("n")),
        ("POST", "/apikeys", KEY | {"key": "sk-1"}, {"name": "n", "agent_id": "a"},
         lambda c: c.create_api_key("n", "a")),
        ("POST", "/apikeys", KEY | {"key": "sk-1"},
         {"name": "n", "agent_id": None, "scopes": ["files"], "expires_in_seconds": 60},
         lambda c: c.create_api_key("n", scopes=("files",), expires_in_seconds=60)),
        ("GET", "/apikeys", [KEY | {"start": "sk-1"}], None, lambda c: c.list_api_keys()),
        ("DELETE", "/apikeys/3", {"message": "m"}, None, lambda c: c.revoke_api_key(3)),
        ("POST", "/auth/request-password-reset", {"message": "m"}, {"email": "e"},
         lambda c: c.request_password_reset("e")),
        ("POST", "/auth/reset-password", SESSION,
         {"email": "e", "verification_code": "1", "password": "p"},
         lambda c: c.reset_password("e", "1", "p")),
        ("POST", "/auth/setup", SESSION, {"token": "t", "email": "e", "password": "p"},
         lambda c: c.create_first_administrator("t", "e", "p")),
        ("POST", "/users/me/password", {"message": "m"}, {"password": "p", "new_password": "q"},
         lambda c: c.change_password("p", "q")),
        ("POST", "/users/me/request-email-change", {"message": "m"},
         {"email": "e", "password": "p"}, lambda c: c.request_email_change("e", "p")),
        ("POST", "/users/me/email", SESSION["user"],
         {"email": "e", "current_code": "1", "new_code": "2"},
         lambda c: c.change_email("e", "1", "2")),
        ("POST", "/users/me/delete", {"message": "m"}, {"password": "p"},
         lambda c: c.delete_account("p")),
        ("GET", "/sessions", [{"id": "s"}], None, lambda c: c.list_sessions()),
        ("DELETE", "/sessions/s%2F1", {"message": "m"}, None, lambda c: c.revoke_session("s/1")),
        ("DELETE", "/sessions", {"message": "m"}, None, lambda c: c.revoke_sessions()),
        ("DELETE", "/sessions?others=true", {"message": "m"}, None,
         lambda c: c.revoke_sessions(others=True)),
        ("GET", "/admin/users", {"users": []}, None, lambda c: c.admin.list_users()),
        ("GET", "/admin/users?search=a&after=1&limit=2", {"users": []}, None,
         lambda c: c.admin.list_users("a", 1, 2)),
        ("POST", "/admin/users", MANAGED, {"email": "e", "role": "service"},
         lambda c: c.admin.create_service_account("e")),
        ("PATCH", "/admin/users/3", MANAGED, {"disabled": False},
         lambda c: c.admin.change_user(3, disabled=False)),
        ("DELETE", "/admin/users/3", {"message": "m"}, None, lambda c: c.admin.delete_user(3)),
        ("POST", "/admin/users/3/reset-password", {"email": "e", "password": "p"}, None,
         lambda c: c.admin.reset_password(3)),
        ("POST", "/admin/users/3/revoke-sessions", {"message": "m"}, None,
         lambda c: c.admin.revoke_sessions(3)),
        ("POST", "/admin/users/3/apikeys", KEY | {"key": "sk-1"},
         {"name": "n", "agent_id": None, "scopes": ["files"]},
         lambda c: c.admin.create_api_key(3, "n", scopes=["files"])),
        ("GET", "/admin/invitations", [], None, lambda c: c.admin.list_invitations()),
        ("POST", "/admin/invitations", {"email": "e", "role": "user"},
         {"email": "e", "role": "user"}, lambda c: c.admin.invite("e")),
        ("DELETE", "/admin/invitations/a%2Fb%40c", {"message": "m"}, None,
         lambda c: c.admin.withdraw_invitation("a/b@c")),
        ("GET", "/admin/audit?after=3&limit=2&wait_seconds=1", [], None,
         lambda c: c.admin.audit(3, 2, 1)),
    ],
)  # fmt: skip
def test_each_documented_request(
    wire: responses.RequestsMock,
    client: BeRayClient,
    method: str,
    path: str,
    answer: Any,
    sent: Any,
    call: Callable[[BeRayClient], Any],
) -> None:
    wire.add(method, f"{API}{path}", json=answer)
    assert call(client) == answer
    request = wire.calls[0].request
    assert request.headers["Authorization"] == "Bearer tok"
    assert (json.loads(request.body) if request.body else None) == sent


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.request_password_reset("e@x"),
        lambda c: c.reset_password("e@x", SECRET, SECRET),
        lambda c: c.change_password(SECRET, SECRET),
        lambda c: c.request_email_change("e@x", SECRET),
        lambda c: c.change_email("e@x", SECRET, SECRET),
        lambda c: c.delete_account(SECRET),
        lambda c: c.create_first_administrator(SECRET, "e@x", SECRET),
        lambda c: c.admin.change_user(1, disabled=True),
        lambda c: c.admin.reset_password(1),
        lambda c: c.admin.invite("e@x"),
        lambda c: c.admin.create_api_key(1, "n"),
    ],
)
def test_changes_of_accounts_are_never_repeated(call: Callable[[BeRayClient], Any]) -> None:
    for answer in (ScriptedResponse(b"x", drop_at=0), ScriptedResponse(b"{}", 500)):
        with FaultServer([answer]) as server:
            client = BeRayClient(server.url, "tok")
            with pytest.raises((OutcomeUnknown, APIError)) as caught:
                call(client)
            assert len(server.requests) == 1
            assert client.access_token == "tok"
            shown = "".join(traceback.format_exception(caught.value))
            assert SECRET not in f"{shown} {vars(caught.value)}"


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.create_api_key("n"),
        lambda c: c.admin.create_api_key(1, "n"),
        lambda c: c.admin.reset_password(1),
        lambda c: c.reset_password("e@x", "1", "p"),
    ],
)
def test_a_secret_of_an_invalid_response_is_not_shown(call: Callable[[BeRayClient], Any]) -> None:
    answer = ScriptedResponse(b'{"key": "TOPSECRET", "passwort": "TOPSECRET"}')
    with FaultServer([answer]) as server, pytest.raises(InvalidResponseError) as caught:
        call(BeRayClient(server.url, "tok"))
    shown = "".join(traceback.format_exception(caught.value))
    assert "TOPSECRET" not in f"{shown} {vars(caught.value)}"


def test_the_password_form(wire: responses.RequestsMock) -> None:
    form = {"username": "e@x", "password": "p&=ä"}
    wire.post(f"{API}/auth/token", json=SESSION, match=[matchers.urlencoded_params_matcher(form)])
    client = BeRayClient()
    assert client.login_with_form("e@x", "p&=ä") == SESSION
    assert client.access_token == "tok"


def test_the_password_form_accepts_email(wire: responses.RequestsMock) -> None:
    form = {"username": "e@x", "password": "p"}
    client = BeRayClient()
    ways: list[Callable[[], Any]] = [
        lambda: client.login_with_form(email="e@x", password="p"),
        lambda: client.login_with_form(username="e@x", password="p"),
    ]
    for sign_in in ways:
        matching = [matchers.urlencoded_params_matcher(form)]
        wire.post(f"{API}/auth/token", json=SESSION, match=matching)
        assert sign_in() == SESSION


@pytest.mark.parametrize(
    "arguments",
    [{"email": "a@x"}, {"password": "p"}, {"username": "a", "email": "b", "password": "p"}],
)
def test_the_password_form_requires_a_name_and_a_password(arguments: Any) -> None:
    with pytest.raises(InvalidArgument, match="either username or email"):
        BeRayClient().login_with_form(**arguments)


def test_published_attributes() -> None:
    client = BeRayClient("http://localhost:8000/")
    assert client.base_url == "http://localhost:8000"
    assert client.api_base_url == "http://localhost:8000/api/v1"
    session = client._session  # noqa: SLF001 - published scripts use this attribute
    assert isinstance(session, requests.Session)


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (APIError(404, "x"), 404, "x"),
        (APIError(500, {"why": 1}), 500, {"why": 1}),
        (APIError(status_code=404, error_detail="x"), 404, "x"),
        (NotFoundError(404, "x"), 404, "x"),
        (NotFoundError("x"), 404, "x"),
        (ConflictError(409, error_detail=[1]), 409, [1]),
        (AuthenticationError("x"), 401, "x"),
        (AuthenticationError(), 401, None),
        (AuthenticationError(403, "x"), 403, "x"),
        (UnprocessableEntityError(), 422, None),
        (APIError("text", status_code=500), 500, None),
    ],
)
def test_errors_are_constructed_as_in_mocks(error: APIError, status: int, detail: Any) -> None:
    assert (error.status_code, error.error_detail) == (status, detail)
    assert isinstance(error, BeRayException)
    assert "x" in str(error) or detail != "x"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_an_error_requires_a_status() -> None:
    with pytest.raises(TypeError, match="APIError needs the status"):
        APIError("x")


@pytest.mark.parametrize(
    ("path", "content", "given", "body", "kind"),
    [
        ("a/b.txt", "héllo", None, "héllo".encode(), "text/plain"),
        ("x.png", b"\x00\xff", None, b"\x00\xff", "image/png"),
        ("noname", b"", None, None, "application/octet-stream"),
        ("x.png", b"1", "text/x", b"1", "text/x"),
    ],
)
def test_uploads(
    wire: responses.RequestsMock,
    client: BeRayClient,
    path: str,
    content: str | bytes,
    given: str | None,
    body: bytes | None,
    kind: str,
) -> None:
    answer = {"message": "m", "path": path, "size": 1}
    wire.put(f"{API}/tasks/7/files/content", json=answer)
    assert client.upload_file(7, path, content, given) == answer
    request: Any = wire.calls[0].request  # responses adds params
    assert (request.body or None) == body
    assert request.headers["Content-Type"] == kind
    assert request.params == {"path": path}


def test_file_content_is_returned_as_a_response(
    wire: responses.RequestsMock, client: BeRayClient
) -> None:
    wire.get(f"{API}/tasks/7/files/content?path=a.bin", body=b"\x00\x01")
    wire.post(
        f"{API}/tasks/7/files/download",
        body=b"PK",
        match=[matchers.json_params_matcher({"paths": []})],
    )
    wire.post(
        f"{API}/tasks/7/files/download",
        body=b"PK2",
        match=[matchers.json_params_matcher({"paths": ["a"]})],
    )
    response = client.get_file_content(7, "a.bin")
    assert isinstance(response, requests.Response)
    assert response.ok
    assert response.content == b"\x00\x01"
    assert client.download_files_as_zip(7).content == b"PK"
    assert client.download_files_as_zip(7, ["a"]).content == b"PK2"


def test_login_sets_the_token_and_logout_removes_it(wire: responses.RequestsMock) -> None:
    client = BeRayClient()
    assert client.access_token is None
    wire.post(f"{API}/auth/login", json=SESSION)
    client.login("e", "p")
    assert client.access_token == "tok"
    wire.post(f"{API}/auth/logout", json={"message": "m"})
    client.logout()
    assert client.access_token is None


def test_a_failed_logout_keeps_the_token(wire: responses.RequestsMock, client: BeRayClient) -> None:
    wire.post(f"{API}/auth/logout", body=requests.ConnectionError("down"))
    with pytest.raises(ConnectionFailed):
        client.logout()
    assert client.access_token == "tok"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (400, APIError),
        (500, APIError),
        (503, APIError),
    ],
)
def test_errors(
    wire: responses.RequestsMock, client: BeRayClient, status: int, kind: type[APIError]
) -> None:
    wire.get(
        f"{API}/tasks/7",
        json={"detail": "why"},
        status=status,
        headers={"X-Request-ID": "r1", "Retry-After": "61"},
    )
    with pytest.raises(APIError) as caught:
        BeRayClient(token="tok", max_retries=0).get_task(7)
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.error_detail) == (status, "why")
    assert (error.method, error.path, error.request_id) == ("GET", "/tasks/7", "r1")
    assert error.retry_after == 61
    assert "why" in str(error)
    assert isinstance(error, BeRayException)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_a_validation_error_keeps_its_list(
    wire: responses.RequestsMock, client: BeRayClient
) -> None:
    detail = [{"loc": ["body", "goal"], "msg": "too short", "type": "t"}]
    wire.post(f"{API}/tasks/", json={"detail": detail}, status=422)
    with pytest.raises(UnprocessableEntityError, match="goal: too short") as caught:
        client.create_task("")
    assert caught.value.error_detail == detail


@pytest.mark.parametrize(
    "body",
    ["<html>login</html>", "", "[]", '"x"', "null", '{"id": null, "goal": "g", "status": "s"}',
     '{"goal": "g", "status": "s"}', "{", "[" * 100_000, '{"id": true, "goal": "", "status": ""}'],
)  # fmt: skip
def test_an_invalid_response_is_an_error_with_the_body(
    wire: responses.RequestsMock, client: BeRayClient, body: str
) -> None:
    wire.get(f"{API}/tasks/7", body=body)
    with pytest.raises(InvalidResponseError) as caught:
        client.get_task(7)
    assert caught.value.body == body[:2048]
    assert caught.value.status_code == 200
    pickle.loads(pickle.dumps(caught.value))


@pytest.mark.parametrize("task_id", ["", ".", ".."])
def test_ids_that_address_another_path_are_rejected(client: BeRayClient, task_id: Any) -> None:
    with responses.RequestsMock(), pytest.raises(InvalidArgument):
        client.get_task(task_id)
    with responses.RequestsMock(), pytest.raises(InvalidArgument):
        client.stream_task_updates(task_id)


def test_ids_are_quoted(wire: responses.RequestsMock, client: BeRayClient) -> None:
    wire.get(f"{API}/tasks/..%2Fusers%3Fx%23", json=TASK)
    task_id: Any = "../users?x#"
    client.get_task(task_id)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x", "http://", "http://u:secret@host", "http://x:99999999",
     "http://x/?a=1", "http://[::1"],
)  # fmt: skip
def test_invalid_urls_are_rejected_and_not_part_of_the_message(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BeRayClient(url)
    assert "secret" not in str(caught.value)


def test_a_trailing_slash_of_the_base_url_is_ignored(wire: responses.RequestsMock) -> None:
    wire.get(f"{API}/tasks/", json=[])
    assert BeRayClient("http://localhost:8000/").list_tasks() == []


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "ä", "\x00"])
def test_a_token_with_invalid_characters_is_rejected(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        BeRayClient(token=token)
    assert not token.strip() or token not in str(caught.value)


def test_redirects_stay_on_the_server(wire: responses.RequestsMock, client: BeRayClient) -> None:
    wire.get(f"{API}/tasks/7", status=307, headers={"Location": f"{API}/tasks/8"})
    wire.get(f"{API}/tasks/8", json=TASK)
    assert client.get_task(7) == TASK


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/x",
        "http://localhost:9000/",
        "https://localhost:8000/",
        "//x/y",
    ],
)
def test_credentials_are_not_sent_to_another_server(
    wire: responses.RequestsMock, client: BeRayClient, target: str
) -> None:
    wire.get(f"{API}/tasks/7", status=302, headers={"Location": target})
    with pytest.raises(InvalidResponseError, match="another server"):
        client.get_task(7)
    assert len(wire.calls) == 1


def test_a_redirect_to_an_invalid_url_is_an_error(
    wire: responses.RequestsMock, client: BeRayClient
) -> None:
    wire.get(f"{API}/tasks/7", status=302, headers={"Location": "http://[bad"})
    with pytest.raises(InvalidResponseError):
        client.get_task(7)


def test_a_redirect_does_not_change_the_method(
    wire: responses.RequestsMock, client: BeRayClient
) -> None:
    wire.post(f"{API}/tasks/", status=302, headers={"Location": f"{API}/tasks/"})
    with pytest.raises(InvalidResponseError):
        client.create_task("g")
    assert len(wire.calls) == 1


def test_the_number_of_redirects_is_limited(
    wire: responses.RequestsMock, client: BeRayClient
) -> None:
    wire.get(f"{API}/tasks/7", status=307, headers={"Location": f"{API}/tasks/7"})
    with pytest.raises(InvalidResponseError, match="redirects"):
        client.get_task(7)


def test_netrc_does_not_replace_the_token(
    wire: responses.RequestsMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login u password netrcsecret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    wire.get(f"{API}/tasks/", json=[])
    BeRayClient(token="tok").list_tasks()
    BeRayClient().list_tasks()
    assert wire.calls[0].request.headers["Authorization"] == "Bearer tok"
    assert "Authorization" not in wire.calls[1].request.headers


def test_the_token_is_in_no_repr_or_traceback(
    wire: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = BeRayClient(token="topsecret")
    wire.get(f"{API}/tasks/", body=requests.ConnectionError("down"))
    with pytest.raises(ConnectionFailed) as caught:
        client.list_tasks()
    assert "topsecret" not in f"{client!r} {caught.value!r} {caplog.text}"
    assert b"topsecret" not in pickle.dumps(caught.value)
    with pytest.raises(TypeError):
        pickle.dumps(client)


def test_a_refused_connection_is_named() -> None:
    with pytest.raises(ConnectionFailed, match="Connection refused"):
        BeRayClient("http://127.0.0.1:9").list_tasks()


KINDS = [
    kind
    for kind in (*vars(exceptions).values(), BrokenBody)
    if isinstance(kind, type) and issubclass(kind, BeRayException)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_exception_can_be_pickled_and_is_exported(kind: type[Exception]) -> None:
    wanted = inspect.signature(kind).parameters.values()
    needed: dict[str, Any] = {
        name.name: 503
        for name in wanted
        if name.kind is name.KEYWORD_ONLY and name.default is name.empty
    }
    error: Any = kind(
        "why", **{"method": "GET", "path": "/x", "status_code": 503, "request_id": "r1", "error_detail": [{"a": 1}]} | needed
    )  # fmt: skip
    error.add_note("by the way")
    copies: list[Any] = [pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)]
    for again in copies:
        assert (str(again), vars(again)) == ("why", vars(error))
        assert (again.method, again.path, again.status_code) == ("GET", "/x", 503)
        assert (again.request_id, again.error_detail) == ("r1", [{"a": 1}])
        assert type(again) is kind


def test_no_log_and_no_traceback_contains_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        ScriptedResponse(json.dumps(SESSION | {"access_token": "TOPSECRET"}).encode()),
        ScriptedResponse(b"[]"),
        ScriptedResponse(b'{"detail": "TOPSECRET is wrong"}', 401),
        ScriptedResponse(b"x", drop_at=0),
    ]
    with FaultServer(answers) as server:
        client = BeRayClient(server.url, max_retries=0)
        client.login("e@x.example", "TOPSECRET")
        client.list_tasks()
        with pytest.raises(AuthenticationError):
            client.list_tasks()  # the body of the response is up to the server
        with pytest.raises(ConnectionFailed) as caught:
            client.list_tasks()
    assert "GET /tasks/ -> 401" in caplog.text
    told = "".join(traceback.format_exception(caught.value))
    assert "TOPSECRET" not in f"{caplog.text} {told} {client!r}"
    assert server.requests[1].headers["authorization"] == "Bearer TOPSECRET"
