"""File listings in pages, from a BeRay server and from servers without pagination."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient, InvalidArgument, NotFoundError, UnprocessableEntityError
from beray.testing import FaultServer, RunningServer, ScriptedResponse

TREE = "/api/v1/tasks/7/files/tree"


def answer(*paths: str, link: str = "", status: int = 200) -> ScriptedResponse:
    """Return a listing as a response; paths that end with ``/`` are directories."""
    items = [
        {
            "name": path.rstrip("/").rpartition("/")[2],
            "path": path.rstrip("/"),
            "type": "directory" if path.endswith("/") else "file",
        }
        for path in paths
    ]
    headers = {"Link": f'<{TREE}?{link}>; rel="next"'} if link else {}
    return ScriptedResponse(json.dumps(items).encode(), status=status, headers=headers)


def refusal(status: int = 422) -> ScriptedResponse:
    return ScriptedResponse(b'{"detail": "too many"}', status=status)


def names(items: Any) -> list[str]:
    return [item["path"] for item in items]


def test_the_published_request_is_unchanged() -> None:
    with FaultServer([answer("a", "b")]) as server, BeRayClient(server.url) as client:
        assert names(client.list_files_tree(7)) == ["a", "b"]
        assert [request.path for request in server.requests] == [f"{TREE}?path=."]


def test_a_rejected_listing_is_requested_in_pages() -> None:
    answers = [refusal(), answer("a", link="path=.&limit=1&after=YQ"), answer("b")]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        assert names(client.list_files_tree(7)) == ["a", "b"]
        assert [request.path for request in server.requests] == [
            f"{TREE}?path=.",
            f"{TREE}?path=.&limit=10000",
            f"{TREE}?path=.&limit=1&after=YQ",
        ]


def test_the_error_of_a_server_without_pages_is_raised_after_two_requests() -> None:
    with FaultServer([refusal(), refusal()]) as server, BeRayClient(server.url) as client:
        with pytest.raises(UnprocessableEntityError, match="too many"):
            client.list_files_tree(7)
        assert len(server.requests) == 2


def test_a_missing_directory_is_requested_once() -> None:
    with FaultServer([refusal(404)]) as server, BeRayClient(server.url) as client:
        with pytest.raises(NotFoundError):
            client.list_files_tree(7, "a")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("path", "depth", "expected"),
    [
        (".", 1, ["a", "c"]),
        ("", 2, ["a", "a/b", "a/d", "c"]),
        ("./a/", 1, ["a", "a/b", "a/d", "c"]),
    ],
)
def test_a_depth_that_the_server_ignores_is_applied_by_the_client(
    path: str, depth: int, expected: list[str]
) -> None:
    whole = answer("a/", "a/b/", "a/b/c", "a/d", "c")
    with FaultServer([whole] * 3) as server, BeRayClient(server.url) as client:
        assert names(client.list_files_tree(7, path, depth=depth)) == expected
        assert names(client.iter_files(7, path, depth=depth)) == expected
        page = client.list_files_page(7, path, depth=depth, limit=1)
        assert (names(page.items), page.after) == (expected, None)


def test_a_server_that_names_no_paths_is_listed_by_names() -> None:
    minimal = ScriptedResponse(
        b'[{"name": "a", "type": "file"}, {"name": "b", "type": "directory"}]'
    )
    with FaultServer([minimal]) as server, BeRayClient(server.url) as client:
        assert [item["name"] for item in client.list_files_tree(7, depth=1)] == ["a", "b"]


@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_below_one_is_rejected_before_a_request(depth: int) -> None:
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        for call in (client.list_files_tree, client.iter_files, client.list_files_page):
            with pytest.raises(InvalidArgument, match="depth"):
                call(7, depth=depth)
        assert server.requests == []


# With a real server


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BeRayClient, Path]]:
    """Yield a client of a server that lists 20 entries per page, and the path of its work_dirs."""
    data_dir = tmp_path_factory.mktemp("data")
    with (
        RunningServer.start(data_dir, BERAY_TREE_LIMIT="20") as server,
        server.sign_up() as client,
    ):
        yield client, data_dir / "workspaces"


@pytest.fixture
def task(account: tuple[BeRayClient, Path]) -> tuple[BeRayClient, int, Path]:
    """Create a held task with 112 entries in its work_dir."""
    client, root = account
    task_id = client.create_task("!true", start=False)["id"]
    work_dir = root / str(task_id)
    for folder in ("a", "a b/ü#", "empty/inner", "z"):
        (work_dir / folder).mkdir(parents=True)
    for number in range(35):
        for folder in ("a", "a b/ü#", "z"):
            (work_dir / folder / f"{number:02}.txt").write_text(folder)
    (work_dir / "top").write_text("top")
    return client, task_id, work_dir


def local_files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def test_all_listing_methods_follow_the_pages(task: tuple[BeRayClient, int, Path]) -> None:
    client, task_id, work_dir = task
    whole = client.list_files_tree(task_id)
    assert set(names(whole)) == set(local_files(work_dir))
    assert list(client.iter_files(task_id)) == whole
    assert names(client.list_files_tree(task_id, depth=1)) == ["a", "a b", "empty", "top", "z"]
    assert names(client.iter_files(task_id, "a b", depth=1)) == ["a b/ü#"]
    assert len(client.list_files_tree(task_id, "a")) == 35

    paged, after = [], None
    while True:
        page = client.list_files_page(task_id, limit=9, after=after)
        paged += page.items
        if (after := page.after) is None:
            break
        assert len(page.items) == 9
    assert paged == whole
    with pytest.raises(UnprocessableEntityError, match="after"):
        client.list_files_page(task_id, after="!")


def test_directories_are_uploaded_and_downloaded(
    task: tuple[BeRayClient, int, Path], tmp_path: Path
) -> None:
    client, task_id, work_dir = task
    client.download_dir(task_id, tmp_path / "copy")
    assert local_files(tmp_path / "copy") == local_files(work_dir)
    (tmp_path / "copy/z/34.txt").write_text("new")
    (tmp_path / "copy/z/new.txt").write_text("new")
    synced = client.upload_dir(task_id, tmp_path / "copy")
    assert synced.uploaded == ["z/34.txt", "z/new.txt"]
    assert len(synced.unchanged) == 105
    assert local_files(tmp_path / "copy") == local_files(work_dir)
