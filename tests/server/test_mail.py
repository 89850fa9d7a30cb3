"""Mail by a real SMTP server: non-ASCII addresses, servers that reject mail or do not respond."""

from __future__ import annotations

import asyncio
import email
import email.policy
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from sqlalchemy import func, select, update

from beray import APIError, UnprocessableEntityError
from beray.server.accounts import code_mails
from beray.server.accounts import mail as mail_module
from beray.server.accounts.actors import Actor
from beray.server.accounts.service import Accounts, running_accounts
from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.settings import Settings
from beray.server.storage.tables import VerificationCode
from beray.server.storage.times import utc_now
from beray.testing import RunningServer
from beray.testing.server import PASSWORD, free_port
from tests.repositories import Repositories, opened
from tests.server.account_requests import ask, first_administrator, sign_up
from tests.support import PROMPT_SECONDS, until

ACTOR = Actor(Client("192.0.2.1", False))


class Inbox:
    """Handler of the SMTP server; ``rcpt_status`` and ``data_status`` are its responses."""

    def __init__(self) -> None:
        self.recipients: list[str] = []
        self.mails: list[bytes] = []
        self.rcpt_status = "250 OK"
        self.data_status = "250 OK"

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self,
        _server: SMTP,
        _session: SmtpSession,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if self.rcpt_status.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt_status

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: SmtpSession, envelope: Envelope
    ) -> str:
        if self.data_status.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.recipients += envelope.rcpt_tos
            self.mails.append(envelope.content)
        return self.data_status

    def newest_code(self) -> str:
        mail = email.message_from_bytes(self.mails[-1], policy=email.policy.default)
        words: list[str] = mail.get_content().split()
        return next(word for word in words if word.isdigit())


@contextmanager
def smtp_server(*, utf8: bool) -> Iterator[tuple[Inbox, dict[str, str]]]:
    """Run a mail server; yield its inbox and the settings that name it."""
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port, enable_SMTPUTF8=utf8)
    controller.start()
    try:
        yield inbox, environ(port)
    finally:
        controller.stop()


def environ(port: int) -> dict[str, str]:
    return {
        "BERAY_SMTP_HOST": "127.0.0.1",
        "BERAY_SMTP_PORT": str(port),
        "BERAY_SMTP_SECURITY": "none",
    }


def test_addresses_beyond_ascii_need_smtputf8(tmp_path: Path) -> None:
    with (
        smtp_server(utf8=False) as (inbox, settings),
        RunningServer.start(tmp_path / "data", settings) as server,
    ):
        client = server.client()
        for _ in range(2):  # the second need not wait, either
            with pytest.raises(UnprocessableEntityError, match="SMTPUTF8") as caught:
                client.request_verification_code("jürgen@example.test")
        assert "jürgen@example.test" in str(caught.value.error_detail)
        assert inbox.mails == []
        client.request_verification_code("juergen@example.test")
        assert inbox.recipients == ["juergen@example.test"]


def test_addresses_beyond_ascii_are_mailed_with_smtputf8(tmp_path: Path) -> None:
    with (
        smtp_server(utf8=True) as (inbox, settings),
        RunningServer.start(tmp_path / "data", settings) as server,
    ):
        client = server.client()
        client.request_verification_code("Jürgen@bücher.test")
        assert inbox.recipients == ["jürgen@xn--bcher-kva.test"]
        session = client.register("jürgen@bücher.test", inbox.newest_code(), PASSWORD)
        assert session["user"]["email"] == "jürgen@bücher.test"


def test_internationalized_domains_work_without_smtputf8(tmp_path: Path) -> None:
    with (
        smtp_server(utf8=False) as (inbox, settings),
        RunningServer.start(tmp_path / "data", settings) as server,
    ):
        client = server.client()
        client.request_verification_code("Ada@Bücher.test")
        assert inbox.recipients == ["ada@xn--bcher-kva.test"]
        assert b"To: ada@xn--bcher-kva.test" in inbox.mails[0]
        user = client.register("ada@bücher.test", inbox.newest_code(), PASSWORD)["user"]
        for spelling in ("ada@xn--bcher-kva.test", "ADA@BÜCHER.TEST", "ada@bu\u0308cher.test"):
            assert server.client().login(spelling, PASSWORD)["user"] == user
            with pytest.raises(APIError, match="already registered"):
                client.request_verification_code(spelling)


