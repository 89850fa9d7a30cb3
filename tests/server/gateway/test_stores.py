"""Common behaviour of object stores: the local store and S3."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from beray.server.objects.store import ObjectNotFound, ObjectStore
from tests.gateway_support import pieces

KEY = "agent-outputs/1/scout/j/x.txt"


async def content(store: ObjectStore, key: str) -> bytes:
    async with store.get(key) as (stored, blocks):
        data = b"".join([block async for block in blocks])
    assert (stored.key, stored.size) == (key, len(data))
    return data


async def test_there_and_back(objects: ObjectStore) -> None:
    for data in (b"", b"one", os.urandom(9_000_001)):
        stored = await objects.put(KEY, pieces(data[:5], data[5:]), "text/plain")
        assert (stored.key, stored.size) == (KEY, len(data))
        assert stored.last_modified.endswith("Z")
        assert await content(objects, KEY) == data
        assert (await objects.head(KEY)).size == len(data)


async def test_no_pieces_are_an_empty_object(objects: ObjectStore) -> None:
    assert (await objects.put(KEY, pieces())).size == 0
    assert await content(objects, KEY) == b""


@pytest.mark.parametrize(
    "name",
    ["ü名.txt", "a b+c&d=e.txt", "#?%20%", "~*'\"`{}|^[]<>\\", "…", "a\u2400b", "..x", "%2e%2e", "&amp;"],
)  # fmt: skip
async def test_names_stay_as_they_are(objects: ObjectStore, name: str) -> None:
    key = f"a/1/{name}"
    await objects.put(key, pieces(b"x"))
    assert await content(objects, key) == b"x"
    assert [stored.key for stored in await objects.list("a/1/", "", 9)] == [key]
    assert [stored.key for stored in await objects.list(key, "", 9)] == [key]
    assert await objects.delete([key]) == 1


async def test_missing_objects_are_not_found(objects: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await objects.head(KEY)
    with pytest.raises(ObjectNotFound):
        async with objects.get(KEY):
            pass
    assert await objects.delete([KEY]) == 0
    assert await objects.delete([]) == 0
    assert await objects.list("agent-outputs/", "", 9) == []


@pytest.mark.parametrize("size", [10, 20_000_000])
async def test_an_interrupted_write_leaves_no_object(objects: ObjectStore, size: int) -> None:
    class Gone(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (size // 5)
        raise Gone

    with pytest.raises(Gone):
        await objects.put(KEY, broken())
    with pytest.raises(ObjectNotFound):
        await objects.head(KEY)
    await objects.put(KEY, pieces(b"before"))
    with pytest.raises(Gone):
        await objects.put(KEY, broken())
    assert await content(objects, KEY) == b"before"


async def test_listing(objects: ObjectStore) -> None:
    keys = sorted(["a/1/b", "a/1/b/c", "a/1/b2", "a/1/bé", "a/1/c/d", "a/10/x", "a/2/x", "b/1/x"])
    for key in keys:
        await objects.put(key, pieces(b""))

    async def found(prefix: str, after: str = "", limit: int = 100) -> list[str]:
        return [stored.key for stored in await objects.list(prefix, after, limit)]

    for prefix in ("", "a/", "a/1/", "a/1/b", "a/1/b2", "a/1", "a/1/é", "a/3/", "zz"):
        assert await found(prefix) == [key for key in keys if key.startswith(prefix)], prefix
    for prefix in ("/", "a//", "../", "a/../a/", "a/1/./"):
        assert await found(prefix) == []
    for after in ("a/1/b", "a/1/b/c", "a/1/bz", "a/1/", "b"):
        assert await found("a/1/", after) == [
            key for key in keys if key[:4] == "a/1/" and key > after
        ]
    for limit in (1, 2, 4):
        assert await found("a/1/", limit=limit) == (await found("a/1/"))[:limit]


async def test_some_of_many_are_deleted(objects: ObjectStore) -> None:
    keys = [f"a/1/{number}" for number in range(30)]
    for key in keys:
        await objects.put(key, pieces(b"x"))
    assert await objects.delete([*keys[:20], "a/1/absent"]) == 20
    assert sorted(stored.key for stored in await objects.list("a/1/", "", 100)) == sorted(keys[20:])


async def test_a_large_object_is_not_held(objects: ObjectStore) -> None:
    block = os.urandom(1024 * 1024)
    digest = hashlib.sha256()

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(40):
            digest.update(block)
            yield block

    await objects.put(KEY, blocks())
    found = hashlib.sha256()
    sizes = []
    async with objects.get(KEY) as (stored, read):
        async for some in read:
            sizes.append(len(some))
            found.update(some)
    assert found.digest() == digest.digest()
    assert stored.size == sum(sizes)
    assert max(sizes) < stored.size / 4


@pytest.mark.parametrize("key", ["", "a//b", "a/../b", "/a", "a/", "a\nb"])
async def test_invalid_keys_are_rejected(objects: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        await objects.put(key, pieces(b"x"))
    with pytest.raises(ValueError, match="key"):
        await objects.presigned_url("GET", key, 60, "http://x")
    assert await objects.list("", "", 9) == []
