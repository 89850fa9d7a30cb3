"""Upload and download of one file, over the wire of a real server."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys

import psutil
import pytest
import requests

from tests.support import until
from tests.work_dirs import MIB, Files, detail


def test_uploaded_content_is_downloaded_unchanged(files: Files) -> None:
    answer = files.put("./a//ü b.txt", "hällo".encode())
    assert answer.status_code == 200
    assert answer.json() == {"message": "The file was written.", "path": "a/ü b.txt", "size": 6}
    response = files.get("a/ü b.txt")
    assert response.text == "hällo"
    assert response.headers["Content-Length"] == "6"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''%C3%BC%20b.txt"
    )
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Last-Modified"].endswith("GMT")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_type_is_guessed_from_the_name(files: Files, name: str, kind: str) -> None:
    files.put(name, b"x")
    assert files.get(name).headers["Content-Type"] == kind


def test_a_large_file_passes_whole_in_both_directions(files: Files) -> None:
    data = random.Random(1).randbytes(9 * MIB + 1)
    chunks = (data[start : start + 70_000] for start in range(0, len(data), 70_000))
    assert files.put("large", chunks).json()["size"] == len(data)
    response = files.get("large")
    assert response.content == data
    assert int(response.headers["Content-Length"]) == len(data)


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        ("bytes=2-4", "bytes 2-4/10", b"234"),
        ("bytes=7-", "bytes 7-9/10", b"789"),
        ("bytes=-2", "bytes 8-9/10", b"89"),
        ("bytes=0-99", "bytes 0-9/10", b"0123456789"),
    ],
)
def test_a_range(files: Files, asked: str, content_range: str, body: bytes) -> None:
    files.put("digits", b"0123456789")
    response = files.get("digits", Range=asked)
    assert response.status_code == 206
    assert response.content == body
    assert response.headers["Content-Range"] == content_range
    assert response.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=0-1,3-4", "lines=1-2", "nonsense"])
def test_a_range_that_means_nothing_gives_the_whole_file(files: Files, asked: str) -> None:
    files.put("digits", b"0123456789")
    response = files.get("digits", Range=asked)
    assert (response.status_code, response.content) == (200, b"0123456789")


def test_a_range_after_the_end_is_416_with_the_size(files: Files) -> None:
    for size in (0, 10):
        files.put("digits", b"0123456789"[:size])
        response = files.get("digits", Range=f"bytes={size}-")
        assert response.status_code == 416
        assert response.headers["Content-Range"] == f"bytes */{size}"
        assert str(size) in detail(response)


def test_an_empty_file(files: Files) -> None:
    files.put("empty", b"")
    for headers in ({}, {"Range": "bytes=-5"}):
        response = files.get("empty", **headers)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["Content-Length"] == "0"


def test_a_file_that_is_unchanged_is_not_sent_again(files: Files) -> None:
    files.put("a", b"one")
    tag = files.get("a").headers["ETag"]
    same = files.get("a", If_None_Match=tag)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    files.put("a", b"two")
    changed = files.get("a", If_None_Match=tag)
    assert (changed.status_code, changed.content) == (200, b"two")
    assert changed.headers["ETag"] != tag


def test_a_download_resumes_in_the_same_file_alone(files: Files) -> None:
    files.put("a", b"0123456789")
    tag = files.get("a").headers["ETag"]
    rest = files.get("a", Range="bytes=5-", If_Range=tag)
    assert (rest.status_code, rest.content) == (206, b"56789")
    files.put("a", b"abcdefghij")
    whole = files.get("a", Range="bytes=5-", If_Range=tag)
    assert (whole.status_code, whole.content) == (200, b"abcdefghij")


def test_head_has_the_headers_of_get(files: Files) -> None:
    files.put("a.txt", b"0123456789")
    head = files.call("HEAD", "content", "a.txt", headers={"Range": "bytes=2-3"})
    got = files.get("a.txt")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Last-Modified", "Content-Type", "Accept-Ranges"):
        assert head.headers[name] == got.headers[name]
    assert files.call("HEAD", "content", "absent").status_code == 404


# Uploads that end early


def test_an_upload_that_is_cut_off_leaves_nothing(files: Files) -> None:
    before = files.descriptors()
    for length in ("Content-Length: 9000000", "Transfer-Encoding: chunked"):
        with files.connect() as connection:
            connection.sendall(files.head_of("PUT", "content?path=new/file", length))
            if length.startswith("Transfer"):
                connection.sendall(b"%x\r\n" % (2 * MIB))
            connection.sendall(b"x" * (2 * MIB))
            until(lambda: staged_bytes(files) >= MIB)
        until(lambda: os.listdir(files.incoming) == [])
    assert os.listdir(files.work_dir) == []
    until(lambda: files.descriptors() <= before)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_an_upload_that_the_disk_does_not_take_leaves_nothing(files: Files) -> None:
    files.put("a", b"old")
    process = psutil.Process(files.server.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (4 * MIB, before[1]))
    try:
        response = files.put("a", b"x" * (8 * MIB))
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)
    assert (response.status_code, detail(response)) == (507, "Nothing was written: File too large.")
    assert (files.work_dir / "a").read_bytes() == b"old"
    assert os.listdir(files.incoming) == []


def staged_bytes(files: Files) -> int:
    total = 0
    for path in files.incoming.iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_an_upload_stays_on_disk_and_off_the_memory(files: Files) -> None:
    process = psutil.Process(files.server.pid)
    files.put("warm", b"x" * MIB)
    before = process.memory_info().rss
    with files.connect() as connection:
        connection.sendall(
            files.head_of("PUT", "content?path=large", f"Content-Length: {128 * MIB}")
        )
        for _ in range(128):
            connection.sendall(bytes(MIB))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert process.memory_info().rss - before < 48 * MIB
    assert (files.work_dir / "large").stat().st_size == 128 * MIB


# Downloads that end early


def test_a_file_that_shrinks_breaks_the_connection(files: Files) -> None:
    path = files.work_dir / "large"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    with files.call("GET", "content", "large", stream=True) as response:
        assert response.headers["Content-Length"] == str(64 * MIB)
        assert response.raw.read(10) == bytes(10)
        os.truncate(path, 10)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            for _ in response.iter_content(MIB):
                pass


def test_a_client_that_goes_away_leaves_nothing_open(files: Files) -> None:
    with (files.work_dir / "large").open("wb") as file:
        file.truncate(64 * MIB)
    (files.work_dir / "noise").write_bytes(random.Random(1).randbytes(16 * MIB))
    files.get("noise", Range="bytes=0-0")
    before = files.descriptors()
    body = json.dumps({"paths": ["noise"]})
    for head in (
        files.head_of("GET", "content?path=large"),
        files.head_of(
            "POST", "download", "Content-Type: application/json", f"Content-Length: {len(body)}"
        )
        + body.encode(),
    ):
        with files.connect() as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
            until(lambda: files.descriptors() > before)
        until(lambda: files.descriptors() <= before)
