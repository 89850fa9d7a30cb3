"""Downloads of files: complete under their final name, or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beray import BeRayClient, InvalidResponseError, NotFoundError, TransferCancelled, TransferError
from beray.testing import FaultServer, ScriptedResponse
from beray.transfers.local_names import local_path
from beray.transfers.transfer import Transfer

BODY = os.urandom(3_000_000)


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "home")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_download(tmp_path: Path, framing: str) -> None:
    progress: list[tuple[int, int | None]] = []
    with FaultServer([ScriptedResponse(BODY, framing=framing)]) as server:  # type: ignore[arg-type]
        path = BeRayClient(server.url).download_file(
            1, "a/b.bin", tmp_path / "b.bin", transfer=Transfer(lambda *at: progress.append(at))
        )
    assert path.read_bytes() == BODY
    total = len(BODY) if framing == "length" else None
    assert progress[0] == (0, total)
    assert progress[-1] == (len(BODY), total)
    assert left(tmp_path) == ["b.bin"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_truncated_download_leaves_nothing(tmp_path: Path, framing: str) -> None:
    answer = ScriptedResponse(BODY, framing=framing, drop_at=1_500_000)  # type: ignore[arg-type]
    with FaultServer([answer] * 4) as server, pytest.raises(TransferError):
        BeRayClient(server.url).download_file(1, "b.bin", tmp_path / "b.bin")
    assert left(tmp_path) == []


def test_a_stalled_download_ends(tmp_path: Path) -> None:
    with (
        FaultServer([ScriptedResponse(BODY, stall_at=1_500_000)]) as server,
        pytest.raises(TransferError),
    ):
        client = BeRayClient(server.url, timeout=(5, 0.2))
        client.download_zip(1, tmp_path / "all.zip")
    assert left(tmp_path) == []


def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    transfer = Transfer(lambda done, total: transfer.cancel() if done else None)
    with FaultServer([ScriptedResponse(BODY)]) as server, pytest.raises(TransferCancelled):
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b", transfer=transfer)
    assert left(tmp_path) == []


def test_nothing_is_overwritten_by_default(tmp_path: Path) -> None:
    target = tmp_path / "b"
    target.write_text("mine")
    with FaultServer([ScriptedResponse(b"theirs")]) as server:
        client = BeRayClient(server.url)
        with pytest.raises(FileExistsError):
            client.download_file(1, "b", target)
        assert server.requests == []
        assert target.read_text() == "mine"
        client.download_file(1, "b", target, overwrite=True)
    assert target.read_text() == "theirs"


def test_a_failed_download_keeps_the_existing_file(tmp_path: Path) -> None:
    target = tmp_path / "b"
    target.write_text("mine")
    with (
        FaultServer([ScriptedResponse(BODY, drop_at=10)] * 4) as server,
        pytest.raises(TransferError),
    ):
        BeRayClient(server.url).download_file(1, "b", target, overwrite=True)
    assert target.read_text() == "mine"
    assert left(tmp_path) == ["b"]


def test_an_error_of_the_server_leaves_nothing(tmp_path: Path) -> None:
    with (
        FaultServer([ScriptedResponse(b'{"detail": "no"}', 404)]) as server,
        pytest.raises(NotFoundError),
    ):
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert left(tmp_path) == []


def test_an_upload_is_streamed_with_its_length(tmp_path: Path) -> None:
    local = tmp_path / "b.bin"
    local.write_bytes(BODY)
    progress: list[tuple[int, int | None]] = []
    answer = ScriptedResponse(b'{"message": "m", "path": "x/b.bin", "size": 3000000}')
    with FaultServer([answer]) as server:
        transfer = Transfer(lambda *at: progress.append(at))
        BeRayClient(server.url).upload_path(1, local, "x/b.bin", transfer=transfer)
        request = server.requests[0]
    assert request.body == BODY
    assert request.headers["content-length"] == str(len(BODY))
    assert "transfer-encoding" not in request.headers
    assert progress[-1] == (len(BODY), len(BODY))


def test_an_empty_upload(tmp_path: Path) -> None:
    local = tmp_path / "empty"
    local.touch()
    with FaultServer([ScriptedResponse(b'{"message": "m", "path": "empty", "size": 0}')]) as server:
        assert BeRayClient(server.url).upload_path(1, local)["size"] == 0
        assert server.requests[0].headers["content-length"] == "0"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "", ".", "a//b", "a/./b", "a\0b", "a/"])
def test_names_that_leave_the_directory_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidResponseError):
        local_path(tmp_path, name)


def test_names_below_the_directory(tmp_path: Path) -> None:
    assert local_path(tmp_path, "a/b c/ü.txt") == tmp_path / "a" / "b c" / "ü.txt"
