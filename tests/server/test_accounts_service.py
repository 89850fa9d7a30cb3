"""The service of accounts without HTTP: simultaneous sign-ins, and limits of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from beray.server.accounts import password_hashing
from beray.server.accounts.service import Accounts, running_accounts
from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.settings import Settings
from beray.server.storage.store import Store

CLIENT = Client("192.0.2.1", False)
EMAIL = "ada@example.test"


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_hashing, "hasher", PasswordHasher.from_parameters(CHEAPEST))


async def sign_in(accounts: Accounts, password: str) -> int:
    """Return the HTTP status of a sign-in."""
    try:
        await accounts.sign_in(EMAIL, password, CLIENT)
    except ApiHTTPError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("password", "expected"), [("right", {200: 40}), ("wrong", {401: 10, 429: 30})]
)
async def test_simultaneous_sign_ins(
    tmp_path: Path, password: str, expected: dict[int, int]
) -> None:
    store = Store(tmp_path / "db.sqlite3")
    store.add_user(EMAIL, password_hashing.hasher.hash("right"))
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


RAW = "cafe\u0301 ﬁve"  # "é" as two code points, "fi" as a ligature
NFKC = "caf\u00e9 five"


@pytest.mark.parametrize("first", [RAW, NFKC])
async def test_a_password_that_was_hashed_as_typed_is_accepted_and_hashed_again(
    tmp_path: Path, first: str
) -> None:
    store = Store(tmp_path / "db.sqlite3")
    before = password_hashing.hasher.hash(RAW)
    store.add_user(EMAIL, before)
    async with running_accounts(Settings(data_dir=tmp_path), store) as accounts:
        # Clients of this version send the normalized form first, and then the typed one.
        assert await sign_in(accounts, first) == (200 if first == RAW else 401)
        assert await sign_in(accounts, RAW) == 200
        after = stored_hash(store)
        assert after != before and password_hashing.hasher.verify(after, NFKC)
        for password in (NFKC, RAW, "cafe\u0301 five"):
            assert await sign_in(accounts, password) == 200
        assert stored_hash(store) == after
        assert await sign_in(accounts, "cafe five") == 401
    store.close()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("password", "verifications"), [("plain", 1), (NFKC, 1), (RAW, 2)])
async def test_only_a_password_with_two_forms_is_verified_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
    password: str,
    verifications: int,
) -> None:
    store = Store(tmp_path / "db.sqlite3")
    if known:
        store.add_user(EMAIL, password_hashing.hasher.hash("another"))
    checked: list[str] = []
    verify = password_hashing.PasswordHashing.verify

    async def counted(self: Any, stored: str | None, password: str) -> bool:
        checked.append(password)
        return await verify(self, stored, password)

    monkeypatch.setattr(password_hashing.PasswordHashing, "verify", counted)
    async with running_accounts(Settings(data_dir=tmp_path), store) as accounts:
        assert await sign_in(accounts, password) == 401
    store.close()
    assert len(checked) == verifications


def test_a_hash_that_has_changed_in_the_meantime_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "db.sqlite3")
    user = store.add_user(EMAIL, "new")
    store.replace_password(user.id, "old", "rehashed")
    assert stored_hash(store) == "new"
    store.close()


def stored_hash(store: Store) -> str:
    user = store.user_by_email(EMAIL)
    assert user is not None and user.password_hash is not None
    return user.password_hash
