"""Expiry of temporary objects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import insert

from beray.server.objects.local import LocalObjectStore
from beray.server.objects.store import ObjectNotFound
from beray.server.objects.temporary import BATCH_KEYS, UPLOAD_SECONDS, TemporaryObjects
from beray.server.storage.tables import TemporaryObject
from beray.testing import RunningServer
from tests.gateway_support import Agent, pieces
from tests.repositories import Repositories
from tests.support import until


def known(repositories: Repositories) -> int:
    with repositories.database.reading() as session:
        return session.query(TemporaryObject).count()


def new_temporary(repositories: Repositories, objects: LocalObjectStore) -> TemporaryObjects:
    return TemporaryObjects(times=repositories.temporary_objects, objects=objects)


async def test_only_expired_objects_are_removed(
    local: LocalObjectStore, repositories: Repositories
) -> None:
    temporary = new_temporary(repositories, local)
    for key, seconds in (("w/1/gone", 0.0), ("w/1/later", 60.0)):
        await local.put(key, pieces(b"x"))
        await temporary.keep(key, seconds)
    await local.put("w/1/for-ever", pieces(b"x"))
    assert 50 < await temporary.expire() <= 60
    assert [stored.key for stored in await local.list("", "", 9)] == ["w/1/for-ever", "w/1/later"]
    assert known(repositories) == 1


async def test_more_than_one_request_takes(
    local: LocalObjectStore, repositories: Repositories
) -> None:
    temporary = new_temporary(repositories, local)
    count = BATCH_KEYS * 2 + 1
    with repositories.database.writing() as session:
        rows = [{"key": f"w/1/{n}", "expires_at": "2026-01-01"} for n in range(count)]
        session.execute(insert(TemporaryObject), rows)
    await temporary.expire()
    assert known(repositories) == 0


async def test_an_upload_under_way_is_known(
    local: LocalObjectStore, repositories: Repositories
) -> None:
    temporary = new_temporary(repositories, local)
    await temporary.expect("w/1/x", 5.0)
    # A crash here leaves bytes that go in the end.
    assert await temporary.expire() > UPLOAD_SECONDS - 60
    await temporary.keep("w/1/x", 5.0)
    assert await temporary.expire() <= 5


async def test_removal_is_repeated_after_a_failure_of_the_store(
    local: LocalObjectStore, repositories: Repositories, tmp_path: Path
) -> None:
    class Failing(LocalObjectStore):
        async def delete(self, keys: object) -> int:
            raise ConnectionError("gone")

    await local.put("w/1/x", pieces(b"x"))
    broken = Failing(folder=tmp_path / "objects", objects=repositories.objects, signer=local.signer)
    failing = new_temporary(repositories, broken)
    await failing.keep("w/1/x", 0.0)
    with pytest.raises(ConnectionError):
        await failing.expire()
    assert known(repositories) == 1
    await new_temporary(repositories, local).expire()
    with pytest.raises(ObjectNotFound):
        await local.head("w/1/x")


async def test_one_that_is_due_earlier_wakes_the_loop(
    local: LocalObjectStore, repositories: Repositories, tmp_path: Path
) -> None:
    removed = asyncio.Event()

    class Watched(LocalObjectStore):
        async def delete(self, keys: Iterable[str]) -> int:
            removed.set()
            return await super().delete(keys)

    watched = Watched(
        folder=tmp_path / "objects", objects=repositories.objects, signer=local.signer
    )
    temporary = new_temporary(repositories, watched)
    async with temporary.running():
        await temporary.keep("w/1/late", 60.0)
        await watched.put("w/1/x", pieces(b"x"))
        await temporary.keep("w/1/x", 0.2)
        async with asyncio.timeout(15):
            await removed.wait()
    assert known(repositories) >= 1


def test_a_temporary_file_goes_when_its_time_is_over(agent: Agent) -> None:
    def up(ttl: int) -> None:
        answer = agent.files(
            "POST", "upload_temp", files={"file": ("t", b"x")}, data={"ttl": ttl, "session_id": "s"}
        )
        assert answer.status_code == 200

    def count() -> int:
        return len(agent.files("GET", "list_temp").json()["files"])

    up(600)
    up(1)
    until(lambda: count() == 1)


def test_objects_that_expired_while_the_server_was_stopped_are_removed(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        agent = Agent.new(server)
        agent.files("POST", "upload_temp", files={"file": ("t", b"x")}, data={"ttl": "1"})
        server.kill()
        folder = tmp_path / "data" / "objects"
        assert any(path.is_file() for path in folder.rglob("*"))
        server.restart()
        until(lambda: not any(path.is_file() for path in folder.rglob("*")))
        assert agent.files("GET", "list_temp").json() == {"files": []}
