"""``s3://`` URLs, ownership of objects, and files on disk."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from beray.server.accounts.principals import Principal
from beray.server.http.gateway_errors import GatewayHTTPError
from beray.server.objects import object_files
from beray.server.objects.local import LocalObjectStore
from beray.server.objects.store import ObjectNotFound, StoredObject
from tests.gateway_support import pieces

USER = Principal(3, "scout", "127.0.0.1")


@pytest.mark.parametrize(
    ("key", "readable"),
    [
        ("agent-outputs/3/scout/j/x", True),
        ("agent-outputs/3/other/j/x", True),
        ("agent-inputs/3/u/x", True),
        ("agent-workspace/3/scout/s/u/x", True),
        ("agent-inputs/33/u/x", False),
        ("agent-inputs/30/3/x", False),
        ("elsewhere/3/x/y", False),
        ("agent-inputs/3", False),
        ("3/3/3", False),
    ],
)
def test_whose_objects_are(key: str, readable: bool) -> None:
    assert object_files.may_read(USER, key) is readable


def test_urls_there_and_back(local: LocalObjectStore) -> None:
    for key in ("a/1/x", "a/1/ü %41?#", "a/1/s3://beray/x".replace("//", "/")):
        assert object_files.parse_s3_url(local, object_files.s3_url(local, key)) == key
    for wrong in ("", "x", "http://beray/a", "s3://beray", "s3://else/a", "s3://beray/a/../b"):
        with pytest.raises(ValueError, match=r"start|bucket|key"):
            object_files.parse_s3_url(local, wrong)


def test_an_agent_is_needed_for_its_folders() -> None:
    person = Principal(3, None, "")
    for make in (object_files.outputs_prefix, object_files.workspace_prefix):
        with pytest.raises(GatewayHTTPError) as refused:
            make(person)
        assert refused.value.detail["error_code"] == "MISSING_AGENT_CONTEXT"
    assert object_files.new_input_key(person, "x").startswith("agent-inputs/3/")
    assert object_files.new_output_key(USER, "x") != object_files.new_output_key(USER, "x")


async def test_files_there_and_back(local: LocalObjectStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "in").write_bytes(data)
    saved = await object_files.upload(local, tmp_path / "in", "a/1/x")
    fetched = await object_files.download(local, "a/1/x", tmp_path / "out")
    assert saved == fetched
    assert (tmp_path / "out").read_bytes() == data
    with pytest.raises(FileExistsError):
        await object_files.download(local, "a/1/x", tmp_path / "in")
    assert (tmp_path / "in").read_bytes() == data
    with pytest.raises(ObjectNotFound):
        await object_files.download(local, "a/1/y", tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        await object_files.upload(local, tmp_path / "absent", "a/1/y")
    assert not (tmp_path / "other").exists()


async def test_an_interrupted_write_leaves_no_object(
    tmp_path: Path, local: LocalObjectStore
) -> None:
    class Breaking(LocalObjectStore):
        @asynccontextmanager
        async def get(self, key: str) -> AsyncIterator[tuple[StoredObject, AsyncIterator[bytes]]]:
            async def blocks() -> AsyncIterator[bytes]:
                yield b"some"
                raise ConnectionError("gone")

            yield StoredObject(key, 9, ""), blocks()

    await local.put("a/1/x", pieces(b"x"))
    local.__class__ = Breaking
    with pytest.raises(ConnectionError):
        await object_files.download(local, "a/1/x", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.ENOSPC, (507, "STORAGE_FULL")),
        (errno.EDQUOT, (507, "STORAGE_FULL")),
        (errno.ECONNREFUSED, (503, "STORAGE_UNAVAILABLE")),
        (errno.EIO, (503, "STORAGE_UNAVAILABLE")),
    ],
)
def test_failures_of_a_store_are_answers(number: int, answer: tuple[int, str]) -> None:
    with pytest.raises(GatewayHTTPError) as refused, object_files.storage_errors():
        raise OSError(number, "secret details")
    assert (refused.value.status, refused.value.detail["error_code"]) == answer
    assert "secret" not in str(refused.value.detail)
