"""File requests to a real server: trees, archives and errors."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import zipfile
from pathlib import Path

import pytest
import requests

from beray.testing import RunningServer, authorization
from tests.support import PROMPT_SECONDS
from tests.work_dirs import MIB, Files, detail


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../x", 422),
        ("/etc/passwd", 422),
        ("a\0b", 422),
        ("link/x", 422),
        ("link", 422),
        (".", 422),
        ("", 422),
        ("folder", 422),
        ("folder/", 422),
        ("fifo", 422),
        ("n" * 300, 422),
    ],
)
def test_invalid_paths_are_rejected_with_a_reason(
    files: Files, tmp_path: Path, path: str, status: int
) -> None:
    (files.work_dir / "link").symlink_to(tmp_path)
    (files.work_dir / "folder").mkdir()
    os.mkfifo(files.work_dir / "fifo")
    before = sorted(os.listdir(tmp_path))
    for response in (files.get(path), files.put(path, b"x" * (4 * MIB))):
        assert response.status_code == status
        assert detail(response)
    assert sorted(os.listdir(tmp_path)) == before
    assert sorted(os.listdir(files.work_dir)) == ["fifo", "folder", "link"]


def test_missing_files_are_404(files: Files) -> None:
    for response in (
        files.get("absent"),
        files.call("GET", "tree", "absent"),
        files.call("POST", "download", json={"paths": ["absent"]}),
    ):
        assert response.status_code == 404
        assert "absent" in detail(response)


def test_queries_that_are_not_utf8_are_rejected(files: Files) -> None:
    url = f"{files.url}/content?path=%ff"
    for method in ("GET", "PUT"):
        response = files.session.request(method, url, data=b"", timeout=30)
        assert (response.status_code, detail(response)) == (
            422,
            "The query is not UTF-8. Write other bytes of a path as `␦XX`.",
        )
    assert os.listdir(files.work_dir) == []


def test_content_without_a_path_is_422(files: Files) -> None:
    assert files.call("GET", "content").status_code == 422


def test_files_of_other_users_are_not_found(files: Files, beray_server: RunningServer) -> None:
    files.put("a", b"mine")
    with beray_server.sign_up() as stranger:
        theirs = copy.copy(files)
        theirs.session = requests.Session()
        theirs.session.headers.update(authorization(stranger))
        absent = f"Task {files.task_id} does not exist."
        for response in (
            theirs.get("a"),
            theirs.put("b", b"theirs"),
            theirs.call("GET", "tree"),
            theirs.call("POST", "download", json={}),
        ):
            assert (response.status_code, detail(response)) == (404, absent)
    assert os.listdir(files.work_dir) == ["a"]


def test_the_tree(files: Files) -> None:
    assert files.call("GET", "tree").json() == []
    files.put("a/b/c", b"123")
    files.put("a.txt", b"")
    items = files.call("GET", "tree").json()
    assert [(item["path"], item["type"], item["size"]) for item in items] == [
        ("a", "directory", 0), ("a/b", "directory", 0), ("a/b/c", "file", 3), ("a.txt", "file", 0)
    ]  # fmt: skip
    assert items[2]["name"] == "c"
    assert items == files.call("GET", "tree", ".").json()
    assert files.call("GET", "tree", "a/b/").json() == items[2:3]
    refused = files.call("GET", "tree", "a.txt")
    assert (refused.status_code, "not a folder" in detail(refused)) == (422, True)


def members(response: requests.Response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(response.content)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def test_a_zip_of_some_paths_and_of_all(files: Files) -> None:
    files.put("a/b", b"1")
    files.put("c", b"2")
    (files.work_dir / "empty").mkdir()
    whole = {"a/": b"", "a/b": b"1", "c": b"2", "empty/": b""}
    response = files.call("POST", "download", json={"paths": []})
    assert response.headers["Content-Type"] == "application/zip"
    assert response.headers["Content-Disposition"] == (
        f'attachment; filename="task-{files.task_id}.zip"'
    )
    assert members(response) == whole
    for body in ({}, {"paths": ["."]}):
        assert members(files.call("POST", "download", json=body)) == whole
    some = files.call("POST", "download", json={"paths": ["a", "./a/b", "empty/"]})
    assert members(some) == {"a/": b"", "a/b": b"1", "empty/": b""}


@pytest.mark.parametrize(
    "body",
    [
        b'{"paths": ["../x"]}',
        b'{"paths": ["/etc"]}',
        b'{"paths": ["\\ud800"]}',
        b'{"paths": ["a\\u0000"]}',
        b'{"paths": "a"}',
        b'{"paths": [1]}',
        b"[]",
        b"{",
        json.dumps({"paths": ["a"] * 10_001}).encode(),
    ],
)
def test_archives_of_invalid_paths_are_rejected(files: Files, body: bytes) -> None:
    files.put("a", b"")
    response = files.call(
        "POST", "download", data=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert detail(response)


def test_a_zip_that_cannot_be_completed_breaks_the_connection(files: Files) -> None:
    files.put("a", random.Random(1).randbytes(64 * MIB))
    files.put("z", b"")
    with files.call("POST", "download", json={}, stream=True) as response:
        assert response.raw.read(4) == b"PK\3\4"
        (files.work_dir / "z").unlink()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            for _ in response.iter_content(MIB):
                pass


def test_the_server_goes_on_answering_while_it_packs(files: Files) -> None:
    with (files.work_dir / "zeros").open("wb") as file:
        file.truncate(200 * MIB)
    with files.call("POST", "download", json={}, stream=True) as response:
        for _ in range(10):
            health = requests.get(f"{files.server.url}/healthz", timeout=5)
            assert health.elapsed.total_seconds() < PROMPT_SECONDS
        assert len(response.content) < 2 * MIB


def test_a_directory_is_created_over_the_wire(files: Files) -> None:
    made = files.call("PUT", "directory", "a/b", headers={"X-File-Mode": "0700"})
    assert made.json() == {"message": "The directory exists.", "path": "a/b"}
    again = files.call("PUT", "directory", "a/b")
    assert again.status_code == 200
    tree = files.call("GET", "tree").json()
    assert [(item["path"], item["type"], item["mode"]) for item in tree] == [
        ("a", "directory", "755"),
        ("a/b", "directory", "700"),
    ]
    files.put("file", b"x")
    for path in ("file", "file/x", "..", ".", "/x"):
        refused = files.call("PUT", "directory", path, headers={"X-File-Mode": "777"})
        assert refused.status_code == 422 and detail(refused)
    nowhere = files.url.replace(f"/{files.task_id}/", "/999999/")
    assert files.session.put(f"{nowhere}/directory?path=x", timeout=30).status_code == 404
    assert os.listdir(files.incoming) == []


@pytest.mark.parametrize("mode", ["", "75", "0o755", "rwx", "789", "00755", "-755"])
def test_invalid_modes_are_rejected(files: Files, mode: str) -> None:
    headers = {"X-File-Mode": mode}
    assert files.call("PUT", "content", "x", data=b"x", headers=headers).status_code == 422
    assert files.call("PUT", "directory", "y", headers=headers).status_code == 422
    assert os.listdir(files.work_dir) == []


def test_a_file_states_its_mode(files: Files) -> None:
    put = files.call("PUT", "content", "x", data=b"x", headers={"X-File-Mode": "4751"})
    assert put.status_code == 200
    assert files.get("x").headers["X-File-Mode"] == "751"
    assert files.get("x", Range="bytes=0-0").headers["X-File-Mode"] == "751"
    assert files.call("HEAD", "content", "x").headers["X-File-Mode"] == "751"
