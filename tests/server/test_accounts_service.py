"""The service of accounts without HTTP: simultaneous sign-ins, and limits of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from beray.server import password_hashing
from beray.server.accounts import Accounts, running_accounts
from beray.server.client_address import Client
from beray.server.refusals import Refused
from beray.server.settings import Settings
from beray.server.store import Store

CLIENT = Client("192.0.2.1", False)
EMAIL = "ada@example.test"


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_hashing, "_hasher", PasswordHasher.from_parameters(CHEAPEST))


async def sign_in(accounts: Accounts, password: str) -> int:
    """Return the HTTP status of a sign-in."""
    try:
        await accounts.sign_in(EMAIL, password, CLIENT)
    except Refused as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("password", "expected"), [("right", {200: 40}), ("wrong", {401: 10, 429: 30})]
)
async def test_simultaneous_sign_ins(
    tmp_path: Path, password: str, expected: dict[int, int]
) -> None:
    store = Store(tmp_path / "db.sqlite3")
    store.add_user(EMAIL, password_hashing._hasher.hash("right"))
    async with running_accounts(Settings(data_dir=tmp_path), store) as accounts:
        found = await asyncio.gather(*(sign_in(accounts, password) for _ in range(40)))
    store.close()
    assert Counter(found) == expected


async def test_limits_belong_to_one_service(tmp_path: Path) -> None:
    store = Store(tmp_path / "db.sqlite3")
    settings = Settings(data_dir=tmp_path)
    async with running_accounts(settings, store) as one, running_accounts(settings, store) as two:
        for _ in range(10):
            assert await sign_in(one, "wrong") == 401
        assert await sign_in(one, "wrong") == 429
        assert await sign_in(two, "wrong") == 401
    store.close()
