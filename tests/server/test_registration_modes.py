"""Registration: modes, invitations, and servers that hide their accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.account_servers import ADMIN_PASSWORD
from tests.server.account_requests import (
    ask,
    detail,
    first_administrator,
    rows,
    setup_token,
    sign_in,
    sign_up,
    user_id,
)
from tests.support import WITHOUT_BUBBLEWRAP, new_address, until


def code(server: RunningServer, email: str) -> requests.Response:
    return ask(server, "POST", "/auth/request-verification-code", body={"email": email})


def register(server: RunningServer, email: str, digits: str) -> requests.Response:
    body = {"email": email, "verification_code": digits, "password": PASSWORD}
    return ask(server, "POST", "/auth/register", body=body)


def mails(server: RunningServer) -> int:
    return len(list(server.data_dir.glob("outbox/*.eml")))


def test_a_personal_server_is_open_and_a_shared_one_needs_invitations(tmp_path: Path) -> None:
    # An empty variable is the default of the server, not of test servers.
    with RunningServer.start(tmp_path / "personal", BERAY_REGISTRATION="") as server:
        sign_up(server)
    with RunningServer.start(
        tmp_path / "shared", WITHOUT_BUBBLEWRAP, BERAY_REGISTRATION="",
        BERAY_PUBLIC_URL="http://127.0.0.1:1",
    ) as server:  # fmt: skip
        email = new_address()
        refused = code(server, email)
        assert refused.status_code == 403
        assert detail(refused) == (
            f"{email} has no valid invitation, which this server requires. Ask an administrator to "
            "invite you."
        )
        assert register(server, email, "123456").status_code == 403
        assert mails(server) == 0


def test_a_closed_server(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_REGISTRATION="closed") as server:
        admin = first_administrator(server)
        for email in (new_address(), new_address()):
            refused = code(server, email)
            assert refused.status_code == 403 and "closed" in detail(refused)
        # The published answer for a registered address remains.
        assert code(server, "root@example.test").status_code == 409
        invited = new_address()
        made = ask(server, "POST", "/admin/invitations", admin, {"email": invited})
        assert made.status_code == 201
        assert code(server, invited).status_code == 403


@pytest.mark.parametrize(
    ("email", "permitted"),
    [
        ("a@example.com", True), ("AB@EXAMPLE.COM", True), ("b@müller.example", True),
        ("c@xn--mller-kva.example", True), ("d@sub.example.com", False),
        ("e@example.com.evil.test", False), ("f@evilexample.com", False),
    ],
)  # fmt: skip
def test_domains(domain_server: RunningServer, email: str, permitted: bool) -> None:
    answer = code(domain_server, email)
    assert answer.status_code == (200 if permitted else 403), answer.text
    if not permitted:
        assert "permitted: example.com, müller.example" in detail(answer)


@pytest.fixture(scope="module")
def domain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(
        tmp_path_factory.mktemp("domains"), BERAY_REGISTRATION="domains",
        BERAY_REGISTRATION_DOMAINS="example.com, @MÜLLER.example",
    ) as server:  # fmt: skip
        yield server


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"BERAY_REGISTRATION": "domains"}, "BERAY_REGISTRATION_DOMAINS: must name a domain"),
        ({"BERAY_REGISTRATION": "all"}, "BERAY_REGISTRATION: "),
        ({"BERAY_REGISTRATION_DOMAINS": "a b"}, "'a b' is not a domain"),
    ],
)
def test_invalid_settings(tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    with pytest.raises(RuntimeError, match="did not start") as caught:
        RunningServer.start(tmp_path / "data", settings)
    assert reason in str(caught.value)


@pytest.fixture
def inviting(tmp_path: Path) -> Iterator[tuple[RunningServer, str]]:
    """A server that requires invitations, and the token of its administrator."""
    with RunningServer.start(tmp_path / "data", BERAY_REGISTRATION="invite") as server:
        yield server, first_administrator(server)


def test_an_invited_address_registers_with_the_published_calls(
    inviting: tuple[RunningServer, str],
) -> None:
    server, admin = inviting
    email = "Ada@Example.test"
    made = ask(
        server, "POST", "/admin/invitations", admin, {"email": email, "role": "administrator"}
    )
    assert made.status_code == 201
    assert made.json() | {"created_at": "", "expires_at": ""} == {
        "email": "ada@example.test", "role": "administrator", "invited_by": "root@example.test",
        "created_at": "", "expires_at": "", "mailed": False,
    }  # fmt: skip
    assert [one["email"] for one in ask(server, "GET", "/admin/invitations", admin).json()] == [
        "ada@example.test"
    ]
    with server.client() as client:
        client.request_verification_code(email)
        session = client.register(email, server.mailed_code("ada@example.test"), PASSWORD)
    assert session["user"]["role"] == "administrator"
    assert ask(server, "GET", "/admin/invitations", admin).json() == []
    again = ask(server, "POST", "/admin/invitations", admin, {"email": email})
    assert again.status_code == 409


def test_an_invitation_that_is_used_twice_creates_one_account(
    inviting: tuple[RunningServer, str],
) -> None:
    server, admin = inviting
    email = new_address()
    ask(server, "POST", "/admin/invitations", admin, {"email": email})
    assert code(server, email).status_code == 200
    digits = server.mailed_code(email)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: register(server, email, digits), range(8)))
    counts = Counter(answer.status_code for answer in answers)
    # A late request finds that the code was used up by the first.
    assert counts[200] == 1 and counts[409] + counts[422] == 7
    assert rows(server, "SELECT count(*) FROM users WHERE email = ?", email) == [(1,)]
    # After the account is deleted, its address needs a new invitation.
    [token] = [a.json()["access_token"] for a in answers if a.status_code == 200]
    number = user_id(server, token)
    assert ask(server, "DELETE", f"/admin/users/{number}", admin).status_code == 200
    assert code(server, email).status_code == 403


def test_invitations_expire_and_can_be_withdrawn(inviting: tuple[RunningServer, str]) -> None:
    server, admin = inviting
    for number in range(2):
        body = {"email": f"{number}@example.test"}
        assert ask(server, "POST", "/admin/invitations", admin, body).status_code == 201
    expired = "UPDATE invitations SET expires_at = '2020-01-01T00:00:00.000000Z' WHERE email = ?"
    rows(server, expired, "0@example.test")
    answer = ask(server, "DELETE", "/admin/invitations/1@example.test", admin)
    assert answer.status_code == 200
    for number in range(2):
        assert code(server, f"{number}@example.test").status_code == 403
        path = f"/admin/invitations/{number}@example.test"
        assert ask(server, "DELETE", path, admin).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "no address"}, 422), ({"email": "a@b.test", "role": "owner"}, 422),
        ({"email": "a@b.test", "role": "service"}, 422), ({"email": "root@example.test"}, 409),
        ({"email": "a@b.test", "expires_in_seconds": -1}, 422),
    ],
)  # fmt: skip
def test_invalid_invitations(
    inviting: tuple[RunningServer, str], body: dict[str, Any], status: int
) -> None:
    server, admin = inviting
    assert ask(server, "POST", "/admin/invitations", admin, body).status_code == status
    assert ask(server, "GET", "/admin/invitations", admin).json() == []


def test_a_server_that_hides_accounts_answers_uniformly(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_HIDE_ACCOUNTS="1") as server:
        known, unknown = "known@example.test", "other@example.test"
        assert code(server, known).status_code == 200
        until(lambda: mails(server) == 1)
        assert register(server, known, server.mailed_code(known)).status_code == 200
        rows(server, "DELETE FROM verification_codes")
        answers = [code(server, email) for email in (known, unknown)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
        until(lambda: mails(server) == 3)
        outbox = [path.read_text() for path in server.data_dir.glob("outbox/*.eml")]
        [notice] = [mail for mail in outbox if "You already have a BeRay account" in mail]
        assert f"To: {known}\n" in notice
        for digits in ("abcdef", "abcdef", "ghijkl"):
            wrong = [register(server, email, digits) for email in (known, unknown)]
            assert [answer.status_code for answer in wrong] == [422, 422]
            assert wrong[0].json() == wrong[1].json()
        assert register(server, unknown, server.mailed_code(unknown)).status_code == 200
        assert sign_in(server, unknown).status_code == 200


def test_a_server_that_hides_accounts_hides_invitations(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_HIDE_ACCOUNTS="1", BERAY_REGISTRATION="invite"
    ) as server:
        admin = first_administrator(server)
        invited, stranger = new_address(), new_address()
        ask(server, "POST", "/admin/invitations", admin, {"email": invited})
        answers = [code(server, email) for email in (invited, stranger, "root@example.test")]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len({answer.text for answer in answers}) == 1
        until(lambda: mails(server) == 2)
        assert stranger not in "".join(p.read_text() for p in server.data_dir.glob("outbox/*"))
        assert register(server, invited, server.mailed_code(invited)).status_code == 200


def test_the_first_administrator_is_created_once(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_REGISTRATION="closed") as server:
        page = requests.get(f"{server.url}/setup", timeout=10)
        assert page.status_code == 200 and "default-src 'none'" in str(page.headers)
        body = {"token": "wrong", "email": "root@example.test", "password": ADMIN_PASSWORD}
        assert ask(server, "POST", "/auth/setup", body=body).status_code == 403
        body["token"] = setup_token(server)
        weak = ask(server, "POST", "/auth/setup", body={**body, "password": "password1"})
        assert weak.status_code == 422
        with ThreadPoolExecutor(6) as threads:
            answers = list(
                threads.map(
                    lambda n: ask(
                        server, "POST", "/auth/setup",
                        body={**body, "email": f"root{n}@example.test"},
                    ),
                    range(6),
                )
            )  # fmt: skip
        assert Counter(a.status_code for a in answers)[200] == 1
        assert {a.status_code for a in answers} <= {200, 403, 409}
        assert rows(server, "SELECT count(*) FROM users") == [(1,)]
        assert ask(server, "POST", "/auth/setup", body=body).status_code == 403
        page = requests.get(f"{server.url}/setup", timeout=10)
        assert "not valid any more" in page.text and "<form>" not in page.text
        links = server.log.read_text().count("/setup#")
        server.restart()
        assert server.log.read_text().count("/setup#") <= links
