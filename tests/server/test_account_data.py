"""Deletion, export and change of the address of accounts."""

from __future__ import annotations

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD
from tests.gateway_support import Agent
from tests.server.account_requests import (
    api_key,
    ask,
    detail,
    first_administrator,
    rows,
    sign_in,
    sign_up,
    user_id,
)
from tests.support import FollowingThread, new_address, sleepers, until

DELETE = {"password": PASSWORD}


def left(server: RunningServer, number: int) -> dict[str, int]:
    """Return the number of rows of a user in each table that has any."""
    tables = rows(server, "SELECT name FROM sqlite_master WHERE type = 'table'")
    found = {}
    for (table,) in tables:
        columns = [column[1] for column in rows(server, f"PRAGMA table_info({table})")]
        if "user_id" in columns:
            [(count,)] = rows(server, f"SELECT count(*) FROM {table} WHERE user_id = ?", number)
            found[table] = count
    return {table: count for table, count in found.items() if count}


def test_a_deleted_account_leaves_nothing(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="2") as server:
        first_administrator(server)
        email, token = sign_up(server)
        _, other_token = sign_up(server)
        number = user_id(server, token)
        mark = f"773{server.pid}"
        api_key(server, token, "gateway")
        with server.client(token) as client, server.client(other_token) as kept:
            done = client.create_task("!echo hi > out.txt")
            list(client.stream_task_updates(done["id"]))
            running = client.create_task(f"!sleep {mark}")
            until(lambda: sleepers(mark))
            waiting = client.create_task("!true", start=False)
            client.open_chat("notes")
            kept_task = kept.create_task("!echo kept > out.txt")
            list(kept.stream_task_updates(kept_task["id"]))
            stream = FollowingThread(lambda: client.stream_task_updates(running["id"]))
            until(lambda: stream.seen)
            refused = ask(server, "POST", "/users/me/delete", token, {"password": "wrong"})
            assert refused.status_code == 403 and sleepers(mark)
            answer = ask(server, "POST", "/users/me/delete", token, DELETE)
            assert answer.json() == {"message": "The account and its data were deleted."}
            stream.join(10)
            assert stream.error is not None or stream.seen[-1]["type"] == "TASK_STATUS"
        assert sleepers(mark) == []
        assert left(server, number) == {}
        work_dirs = {path.name for path in (server.data_dir / "workspaces").iterdir()}
        assert work_dirs & {str(task["id"]) for task in (done, running, waiting)} == set()
        assert sign_in(server, email).status_code == 401
        assert ask(server, "GET", "/users/me", token).status_code == 401
        # The address is free again, and the new account is another one.
        rows(server, "DELETE FROM verification_codes")
        _, again = sign_up(server, email)
        assert user_id(server, again) > number
        assert ask(server, "GET", "/tasks/", again).json() == []
        with server.client(other_token) as kept:
            assert kept.get_task(kept_task["id"])["status"] == "COMPLETED"


