"""Requests for the history of a real server: files at a checkpoint, diffs, restores, errors."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient
from beray.testing import RunningServer
from tests.server.recorded_task import RecordedTask
from tests.support import until

GOAL = (
    "!mkdir -p src/deep empty; printf 'one\\ntwo\\nthree\\n' > src/a; echo b > src/deep/b; "
    "chmod 750 src/a; ln -s src/a link; head -c 3000000 /dev/urandom > large; "
    "printf 'caf' > $(printf 'caf\\351')"
)


@pytest.fixture(scope="module")
def recorded(beray_server: RunningServer, account: BeRayClient) -> RecordedTask:
    """Return a task with two different states, c3 and the newest; tests do not change it."""
    task = RecordedTask.run(beray_server, account, GOAL)
    account.upload_file(task.id, "src/a", "one\n2\nthree\n")
    account.upload_file(task.id, "new", "new\n")
    account.list_checkpoints(task.id)
    return task


@pytest.fixture
def task(beray_server: RunningServer, account: BeRayClient) -> RecordedTask:
    """Return a task whose state c3 differs from the current one."""
    task = RecordedTask.run(beray_server, account, "!mkdir d; echo one > d/a; echo b > b")
    account.upload_file(task.id, "d/a", "two")
    account.upload_file(task.id, "c", "c")
    return task


# Files of a checkpoint


def test_listings_of_a_checkpoint(recorded: RecordedTask) -> None:
    tree = recorded.get("files/tree", at="c3").json()
    assert [item["path"] for item in tree] == [
        "caf␦E9", "empty", "large", "src", "src/a", "src/deep", "src/deep/b",
    ]  # fmt: skip
    file = next(item for item in tree if item["path"] == "src/a")
    assert (file["type"], file["size"], file["mode"]) == ("file", 14, "750")
    assert "modified_at" in file
    assert [item["path"] for item in recorded.get("files/tree", at="c3", depth=1).json()] == [
        "caf␦E9", "empty", "large", "src",
    ]  # fmt: skip
    assert [item["path"] for item in recorded.get("files/tree", at="c3", path="src").json()] == [
        "src/a", "src/deep", "src/deep/b",
    ]  # fmt: skip
    assert recorded.get("files/tree", at="c1").json() == []
    found: list[Any] = []
    path = "files/tree?at=c3&limit=2"
    while path:
        page = recorded.call("GET", path)
        found += page.json()
        path = (
            page.links.get("next", {}).get("url", "").replace(f"/api/v1/tasks/{recorded.id}/", "")
        )
    assert found == tree


def test_contents_of_a_checkpoint(recorded: RecordedTask) -> None:
    response = recorded.content("src/a", "c3")
    assert response.content == b"one\ntwo\nthree\n"
    assert response.headers["X-File-Mode"] == "750"
    assert response.headers["ETag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert recorded.content("caf␦E9", "c3").content == b"caf"
    assert recorded.content("src/a", 10**6).status_code == 404
    newest = recorded.client.list_checkpoints(recorded.id)[-1]
    assert recorded.content("src/a", newest["seq"]).content == b"one\n2\nthree\n"
    large = (recorded.work_dir / "large").read_bytes()
    whole = recorded.content("large", "c3", Want_Repr_Digest="sha-256=1")
    assert whole.content == large
    assert digest_of(whole) == hashlib.sha256(large).digest()
    etag = whole.headers["ETag"]
    for start, end in ((0, 0), (1_000_000, 2_100_000), (2_999_999, 2_999_999)):
        part = recorded.content("large", "c3", Range=f"bytes={start}-{end}")
        assert part.status_code == 206
        assert part.content == large[start : end + 1]
        assert part.headers["Content-Range"] == f"bytes {start}-{end}/3000000"
    assert recorded.content("large", "c3", Range="bytes=-10").content == large[-10:]
    assert recorded.content("large", "c3", Range="bytes=3000000-").status_code == 416
    assert recorded.content("large", "c3", If_None_Match=etag).status_code == 304
    assert recorded.content("large", "c3", If_None_Match='"other"').status_code == 200
    outdated = recorded.content("large", "c3", Range="bytes=0-1", If_Range='"other"')
    assert outdated.status_code == 200
    head = recorded.call("HEAD", "files/content", params={"path": "large", "at": "c3"})
    assert (head.headers["Content-Length"], head.headers["ETag"]) == ("3000000", etag)
    assert head.content == b""


def digest_of(response: requests.Response) -> bytes:
    """Return the SHA-256 in ``Repr-Digest``."""
    value = response.headers["Repr-Digest"]
    assert value.startswith("sha-256=:")
    return base64.b64decode(value.removeprefix("sha-256=:").removesuffix(":"))


def test_archives_of_a_checkpoint(recorded: RecordedTask) -> None:
    def members(*paths: str, at: str = "c3") -> dict[str, bytes]:
        response = recorded.call(
            "POST", "files/download", params={"at": at}, json={"paths": list(paths)}
        )
        assert response.status_code == 200, response.text
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}

    everything = members()
    assert list(everything) == [
        "caf␦E9", "empty/", "large", "src/", "src/a", "src/deep/", "src/deep/b",
    ]  # fmt: skip
    assert everything["src/a"] == b"one\ntwo\nthree\n"
    assert everything["large"] == (recorded.work_dir / "large").read_bytes()
    assert list(members("src/deep", "src/deep/b", "empty")) == ["empty/", "src/deep/", "src/deep/b"]
    assert members(at="c1") == {}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("none", 404),
        ("new", 404),
        ("src/none", 404),
        ("src/a/none", 404),
        ("link/none", 404),
        ("src", 422),
        ("link", 422),
        ("..", 422),
        ("/src/a", 422),
        ("src/a/", 422),
        ("a\0b", 422),
        ("", 422),
    ],
)
def test_paths_that_a_checkpoint_does_not_have(
    recorded: RecordedTask, path: str, status: int
) -> None:
    response = recorded.content(path, "c3")
    assert response.status_code == status, response.text
    assert response.json()["detail"]
    if status == 404:
        body = {"paths": [path]}
        archive = recorded.call("POST", "files/download", params={"at": "c3"}, json=body)
        assert archive.status_code == 404
        assert recorded.get("files/tree", at="c3", path=path).status_code == 404


BAD_POSITIONS = [
    "", "c0", "c", "c01", "C3", "-1", "1.0", "01", "+1", " 1", "1 ", "c1 ", "true", "null", "c-1",
    "١", "c١", "9" * 19, "9" * 5000, "c" + "9" * 19, "\0", "c3\n", "latest", "c3,c4",
]  # fmt: skip
MISSING_POSITIONS = ["c99", "999999999999999999", "c999999999999999999"]


@pytest.mark.parametrize("position", [*BAD_POSITIONS, *MISSING_POSITIONS])
def test_invalid_positions(recorded: RecordedTask, position: str) -> None:
    before = recorded.checkpoints()
    expected = 404 if position in MISSING_POSITIONS else 422
    responses = [
        recorded.get("files/tree", at=position),
        recorded.content("src/a", position),
        recorded.call("POST", "files/download", params={"at": position}, json={}),
        recorded.get("diff", **{"from": position}),
        recorded.get("diff", to=position),
        recorded.restore(position),
        recorded.restore(position, dry_run=True),
    ]
    assert [response.status_code for response in responses] == [expected] * len(responses)
    assert all(response.json()["detail"] for response in responses)
    assert recorded.checkpoints() == before


def test_positions_before_the_first_checkpoint(
    recorded: RecordedTask, account: BeRayClient
) -> None:
    response = recorded.get("diff", **{"from": "0"})
    assert response.status_code == 404
    assert "the first is c1, after event 2" in response.json()["detail"]
    held = RecordedTask(recorded.server, account, account.create_task("!true", start=False)["id"])
    for response in (held.get("diff"), held.get("files/tree", at="0"), held.restore(0)):
        assert response.status_code == 404
        assert "has no checkpoints" in response.json()["detail"]


# Differences


def test_a_diff_in_both_formats(recorded: RecordedTask, tmp_path: Path) -> None:
    diff = recorded.get("diff", **{"from": "c3"}).json()
    newest = recorded.client.list_checkpoints(recorded.id)[-1]
    assert diff["from"]["checkpoint"] == "c3"
    assert diff["to"] == {"checkpoint": newest["checkpoint"], "seq": newest["seq"]}
    assert [(file["path"], file["change"]) for file in diff["files"]] == [
        ("new", "added"),
        ("src/a", "modified"),
    ]
    (hunk,) = diff["files"][1]["hunks"]
    assert hunk["lines"] == [" one", "-two", "+2", " three"]
    assert (diff["lines_added"], diff["lines_deleted"], diff["truncated"]) == (2, 1, False)
    patch = recorded.get("diff", **{"from": "c3", "format": "unified"})
    assert patch.headers["Content-Type"] == "text/x-diff; charset=utf-8"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("one\ntwo\nthree\n")
    (tmp_path / "src" / "a").chmod(0o750)
    subprocess.run(["git", "apply"], input=patch.content, cwd=tmp_path, check=True)
    assert (tmp_path / "src" / "a").read_text() == "one\n2\nthree\n"
    assert (tmp_path / "new").read_text() == "new\n"
    compact = recorded.get("diff", **{"from": "c3", "context": 0}).json()
    assert compact["files"][1]["hunks"][0]["lines"] == ["-two", "+2"]


def test_a_diff_of_paths(recorded: RecordedTask) -> None:
    def paths(*selected: str, **params: Any) -> list[str]:
        diff = recorded.get("diff", path=list(selected), **params).json()
        return [file["path"] for file in diff["files"]]

    assert paths("src", **{"from": "c3"}) == ["src/a"]
    assert paths("src/a", "new", **{"from": "c3"}) == ["new", "src/a"]
    assert paths("src/deep", **{"from": "c3"}) == []
    assert paths("src/deep") == ["src/deep/b"]
    assert paths("link", "large") == ["large", "link"]
    assert paths("caf␦E9") == ["caf␦E9"]
    assert paths(".", **{"from": "c3"}) == ["new", "src/a"]
    # Backwards and equal states are possible.
    assert paths("new", **{"from": newest(recorded), "to": "c3"}) == ["new"]
    assert paths(**{"from": "c3", "to": "c3"}) == []


def newest(task: RecordedTask) -> str:
    return task.checkpoints()[-1][0]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"path": "none"}, 404),
        ({"path": ["src", "src/none"]}, 404),
        ({"path": ".."}, 422),
        ({"path": "/etc"}, 422),
        ({"path": "a\0"}, 422),
        ({"path": ["x"] * 1001}, 422),
        ({"context": "-1"}, 422),
        ({"context": "1001"}, 422),
        ({"context": "3.0"}, 422),
        ({"context": "03"}, 422),
        ({"context": "9" * 100}, 422),
        ({"format": "html"}, 422),
        ({"format": ""}, 422),
    ],
)
def test_invalid_diffs(recorded: RecordedTask, params: dict[str, Any], status: int) -> None:
    response = recorded.get("diff", **params)
    assert response.status_code == status, response.text
    assert response.json()["detail"]


def test_renames_and_binary_files(task: RecordedTask) -> None:
    content = "".join(f"line {number}\n" for number in range(100))
    task.client.upload_file(task.id, "old", content)
    task.client.upload_file(task.id, "binary", bytes(range(256)))
    before = newest(task)
    (task.work_dir / "old").rename(task.work_dir / "moved")
    (task.work_dir / "moved").write_text(content + "more\n")
    task.client.upload_file(task.id, "binary", bytes(range(255, -1, -1)))
    diff = task.get("diff", **{"from": before}).json()
    binary, renamed = diff["files"]
    assert (binary["path"], binary["binary"]) == ("binary", True)
    assert "hunks" not in binary
    assert (renamed["change"], renamed["old_path"], renamed["path"]) == ("renamed", "old", "moved")
    assert 90 <= renamed["similarity"] < 100


# Restores


def test_a_restore_and_its_undo(task: RecordedTask) -> None:
    before = task.state()
    assert before == {"d/a": b"two", "b": b"b\n", "c": b"c"}
    planned = task.restore("c3", dry_run=True)
    assert planned.status_code == 200
    assert task.state() == before
    response = task.restore("c3")
    result = response.json()
    assert task.state() == {"d/a": b"one\n", "b": b"b\n"}
    assert result["files"] == planned.json()["files"]
    assert (planned.json()["dry_run"], result["dry_run"]) == (True, False)
    assert "checkpoint" not in planned.json()
    assert result["to"] == {"checkpoint": "c3", "seq": result["to"]["seq"]}
    assert [(file["path"], file["change"]) for file in result["files"]] == [
        ("c", "deleted"),
        ("d/a", "modified"),
    ]
    assert result["files"][0]["old"]["size"] == 1
    assert result["files"][1]["new"]["sha256"] == hashlib.sha256(b"one\n").hexdigest()
    assert task.checkpoints()[-1] == (result["checkpoint"], "restore")
    undone = task.restore(result["before"]["checkpoint"])
    assert undone.status_code == 200
    assert task.state() == before
    again = task.restore(result["before"]["checkpoint"]).json()
    assert (again["files"], again.get("checkpoint")) == ([], None)


def test_a_restore_to_a_seq_and_of_paths(task: RecordedTask) -> None:
    rows = task.client.list_checkpoints(task.id)
    step = next(row for row in rows if row["reason"] == "step")
    assert task.restore(step["seq"], paths=["d"]).json()["to"]["checkpoint"] == "c2"
    assert task.state() == {"d/a": b"one\n", "b": b"b\n", "c": b"c"}
    assert task.restore(f"{rows[0]['seq']}", paths=["b", "c"]).json()["to"]["checkpoint"] == "c1"
    assert task.state() == {"d/a": b"one\n"}
    assert task.client.restore(task.id, "c1")["files"] != []
    assert list(task.work_dir.iterdir()) == []
    assert os.listdir(task.server.data_dir / "workspaces" / ".restoring") == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"to": None},
        {"to": True},
        {"to": 1.0},
        {"to": 1.5},
        {"to": 1e300},
        {"to": -1},
        {"to": 10**30},
        {"to": int("9" * 4000)},
        {"to": []},
        {"to": {}},
        {"to": {"checkpoint": "c3"}},
        {"to": "\ud800"},
        {"to": "c3", "paths": None},
        {"to": "c3", "paths": "d"},
        {"to": "c3", "paths": [1]},
        {"to": "c3", "paths": [None]},
        {"to": "c3", "paths": [["d"]]},
        {"to": "c3", "paths": ["\ud800"]},
        {"to": "c3", "paths": ["a\0b"]},
        {"to": "c3", "paths": [".."]},
        {"to": "c3", "paths": ["d/../.."]},
        {"to": "c3", "paths": ["/etc/passwd"]},
        {"to": "c3", "paths": ["x" * 5000]},
        {"to": "c3", "paths": ["d"] * 10_001},
        {"to": "c3", "dry_run": None},
        {"to": "c3", "dry_run": "true"},
        {"to": "c3", "dry_run": 1},
        {"to": "c3", "path": "d"},
        {"to": "c3", "dryRun": True},
        [],
        "c3",
        None,
    ],
)
def test_invalid_restores_change_nothing(task: RecordedTask, body: Any) -> None:
    before, rows = task.state(), task.checkpoints()
    response = task.call("POST", "restore", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["detail"]
    assert (task.state(), task.checkpoints()) == (before, rows)


def test_a_path_that_never_existed(task: RecordedTask) -> None:
    before = task.state()
    response = task.restore("c3", paths=["d", "none"])
    assert response.status_code == 404
    assert "'none' exists in none of the checkpoints" in response.json()["detail"]
    assert task.state() == before


def test_no_restore_while_a_run_waits_or_is_active(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="1") as server:
        client = server.sign_up()
        running = RecordedTask(server, client, client.create_task("!echo x > x; sleep 600")["id"])
        queued = RecordedTask(server, client, client.create_task("!true")["id"])
        until(lambda: (running.work_dir / "x").exists())
        for task in (running, queued):
            response = task.restore("c1")
            assert response.status_code == 409
            assert "is running or waiting" in response.json()["detail"]
        assert running.restore("c1", dry_run=True).status_code == 409
        assert running.state() == {"x": b"x\n"}
        client.stop_task(running.id)
        list(client.stream_task_updates(running.id))
        assert running.restore("c1").status_code == 200
        assert running.state() == {}


# Permissions


@pytest.fixture(scope="module")
def stranger(beray_server: RunningServer) -> Iterator[BeRayClient]:
    with beray_server.sign_up() as client:
        yield client


def requests_of_history(task: RecordedTask) -> list[tuple[requests.Response, str]]:
    """Send each request of the history; return the responses with the scopes they need."""
    return [
        (task.get("checkpoints"), "tasks:read"),
        (task.get("diff"), "files"),
        (task.get("files/tree", at="c1"), "files"),
        (task.content("d/a", "c3"), "files"),
        (task.call("POST", "files/download", params={"at": "c1"}, json={}), "files"),
        (task.restore("c3", dry_run=True), "files"),
    ]


def test_tasks_of_other_users_do_not_exist(task: RecordedTask, stranger: BeRayClient) -> None:
    foreign = RecordedTask(task.server, stranger, task.id)
    missing = RecordedTask(task.server, stranger, 10**6)
    found = [response for response, _ in requests_of_history(foreign)]
    expected = [response for response, _ in requests_of_history(missing)]
    assert [response.status_code for response in found] == [404] * len(found)
    for one, other in zip(found, expected, strict=True):
        assert one.json()["detail"].replace(str(task.id), "N") == (
            other.json()["detail"].replace(str(10**6), "N")
        )


@pytest.mark.parametrize("scope", ["tasks:read", "tasks:write", "files", "gateway"])
def test_scopes_of_api_keys(task: RecordedTask, scope: str) -> None:
    key = task.client.create_api_key("history", scopes=[scope])["key"]
    limited = RecordedTask(task.server, task.server.client(key), task.id)
    for response, needed in requests_of_history(limited):
        assert response.status_code == (200 if scope == needed else 403), response.url


def test_a_server_without_history(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_HISTORY_BYTES="0") as server:
        client = server.sign_up()
        task = RecordedTask.run(server, client, "!echo x > x")
        client.upload_file(task.id, "y", "y")
        assert task.checkpoints() == []
        assert all(one.get("source") != "history" for one in client.get_task(task.id)["events"])
        responses = requests_of_history(task)[1:]
        responses.append((task.restore("c1"), ""))
        assert [response.status_code for response, _ in responses] == [409] * len(responses)
        assert all("BERAY_HISTORY_BYTES" in response.text for response, _ in responses)
        assert not list((server.data_dir / "objects").rglob("*/*"))
        # It records again once the history is turned on.
        server.restart(BERAY_HISTORY_BYTES="1000000")
        client.upload_file(task.id, "z", "z")
        assert task.checkpoints() == [("c1", "upload")]
        later = RecordedTask.run(server, client, "!echo x > x")
        assert len(later.checkpoints()) == 3
        # What was recorded is still there after it was turned off for a time.
        server.restart(BERAY_HISTORY_BYTES="0")
        assert len(later.checkpoints()) == 3
        server.restart(BERAY_HISTORY_BYTES="1000000")
        assert later.restore("c1").status_code == 200
