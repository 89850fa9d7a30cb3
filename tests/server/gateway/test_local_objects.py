"""Local object store: files on disk, also after a crash."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from beray.server.objects.local import BUCKET, LocalObjectStore
from beray.server.objects.signing import UrlSigner
from beray.server.objects.store import ObjectNotFound, check_key
from beray.server.storage.tables import LocalObject
from tests.gateway_support import pieces
from tests.repositories import Repositories


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def content(store: LocalObjectStore, key: str) -> bytes:
    async with store.get(key) as (_, blocks):
        return b"".join([block async for block in blocks])


async def test_no_part_of_a_key_is_on_disk(local: LocalObjectStore, tmp_path: Path) -> None:
    await local.put("agent-inputs/1/secret/name.txt", pieces(b"data"))
    (file,) = files(tmp_path / "objects")
    assert "secret" not in str(file)
    assert "name" not in str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_replaced_object_can_be_read_to_its_end(
    local: LocalObjectStore, tmp_path: Path
) -> None:
    await local.put("a/1/x", pieces(b"before"))
    async with local.get("a/1/x") as (stored, blocks):
        await local.put("a/1/x", pieces(b"after it"))
        assert b"".join([block async for block in blocks]) == b"before"
        assert stored.size == 6
    assert await content(local, "a/1/x") == b"after it"
    assert len(files(tmp_path / "objects")) == 1


async def test_an_interrupted_upload_leaves_no_file(
    local: LocalObjectStore, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionError("gone")

    await local.put("a/1/x", pieces(b"before"))
    with pytest.raises(ConnectionError):
        await local.put("a/1/x", broken())
    assert await content(local, "a/1/x") == b"before"
    assert len(files(tmp_path / "objects")) == 1


async def test_files_that_no_row_names_go_at_the_next_start(
    local: LocalObjectStore, repositories: Repositories, tmp_path: Path
) -> None:
    await local.put("a/1/kept", pieces(b"kept"))
    (kept,) = files(tmp_path / "objects")
    orphan = kept.with_name(f"{kept.name}7")
    orphan.write_bytes(b"written, and then the power went")
    # What this process writes right now has no row yet, either.
    assert local.remove_orphans() == 0
    again = LocalObjectStore(
        folder=tmp_path / "objects",
        objects=repositories.objects,
        signer=UrlSigner(b"k" * 32, BUCKET),
    )
    under_way = await again.put("a/1/new", pieces(b"new"))
    assert under_way.size == 3
    assert again.remove_orphans() == 1
    assert not orphan.exists()
    assert await content(again, "a/1/kept") == b"kept"
    assert await content(again, "a/1/new") == b"new"


async def test_a_missing_content_file_is_an_error_of_the_store(
    local: LocalObjectStore, tmp_path: Path
) -> None:
    await local.put("a/1/x", pieces(b"data"))
    for file in files(tmp_path / "objects"):
        file.unlink()
    with pytest.raises(FileNotFoundError):
        await content(local, "a/1/x")
    assert await local.delete(["a/1/x"]) == 1
    with pytest.raises(ObjectNotFound):
        await local.head("a/1/x")


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_many_objects_in_pages(
    local: LocalObjectStore, repositories: Repositories, count: int
) -> None:
    keys = [f"agent-outputs/1/a/{number:06}" for number in range(count)]
    rows = [
        {"key": key, "file": key, "size": 1, "sha256": "", "last_modified": "2026-01-01T00:00:00Z"}
        for key in [*keys, "agent-outputs/1/b/x", "agent-outputs/1/Z"]
    ]
    with repositories.database.writing() as session:
        session.execute(insert(LocalObject), rows)
    listed: list[str] = []
    while page := await local.list("agent-outputs/1/a/", listed[-1] if listed else "", 1000):
        listed += [found.key for found in page]
    assert listed == keys
    with repositories.database.reading() as session:
        plan = session.connection().exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT * FROM objects WHERE key > ? AND key >= ? AND key < ?"
            " ORDER BY key LIMIT 1000",
            ("a", "b", "c"),
        )
        steps = [row[3] for row in plan]
    assert len(steps) == 1
    assert "USING INDEX" in steps[0]


@pytest.mark.parametrize("prefix", ["", "a/\ud7ff", "a/\U0010ffff", "\U0010ffff"])
async def test_every_prefix_lists_its_keys(local: LocalObjectStore, prefix: str) -> None:
    keys = sorted({"a/\ud7ff/x", "a/\ue000", "a/\U0010ffff/y", "\U0010ffff/z", "b", "a/b"})
    for key in keys:
        await local.put(key, pieces(b""))
    found = [stored.key for stored in await local.list(prefix, "", 10)]
    assert found == [key for key in keys if key.startswith(prefix)]


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "a/../b", ".", "a/./b", "a\0b", "a\nb", "a\x1bb", "a\u202eb", "k" * 1025, "a\ud800"],
)  # fmt: skip
async def test_invalid_keys_are_rejected(local: LocalObjectStore, key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        check_key(key)
    with pytest.raises(ValueError, match="key"):
        await local.put(key, pieces(b"x"))
    assert files(tmp_path / "objects") == []
