"""Requests for the history of a work_dir, and tasks that continue another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from beray import (
    BeRayClient,
    ConflictError,
    InvalidArgument,
    InvalidResponseError,
    NotFoundError,
    OutcomeUnknown,
    UnprocessableEntityError,
)
from beray.testing import FaultServer, ScriptedResponse

Call = Callable[[BeRayClient], Any]

CREATED = ScriptedResponse(b'{"id": 8, "status": "QUEUED", "goal": "g"}')


@pytest.mark.parametrize(
    "origin",
    [{"task": 5}, {"task": 5, "seq": 0}, {"task": 5, "seq": 17}, {"task": 5, "checkpoint": "c3"}],
)
def test_the_origin_of_a_task_is_sent(origin: Any) -> None:
    with FaultServer([CREATED, CREATED]) as server, BeRayClient(server.url) as client:
        client.create_task("g", from_task=origin)
        # The origin of a response is accepted as well.
        client.create_task("g", from_task=origin | {"conversation": True})
        bodies = [json.loads(request.body) for request in server.requests]
    assert bodies == [{"goal": "g", "tools": None, "from": origin}] * 2


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (5, "must be a dictionary with the id of a task, .* got 5$"),
        ({"seq": 3}, "must be a dictionary with the id of a task"),
        ({"task": 5, "seq": 1, "checkpoint": "c1"}, "either 'seq' or 'checkpoint', got 1 and 'c1'"),
        ({"task": 5, "seq": -1}, "must be the seq of an event, .* got -1$"),
        ({"task": 5, "seq": True}, "got True$"),
        ({"task": 5, "seq": "c3"}, r"from_task\['seq'\] must be an integer, got 'c3'$"),
        ({"task": 5, "checkpoint": 3}, r"from_task\['checkpoint'\] must be a string, got 3$"),
        ({"task": 5, "checkpoint": "c0"}, "got 'c0'$"),
    ],
)
def test_an_invalid_origin_is_rejected_before_a_request(origin: Any, reason: str) -> None:
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        with pytest.raises(InvalidArgument, match=reason):
            client.create_task("g", from_task=origin)
        assert server.requests == []


CHECKPOINT = {"checkpoint": "c1", "seq": 0}
DIFF: Any = {"from": CHECKPOINT, "to": {"checkpoint": "c2", "seq": 5}, "files": []}
RESTORED = {"dry_run": True, "to": CHECKPOINT, "files": [], "checkpoint": None}
TREE = [{"name": "a", "type": "file"}]


def answer(value: Any, **options: Any) -> ScriptedResponse:
    return ScriptedResponse(json.dumps(value).encode(), **options)


def query(path: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(path).query)


def test_checkpoints_are_read_from_all_pages() -> None:
    path = "/api/v1/tasks/7/checkpoints"
    second = {"checkpoint": "c2", "seq": 5, "reason": "step", "added": 1, "new_key": 1}
    pages = [
        answer([CHECKPOINT], headers={"Link": f'<{path}?after=1&limit=1000>; rel="next"'}),
        answer([second]),
    ]
    with FaultServer(pages) as server, BeRayClient(server.url) as client:
        assert client.list_checkpoints(7) == [CHECKPOINT, second]
        assert [request.path for request in server.requests] == [
            path,
            f"{path}?after=1&limit=1000",
        ]


def test_a_diff_is_requested_with_its_positions_and_paths() -> None:
    with FaultServer([answer(DIFF)] * 2) as server, BeRayClient(server.url) as client:
        assert client.diff(7) == DIFF
        client.diff(
            7, from_=0, to="c2", paths=["a b", b"caf\xe9".decode("utf-8", "surrogateescape")]
        )
        first, second = (request.path for request in server.requests)
    assert first == "/api/v1/tasks/7/diff"
    assert query(second) == {"from": ["0"], "to": ["c2"], "path": ["a b", "caf\u2426E9"]}


def test_a_patch_is_returned_unchanged() -> None:
    patch = b"diff --git a/x b/x\r\n\xff\x1b"
    with (
        FaultServer([ScriptedResponse(patch)]) as server,
        BeRayClient(server.url) as client,
    ):
        assert client.diff_text(7, to=5) == patch
        assert query(server.requests[0].path) == {"format": ["unified"], "to": ["5"]}


def test_a_restore_sends_its_paths() -> None:
    with FaultServer([answer(RESTORED)] * 2) as server, BeRayClient(server.url) as client:
        assert client.restore(7, "c1", paths=["src"], dry_run=True) == RESTORED
        client.restore(7, 17)
        requests = server.requests
    assert {(request.method, request.path) for request in requests} == {
        ("POST", "/api/v1/tasks/7/restore")
    }
    assert [json.loads(request.body) for request in requests] == [
        {"to": "c1", "paths": ["src"], "dry_run": True},
        {"to": 17},
    ]


def test_only_the_dry_run_of_a_restore_is_repeated() -> None:
    lost = answer(RESTORED, drop_at=0)
    with FaultServer([lost, answer(RESTORED)]) as server, BeRayClient(server.url) as client:
        assert client.restore(7, "c1", dry_run=True)["dry_run"]
        assert len(server.requests) == 2
    with FaultServer([lost, answer(RESTORED)]) as server, BeRayClient(server.url) as client:
        with pytest.raises(OutcomeUnknown):
            client.restore(7, "c1")
        assert len(server.requests) == 1
    refused = answer({"detail": "busy"}, status=503, headers={"Retry-After": "0"})
    with FaultServer([refused, answer(RESTORED)]) as server, BeRayClient(server.url) as client:
        client.restore(7, "c1")
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, NotFoundError), (409, ConflictError), (422, UnprocessableEntityError)],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.list_checkpoints(7),
        lambda client: client.diff(7),
        lambda client: client.diff_text(7),
        lambda client: client.restore(7, 3),
        lambda client: client.create_task("g", from_task={"task": 7}),
    ],
)
def test_errors_have_the_reason_of_the_server(
    call: Call, status: int, expected: type[Exception]
) -> None:
    refused = answer({"detail": "Task 7 has no checkpoint c99"}, status=status)
    with (
        FaultServer([refused]) as server,
        BeRayClient(server.url) as client,
        pytest.raises(expected, match="no checkpoint c99"),
    ):
        call(client)


@pytest.mark.parametrize(
    "value", [{}, {"from": CHECKPOINT, "files": []}, {**DIFF, "files": [{"change": "added"}]}]
)
def test_a_diff_in_another_form_is_rejected(value: Any) -> None:
    with (
        FaultServer([answer(value)]) as server,
        BeRayClient(server.url) as client,
        pytest.raises(InvalidResponseError),
    ):
        client.diff(7)


@pytest.mark.parametrize(
    "position", ["", "17", "c", "c0", "C3", "c3 ", "c1\n", -1, 2**63, 1.0, True]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda client, position: client.diff(7, from_=position),
        lambda client, position: client.diff_text(7, to=position),
        lambda client, position: client.restore(7, position),
        lambda client, position: client.list_files_tree(7, at=position),
        lambda client, position: client.iter_files(7, at=position),
        lambda client, position: client.list_files_page(7, at=position),
        lambda client, position: client.get_file_content(7, "a", at=position),
        lambda client, position: client.download_files_as_zip(7, at=position),
        lambda client, position: client.download_file(7, "a", "new", at=position),
        lambda client, position: client.download_zip(7, "new", at=position),
        lambda client, position: client.download_dir(7, "new", at=position),
    ],
)
def test_an_invalid_position_is_rejected_before_a_request(
    call: Callable[[BeRayClient, Any], Any], position: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        with pytest.raises(InvalidArgument, match="must be the seq of an event"):
            call(client, position)
        assert server.requests == []
    assert list(tmp_path.glob("new*")) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.diff(7, paths="src"),
        lambda client: client.diff_text(7, paths="src"),
        lambda client: client.restore(7, 1, paths="src"),
    ],
)
def test_a_string_instead_of_paths_is_rejected(call: Call) -> None:
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        with pytest.raises(InvalidArgument, match="paths must be a list of paths, got 'src'"):
            call(client)
        assert server.requests == []


def test_files_are_requested_at_a_position(tmp_path: Path) -> None:
    content = ScriptedResponse(b"x", headers={"ETag": '"1"'})
    answers = [answer(TREE)] * 4 + [content] * 4
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        client.list_files_tree(7, at=3)
        client.list_files_tree(7, depth=1, at="c2")
        assert list(client.iter_files(7, "a", at=3)) == TREE
        client.list_files_page(7, limit=1, at=3)
        client.get_file_content(7, "a", at=3)
        client.download_file(7, "a", tmp_path / "a", at="c2")
        client.download_files_as_zip(7, ["a"], at=3)
        client.download_zip(7, tmp_path / "zip", at=3)
        found = [query(request.path).get("at") for request in server.requests]
    assert found == [["3"], ["c2"], ["3"], ["3"], ["3"], ["c2"], ["3"], ["3"]]
    assert [request.method for request in server.requests[-2:]] == ["POST", "POST"]


def test_interrupted_downloads_of_two_positions_are_not_joined(tmp_path: Path) -> None:
    headers = {"ETag": '"1"'}
    half = ScriptedResponse(b"12345678", headers=headers, drop_at=4)
    gone = ScriptedResponse(b'{"detail": "gone"}', status=404)
    whole = ScriptedResponse(b"abcdefgh", headers=headers)
    with FaultServer([half, gone, whole]) as server, BeRayClient(server.url) as client:
        with pytest.raises(NotFoundError):
            client.download_file(7, "a", tmp_path / "a", at="c1")
        client.download_file(7, "a", tmp_path / "a", at="c2")
        ranges = [request.headers.get("range") for request in server.requests]
    assert ranges == [None, "bytes=4-", None]
    assert (tmp_path / "a").read_bytes() == b"abcdefgh"


def test_the_history_of_a_task_on_a_server(beray_client: BeRayClient, tmp_path: Path) -> None:
    client = beray_client
    task_id = client.create_task("!echo 2 > a; mkdir d; echo new > d/b", start=False)["id"]
    client.upload_file(task_id, "a", "1\n")
    client.start_task(task_id)
    task = client.wait(task_id)
    first, *_, last = client.list_checkpoints(task_id)
    assert (first["checkpoint"], first["reason"], last["reason"]) == ("c1", "start", "end")
    diff = client.diff(task_id)
    assert {file["path"]: file["change"] for file in diff["files"]} == {
        "a": "modified", "d/b": "added",
    }  # fmt: skip
    assert diff["to"]["checkpoint"] == last["checkpoint"]
    assert client.diff(task_id, paths=["d"])["files"] == diff["files"][1:]
    assert client.diff(task_id, from_=task["last_seq"])["files"] == []
    assert b"-1\n+2\n" in client.diff_text(task_id, to=last["checkpoint"])

    assert [item["name"] for item in client.list_files_tree(task_id, at="c1")] == ["a"]
    assert [item["path"] for item in client.iter_files(task_id, "d", at=task["last_seq"])] == [
        "d/b"
    ]
    assert client.list_files_page(task_id, limit=1, at="c1").after is None
    assert client.get_file_content(task_id, "a", at="c1").content == b"1\n"
    assert (
        client.download_file(task_id, "a", tmp_path / "a", at="c1", verify=True).read_bytes()
        == b"1\n"
    )
    client.download_dir(task_id, tmp_path / "whole", at=last["seq"])
    assert (tmp_path / "whole/d/b").read_bytes() == b"new\n"
    with pytest.raises(NotFoundError, match="has no checkpoint c9"):
        client.get_file_content(task_id, "a", at="c9")

    planned = client.restore(task_id, "c1", dry_run=True)
    assert client.get_file_content(task_id, "a").content == b"2\n"
    restored = client.restore(task_id, "c1")
    assert restored["files"] == planned["files"]
    assert client.get_file_content(task_id, "a").content == b"1\n"
    client.restore(task_id, last["checkpoint"], paths=["a"])
    assert client.get_file_content(task_id, "a").content == b"2\n"

    fork = client.run("!cat a", from_task={"task": task_id, "checkpoint": "c1"})
    assert fork["from"] == {
        "task": task_id, "checkpoint": "c1", "seq": first["seq"], "conversation": False,
    }  # fmt: skip
    # The origin of a task is accepted as the origin of another one.
    again = client.create_task("!true", from_task=fork["from"])
    assert client.wait(again["id"])["status"] == "COMPLETED"