@pytest.mark.parametrize("address", ["a@-ü.test", "a@xn--.test", "a@xn--ü.test", "a@xn--aü-.test"])
def test_an_invalid_domain_is_rejected_with_the_reason(
    beray_server: RunningServer, address: str
) -> None:
    with pytest.raises(UnprocessableEntityError, match="not a valid e-mail address") as caught:
        beray_server.client().request_verification_code(address)
    assert "domain" in str(caught.value.error_detail)


@pytest.mark.parametrize(
    ("rcpt", "data", "status", "reason"),
    [
        ("550 no such user", "250 OK", 422, "SMTP status 550"),
        ("451 later", "250 OK", 503, "could not be mailed"),
        ("250 OK", "554 no", 503, "could not be mailed"),
    ],
)
def test_a_rejection_by_the_mail_server_is_reported(
    tmp_path: Path, rcpt: str, data: str, status: int, reason: str
) -> None:
    with smtp_server(utf8=True) as (inbox, settings):
        inbox.rcpt_status, inbox.data_status = rcpt, data
        with RunningServer.start(tmp_path / "data", settings) as server:
            client = server.client()
            with pytest.raises(APIError, match=reason) as caught:
                client.request_verification_code("ada@example.test")
            assert caught.value.status_code == status
            inbox.rcpt_status = inbox.data_status = "250 OK"
            client.request_verification_code("ada@example.test")


def test_resets_invitations_and_notices_are_mailed(tmp_path: Path) -> None:
    with (
        smtp_server(utf8=True) as (inbox, settings),
        RunningServer.start(
            tmp_path / "data",
            settings,
            BERAY_REGISTRATION="invite",
            BERAY_HIDE_ACCOUNTS="1",
        ) as server,
    ):
        admin = first_administrator(server)
        made = ask(server, "POST", "/admin/invitations", admin, {"email": "ada@example.test"})
        assert made.json()["mailed"] is True
        assert inbox.recipients == ["ada@example.test"]
        assert b"root@example.test invites you" in inbox.mails[0]
        email = {"email": "ada@example.test"}
        ask(server, "POST", "/auth/request-verification-code", body=email)
        until(lambda: len(inbox.mails) == 2)
        with server.client() as client:
            client.register("ada@example.test", inbox.newest_code(), PASSWORD)
        ask(server, "POST", "/auth/request-password-reset", body=email)
        until(lambda: len(inbox.mails) == 3)
        reset = {**email, "verification_code": inbox.newest_code(), "password": "a new password"}
        assert ask(server, "POST", "/auth/reset-password", body=reset).status_code == 200
        ask(server, "POST", "/auth/request-verification-code", body={"email": "root@example.test"})
        until(lambda: len(inbox.mails) == 4)
        assert b"You already have a BeRay account" in inbox.mails[3]
        inbox.rcpt_status = "550 no such user"
        failed = ask(server, "POST", "/admin/invitations", admin, {"email": "bob@example.test"})
        assert (failed.status_code, failed.json()["mailed"]) == (201, False)


def test_a_reset_does_not_wait_for_the_mail_server(tmp_path: Path, silent_port: int) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        email, _ = sign_up(server)
        server.restart(**environ(silent_port))
        # Neither the duration nor the response reveals that the address has an account.
        for address in (email, "nobody@example.test"):
            body = {"email": address}
            answer = ask(server, "POST", "/auth/request-password-reset", body=body)
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < PROMPT_SECONDS


