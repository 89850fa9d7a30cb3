"""Size limits of responses that are read into memory, including compressed ones."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import responses

from beray import (
    BeRayClient,
    GatewayClient,
    InvalidArgument,
    NotFoundError,
    ResponseTooLarge,
    TransferError,
)
from beray.gateway.exceptions import InvalidAnswer, InvalidInput
from beray.testing import FaultServer, ScriptedResponse

LIMIT = 200_000
TASKS = json.dumps([{"id": 1, "status": "X", "goal": "x" * (LIMIT + 1)}]).encode()
CONTENT = b"y" * (LIMIT + 1)


def plain(body: bytes) -> ScriptedResponse:
    return ScriptedResponse(body)


def chunked(body: bytes) -> ScriptedResponse:
    return ScriptedResponse(body, framing="chunked")


def gzipped(body: bytes) -> ScriptedResponse:
    return ScriptedResponse(gzip.compress(body), headers={"Content-Encoding": "gzip"})


def deflated(body: bytes) -> ScriptedResponse:
    return ScriptedResponse(zlib.compress(body), headers={"Content-Encoding": "deflate"})


WAYS = pytest.mark.parametrize("way", [plain, chunked, gzipped, deflated])


@WAYS
def test_a_larger_json_response_is_an_error(way: Callable[[bytes], ScriptedResponse]) -> None:
    with (
        FaultServer([way(TASKS)]) as server,
        BeRayClient(server.url, max_json_bytes=LIMIT) as client,
    ):
        with pytest.raises(ResponseTooLarge, match="max_json_bytes=200,000") as caught:
            client.list_tasks()
        assert caught.value.max_bytes == LIMIT
        assert (caught.value.method, caught.value.path) == ("GET", "/tasks/")
        assert len(server.requests) == 1  # no retry


@WAYS
def test_a_larger_file_is_an_error_that_names_alternatives(
    way: Callable[[bytes], ScriptedResponse], tmp_path: Path
) -> None:
    answers = [way(CONTENT), way(CONTENT), plain(CONTENT), way(CONTENT)]
    with (
        FaultServer(answers) as server,
        BeRayClient(server.url, max_memory_bytes=LIMIT, max_json_bytes=1) as client,
    ):
        calls: list[Callable[[], Any]] = [
            lambda: client.get_file_content(1, "a"),
            lambda: client.download_files_as_zip(1),
        ]
        for call in calls:
            with pytest.raises(ResponseTooLarge, match=r"max_memory_bytes.*download_file\(\)"):
                call()
        assert client.download_file(1, "a", tmp_path / "a").read_bytes() == CONTENT
        with client.get_file_content(1, "a", stream=True) as response:
            assert b"".join(response.iter_content(4096)) == CONTENT


@WAYS
def test_a_body_of_exactly_the_limit_is_read(way: Callable[[bytes], ScriptedResponse]) -> None:
    with (
        FaultServer([way(CONTENT)]) as server,
        BeRayClient(server.url, max_memory_bytes=len(CONTENT)) as client,
    ):
        assert client.get_file_content(1, "a").content == CONTENT


def test_an_announced_size_is_rejected_before_it_arrives() -> None:
    answer = ScriptedResponse(CONTENT, stall_at=10)
    with (
        FaultServer([answer]) as server,
        BeRayClient(server.url, max_memory_bytes=LIMIT) as client,
        pytest.raises(ResponseTooLarge),
    ):
        client.get_file_content(1, "a")


def test_an_endless_body_is_rejected_at_the_limit() -> None:
    answer = ScriptedResponse(CONTENT, framing="chunked", stall_at=LIMIT + 1)
    with (
        FaultServer([answer]) as server,
        BeRayClient(server.url, max_memory_bytes=LIMIT // 2) as client,
        pytest.raises(ResponseTooLarge),
    ):
        client.get_file_content(1, "a")


def test_an_error_is_read_whatever_the_limit() -> None:
    body = json.dumps({"detail": "no such task"}).encode()
    with (
        FaultServer([ScriptedResponse(body, 404)]) as server,
        BeRayClient(server.url, max_json_bytes=1) as client,
        pytest.raises(NotFoundError, match="no such task"),
    ):
        client.get_task(1)


@responses.activate
def test_mocked_answers_have_the_same_limit() -> None:
    responses.get("http://localhost:8000/api/v1/tasks/", body=TASKS)
    with pytest.raises(ResponseTooLarge):
        BeRayClient(token="t", max_json_bytes=LIMIT).list_tasks()


@WAYS
def test_the_gateway_has_the_limit_too(way: Callable[[bytes], ScriptedResponse]) -> None:
    prefabs = json.dumps({"prefabs": [], "more": "x" * LIMIT}).encode()
    results = json.dumps({"results": [{"status": "COMPLETED", "output": {"x": "x" * LIMIT}}]})
    calls: list[tuple[bytes, Callable[[GatewayClient], Any]]] = [
        (prefabs, lambda gateway: gateway.list_prefabs()),
        (results.encode(), lambda gateway: gateway.run("p", "1.0.0", "f")),
    ]
    for body, call in calls:
        with FaultServer([way(body)]) as server:
            gateway = GatewayClient("token", server.url, max_json_bytes=LIMIT)
            with pytest.raises(InvalidAnswer, match="max_json_bytes=200,000"):
                call(gateway)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1", None])
def test_limits_are_numbers_of_bytes(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="max_json_bytes"):
        BeRayClient(max_json_bytes=value)
    with pytest.raises(InvalidArgument, match="max_memory_bytes"):
        BeRayClient(max_memory_bytes=value)
    with pytest.raises(InvalidInput, match="max_json_bytes"):
        GatewayClient("token", max_json_bytes=value)


def test_an_archive_that_expands_beyond_the_limit_needs_max_bytes(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", b"\0" * 1_000_000)
    body = archive.read_bytes()
    assert len(body) < 10_000
    with (
        FaultServer([ScriptedResponse(body), ScriptedResponse(body)]) as server,
        BeRayClient(server.url) as client,
    ):
        with pytest.raises(TransferError, match=r"1,000,000 bytes.*999,999.*larger max_bytes"):
            client.download_dir(1, tmp_path / "out", max_bytes=999_999)
        assert not (tmp_path / "out").exists()
        client.download_dir(1, tmp_path / "out", max_bytes=1_000_000)
        assert (tmp_path / "out" / "a.txt").stat().st_size == 1_000_000
