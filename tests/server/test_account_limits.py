"""Limits of registration and sign-in, for several clients of one real server."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.support import until

OWNER = "192.0.2.1"
STRANGER = "198.51.100.7"
LOCAL = ""
"""The address of this process itself, without a proxy."""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A shared server with this process as its trusted proxy."""
    data = tmp_path_factory.mktemp("proxied")
    with RunningServer.start(data, BERAY_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server


def post(server: RunningServer, path: str, address: str, **body: str) -> requests.Response:
    return requests.post(
        f"{server.url}/api/v1/auth/{path}",
        json=body,
        headers={"X-Forwarded-For": address} if address else {},
        timeout=90,
    )


def request_code(server: RunningServer, email: str, address: str) -> requests.Response:
    return post(server, "request-verification-code", address, email=email)


def guess(server: RunningServer, email: str, code: str, address: str) -> requests.Response:
    return post(server, "register", address, email=email, verification_code=code, password=PASSWORD)


def login(
    server: RunningServer, email: str, address: str, password: str = PASSWORD
) -> requests.Response:
    return post(server, "login", address, email=email, password=password)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def change_database(server: RunningServer, statement: str, rows: list[Any]) -> None:
    with sqlite3.connect(server.data_dir / "beray.sqlite3", timeout=30) as database:
        database.executemany(statement, rows)
    database.close()


def pending(server: RunningServer, email: str = "%") -> int:
    """Return the number of codes of an e-mail address; by default of all."""
    database = sqlite3.connect(server.data_dir / "beray.sqlite3", timeout=30)
    counted = "SELECT count(*) FROM verification_codes WHERE email LIKE ?"
    (count,) = database.execute(counted, (email,)).fetchone()
    database.close()
    return int(count)


def statuses(answers: list[requests.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


# Verification mails


@pytest.mark.parametrize(
    ("addresses", "elsewhere"),
    [
        (["203.0.113.1"], "203.0.113.2"),
        ([f"2001:db8:1:2::{n:x}" for n in range(30)], "2001:db8:1:3::1"),
        (["203.0.113.9", "::ffff:203.0.113.9"], "203.0.113.10"),
    ],
    ids=["IPv4", "IPv6 network", "IPv4 in IPv6"],
)
def test_a_client_requests_a_limited_number_of_mails(
    proxied: RunningServer, addresses: list[str], elsewhere: str
) -> None:
    name = elsewhere.replace(":", "-")
    answers = [
        request_code(proxied, f"{n}-{name}@example.test", addresses[n % len(addresses)])
        for n in range(30)
    ]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 10
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 600
    assert "limit: 20 in 600 s" in answers[-1].json()["detail"]
    assert request_code(proxied, f"other-{name}@example.test", elsewhere).ok


def test_local_clients_have_a_limit_as_well(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        answers = [request_code(server, f"{n}@example.test", LOCAL) for n in range(120)]
    found = statuses(answers)
    assert found[200] >= 100
    assert answers[-1].status_code == 429


def test_an_address_is_mailed_five_times_an_hour(proxied: RunningServer) -> None:
    email = "flooded@example.test"
    for number in range(6):
        answer = request_code(proxied, email, f"198.51.100.{number}")
        if number < 5:
            assert answer.status_code == 200
            assert request_code(proxied, email, f"198.51.101.{number}").status_code == 429
            # The minute between two mails passes.
            earlier = "2026-01-01T00:00:00.000000Z"
            change_database(
                proxied,
                "UPDATE verification_codes SET sent_at = ? WHERE email = ?",
                [(earlier, email)],
            )
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 60


def test_pending_codes_are_limited(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_TRUSTED_PROXIES="127.0.0.1") as server:
        row = ("", "2026-01-01T00:00:00.000000Z", "9999-01-01T00:00:00.000000Z", 0)
        change_database(
            server,
            "INSERT INTO verification_codes (purpose, email, client, digest, sent_at, "
            "expires_at, wrong_tries) VALUES ('registration', ?, 'x', ?, ?, ?, ?)",
            [(f"{n}@example.test", *row) for n in range(1_000)],
        )
        answer = request_code(server, "one-more@example.test", OWNER)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "1000 verification codes are pending" in answer.json()["detail"]
        assert not [*server.data_dir.glob("outbox/*.eml")]


def test_expired_codes_and_their_mails_are_removed_at_start(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        for name in ("expired", "valid"):
            assert request_code(server, f"{name}@example.test", LOCAL).ok
        code = server.mailed_code("valid@example.test")
        server.stop()
        outbox = server.data_dir / "outbox"
        (outbox / "notes.eml").write_text("of the operator")
        for path in outbox.iterdir():
            if b"valid@" not in path.read_bytes():
                os.utime(path, (time.time() - 601,) * 2)
        change_database(
            server,
            "UPDATE verification_codes SET expires_at = sent_at WHERE email = ?",
            [("expired@example.test",)],
        )
        server.restart()
        until(lambda: len([*outbox.iterdir()]) == 2)
        until(lambda: pending(server) == 1)
        assert (outbox / "notes.eml").exists()
        assert guess(server, "valid@example.test", code, LOCAL).ok


# Codes


def test_wrong_codes_of_a_stranger_leave_the_code_valid(proxied: RunningServer) -> None:
    email = "guessed@example.test"
    request_code(proxied, email, OWNER)
    code = proxied.mailed_code(email)
    answers = [guess(proxied, email, wrong(code), STRANGER) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 2
    assert guess(proxied, email, code, STRANGER).status_code == 429
    assert guess(proxied, email, code, OWNER).ok


def test_codes_of_many_strangers_are_limited_in_all(proxied: RunningServer) -> None:
    email = "surrounded@example.test"
    request_code(proxied, email, OWNER)
    code = proxied.mailed_code(email)
    with ThreadPoolExecutor(16) as pool:
        answers = [
            *pool.map(
                lambda n: guess(proxied, email, wrong(code), f"203.0.114.{n % 16}"), range(64)
            )
        ]
    assert statuses(answers) == {422: 20, 429: 44}
    assert guess(proxied, email, code, "203.0.114.99").status_code == 429
    assert guess(proxied, email, wrong(code), OWNER).status_code == 422
    assert guess(proxied, email, code, OWNER).ok


def test_a_request_of_a_stranger_leaves_the_code_valid(proxied: RunningServer) -> None:
    email = "twice@example.test"
    request_code(proxied, email, OWNER)
    code = proxied.mailed_code(email)
    change_database(
        proxied,
        "UPDATE verification_codes SET sent_at = '2026-01-01T00:00:00.000000Z' WHERE email = ?",
        [(email,)],
    )
    assert request_code(proxied, email, STRANGER).ok
    for _ in range(6):
        assert guess(proxied, email, wrong(code), STRANGER).status_code == 422
    assert guess(proxied, email, code, OWNER).ok
    assert pending(proxied, email) == 0


def test_a_code_is_valid_from_another_address(proxied: RunningServer) -> None:
    email = "roaming@example.test"
    request_code(proxied, email, OWNER)
    assert guess(proxied, email, proxied.mailed_code(email), "192.0.2.200").ok


def test_a_client_guesses_a_limited_number_of_codes(proxied: RunningServer) -> None:
    emails = [f"sprayed-{n}@example.test" for n in range(8)]
    for number, email in enumerate(emails):
        request_code(proxied, email, f"192.0.3.{number}")
    answers = [guess(proxied, emails[n % 8], "no code", "203.0.115.1") for n in range(40)]
    assert statuses(answers) == {422: 30, 429: 10}


# Sign-in


def test_simultaneous_right_passwords_are_not_rejected(tmp_path: Path) -> None:
    # A real check takes long enough for all of them to be on their way before one has ended.
    with RunningServer.start(tmp_path / "data", cheap_passwords=False) as server:
        server.sign_up("busy@example.test")
        with ThreadPoolExecutor(14) as pool:
            answers = [*pool.map(lambda _: login(server, "busy@example.test", LOCAL), range(14))]
    assert statuses(answers) == {200: 14}


def test_wrong_passwords_of_a_stranger_do_not_lock_the_account(proxied: RunningServer) -> None:
    email = "locked@example.test"
    proxied.sign_up(email)
    answers = [login(proxied, email, STRANGER, "wrong") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert login(proxied, email, STRANGER).status_code == 429
    assert login(proxied, email, OWNER).ok


@pytest.mark.parametrize("registered", [True, False])
def test_an_attacked_account_has_fewer_attempts_per_address(
    proxied: RunningServer, registered: bool
) -> None:
    email = f"attacked-{registered}@example.test".lower()
    if registered:
        proxied.sign_up(email)
    for number in range(20):
        for _ in range(5):
            assert login(proxied, email, f"203.0.116.{number}", "wrong").status_code == 401
    answers = [login(proxied, email, "203.0.117.1", "wrong") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
    assert login(proxied, email, OWNER).status_code == (200 if registered else 401)


def test_spellings_of_an_address_share_the_limit(proxied: RunningServer) -> None:
    spellings = ["a@bücher.test", "A@BÜCHER.test", " a@xn--bcher-kva.test", "a@bu\u0308cher.test"]
    answers = [login(proxied, spellings[n % 4], "203.0.118.1", "wrong") for n in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2


def test_a_client_tries_a_limited_number_of_accounts(proxied: RunningServer) -> None:
    proxied.sign_up("bystander@example.test")
    answers = [login(proxied, f"{n}@example.test", "203.0.119.1", "wrong") for n in range(40)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 10
    assert login(proxied, "bystander@example.test", "203.0.119.2").ok


def test_a_right_password_does_not_reset_the_limit_of_a_client(proxied: RunningServer) -> None:
    proxied.sign_up("mine@example.test")
    found: Counter[int] = Counter()
    for number in range(36):
        login(proxied, "mine@example.test", "203.0.120.1")
        answer = login(proxied, f"victim-{number}@example.test", "203.0.120.1", "wrong")
        found[answer.status_code] += 1
    assert found == {401: 30, 429: 6}


def test_local_clients_do_not_lock_each_other_out(beray_server: RunningServer) -> None:
    beray_server.sign_up("patient@example.test")
    for number in range(40):
        answer = login(beray_server, f"stale-{number}@example.test", LOCAL, "wrong")
        assert answer.status_code == 401
    assert login(beray_server, "patient@example.test", LOCAL).ok


@pytest.mark.long
def test_a_flood_of_one_address_leaves_others_signing_in(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", cheap_passwords=False, BERAY_TRUSTED_PROXIES="127.0.0.1"
    ) as server:
        server.sign_up("calm@example.test")
        with ThreadPoolExecutor(110) as pool:
            flood = [
                pool.submit(login, server, f"{n}@example.test", STRANGER, "wrong")
                for n in range(100)
            ]
            assert all(login(server, "calm@example.test", OWNER).ok for _ in range(3))
            found = statuses([answer.result() for answer in flood])
    # Most of the flood is refused without a check; on a slow host, some wait for too long.
    assert found[401] <= 30
    assert found[401] + found[429] + found[503] == 100


def test_wrong_api_keys_of_one_network_are_limited(proxied: RunningServer) -> None:
    def exchange(key: str, address: str) -> requests.Response:
        return requests.post(
            f"{proxied.url}/v1/auth/convert_to_internal_token",
            headers={"Authorization": f"Bearer {key}", "X-Forwarded-For": address},
            timeout=30,
        )

    key = proxied.sign_up().create_api_key("k")["key"]
    found = [exchange(f"sk-{n}", f"2001:db8:5:5::{n:x}").status_code for n in range(32)]
    assert found == [401] * 30 + [429] * 2
    assert exchange(key, "2001:db8:5:6::1").status_code == 200
