"""Methods of the client for the user's own account, with a real server."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from beray import (
    AuthenticationError,
    BeRayClient,
    InvalidArgument,
    NotFoundError,
    TargetsExist,
    TransferError,
    UnprocessableEntityError,
)
from beray.testing import FaultServer, RunningServer, ScriptedResponse
from beray.testing.server import PASSWORD
from tests.account_servers import Outbox
from tests.support import new_address

OTHER = "another fine passphrase"
WRONG = "certainly not the password"


def email_of(client: BeRayClient) -> str:
    return client.get_current_user().get("email") or ""


def test_a_forgotten_password_is_replaced(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    address = email_of(beray_client)
    outbox = Outbox(beray_server, address)
    with beray_server.client() as forgetful:
        assert forgetful.request_password_reset(address).get("message")
        code = outbox.new_code()
        wrong = f"{(int(code) + 1) % 1_000_000:06}"
        with pytest.raises(UnprocessableEntityError):
            forgetful.reset_password(address, wrong, OTHER)
        with pytest.raises(UnprocessableEntityError, match="common"):
            forgetful.reset_password(address, code, "password123")
        session = forgetful.reset_password(address, code, OTHER)
        assert forgetful.access_token == session["access_token"]
        assert email_of(forgetful) == address
    with pytest.raises(AuthenticationError):
        beray_client.get_current_user()
    with pytest.raises(AuthenticationError):
        beray_client.login(address, PASSWORD)
    beray_client.login(address, OTHER)


def test_an_unknown_address_gets_the_same_response(beray_client: BeRayClient) -> None:
    known = beray_client.request_password_reset(email_of(beray_client))
    assert beray_client.request_password_reset(new_address()) == known


def test_a_changed_password_ends_the_other_sessions(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    address = email_of(beray_client)
    with beray_server.client() as other:
        other.login(address, PASSWORD)
        with pytest.raises(AuthenticationError) as caught:
            beray_client.change_password(WRONG, OTHER)
        assert caught.value.status_code == 403
        assert WRONG not in f"{caught.value!r}"
        with pytest.raises(UnprocessableEntityError):
            beray_client.change_password(PASSWORD, "short")
        beray_client.change_password(PASSWORD, OTHER)
        assert email_of(beray_client) == address
        with pytest.raises(AuthenticationError):
            other.get_current_user()
        other.login(address, OTHER)


def test_passwords_in_another_unicode_form_are_the_same(beray_server: RunningServer) -> None:
    raw, normalized = "cafe\u0301 au lait ﬁve", "caf\u00e9 au lait five"
    with beray_server.sign_up(password=raw) as client:
        client.change_password(normalized, OTHER)
        client.change_password(OTHER, raw)
        client.login(email_of(client), normalized)


def test_the_address_changes_with_both_codes(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    old, new = email_of(beray_client), new_address()
    old_box, new_box = Outbox(beray_server, old), Outbox(beray_server, new)
    with pytest.raises(AuthenticationError):
        beray_client.request_email_change(new, WRONG)
    beray_client.request_email_change(new, PASSWORD)
    codes = old_box.new_code(), new_box.new_code()
    if codes[0] != codes[1]:
        with pytest.raises(UnprocessableEntityError):
            beray_client.change_email(new, codes[1], codes[0])
    assert beray_client.change_email(new, *codes)["email"] == new
    beray_client.login(new, PASSWORD)
    with pytest.raises(AuthenticationError):
        beray_client.login(old, PASSWORD)


def test_sessions_are_listed_and_revoked(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    address = email_of(beray_client)
    with beray_server.client() as second, beray_server.client() as third:
        second.login(address, PASSWORD)
        third.login(address, PASSWORD)
        sessions = third.list_sessions()
        assert len(sessions) == 3
        (current,) = [session for session in sessions if session["current"]]
        assert current["address"] == "127.0.0.1"
        assert (current["device"] or "").startswith("beray/")
        (own,) = [session for session in beray_client.list_sessions() if session["current"]]
        second.revoke_session(own["id"])
        with pytest.raises(AuthenticationError):
            beray_client.get_current_user()
        with pytest.raises(NotFoundError):
            second.revoke_session(own["id"])
        assert second.revoke_sessions(others=True)["message"] == "1 session ended."
        assert email_of(second) == address
        second.revoke_sessions()
        assert second.access_token is None


def test_a_deleted_account_is_gone(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        address = email_of(client)
        client.run("!echo x > x")
        with pytest.raises(AuthenticationError):
            client.delete_account(WRONG)
        token = client.access_token
        assert token is not None
        assert client.delete_account(PASSWORD).get("message")
        assert client.access_token is None
        with pytest.raises(AuthenticationError):
            client.login(address, PASSWORD)
    with beray_server.client(token) as old, pytest.raises(AuthenticationError):
        old.get_current_user()


def test_all_data_is_exported(beray_client: BeRayClient, tmp_path: Path) -> None:
    task = beray_client.run("!echo hello > hello.txt")
    target = tmp_path / "export.zip"
    assert beray_client.export_data(target) == target
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("account.json"))["email"] == email_of(beray_client)
        directory = f"tasks/{task['id']}"
        assert archive.read(f"{directory}/files/hello.txt") == b"hello\n"
        lines = archive.read(f"{directory}/events.jsonl").splitlines()
        assert json.loads(lines[-1])["status"] == "COMPLETED"
    with pytest.raises(TargetsExist):
        beray_client.export_data(target)
    beray_client.export_data(target, overwrite=True)
    assert list(tmp_path.glob(".export*")) == []


def test_an_incomplete_export_is_not_saved(tmp_path: Path) -> None:
    broken = ScriptedResponse(b"PK" * 1000, drop_at=500)
    folder = tmp_path / "exports"
    folder.mkdir()
    with FaultServer([broken]) as server, BeRayClient(server.url, "token") as client:
        with pytest.raises(TransferError):
            client.export_data(folder / "export.zip")
        assert len(server.requests) == 1
    assert list(folder.iterdir()) == []


def test_an_api_key_is_a_token_with_scopes(
    beray_server: RunningServer, beray_client: BeRayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = beray_client.create_api_key(
        "script", scopes=["tasks:read", "tasks:write"], expires_in_seconds=3600
    )
    assert created["scopes"] == ["tasks:read", "tasks:write"]
    assert created["expires_at"] is not None
    with pytest.raises(UnprocessableEntityError):
        beray_client.create_api_key("script", scopes=["everything"])
    with pytest.raises(InvalidArgument):
        beray_client.create_api_key("script", scopes="files")
    monkeypatch.setenv("BERAY_URL", beray_server.url)
    monkeypatch.setenv("BERAY_TOKEN", created["key"])
    with BeRayClient.from_env() as script:
        task = script.run("!echo hello > hello.txt")
        assert script.get_task(task["id"])["status"] == "COMPLETED"
        with pytest.raises(AuthenticationError, match="scope files") as caught:
            script.get_file_content(task["id"], "hello.txt")
        assert created["key"] not in f"{caught.value!r} {script!r}"
        with pytest.raises(AuthenticationError, match="password"):
            script.list_sessions()
    (listed,) = beray_client.list_api_keys()
    assert listed["last_used_at"] is not None
    beray_client.revoke_api_key(created["id"])
    with BeRayClient.from_env() as script, pytest.raises(AuthenticationError, match="revoked"):
        script.list_tasks()