def test_mails_of_the_whole_server_are_limited(tmp_path: Path) -> None:
    with smtp_server(utf8=False) as (inbox, settings):
        with RunningServer.start(tmp_path / "data", settings, BERAY_MAILS_PER_HOUR="3") as server:
            client = server.client()
            client.request_verification_code("0@example.test")
            with pytest.raises(APIError, match="Request another one"):
                client.request_verification_code("0@example.test")  # is not counted
            for number in (1, 2):
                client.request_verification_code(f"{number}@example.test")
            with pytest.raises(APIError, match="3 verification mails") as caught:
                client.request_verification_code("3@example.test")
            assert caught.value.status_code == 503
            assert caught.value.retry_after
        assert len(inbox.mails) == 3


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
async def waiting(
    tmp_path: Path, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Accounts, Repositories]]:
    """The service of accounts, with the silent mail server and short waits."""
    monkeypatch.setattr(code_mails, "MAIL_RESPONSE_SECONDS", 0.05)
    monkeypatch.setattr(code_mails, "EXPIRY_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(mail_module, "SMTP_TIMEOUT_SECONDS", 0.5)
    for name, value in environ(silent_port).items():
        monkeypatch.setenv(name, value)
    with opened(tmp_path / "db.sqlite3") as repositories:
        async with service(repositories, tmp_path) as accounts:
            yield accounts, repositories


def service(repositories: Repositories, tmp_path: Path) -> AbstractAsyncContextManager[Accounts]:
    return running_accounts(
        settings=Settings(data_dir=tmp_path),
        accounts=repositories.accounts,
        tokens=repositories.tokens,
        codes=repositories.codes,
        invitations=repositories.invitations,
        audit=repositories.audit,
    )


def pending(repositories: Repositories) -> int:
    with repositories.database.reading() as session:
        return session.scalar(select(func.count()).select_from(VerificationCode)) or 0


async def test_a_request_does_not_wait_for_a_slow_mail_server(
    waiting: tuple[Accounts, Repositories],
) -> None:
    accounts, repositories = waiting
    await accounts.send_code("slow@example.test", ACTOR)
    with pytest.raises(ApiHTTPError, match="Request another one"):
        await accounts.send_code("slow@example.test", ACTOR)
    # The delivery fails, and another code can be requested at once.
    await asyncio.to_thread(until, lambda: pending(repositories) == 0)
    await accounts.send_code("slow@example.test", ACTOR)


async def test_mails_that_are_being_sent_are_limited(
    waiting: tuple[Accounts, Repositories], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_mails, "MAX_DELIVERIES", 6)
    accounts, repositories = waiting
    for number in range(6):
        await accounts.send_code(f"{number}@example.test", ACTOR)
    with pytest.raises(ApiHTTPError, match="6 mails are being sent") as caught:
        await accounts.send_code("6@example.test", ACTOR)
    assert caught.value.status == 503
    assert caught.value.retry_after
    await asyncio.to_thread(until, lambda: pending(repositories) == 0)


async def test_deliveries_end_with_the_server(
    tmp_path: Path, waiting: tuple[Accounts, Repositories]
) -> None:
    accounts, repositories = waiting
    async with accounts.mails.running():
        await accounts.send_code("unsent@example.test", ACTOR)
        assert pending(repositories) == 1
    assert pending(repositories) == 0


async def test_codes_expire_while_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_mails, "EXPIRY_INTERVAL_SECONDS", 0.05)
    with opened(tmp_path / "db.sqlite3") as repositories:
        async with service(repositories, tmp_path) as accounts:
            await accounts.send_code("late@example.test", ACTOR)
            assert pending(repositories) == 1
            (path,) = (tmp_path / "outbox").iterdir()
            os.utime(path, (time.time() - 601,) * 2)
            with repositories.database.writing() as session:
                session.execute(update(VerificationCode).values(expires_at=utc_now()))
            await asyncio.to_thread(until, lambda: pending(repositories) == 0 and not path.exists())


async def test_an_outbox_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "outbox").touch()
    with opened(tmp_path / "db.sqlite3") as repositories:
        async with service(repositories, tmp_path) as accounts:
            with pytest.raises(ApiHTTPError, match="outbox") as caught:
                await accounts.send_code("ada@example.test", ACTOR)
            assert caught.value.status == 503
