"""Listing of a work_dir, whatever a task changes in it."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from beray.server.workspace import tree
from beray.server.workspace.workspace import InvalidPath, Workspace, Workspaces
from tests.work_dirs import TASK, changing_folders, make_chain, open_descriptors, staged

pytestmark = pytest.mark.usefixtures("resolution")


def test_a_tree_lists_everything_below_sorted_by_parts(
    workspace: Workspace, work_dir: Path
) -> None:
    for path in ("b", "a/x", "a/b/c", "a.txt", "a-b/z", "Ä/ü", "empty/"):
        (work_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (work_dir / path).mkdir() if path.endswith("/") else (work_dir / path).write_bytes(b"12")
    items = workspace.tree()
    paths = [item["path"] for item in items]
    assert paths == [
        "a", "a/b", "a/b/c", "a/x", "a-b", "a-b/z", "a.txt", "b", "empty", "Ä", "Ä/ü"
    ]  # fmt: skip
    assert paths == sorted(paths, key=lambda path: path.split("/"))
    assert {item["name"] for item in items} == {path.rpartition("/")[2] for path in paths}
    kinds = {item["path"]: (item["type"], item["size"]) for item in items}
    assert kinds["a"] == ("directory", 0)
    assert kinds["a/x"] == ("file", 2)


def test_a_tree_of_a_folder_has_paths_from_the_work_dir_down(
    workspace: Workspace, work_dir: Path
) -> None:
    (work_dir / "a/b").mkdir(parents=True)
    (work_dir / "a/b/c").write_bytes(b"")
    for path in ("a", "./a/", "a//."):
        assert [item["path"] for item in workspace.tree(path)] == ["a/b", "a/b/c"]
    assert workspace.tree("") == workspace.tree(".") == workspace.tree("./")


@pytest.mark.parametrize(
    ("nanoseconds", "said"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_utc(workspace: Workspace, work_dir: Path, nanoseconds: int, said: str) -> None:
    (work_dir / "a").write_bytes(b"")
    os.utime(work_dir / "a", ns=(nanoseconds, nanoseconds))
    assert workspace.tree()[0]["modified_at"] == said


def test_links_and_special_files_are_not_listed(
    workspace: Workspace, work_dir: Path, outside: Path
) -> None:
    (work_dir / "link").symlink_to(outside)
    os.mkfifo(work_dir / "fifo")
    assert workspace.tree() == []
    with pytest.raises(InvalidPath, match="link"):
        workspace.tree("link")
    with pytest.raises(InvalidPath, match="not a folder"):
        workspace.tree("fifo")


@pytest.mark.parametrize("path", ["/", "..", "a/../..", "\0", "\ud800"])
def test_listings_of_invalid_paths_are_rejected(workspace: Workspace, path: str) -> None:
    with pytest.raises(InvalidPath):
        workspace.tree(path)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
def test_a_name_that_is_not_utf8_is_listed_by_its_wire_name(
    workspace: Workspace, work_dir: Path
) -> None:
    Path(os.fsdecode(os.fsencode(work_dir) + b"/bad\xff")).write_bytes(b"")
    (item,) = workspace.tree()
    assert item["name"] == item["path"] == "bad␦FF"


def test_too_many_entries_are_an_error_with_the_next_step(
    workspace: Workspace, work_dir: Path
) -> None:
    for name in ("few", "many"):
        (work_dir / name).mkdir()
    for number in range(8):
        (work_dir / "many" / str(number)).write_bytes(b"")
    assert len(workspace.tree(limit=10)) == 10
    with pytest.raises(InvalidPath, match=r"'\.' has more than 9 entries; list it in pages"):
        workspace.tree(limit=9)
    assert workspace.tree("few", limit=9) == []


def test_a_deep_tree_is_listed_with_few_descriptors_and_removed(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path
) -> None:
    depth = 1500
    make_chain(work_dir, depth)
    before = open_descriptors()
    with closing(tree.walk(workspace.descriptor)) as walk:
        most = max(open_descriptors() for _ in walk)
    assert most <= before + tree.MAX_OPEN_DIRECTORIES + 2
    items = workspace.tree()
    assert len(items) == 3 * depth
    assert [item["path"] for item in items[:2]] == ["d", "d/d"]
    assert items[-1]["path"] == "f"
    assert items[depth - 1]["path"] == "/".join("d" * depth)

    workspaces.remove(TASK)
    assert not work_dir.exists()
    assert staged(workspaces) == []
    assert open_descriptors() == before


def test_listings_with_very_long_paths_are_limited(workspace: Workspace, work_dir: Path) -> None:
    make_chain(work_dir, 300, "d" * 250)
    with pytest.raises(InvalidPath, match="too long for one listing; list it in pages"):
        workspace.tree()


def test_entries_may_disappear_during_a_walk(workspace: Workspace, work_dir: Path) -> None:
    with changing_folders(work_dir):
        for _ in range(100):
            assert len(workspace.tree()) >= 50
