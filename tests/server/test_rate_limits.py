"""Unit tests of rate limits: windows, client addresses, password hashing."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import HTTPConnection

from beray.server.accounts import password_hashing
from beray.server.accounts.password_hashing import (
    MAX_WAITING_CLIENTS,
    MAX_WAITING_PER_CLIENT,
    PasswordHashing,
)
from beray.server.http.client_address import Client, client_of
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.sliding_window import SlidingWindow


class Clock:
    """Clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_slides() -> None:
    clock = Clock()
    window = SlidingWindow(2, 60, clock=clock)
    assert window.try_add("a") == 0
    clock.now += 30
    assert window.try_add("a") == 0
    assert window.remaining("a") == 0
    assert window.try_add("a") == 30
    assert window.try_add("b") == 0
    clock.now += 29.5
    assert window.wait_seconds("a") == 1
    clock.now += 0.5
    assert window.remaining("a") == 1
    assert window.try_add("a") == 0
    assert window.wait_seconds("a") == 30


def test_events_are_undone_and_cleared() -> None:
    window = SlidingWindow(2, 60)
    window.undo("a")
    for _ in range(5):
        window.add("a")
    assert window.remaining("a") == 0
    window.undo("a")
    assert window.remaining("a") == 1
    window.clear("a")
    assert window.remaining("a") == 2


def test_a_window_forgets_keys() -> None:
    clock = Clock()
    window = SlidingWindow(3, 60, max_keys=100, clock=clock)
    for number in range(10_000):
        window.add(number)
    assert len(window) == 100
    assert window.remaining(9_999) == 2
    clock.now += 61
    assert len(window) == 0


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", Client("192.0.2.1", False)),
        ("::ffff:192.0.2.1", Client("192.0.2.1", False)),
        ("2001:db8:1:2:3:4:5:6", Client("2001:db8:1:2::/64", False)),
        ("fe80::1%eth0", Client("fe80::/64", False)),
        ("127.0.0.3", Client("127.0.0.3", True)),
        ("::1", Client("::/64", True)),
        ("10.1.2.3", Client("10.1.2.3", True)),
        ("::ffff:10.1.2.3", Client("10.1.2.3", True)),
        ("unknown", Client("unknown", False)),
        ("x" * 1000, Client("x" * 64, False)),
        (None, Client("", False)),
    ],
)
def test_clients_are_identified_by_address_or_network(host: str | None, client: Client) -> None:
    scope = {"type": "http", "client": None if host is None else (host, 1)}
    assert client_of(HTTPConnection(scope), "10.0.0.0/8") == client


async def test_clients_take_turns() -> None:
    hashing = PasswordHashing(workers=1)
    order: list[str] = []

    async def attempt(client: str) -> None:
        async with hashing.worker(client):
            order.append(client)
            await asyncio.sleep(0)

    flood = [asyncio.create_task(attempt("flood")) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(*flood, attempt("other"), attempt("third"))
    assert order.index("other") <= 2
    assert order.index("third") <= 3
    assert len(order) == 52


@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_suspicious_clients_leave_a_worker_to_others(workers: int) -> None:
    hashing = PasswordHashing(workers=workers)
    order: list[str] = []

    async def attempt(client: str, suspicious: bool) -> None:
        async with hashing.worker(client, suspicious=suspicious):
            order.append(client)
            await asyncio.sleep(0)

    flood = [asyncio.create_task(attempt(f"flood {n}", True)) for n in range(200)]
    await asyncio.sleep(0)
    await asyncio.gather(attempt("other", False), *flood)
    assert order.index("other") < workers + 1
    assert len(order) == 201


async def test_a_client_has_one_turn_at_a_time() -> None:
    hashing = PasswordHashing(workers=4)
    running = most = 0

    async def attempt() -> None:
        nonlocal running, most
        async with hashing.worker("a"):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(attempt() for _ in range(20)))
    assert most == 1


async def test_waiting_attempts_are_limited() -> None:
    hashing = PasswordHashing(workers=1)

    async def hold(client: str) -> None:
        async with hashing.worker(client):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold("a")) for _ in range(MAX_WAITING_PER_CLIENT)]
    tasks += [asyncio.create_task(hold(str(n))) for n in range(MAX_WAITING_CLIENTS - 1)]
    await asyncio.sleep(0)
    for client, status in (("a", 429), ("one more", 503)):
        with pytest.raises(ApiHTTPError) as caught:
            async with hashing.worker(client, suspicious=True):
                pytest.fail("it has no turn")
        assert caught.value.status == status
        assert caught.value.retry_after
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with hashing.worker("a"):
        pass


async def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_hashing, "MAX_WAIT_SECONDS", 0.05)
    hashing = PasswordHashing(workers=1)
    async with hashing.worker("a"):
        for client in ("a", "b"):
            with pytest.raises(ApiHTTPError, match="busy") as caught:
                async with hashing.worker(client):
                    pytest.fail("it has no turn")
            assert caught.value.status == 503
    for client in ("a", "b"):
        async with hashing.worker(client):
            pass


async def test_an_unknown_account_costs_as_much_as_a_known_one() -> None:
    hashing = PasswordHashing()
    stored = await hashing.hash("a password")
    assert await hashing.verify(stored, "a password")
    assert not await hashing.verify(stored, "another")
    assert not await hashing.verify(None, "a password")
    substitute = password_hashing.unmatchable_hash()
    *cost, salt, digest = stored.split("$")
    *same_cost, other_salt, other_digest = substitute.split("$")
    assert same_cost == cost
    assert (len(other_salt), len(other_digest)) == (len(salt), len(digest))
