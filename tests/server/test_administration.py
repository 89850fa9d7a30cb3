"""Administration of accounts over HTTP, and the audit log."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from beray.server.accounts.actors import Actor
from beray.server.http.client_address import Client
from beray.server.storage.tasks import TaskSpec, UserDisabled
from beray.testing import RunningServer
from tests.repositories import opened
from tests.server.account_requests import (
    api_key,
    ask,
    audit,
    detail,
    first_administrator,
    rows,
    sign_in,
    sign_up,
    user_id,
)
from tests.support import PROMPT_SECONDS, FollowingThread, new_address, sleepers, until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[RunningServer, str]]:
    """A server and the token of its administrator."""
    with RunningServer.start(tmp_path / "data") as server:
        yield server, first_administrator(server)


def change(server: RunningServer, admin: str, number: int, **values: object) -> int:
    return ask(server, "PATCH", f"/admin/users/{number}", admin, values).status_code


def test_users_are_listed_with_their_usage(site: tuple[RunningServer, str]) -> None:
    server, admin = site
    tokens = [sign_up(server, f"user{number}@example.test")[1] for number in range(5)]
    with server.client(tokens[0]) as client:
        task = client.create_task("!head -c 100000 /dev/zero > zeros")
        assert list(client.stream_task_updates(task["id"]))[-1]["status"] == "COMPLETED"
    first = ask(server, "GET", "/admin/users?limit=2", admin).json()
    assert [user["email"] for user in first["users"]] == ["root@example.test", "user0@example.test"]
    user = first["users"][1]
    assert user["tasks"] == 1 and user["storage_bytes"] >= 100_000 and user["tokens"] == 0
    assert (user["role"], user["disabled"], user["last_sign_in_at"]) == ("user", False, None) or (
        user["last_sign_in_at"] is not None
    )
    rest = ask(server, "GET", f"/admin/users?limit=10&after={first['next_after']}", admin).json()
    assert len(rest["users"]) == 4 and rest["next_after"] is None
    found = ask(server, "GET", "/admin/users", admin, params={"search": "USER3@"}).json()
    assert [user["email"] for user in found["users"]] == ["user3@example.test"]
    for search in ("%", "_", "nobody"):
        found = ask(server, "GET", "/admin/users", admin, params={"search": search}).json()
        assert found["users"] == []
    for query in ("limit=0", "limit=1000", "after=-1", f"search={'x' * 400}"):
        assert ask(server, "GET", f"/admin/users?{query}", admin).status_code == 422


def test_a_disabled_user_loses_access_at_once(site: tuple[RunningServer, str]) -> None:
    server, admin = site
    email, token = sign_up(server)
    key = api_key(server, token, "tasks:read", "tasks:write", "gateway")
    number = user_id(server, token)
    mark = f"771{server.pid}"
    with server.client(token) as client, server.client(key) as program:
        task = client.create_task(f"!sleep {mark}")
        until(lambda: sleepers(mark))
        streams = [FollowingThread(lambda: client.stream_task_updates(task["id"])),
                   FollowingThread(lambda: program.stream_all_updates())]  # fmt: skip
        until(lambda: all(stream.seen for stream in streams))
        assert change(server, admin, number, disabled=True) == 200
        for stream in streams:
            stream.join(PROMPT_SECONDS)
            assert stream.error is not None
    until(lambda: not sleepers(mark))
    for credential in (token, key):
        assert ask(server, "GET", "/users/me", credential).status_code == 401
    refused = sign_in(server, email)
    assert refused.status_code == 403 and "disabled" in detail(refused)
    url = server.url.replace("http", "ws") + "/v1/agent_ws/c/"
    with pytest.raises(InvalidStatus) as caught:
        connect(url, additional_headers={"Authorization": f"Bearer {token}"})
    assert caught.value.response.status_code == 401
    assert change(server, admin, number, disabled=False) == 200
    assert sign_in(server, email).status_code == 200
    assert ask(server, "GET", "/users/me", key).status_code == 200
    assert ask(server, "GET", "/users/me", token).status_code == 401


def test_a_disabled_user_cannot_create_a_task_that_was_authenticated_before(
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "db.sqlite3") as repositories:
        number = repositories.user_id()
        repositories.tasks.create(number, TaskSpec("!true"), held=True)
        record = Actor(Client("", local=True)).record("test")
        repositories.accounts.set_disabled(number, record, disabled=True)
        with pytest.raises(UserDisabled):
            repositories.tasks.create(number, TaskSpec("!true"), held=True)
        assert len(repositories.tasks.list_of_user(number)) == 1
        repositories.accounts.set_disabled(number, record, disabled=False)
        repositories.tasks.create(number, TaskSpec("!true"), held=True)
        repositories.accounts.begin_deletion(number, record)
        with pytest.raises(UserDisabled):
            repositories.tasks.create(number, TaskSpec("!true"), held=True)


def test_the_last_administrator_remains(site: tuple[RunningServer, str]) -> None:
    server, admin = site
    own = user_id(server, admin)
    for values in ({"role": "user"}, {"role": "service"}, {"disabled": True}):
        assert change(server, admin, own, **values) == 409
    assert ask(server, "DELETE", f"/admin/users/{own}", admin).status_code == 409
    body = {"password": "an administrator's password"}
    answer = ask(server, "POST", "/users/me/delete", admin, body)
    assert answer.status_code == 409 and "only administrator" in detail(answer)
    _, token = sign_up(server)
    assert change(server, admin, user_id(server, token), role="administrator") == 200
    assert ask(server, "GET", "/admin/users", token).status_code == 200
    assert change(server, token, own, disabled=True) == 200
    assert ask(server, "GET", "/users/me", admin).status_code == 401
    assert change(server, token, user_id(server, token), role="user") == 409


def test_two_administrators_that_demote_each_other_leave_one(
    site: tuple[RunningServer, str],
) -> None:
    server, admin = site
    for _ in range(5):
        _, token = sign_up(server)
        other, own = user_id(server, token), user_id(server, admin)
        assert change(server, admin, other, role="administrator") == 200
        begin = threading.Barrier(2)

        def demote(who: str, whom: int, begin: threading.Barrier = begin) -> int:
            begin.wait()
            return change(server, who, whom, role="user")

        with ThreadPoolExecutor(2) as threads:
            statuses = [threads.submit(demote, admin, other), threads.submit(demote, token, own)]
            assert sorted(status.result() for status in statuses) in ([200, 403], [200, 409])
        [(left,)] = rows(server, "SELECT id FROM users WHERE role = 'administrator'")
        admin = admin if left == own else token


def test_service_accounts_have_keys_and_no_password(site: tuple[RunningServer, str]) -> None:
    server, admin = site
    made = ask(server, "POST", "/admin/users", admin, {"email": "bot@example.test"})
    assert made.status_code == 201 and made.json()["role"] == "service"
    path = f"/admin/users/{made.json()['id']}"
    key = ask(
        server, "POST", f"{path}/apikeys", admin, {"name": "ci", "scopes": ["tasks:read"]}
    ).json()["key"]
    assert ask(server, "GET", "/tasks/", key).json() == []
    assert ask(server, "GET", "/apikeys", key).status_code == 403
    assert sign_in(server, "bot@example.test", "").status_code == 401
    before = len(list(server.data_dir.glob("outbox/*.eml")))
    body = {"email": "bot@example.test"}
    assert ask(server, "POST", "/auth/request-password-reset", body=body).status_code == 200
    assert ask(server, "POST", f"{path}/reset-password", admin).status_code == 409
    assert len(list(server.data_dir.glob("outbox/*.eml"))) == before
    email, token = sign_up(server)
    own = f"/admin/users/{user_id(server, token)}"
    assert ask(server, "POST", f"{own}/apikeys", admin, {"name": "x"}).status_code == 409
    # A user who becomes a service account keeps the keys, and loses password and sessions.
    kept = api_key(server, token, "tasks:read")
    assert change(server, admin, user_id(server, token), role="service") == 200
    assert ask(server, "GET", "/users/me", token).status_code == 401
    assert sign_in(server, email).status_code == 401
    assert ask(server, "GET", "/tasks/", kept).status_code == 200
    for values in ({"email": "a@b.test", "role": "user"}, {"email": "bot@example.test"},
                   {"email": "none"}):  # fmt: skip
        assert ask(server, "POST", "/admin/users", admin, values).status_code in (409, 422)


@pytest.mark.parametrize("number", ["0", "-1", "x", "999999", "9" * 30])
def test_unknown_users(site: tuple[RunningServer, str], number: str) -> None:
    server, admin = site
    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"disabled": True}), ("DELETE", "", None),
        ("POST", "/reset-password", None), ("POST", "/revoke-sessions", None),
        ("POST", "/apikeys", {"name": "k"}),
    ):  # fmt: skip
        answer = ask(server, method, f"/admin/users/{number}{path}", admin, body)
        assert (answer.status_code, detail(answer)) == (404, f"User {number} does not exist.")


def test_the_audit_log_is_complete_and_without_secrets(site: tuple[RunningServer, str]) -> None:
    server, admin = site
    email, token = sign_up(server)
    number = user_id(server, token)
    sign_in(server, email, "a wrong password")
    sign_in(server, "\x1b[2Jnobody@example.test" + "x" * 290, "guess")
    response = sign_in(server, email)
    key = api_key(server, token, "tasks:read")
    newest = ask(server, "GET", "/apikeys", token).json()[0]["id"]
    ask(server, "DELETE", f"/apikeys/{newest}", token)
    change(server, admin, number, role="administrator", must_change_password=True)
    change(server, admin, number, disabled=True)
    change(server, admin, number, disabled=False)
    password = ask(server, "POST", f"/admin/users/{number}/reset-password", admin).json()
    ask(server, "POST", f"/admin/users/{number}/revoke-sessions", admin)
    invited = new_address()
    ask(server, "POST", "/admin/invitations", admin, {"email": invited})
    ask(server, "DELETE", f"/admin/invitations/{invited}", admin)
    ask(server, "DELETE", f"/admin/users/{number}", admin)
    ask(server, "POST", "/auth/logout", admin)
    root = "root@example.test"
    found = audit(server)
    unknown = [subject for _, action, subject in found if "nobody" in subject]
    assert len(unknown) == 1 and "\x1b" not in unknown[0] and len(unknown[0]) <= 320
    assert [entry for entry in found if "nobody" not in entry[2]] == [
        (root, "account.created", root),
        (email, "account.registered", email),
        ("", "sign-in.failed", email),
        (email, "sign-in", email),
        (email, "apikey.created", f"{email}: tasks:read (key {newest})"),
        (email, "apikey.revoked", f"{email}: key {newest}"),
        (root, "role.changed", f"{email}: user to administrator"),
        (root, "password.change-required", email),
        (root, "account.disabled", email),
        (root, "account.enabled", email),
        (root, "password.reset", email),
        (root, "sessions.revoked", email),
        (root, "invitation.created", f"{invited} (user)"),
        (root, "invitation.withdrawn", invited),
        (root, "account.deleted", email),
        (root, "sign-out", root),
    ]
    requests_of = rows(server, "SELECT address, request_id, created_at FROM audit")
    assert {address for address, _, _ in requests_of} == {"127.0.0.1"}
    assert response.headers["X-Request-ID"] in {request for _, request, _ in requests_of}
    text = str(rows(server, "SELECT * FROM audit"))
    for secret in (token, admin, key, password["password"], "a wrong password", "guess"):
        assert secret not in text


def test_the_audit_log_is_append_only(site: tuple[RunningServer, str]) -> None:
    server, _ = site
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            rows(server, statement)


def test_the_audit_log_is_read_in_pages_and_followed(site: tuple[RunningServer, str]) -> None:
    server, admin = site
    for _ in range(5):
        sign_in(server, "nobody@example.test", "guess")
    newest = ask(server, "GET", "/admin/audit?limit=3", admin).json()
    assert [entry["action"] for entry in newest] == ["sign-in.failed"] * 3
    every = ask(server, "GET", "/admin/audit?after=0&limit=1000", admin).json()
    assert every[-3:] == newest and len(every) == 6
    assert ask(server, "GET", f"/admin/audit?after={every[-1]['id']}", admin).json() == []
    with ThreadPoolExecutor(1) as threads:
        path = f"/admin/audit?after={every[-1]['id']}&wait_seconds=20"
        waiting = threads.submit(lambda: ask(server, "GET", path, admin).json())
        sign_in(server, "other@example.test", "guess")
        assert [entry["object"] for entry in waiting.result()] == ["other@example.test"]
    for query in ("limit=0", "after=-1", "wait_seconds=999"):
        assert ask(server, "GET", f"/admin/audit?{query}", admin).status_code == 422
