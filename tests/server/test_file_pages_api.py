"""Pages of a listing over the wire: parameters, links, and what published calls get."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.testing import RunningServer
from tests.work_dirs import Files, detail


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir = tmp_path_factory.mktemp("data")
    with RunningServer.start(data_dir, BERAY_TREE_LIMIT="10") as running:
        yield running


@pytest.fixture
def few(small_server: RunningServer) -> Iterator[Files]:
    """The files of a task on a server that lists 10 entries at once."""
    with small_server.sign_up() as client:
        yield Files(small_server, client)


def fill(work_dir: Path, count: int, folder: str = "many") -> None:
    (work_dir / folder).mkdir()
    for number in range(count):
        os.close(os.open(work_dir / f"{folder}/{number:03}", os.O_CREAT))


def tree(files: Files, **query: Any) -> Any:
    return files.session.get(f"{files.url}/tree", params=query, timeout=30)


def test_a_published_call_over_the_limit_is_refused_as_ever_and_names_the_way_out(
    few: Files,
) -> None:
    fill(few.work_dir, 9)
    assert len(tree(few).json()) == 10
    fill(few.work_dir, 0, "another")
    response = tree(few)
    assert response.status_code == 422
    assert "Link" not in response.headers
    text = detail(response)
    assert text.startswith("'.' has more than 10 entries; ")
    for way in ("limit=", "Link", "depth=1", "beray ls", "list_files_tree()", "subfolder"):
        assert way in text
    assert tree(few, path="another").json() == []


@pytest.mark.parametrize("query", [{"limit": 3}, {"limit": 10}, {"limit": 10_000}, {"depth": 2}])
def test_links_lead_through_all_pages(few: Files, query: dict[str, int]) -> None:
    fill(few.work_dir, 24, "mäny & more")
    listed = []
    response = tree(few, **query)
    while True:
        assert response.status_code == 200
        page = response.json()
        assert 1 <= len(page) <= min(query.get("limit", 10), 10)
        listed += [item["path"] for item in page]
        if "next" not in response.links:
            break
        target = response.links["next"]["url"]
        assert target.startswith("/api/v1/tasks/")
        response = few.session.get(few.server.url + target, timeout=30)
    assert listed == ["mäny & more", *(f"mäny & more/{number:03}" for number in range(24))]


def test_the_longest_path_is_listed_in_pages(few: Files) -> None:
    path = "/".join(["日" * 85] * 15)
    folder = os.open(few.work_dir, os.O_RDONLY)
    for name in path.split("/"):
        os.mkdir(name, dir_fd=folder)
        deeper = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    for number in range(12):
        os.close(os.open("日" * 80 + f"{number:03}", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    response = tree(few, path=path, limit=7)
    following = few.session.get(few.server.url + response.links["next"]["url"], timeout=30)
    assert [len(response.json()), len(following.json())] == [7, 5]
    assert "Link" not in following.headers


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": "1.5"},
        {"limit": "01"},
        {"limit": ""},
        {"limit": 2**63},
        {"depth": 0},
        {"depth": "a"},
        {"depth": 2**63},
        {"after": ""},
        {"after": "%"},
        {"after": "Li4"},
        {"after": "A" * 10_000},
    ],
)
def test_invalid_parameters_are_422(few: Files, query: dict[str, Any]) -> None:
    fill(few.work_dir, 3)
    response = tree(few, **query)
    assert response.status_code == 422
    assert next(iter(query)) in response.text
    assert tree(few, path="absent", depth=1).status_code == 404
    assert tree(few, path="many/001", depth=1).status_code == 422
