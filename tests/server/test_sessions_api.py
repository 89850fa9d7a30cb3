"""Sessions and API keys of an account: lists, ends, expiry and scopes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from beray.server.storage.times import utc_now
from beray.testing import RunningServer
from tests.repositories import Repositories
from tests.server.account_requests import (
    api_key,
    ask,
    detail,
    rows,
    sign_up,
    token_of,
    user_id,
)
from tests.support import PROMPT_SECONDS, FollowingThread, done, until


def test_sessions_are_listed_and_ended(beray_server: RunningServer) -> None:
    email, token = sign_up(beray_server)
    body = {"email": email, "password": "correct horse battery"}
    hostile = "curl/8 \x9b2J" + "x" * 1000
    second = ask(
        beray_server,
        "POST",
        "/auth/login",
        body=body,
        headers={"User-Agent": hostile.encode("latin-1")},
    ).json()["access_token"]
    third = token_of(beray_server, email)
    found = ask(beray_server, "GET", "/sessions", third).json()
    assert len(found) == 3
    assert [session["current"] for session in found].count(True) == 1
    [odd] = [session for session in found if session["device"].startswith("curl")]
    assert odd["address"] == "127.0.0.1" and len(odd["device"]) <= 320
    assert "\x9b" not in odd["device"]
    assert odd["created_at"] <= odd["last_used_at"] < odd["expires_at"]
    with beray_server.client(second) as client:
        stream = FollowingThread(lambda: client.stream_all_updates())
        until(lambda: stream.seen)
        answer = ask(beray_server, "DELETE", f"/sessions/{odd['id']}", third)
        assert answer.status_code == 200
        stream.join(PROMPT_SECONDS)
        assert stream.error is not None
    assert ask(beray_server, "GET", "/users/me", second).status_code == 401
    assert ask(beray_server, "DELETE", f"/sessions/{odd['id']}", third).status_code == 404
    assert ask(beray_server, "DELETE", "/sessions?others=true", third).json() == {
        "message": "1 session ended."
    }
    assert ask(beray_server, "GET", "/users/me", token).status_code == 401
    assert ask(beray_server, "GET", "/users/me", third).status_code == 200
    assert ask(beray_server, "DELETE", "/sessions", third).status_code == 200
    assert ask(beray_server, "GET", "/users/me", third).status_code == 401


def test_sessions_of_other_users_do_not_exist(beray_server: RunningServer) -> None:
    _, token = sign_up(beray_server)
    _, other = sign_up(beray_server)
    [session] = ask(beray_server, "GET", "/sessions", other).json()
    assert ask(beray_server, "DELETE", f"/sessions/{session['id']}", token).status_code == 404
    assert ask(beray_server, "GET", "/users/me", other).status_code == 200


def test_the_use_of_a_session_extends_it_up_to_its_end(repositories: Repositories) -> None:
    user = repositories.user_id()
    repositories.start_session("d", user, 3600.0)
    found = repositories.tokens.find("d", 3600.0)
    assert found is not None
    first = found.session.expires_at
    # The write is repeated after a minute only.
    assert repositories.tokens.find("d", 7200.0).session.expires_at == first  # type: ignore[union-attr]
    with repositories.database.writing() as session:
        row = session.merge(found.session)
        row.last_used_at = utc_now(-61)
        row.ends_at = ends_at = utc_now(5000.0)
    used = repositories.tokens.find("d", 7200.0)
    assert used is not None and used.session.expires_at == ends_at > first
    with repositories.database.writing() as session:
        row = session.merge(used.session)
        row.last_used_at, row.expires_at = utc_now(-61), utc_now(-1)
    assert repositories.tokens.find("d", 7200.0) is None


@pytest.fixture
def repositories(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    from tests.repositories import opened

    with opened(tmp_path_factory.mktemp("repositories") / "db.sqlite3") as found:
        yield found


def test_a_stream_outlives_an_expiry_that_other_requests_extend(
    beray_server: RunningServer,
) -> None:
    _, token = sign_up(beray_server)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat(timespec="microseconds")
    rows(
        beray_server, "UPDATE tokens SET expires_at = ? WHERE user_id = ?",
        soon.replace("+00:00", "Z"), user_id(beray_server, token),
    )  # fmt: skip
    with beray_server.client(token) as client:
        stream = FollowingThread(lambda: client.stream_all_updates())
        until(lambda: stream.seen)
        later = utc_now(3600.0)
        rows(
            beray_server, "UPDATE tokens SET expires_at = ? WHERE user_id = ?",
            later, user_id(beray_server, token),
        )  # fmt: skip
        until(lambda: utc_now() > soon)
        done(client, "!echo still here")
        until(lambda: any("COMPLETED" in json.dumps(event) for event in stream.seen))
        assert stream.error is None


def test_an_api_key_is_valid_for_its_scopes(beray_server: RunningServer) -> None:
    _, token = sign_up(beray_server)
    key = api_key(beray_server, token, "tasks:read", "tasks:write", "files")
    with beray_server.client(key) as client:
        task = client.create_task("!echo hi > out.txt; echo hi")
        events = list(client.stream_task_updates(task["id"]))
        assert events[-1]["status"] == "COMPLETED"
        assert client.get_current_user()["id"] == user_id(beray_server, token)
        assert [item["name"] for item in client.list_files_tree(task["id"])] == ["out.txt"]
    reader = api_key(beray_server, token, "tasks:read")
    refused = ask(beray_server, "POST", "/tasks/", reader, {"goal": "!true"})
    assert refused.status_code == 403
    assert detail(refused) == "The API key does not have the scope tasks:write; it has: tasks:read."
    [session] = [k for k in ask(beray_server, "GET", "/apikeys", token).json() if
                 k["name"] == "tasks:read"]  # fmt: skip
    assert session["scopes"] == ["tasks:read"] and session["last_used_at"] is not None
    assert session["expires_at"] is None


def test_a_chat_needs_the_scope_to_write(beray_server: RunningServer) -> None:
    _, token = sign_up(beray_server)
    url = beray_server.url.replace("http", "ws") + "/v1/agent_ws/c/"
    reader = api_key(beray_server, token, "tasks:read")
    with pytest.raises(InvalidStatus) as caught:
        connect(url, additional_headers={"Authorization": f"Bearer {reader}"})
    assert caught.value.response.status_code == 401
    assert b"tasks:write" in (caught.value.response.body or b"")
    writer = api_key(beray_server, token, "tasks:write")
    with connect(url, additional_headers={"Authorization": f"Bearer {writer}"}) as connection:
        assert json.loads(connection.recv(20))["type"]


def test_a_revoked_or_expired_key_ends_its_streams(beray_server: RunningServer) -> None:
    _, token = sign_up(beray_server)
    short = api_key(beray_server, token, "tasks:read", expires_in_seconds=1.5)
    revoked = api_key(beray_server, token, "tasks:read")
    streams = []
    for key in (short, revoked):
        client = beray_server.client(key)
        streams.append(FollowingThread(lambda client=client: client.stream_all_updates()))  # type: ignore[misc]
    for stream in streams:
        until(lambda stream=stream: stream.seen or stream.error)  # type: ignore[misc]
    newest = ask(beray_server, "GET", "/apikeys", token).json()[0]["id"]
    assert ask(beray_server, "DELETE", f"/apikeys/{newest}", token).status_code == 200
    for stream in streams:
        stream.join(20)
        assert stream.error is not None and "API key" in str(stream.error)


@pytest.mark.parametrize(
    "options",
    [
        {"scopes": []}, {"scopes": ["admin"]}, {"scopes": "tasks:read"},
        {"expires_in_seconds": 0}, {"expires_in_seconds": -1}, {"expires_in_seconds": 1e12},
    ],
)  # fmt: skip
def test_invalid_properties_of_keys_are_rejected(
    beray_server: RunningServer, options: dict[str, object]
) -> None:
    _, token = sign_up(beray_server)
    answer = ask(beray_server, "POST", "/apikeys", token, {"name": "k", **options})
    assert answer.status_code == 422
    assert ask(beray_server, "GET", "/apikeys", token).json() == []
