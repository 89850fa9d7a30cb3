"""`beray run -o` and `beray ls` with more files than fit into one response."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from beray.cli import downloads
from beray.client import BeRayClient
from tests.cli.cli_support import Command, Request, ScriptedServer, stream

END = {"seq": 1, "task_id": 1, "type": "TASK_STATUS", "status": "COMPLETED"}
PATHS = [f"d{number % 3}/{number:02}.txt" for number in range(30)]


def zipped(paths: Iterable[str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in paths:
            archive.writestr(path, f"zip {path}")
    return made.getvalue()


@pytest.fixture
def large(scripted: ScriptedServer) -> ScriptedServer:
    """Task with 30 small files and one file without a known size."""
    items: list[dict[str, Any]] = [
        {"name": path[3:], "path": path, "type": "file", "size": 5} for path in PATHS
    ]
    scripted.answers |= {
        "POST /tasks/": (200, {"id": 1, "goal": "x", "status": "QUEUED"}),
        "GET /tasks/1/stream": stream([END]),
        "GET /tasks/1/files/tree": (200, [*items, {"name": "x", "path": "x", "type": "file"}]),
        "GET /tasks/1/files/content": (200, b"alone"),
    }
    return scripted


def fetched_alone(server: ScriptedServer) -> list[str]:
    def path(request: Request) -> str:
        return parse_qs(request.query)["path"][0]

    return sorted(path(request) for request in server.requests if "/content" in request.path)


def test_many_small_files_are_downloaded_together(beray: Command, large: ScriptedServer) -> None:
    large.answers["POST /tasks/1/files/download"] = (200, zipped(PATHS))
    assert beray("run", "x", "-o", "out").status == 0
    (call,) = [request for request in large.requests if request.path.endswith("/download")]
    assert json.loads(call.body) == {"paths": PATHS}
    assert fetched_alone(large) == ["x"]
    assert Path("out/x").read_text() == "alone"
    assert all(Path("out", path).read_text() == f"zip {path}" for path in PATHS)


@pytest.mark.parametrize(
    "answer",
    [
        (404, {"detail": "nothing"}),
        (422, {"detail": "one of them cannot be read"}),
        (200, zipped(path.rpartition("/")[2] for path in PATHS)),
        (200, zipped(PATHS)[:-30]),
        (200, b"no archive"),
    ],
)
def test_files_are_downloaded_singly_if_the_archive_fails(
    beray: Command, large: ScriptedServer, answer: tuple[int, Any]
) -> None:
    large.answers["POST /tasks/1/files/download"] = answer
    assert beray("run", "x", "-o", "out").status == 0
    assert fetched_alone(large) == sorted([*PATHS, "x"])
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    assert len(files) == 31
    assert {path.read_text() for path in files} == {"alone"}


def test_unreadable_files_are_named_and_the_others_are_downloaded(
    beray: Command, large: ScriptedServer
) -> None:
    refusal = (422, {"detail": "permission denied"})
    tree = large.answers["GET /tasks/1/files/tree"]
    folders = [
        {"name": path, "path": path, "type": "directory", "mode": mode}
        for path, mode in {"empty": "755", "locked": "300", "closed": "000"}.items()
    ]
    large.answers |= {
        # The listing, and one response for each directory that may be unreadable.
        "GET /tasks/1/files/tree": [(200, [*folders, *tree[1]]), (200, []), refusal],
        "POST /tasks/1/files/download": refusal,
        "GET /tasks/1/files/content": [(200, b"alone")] * 6 + [refusal, (200, b"alone")],
    }
    outcome = beray("run", "x", "-o", "out")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == (
        "beray: 2 of 34 files and directories could not be downloaded: permission denied; "
        "the others are in out"
    )
    files = [path.as_posix() for path in Path("out").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(f"out/{path}" for path in [*PATHS, "x"] if path != PATHS[5])
    queries = [
        parse_qs(request.query) for request in large.requests if request.path.endswith("/tree")
    ]
    assert [query["path"] for query in queries[1:]] == [["locked"], ["closed"]]


def test_nothing_is_downloaded_if_a_file_exists(beray: Command, large: ScriptedServer) -> None:
    large.answers["POST /tasks/1/files/download"] = (200, zipped(PATHS))
    Path("out/d2").mkdir(parents=True)
    Path("out", PATHS[-1]).write_text("mine")
    outcome = beray("run", "x", "-o", "out")
    assert outcome.status == 1
    assert "--force" in outcome.err
    assert [path.read_text() for path in Path("out").rglob("*.txt")] == ["mine"]
    assert beray("run", "x", "-o", "out", "--force").status == 0
    assert Path("out", PATHS[-1]).read_text() == f"zip {PATHS[-1]}"


def test_batches_contain_small_files_up_to_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BATCH_FILES", 3)
    monkeypatch.setattr(downloads, "BATCH_BYTES", 10)
    monkeypatch.setattr(downloads, "SMALL_BYTES", 6)
    sizes = [1, 1, 7, 1, 1, None, 6, 4, 1, 0, 0, 0]
    files = [downloads.RemoteFile(str(number), size) for number, size in enumerate(sizes)]
    batches = [[file.size for file in batch] for batch in downloads.batches(files)]
    assert batches == [[7], [1, 1, 1], [None], [1, 6], [4, 1, 0], [0, 0]]


@pytest.mark.parametrize(
    "count", [30, pytest.param(1100, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_many_files_are_uploaded_and_downloaded(
    beray: Command, account: BeRayClient, count: int
) -> None:
    folder = Path("in")
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04}").write_text(str(number))
    goal = "!mkdir -p many/empty; cp -r in many/; touch many/x; chmod +x many/x; rm -r in"
    outcome = beray("run", goal, "-f", "in", "-o", "out")
    assert (outcome.status, outcome.err.splitlines()[-1]) == (
        0,
        f"-- downloaded {count + 1} files to out",
    )
    assert {path.name: path.read_text() for path in Path("out/many/in").iterdir()} == {
        f"{number:04}": str(number) for number in range(count)
    }
    assert list(Path("out/many/empty").iterdir()) == []


def test_ls_lists_levels(beray: Command, account: BeRayClient) -> None:
    task = account.create_task("!mkdir -p a/b/c; touch a/x a/b/y z")["id"]
    account.wait(task)
    rows = [line.split("\t")[3] for line in beray("ls", str(task), "--depth", "1").out.splitlines()]
    assert rows == ["a", "z"]
    listed = beray("ls", str(task), "a", "-d", "1", "--json").json
    assert [item["path"] for item in listed] == ["a/b", "a/x"]
    outcome = beray("ls", str(task), "-d", "0")
    assert outcome.status == 2
    assert "--depth" in outcome.err