def test_a_deletion_continues_after_the_server_was_killed(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        email, token = sign_up(server)
        number = user_id(server, token)
        with server.client(token) as client:
            task = client.create_task("!echo hi > out.txt")
            list(client.stream_task_updates(task["id"]))
        server.kill()
        # The state after the transaction that begins a deletion.
        rows(
            server, "UPDATE users SET deleted_at = created_at, disabled_at = created_at, "
            "password_hash = NULL, email = 'deleted-' || id WHERE id = ?", number,
        )  # fmt: skip
        server.restart()
        until(lambda: left(server, number) == {} and not rows(
            server, "SELECT id FROM users WHERE id = ?", number
        ))  # fmt: skip
        until(lambda: not (server.data_dir / "workspaces" / str(task["id"])).exists())
        assert sign_in(server, email).status_code == 401


def test_a_deletion_while_tasks_are_created_leaves_none(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="2") as server:
        _, token = sign_up(server)
        number = user_id(server, token)

        def create(_: int) -> int:
            try:
                return ask(server, "POST", "/tasks/", token, {"goal": "!sleep 5"}).status_code
            except requests.ConnectionError:  # the connection ended with the session
                return 401

        with ThreadPoolExecutor(8) as threads:
            created = [threads.submit(create, n) for n in range(60)]
            deleted = ask(server, "POST", "/users/me/delete", token, DELETE)
            assert deleted.status_code == 200, deleted.text
            statuses = {future.result() for future in created}
        assert statuses <= {200, 401, 503}
        until(lambda: left(server, number) == {})
        assert rows(server, "SELECT id FROM users WHERE id = ?", number) == []


def test_objects_of_a_deleted_account_are_removed(beray_server: RunningServer) -> None:
    agent = Agent.new(beray_server)
    with agent.account:
        answer = agent.files("POST", "upload", files={"file": ("a.txt", b"content")})
        assert answer.ok, answer.text
        number = int(agent.account.get_current_user()["id"])
        pattern = f"%/{number}/%"
        [(name,)] = rows(beray_server, "SELECT file FROM objects WHERE key LIKE ?", pattern)
        path = beray_server.data_dir / "objects" / name
        assert path.exists()
        token = access_token(agent.account)
        assert ask(beray_server, "POST", "/users/me/delete", token, DELETE).status_code == 200
        assert rows(beray_server, "SELECT file FROM objects WHERE key LIKE ?", pattern) == []
        assert not path.exists()
        assert agent.files("GET", "list").status_code == 401


def test_an_export_contains_tasks_events_files_and_chats(beray_server: RunningServer) -> None:
    email, token = sign_up(beray_server)
    api_key(beray_server, token, "tasks:read")
    with beray_server.client(token) as client:
        goal = "!mkdir -p 'a b/empty'; printf hi > 'a b/ü.txt'; chmod 640 'a b/ü.txt'; seq 5000"
        task = client.create_task(goal)
        events = list(client.stream_task_updates(task["id"]))
        chat = client.open_chat("notes/1".replace("/", " "))
    answer = ask(beray_server, "GET", "/users/me/export", token)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    names = archive.namelist()
    base = f"tasks/{task['id']}/"
    assert {"account.json", "api_keys.json", f"{base}task.json", f"{base}events.jsonl",
            f"{base}files/a b/ü.txt", f"{base}files/a b/empty/",
            f"chats/{chat['id']}/task.json"} <= set(names)  # fmt: skip
    assert json.loads(archive.read("account.json"))["email"] == email
    lines = archive.read(f"{base}events.jsonl").splitlines()
    assert [json.loads(line) for line in lines] == events
    assert archive.read(f"{base}files/a b/ü.txt") == b"hi"
    assert json.loads(archive.read(f"chats/{chat['id']}/task.json"))["chat"] == "notes 1"
    assert b"sk-" not in archive.read("api_keys.json").replace(b'"start": "sk-', b"")
    _, other = sign_up(beray_server)
    empty = zipfile.ZipFile(io.BytesIO(ask(beray_server, "GET", "/users/me/export", other).content))
    assert empty.namelist() == ["account.json", "api_keys.json"]


def test_the_address_is_changed_with_codes_of_both(beray_server: RunningServer) -> None:
    email, token = sign_up(beray_server)
    new = new_address()
    taken, _ = sign_up(beray_server)
    request = "/users/me/request-email-change"
    for body, status in (
        ({"email": new, "password": "wrong"}, 403),
        ({"email": "none", "password": PASSWORD}, 422),
        ({"email": taken, "password": PASSWORD}, 409),
        ({"email": email, "password": PASSWORD}, 422),
        ({"email": new, "password": PASSWORD}, 200),
    ):
        answer = ask(beray_server, "POST", request, token, body)
        assert answer.status_code == status, answer.text
    until(lambda: any(new in path.read_text() for path in beray_server.data_dir.glob("outbox/*")))
    outbox = beray_server.data_dir.glob("outbox/*.eml")
    mails = [path.read_text().replace("=\n", "") for path in outbox]
    assert any(f"To: {email}\n" in mail and new in mail for mail in mails)
    codes = {"current_code": beray_server.mailed_code(email),
             "new_code": beray_server.mailed_code(new)}  # fmt: skip
    swapped = {"current_code": codes["new_code"], "new_code": codes["current_code"]}
    wrong = ask(beray_server, "POST", "/users/me/email", token, {"email": new, **swapped})
    if codes["current_code"] != codes["new_code"]:
        assert wrong.status_code == 422, detail(wrong)
    changed = ask(beray_server, "POST", "/users/me/email", token, {"email": new, **codes})
    assert changed.status_code == 200 and changed.json()["email"] == new
    assert ask(beray_server, "GET", "/users/me", token).json()["email"] == new
    assert sign_in(beray_server, email).status_code == 401
    assert sign_in(beray_server, new).status_code == 200
    assert ask(
        beray_server, "POST", "/users/me/email", token, {"email": new, **codes}
    ).status_code == 422  # fmt: skip
