"""Forgotten and changed passwords."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.server.account_requests import (
    ask,
    audit,
    detail,
    first_administrator,
    reset_code,
    rows,
    sign_in,
    sign_up,
    token_of,
    user_id,
)
from tests.support import FollowingThread, new_address, until

NEW = "a new pass phrase"


def reset(server: RunningServer, email: str, code: str, password: str = NEW) -> requests.Response:
    body = {"email": email, "verification_code": code, "password": password}
    return ask(server, "POST", "/auth/reset-password", body=body)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_a_reset_sets_the_password_and_ends_all_sessions(beray_server: RunningServer) -> None:
    email, token = sign_up(beray_server)
    with beray_server.client(token) as client:
        stream = FollowingThread(lambda: client.stream_all_updates())
        until(lambda: stream.seen)
        answer = reset(beray_server, email, reset_code(beray_server, email))
        assert answer.status_code == 200, answer.text
        stream.join(5)
        assert stream.error is not None
    assert ask(beray_server, "GET", "/users/me", token).status_code == 401
    session = answer.json()
    assert session["user"]["email"] == email
    assert ask(beray_server, "GET", "/users/me", session["access_token"]).status_code == 200
    assert sign_in(beray_server, email, PASSWORD).status_code == 401
    assert sign_in(beray_server, email, NEW).status_code == 200


def test_the_response_does_not_reveal_accounts(beray_server: RunningServer) -> None:
    known, _ = sign_up(beray_server)
    unknown = new_address()
    asked = [
        ask(beray_server, "POST", "/auth/request-password-reset", body={"email": email})
        for email in (known, unknown)
    ]
    assert [answer.status_code for answer in asked] == [200, 200]
    assert asked[0].json() == asked[1].json()
    # The limits are the same, and so are the answers to wrong codes.
    for path, body in (
        ("/auth/request-password-reset", {}),
        ("/auth/reset-password", {"verification_code": "abcdef", "password": NEW}),
    ):
        answers = [
            ask(beray_server, "POST", path, body={"email": email, **body})
            for email in (known, unknown)
        ]
        assert answers[0].status_code == answers[1].status_code in (422, 429)
        assert detail(answers[0]).replace(known, "") == detail(answers[1]).replace(unknown, "")
    outbox = [path.read_text() for path in beray_server.data_dir.glob("outbox/*.eml")]
    assert not [mail for mail in outbox if unknown in mail]


def test_a_code_has_one_purpose(beray_server: RunningServer) -> None:
    email, _ = sign_up(beray_server)
    other = new_address()
    ask(beray_server, "POST", "/auth/request-verification-code", body={"email": other})
    registration = beray_server.mailed_code(other)
    assert reset(beray_server, other, registration).status_code == 422
    code = reset_code(beray_server, email)
    body = {"email": email, "verification_code": code, "password": NEW}
    assert ask(beray_server, "POST", "/auth/register", body=body).status_code == 409
    assert reset(beray_server, email, code).status_code == 200


def test_wrong_codes_are_limited(beray_server: RunningServer) -> None:
    email, token = sign_up(beray_server)
    code = reset_code(beray_server, email)
    for left in (4, 3, 2, 1):
        assert f"{left} attempt" in detail(reset(beray_server, email, wrong(code)))
    assert "no attempts are left" in detail(reset(beray_server, email, wrong(code)))
    assert "tried too often" in detail(reset(beray_server, email, code))
    assert ask(beray_server, "GET", "/users/me", token).status_code == 200


def test_a_code_that_is_used_ten_times_in_parallel_is_used_once(
    beray_server: RunningServer,
) -> None:
    email, _ = sign_up(beray_server)
    code = reset_code(beray_server, email)
    passwords = [f"pass phrase number {number}" for number in range(10)]
    with ThreadPoolExecutor(10) as threads:
        answers = list(
            threads.map(lambda password: reset(beray_server, email, code, password), passwords)
        )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 422: 9}
    [accepted] = [
        password
        for password, answer in zip(passwords, answers, strict=True)
        if answer.status_code == 200
    ]
    valid = [p for p in passwords if sign_in(beray_server, email, p).status_code == 200]
    assert valid == [accepted]


def test_a_sign_in_during_a_reset_leaves_no_session_with_the_old_password(
    tmp_path: Path,
) -> None:
    # Passwords take as long as on a normal server, so that both requests overlap.
    with RunningServer.start(tmp_path / "data", cheap_passwords=False) as server:
        email, _ = sign_up(server)
        code = reset_code(server, email)
        begin = threading.Barrier(5)

        def log_in() -> requests.Response:
            begin.wait()
            return sign_in(server, email, PASSWORD)

        with ThreadPoolExecutor(4) as threads:
            logins = [threads.submit(log_in) for _ in range(4)]
            begin.wait()
            answer = reset(server, email, code)
            assert answer.status_code == 200, answer.text
            ended = [login.result() for login in logins]
        for login in ended:
            if login.status_code == 200:
                token = login.json()["access_token"]
                assert ask(server, "GET", "/users/me", token).status_code == 401
            else:
                assert login.status_code == 401
        assert rows(server, "SELECT count(*) FROM tokens") == [(1,)]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", "at least 8"), ("password1", "common"), ("QWERTYUIOP", "common"),
        ("ada.lovelace", "address"), ("ADA.LOVELACE1815", "address"),
        ("!adalovelace!", "address"), ("ada.lovelace@mill.example", "address"),
        ("ecalevol.ada", "address"), ("adalovelaceadalovelace", "address"),
    ],
)  # fmt: skip
def test_new_passwords_are_checked(beray_server: RunningServer, password: str, reason: str) -> None:
    email = "ada.lovelace@mill.example"
    if sign_in(beray_server, email).status_code == 401:
        sign_up(beray_server, email)
    token = token_of(beray_server, email)
    changed = ask(
        beray_server, "POST", "/users/me/password", token,
        {"password": PASSWORD, "new_password": password},
    )  # fmt: skip
    assert changed.status_code == 422 and reason in detail(changed)
    register = {"email": "ada.lovelace@mill.example", "verification_code": "1"}
    for path in ("/auth/reset-password",):
        answer = ask(beray_server, "POST", path, body={**register, "password": password})
        assert answer.status_code == 422 and reason in detail(answer)
    assert sign_in(beray_server, email).status_code == 200


def test_published_passwords_are_accepted(beray_server: RunningServer) -> None:
    for password in ("a_very_secure_password", PASSWORD, "пароль-длинный", "ada lovelace 1815 x"):
        sign_up(beray_server, password=password)


def test_a_changed_password_ends_the_other_sessions(beray_server: RunningServer) -> None:
    email, token = sign_up(beray_server)
    other = token_of(beray_server, email)
    body = {"password": "wrong", "new_password": NEW}
    refused = ask(beray_server, "POST", "/users/me/password", token, body)
    assert (refused.status_code, detail(refused)) == (403, "The password is wrong.")
    same = ask(
        beray_server, "POST", "/users/me/password", token,
        {"password": PASSWORD, "new_password": PASSWORD},
    )  # fmt: skip
    assert same.status_code == 422 and "current one" in detail(same)
    body["password"] = PASSWORD
    assert ask(beray_server, "POST", "/users/me/password", token, body).status_code == 200
    assert ask(beray_server, "GET", "/users/me", token).status_code == 200
    assert ask(beray_server, "GET", "/users/me", other).status_code == 401
    assert sign_in(beray_server, email, NEW).status_code == 200


def test_wrong_current_passwords_are_limited(beray_server: RunningServer) -> None:
    _, token = sign_up(beray_server)
    body = {"password": "wrong", "new_password": NEW}
    statuses = [
        ask(beray_server, "POST", "/users/me/password", token, body).status_code for _ in range(12)
    ]
    assert statuses == [403] * 10 + [429] * 2


def test_an_administrator_requires_a_new_password(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        admin = first_administrator(server)
        email, token = sign_up(server)
        path = f"/admin/users/{user_id(server, token)}/reset-password"
        made = ask(server, "POST", path, admin).json()
        assert made["email"] == email
        assert ask(server, "GET", "/users/me", token).status_code == 401
        assert sign_in(server, email).status_code == 401
        temporary = token_of(server, email, made["password"])
        me = ask(server, "GET", "/users/me", temporary).json()
        assert me["must_change_password"] is True
        refused = ask(server, "GET", "/tasks/", temporary)
        assert refused.status_code == 403 and "beray password change" in detail(refused)
        body = {"password": made["password"], "new_password": NEW}
        assert ask(server, "POST", "/users/me/password", temporary, body).status_code == 200
        assert ask(server, "GET", "/tasks/", temporary).status_code == 200
        assert made["password"] not in (server.data_dir / "beray.sqlite3").read_bytes().decode(
            "latin-1"
        )
        actions = [action for _, action, subject in audit(server) if subject == email]
        actions = [action for action in actions if action != "sign-in.failed"]
        assert actions[-3:] == ["password.reset", "sign-in", "password.changed"]


def test_a_reset_fulfils_the_requirement_of_a_new_password(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        admin = first_administrator(server)
        email, token = sign_up(server)
        path = f"/admin/users/{user_id(server, token)}/reset-password"
        assert ask(server, "POST", path, admin).status_code == 200
        session = reset(server, email, reset_code(server, email)).json()
        assert session["user"]["must_change_password"] is False
        assert ask(server, "GET", "/tasks/", session["access_token"]).status_code == 200


def test_a_disabled_account_gets_no_code(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        admin = first_administrator(server)
        email, token = sign_up(server)
        path = f"/admin/users/{user_id(server, token)}"
        assert ask(server, "PATCH", path, admin, {"disabled": True}).status_code == 200
        before = set(server.data_dir.glob("outbox/*.eml"))
        asked = ask(server, "POST", "/auth/request-password-reset", body={"email": email})
        assert asked.status_code == 200
        sign_up(server)  # its mail is written later than one for the disabled account would be
        [mail] = set(server.data_dir.glob("outbox/*.eml")) - before
        assert email not in mail.read_text()
        refused = sign_in(server, email)
        assert refused.status_code == 403 and "disabled" in detail(refused)
