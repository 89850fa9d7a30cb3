"""The service of accounts without HTTP: simultaneous sign-ins, and limits of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from beray.server.accounts import password_hashing
from beray.server.accounts.actors import Actor
from beray.server.accounts.service import Accounts, running_accounts
from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.settings import Settings
from tests.repositories import Repositories, opened

ACTOR = Actor(Client("192.0.2.1", False))
EMAIL = "ada@example.test"


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_hashing, "hasher", PasswordHasher.from_parameters(CHEAPEST))


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    with opened(tmp_path / "db.sqlite3") as repositories:
        yield repositories


def service(repositories: Repositories, tmp_path: Path) -> AbstractAsyncContextManager[Accounts]:
    return running_accounts(
        settings=Settings(data_dir=tmp_path),
        accounts=repositories.accounts,
        tokens=repositories.tokens,
        codes=repositories.codes,
        invitations=repositories.invitations,
        audit=repositories.audit,
    )


async def sign_in(accounts: Accounts, password: str) -> int:
    """Return the HTTP status of a sign-in."""
    try:
        await accounts.sign_in(EMAIL, password, ACTOR)
    except ApiHTTPError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("password", "expected"), [("right", {200: 40}), ("wrong", {401: 10, 429: 30})]
)
async def test_simultaneous_sign_ins(
    repositories: Repositories, tmp_path: Path, password: str, expected: dict[int, int]
) -> None:
    repositories.accounts.create(EMAIL, password_hashing.hasher.hash("right"))
    async with service(repositories, tmp_path) as accounts:
        found = await asyncio.gather(*(sign_in(accounts, password) for _ in range(40)))
    assert Counter(found) == expected


async def test_limits_belong_to_one_service(repositories: Repositories, tmp_path: Path) -> None:
    async with service(repositories, tmp_path) as one, service(repositories, tmp_path) as two:
        for _ in range(10):
            assert await sign_in(one, "wrong") == 401
        assert await sign_in(one, "wrong") == 429
        assert await sign_in(two, "wrong") == 401


RAW = "cafe\u0301 ﬁve"  # "é" as two code points, "fi" as a ligature
NFKC = "caf\u00e9 five"


@pytest.mark.parametrize("first", [RAW, NFKC])
async def test_a_password_that_was_hashed_as_typed_is_accepted_and_hashed_again(
    repositories: Repositories, tmp_path: Path, first: str
) -> None:
    before = password_hashing.hasher.hash(RAW)
    repositories.accounts.create(EMAIL, before)
    async with service(repositories, tmp_path) as accounts:
        # Clients of this version send the normalized form first, and then the typed one.
        assert await sign_in(accounts, first) == (200 if first == RAW else 401)
        assert await sign_in(accounts, RAW) == 200
        after = stored_hash(repositories)
        assert after != before and password_hashing.hasher.verify(after, NFKC)
        for password in (NFKC, RAW, "cafe\u0301 five"):
            assert await sign_in(accounts, password) == 200
        assert stored_hash(repositories) == after
        assert await sign_in(accounts, "cafe five") == 401


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("password", "verifications"), [("plain", 1), (NFKC, 1), (RAW, 2)])
async def test_only_a_password_with_two_forms_is_verified_twice(
    repositories: Repositories,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
    password: str,
    verifications: int,
) -> None:
    if known:
        repositories.accounts.create(EMAIL, password_hashing.hasher.hash("another"))
    checked: list[str] = []
    verify = password_hashing.PasswordHashing.verify

    async def counted(self: Any, stored: str | None, password: str) -> bool:
        checked.append(password)
        return await verify(self, stored, password)

    monkeypatch.setattr(password_hashing.PasswordHashing, "verify", counted)
    async with service(repositories, tmp_path) as accounts:
        assert await sign_in(accounts, password) == 401
    assert len(checked) == verifications


def test_a_hash_that_has_changed_in_the_meantime_is_kept(repositories: Repositories) -> None:
    user = repositories.accounts.create(EMAIL, "new")
    repositories.accounts.rehash_password(user.id, "old", "rehashed")
    assert stored_hash(repositories) == "new"


def stored_hash(repositories: Repositories) -> str:
    user = repositories.accounts.find(EMAIL)
    assert user is not None and user.password_hash is not None
    return user.password_hash
