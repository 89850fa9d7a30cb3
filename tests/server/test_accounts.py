"""Registration, sign-in and sign-out with a real server."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from beray import (
    APIError,
    AuthenticationError,
    BeRayClient,
    ConflictError,
    RateLimitError,
    UnprocessableEntityError,
)
from beray.testing import RunningServer
from beray.testing.server import PASSWORD, free_port


def code_for(server: RunningServer, address: str) -> str:
    server.client().request_verification_code(address)
    return server.mailed_code(address)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_registration_and_sign_in_work_end_to_end(beray_server: RunningServer) -> None:
    client = beray_server.client()
    address = "Whole.Way@Example.test"
    code = code_for(beray_server, address.lower())
    session = client.register(address, code, PASSWORD)
    assert session["token_type"] == "bearer"
    assert session["user"]["email"] == address.lower()
    assert client.get_current_user() == session["user"]
    assert client.logout()["message"]
    with pytest.raises(AuthenticationError):
        client.get_current_user()
    dead = beray_server.client(session["access_token"])
    with pytest.raises(AuthenticationError):
        dead.list_tasks()
    assert client.login(address, PASSWORD)["user"] == session["user"]
    assert client.login_with_form(address, PASSWORD)["user"] == session["user"]


def test_a_registered_address_is_a_conflict(beray_server: RunningServer) -> None:
    beray_server.sign_up("taken@example.test")
    with pytest.raises(ConflictError, match="already registered"):
        beray_server.client().request_verification_code("TAKEN@example.test")
    with pytest.raises(ConflictError):
        beray_server.client().register("taken@example.test", "123456", PASSWORD)


def test_one_mail_a_minute(beray_server: RunningServer) -> None:
    client = beray_server.client()
    client.request_verification_code("minute@example.test")
    with pytest.raises(RateLimitError, match=r"Request another one in \d+ s") as caught:
        client.request_verification_code("minute@example.test")
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 60


def test_a_code_is_invalid_after_five_wrong_attempts(beray_server: RunningServer) -> None:
    client = beray_server.client()
    code = code_for(beray_server, "tries@example.test")
    for _ in range(4):
        with pytest.raises(UnprocessableEntityError, match=r"attempts? left"):
            client.register("tries@example.test", wrong(code), PASSWORD)
    with pytest.raises(UnprocessableEntityError, match="no attempts are left"):
        client.register("tries@example.test", wrong(code), PASSWORD)
    with pytest.raises(UnprocessableEntityError, match="tried too often"):
        client.register("tries@example.test", code, PASSWORD)


def test_a_fifth_attempt_is_accepted_after_four_wrong_ones(beray_server: RunningServer) -> None:
    client = beray_server.client()
    code = code_for(beray_server, "four@example.test")
    for _ in range(4):
        with pytest.raises(UnprocessableEntityError):
            client.register("four@example.test", wrong(code), PASSWORD)
    client.register("four@example.test", code, PASSWORD)


def test_a_code_expires(beray_server: RunningServer) -> None:
    code = code_for(beray_server, "late@example.test")
    with sqlite3.connect(beray_server.data_dir / "beray.sqlite3", timeout=30) as database:
        expired = database.execute(
            "UPDATE verification_codes SET expires_at = sent_at WHERE email = 'late@example.test'"
        )
        assert expired.rowcount == 1
    database.close()
    with pytest.raises(UnprocessableEntityError, match="expired"):
        beray_server.client().register("late@example.test", code, PASSWORD)


@pytest.mark.parametrize(("password", "allowed"), [
    ("7f#kQ2w", False), ("7f#kQ2wz", True), ("x" * 1024, True), ("x" * 1025, False), ("пароль-密码", True),
])  # fmt: skip
def test_the_length_of_passwords(beray_server: RunningServer, password: str, allowed: bool) -> None:
    address = f"length-{len(password)}-{ord(password[0])}@example.test"
    code = code_for(beray_server, address)
    client = beray_server.client()
    if allowed:
        client.register(address, code, password)
        client.login(address, password)
    else:
        with pytest.raises(UnprocessableEntityError) as caught:
            client.register(address, code, password)
        assert password not in str(caught.value.error_detail)


@pytest.mark.parametrize(
    "address",
    [
        "", "x", "@", "a@", "@b", "a b@c.d", "a@b@c", "a@b\r\nBcc: x@y", "a@b..c",
        f"{'a' * 65}@b.c", "a@-b.c", "a@b-.c", f"a@{'b' * 64}.c", "a\u202e@b.c",
    ],
)  # fmt: skip
def test_an_invalid_address_is_rejected(beray_server: RunningServer, address: str) -> None:
    mails = len([*beray_server.data_dir.glob("outbox/*.eml")])
    with pytest.raises(UnprocessableEntityError):
        beray_server.client().request_verification_code(address)
    assert len([*beray_server.data_dir.glob("outbox/*.eml")]) == mails


def test_wrong_passwords_are_401_and_too_many_are_429(beray_server: RunningServer) -> None:
    beray_server.sign_up("pair@example.test")
    client = beray_server.client()
    for address in ("pair@example.test", "nobody@example.test"):
        with pytest.raises(AuthenticationError, match="e-mail address or the password is wrong"):
            client.login(address, "wrong-password")
    for _ in range(9):
        with pytest.raises(AuthenticationError):
            client.login("pair@example.test", "wrong-password")
    with pytest.raises(RateLimitError):
        client.login("pair@example.test", PASSWORD)


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer x", "Basic eDp5", "Bearer " + "x" * 5000]
)
def test_a_request_without_a_valid_token_is_401(
    beray_server: RunningServer, header: str | None
) -> None:
    response = requests.get(
        f"{beray_server.url}/api/v1/tasks/",
        headers={"Authorization": header} if header else {},
        timeout=10,
    )
    assert response.status_code == 401
    assert isinstance(response.json()["detail"], str)
    assert response.headers["X-Request-ID"]


def test_tokens_codes_and_passwords_are_not_stored(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", cheap_passwords=False) as server:
        code = code_for(server, "kept@example.test")
        session = server.client().register("kept@example.test", code, PASSWORD)
    everything = b"".join(
        path.read_bytes()
        for path in server.data_dir.rglob("*")
        if path.is_file() and path.suffix != ".eml"
    )
    assert b"kept@example.test" in everything
    assert session["access_token"].encode() not in everything
    assert PASSWORD.encode() not in everything
    assert b"$argon2id$v=19$m=65536,t=3,p=4$" in everything
    assert f"{code}".encode() not in server.log.read_bytes()


def test_tokens_expire(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        server.stop()
        with sqlite3.connect(server.data_dir / "beray.sqlite3") as database:
            database.execute("UPDATE tokens SET expires_at = created_at")
        database.close()
        server.restart()
        with pytest.raises(AuthenticationError, match="expired"):
            client.list_tasks()


class _Inbox:
    def __init__(self) -> None:
        self.mails: list[str] = []
        self.refuse = False

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, _server: SMTP, _session: SmtpSession, envelope: Envelope
    ) -> str:
        if self.refuse:
            return "554 no"
        assert isinstance(envelope.content, bytes)
        self.mails.append(envelope.content.decode())
        return "250 taken"


def test_mail_is_sent_by_smtp_if_configured(tmp_path: Path) -> None:
    inbox = _Inbox()
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    environ = {
        "BERAY_SMTP_HOST": "127.0.0.1",
        "BERAY_SMTP_PORT": str(port),
        "BERAY_SMTP_SECURITY": "none",
    }
    try:
        with RunningServer.start(tmp_path / "data", environ) as server:
            client = server.client()
            inbox.refuse = True
            with pytest.raises(APIError, match="could not be mailed") as caught:
                client.request_verification_code("smtp@example.test")
            assert caught.value.status_code == 503
            inbox.refuse = False
            client.request_verification_code("smtp@example.test")
            assert "To: smtp@example.test" in inbox.mails[0]
            assert not (server.data_dir / "outbox").exists()
    finally:
        controller.stop()


def test_a_client_that_signed_in_elsewhere_is_another_session(beray_server: RunningServer) -> None:
    first = beray_server.sign_up("two@example.test")
    second = BeRayClient(beray_server.url)
    second.login("two@example.test", PASSWORD)
    second.logout()
    assert first.get_current_user()["email"] == "two@example.test"
