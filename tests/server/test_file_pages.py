"""Pages of listings: order, boundaries, and changes in between."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from beray.schema import FileItem
from beray.server.api import page_tokens
from beray.server.workspace import safe_open
from beray.server.workspace.workspace import InvalidPath, Workspace, Workspaces
from tests.work_dirs import TASK, changing_folders, make_chain, open_descriptors

pytestmark = pytest.mark.usefixtures("resolution")
NAMES = ["a", "a ", "a%2F", "a+b", "a-", "a.", "a b&c=d", "#", "?x", "'\"", "\\", "ä", "é", "日本", "\U0001f600",
         "\n", "\x01", "A", "-", "~", "a" * 255]  # fmt: skip


def pages(
    workspace: Workspace,
    path: str = ".",
    *,
    limit: int,
    depth: int | None = None,
    between: Callable[[], object] = lambda: None,
) -> Iterator[list[FileItem]]:
    """The pages of a listing, through tokens as a client gets them."""
    after: tuple[bytes, ...] = ()
    while True:
        page = workspace.page(path, limit=limit, depth=depth, after=after)
        yield page.items
        if page.end is None:
            return
        after = page_tokens.decode(page_tokens.encode(page.end))
        between()


def paths(items: list[FileItem]) -> list[str]:
    return [item["path"] for item in items]


def together(listed: Iterable[list[FileItem]]) -> list[FileItem]:
    return list(chain.from_iterable(listed))


def make_tree(work_dir: Path) -> None:
    """Folders in folders, empty ones, and files whose names sort around them."""
    for name in NAMES:
        (work_dir / "names").mkdir(exist_ok=True)
        (work_dir / "names" / name).write_bytes(b"1")
    for path in ("a/b/c", "a/b.txt", "a-b", "a/b/d/e/f", "b", "z/1", "z/2", "z/3"):
        (work_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (work_dir / path).write_bytes(b"12")
    for path in ("a/empty", "empty", "z/empty", "zz"):
        (work_dir / path).mkdir()
    (work_dir / "a/link").symlink_to(work_dir / "z")
    (work_dir / "link").symlink_to(work_dir / "b")
    os.mkfifo(work_dir / "y")


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 1000])
def test_the_pages_together_are_the_tree(workspace: Workspace, work_dir: Path, limit: int) -> None:
    make_tree(work_dir)
    before = open_descriptors()
    for path in (".", "a", "a/b", "empty", "names", "./z/"):
        whole = workspace.tree(path)
        listed = list(pages(workspace, path, limit=limit))
        assert together(listed) == whole
        assert [len(page) for page in listed[:-1]] == [limit] * (len(listed) - 1)
        # No page after the last entry, also where it is the last of a full page.
        assert len(listed) == max(1, -(-len(whole) // limit))
    assert open_descriptors() == before


@pytest.mark.parametrize("limit", [1, 2, 4, 1000])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_depth_excludes_deeper_entries(
    workspace: Workspace, work_dir: Path, depth: int, limit: int
) -> None:
    make_tree(work_dir)
    for path, own in ((".", 0), ("a", 1)):
        expected = [item for item in workspace.tree(path) if item["path"].count("/") - own < depth]
        assert together(pages(workspace, path, limit=limit, depth=depth)) == expected


def test_large_directories_are_listed_completely_and_once(
    workspace: Workspace, work_dir: Path
) -> None:
    names = [f"{number:04}" for number in range(500)]
    for name in random.Random(1).sample(names, len(names)):
        (work_dir / name).write_bytes(b"")
    (work_dir / "0100").unlink()
    (work_dir / "0100").mkdir()
    (work_dir / "0100/below").write_bytes(b"")
    expected = [*names[:101], "0100/below", *names[101:]]
    for limit in (1, 7, 250, 500, 501, 502):
        assert paths(together(pages(workspace, limit=limit))) == expected
    with pytest.raises(InvalidPath, match="more than 500 entries"):
        workspace.tree(limit=500)
    assert paths(workspace.tree(limit=501)) == expected


def test_permanent_entries_are_listed_once_during_changes(
    workspace: Workspace, work_dir: Path
) -> None:
    stable = [f"d{number}/{name}" for number in range(4) for name in ("c", "m", "x")]
    for path in stable:
        (work_dir / path).parent.mkdir(exist_ok=True)
        (work_dir / path).write_bytes(b"")
    choice = random.Random(2)
    passing: list[Path] = []

    def change() -> None:
        for path in passing:
            path.rmdir() if path.is_dir() else path.unlink()
        passing.clear()
        for folder in ("", "d0", "d1", "d2", "d3"):
            for letter in choice.sample("abdefghijklnopqrstuvwyz", 5):
                path = work_dir / folder / f"{letter}-passing"
                path.mkdir() if choice.random() < 0.5 else path.write_bytes(b"")
                passing.append(path)

    for limit in (1, 2, 3, 5):
        listed = paths(together(pages(workspace, limit=limit, between=change)))
        assert listed == sorted(listed, key=lambda path: path.split("/"))
        assert len(listed) == len(set(listed))
        assert [path for path in listed if path.endswith(("/c", "/m", "/x"))] == stable


@pytest.mark.parametrize("instead", ["nothing", "file", "link", "no folder above"])
def test_a_page_can_start_after_a_removed_entry(
    workspace: Workspace, work_dir: Path, tmp_path: Path, instead: str
) -> None:
    for path in ("a", "d/e/f/g", "d/e/z", "d/x", "q"):
        (work_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (work_dir / path).write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_bytes(b"")
    (work_dir / "d/e/f/g").unlink()
    (work_dir / "d/e/f").rmdir()
    if instead == "file":
        (work_dir / "d/e/f").write_bytes(b"")
    elif instead == "link":
        (work_dir / "d/e/f").symlink_to(tmp_path / "elsewhere")
    elif instead == "no folder above":
        (work_dir / "d/e/z").unlink()
        (work_dir / "d/e").rmdir()
    rest = workspace.page(limit=10, after=(b"d", b"e", b"f", b"g"))
    assert paths(rest.items) == (["d/x", "q"] if "above" in instead else ["d/e/z", "d/x", "q"])


def test_a_position_deeper_than_the_depth_counts_by_its_beginning(
    workspace: Workspace, work_dir: Path
) -> None:
    make_tree(work_dir)
    page = workspace.page("a", limit=10, depth=1, after=(b"b", b"d", b"e"))
    assert paths(page.items) == ["a/b.txt", "a/empty"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
def test_pages_continue_after_names_that_are_not_utf8(workspace: Workspace, work_dir: Path) -> None:
    raw = [b"\x80", b"a\xff", b"a\xff\xfe", "a\ufffd".encode(), "\U0001f600".encode(), b"\xfe"]
    for name in raw:
        Path(os.fsdecode(os.fsencode(work_dir) + b"/" + name)).write_bytes(b"")
    whole = workspace.tree()
    assert len(whole) == len(raw)
    for limit in (1, 2, 5, 6):
        assert together(pages(workspace, limit=limit)) == whole


def test_a_deep_tree_is_listed_in_pages_with_few_descriptors(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path
) -> None:
    make_chain(work_dir, 1500)
    before = open_descriptors()
    assert together(pages(workspace, limit=1000)) == workspace.tree()
    assert open_descriptors() == before
    workspaces.remove(TASK)  # pytest cannot remove it


def test_trees_are_listed_down_to_the_longest_usable_path(
    workspace: Workspace, work_dir: Path
) -> None:
    name = "d" * 250
    make_chain(work_dir, 300, name)
    listed = paths(together(pages(workspace, limit=7)))
    levels = safe_open.MAX_PATH_BYTES // (len(name) + 1) + 1
    assert len(listed) == 3 * levels
    # The last ones show that there is more than a call can name.
    assert max(map(len, listed)) > safe_open.MAX_PATH_BYTES
    assert workspace.page("/".join([name] * 16), limit=7, depth=1).items != []
    with pytest.raises(InvalidPath, match="too long"):
        workspace.page("/".join([name] * 17), limit=7)


def test_unreadable_directories_are_listed_without_their_contents(
    unprivileged: Path,
) -> None:
    for path in ("1", "locked/x", "names/x", "open/x", "z"):
        (unprivileged / path).parent.mkdir(exist_ok=True)
        (unprivileged / path).write_bytes(b"")
    (unprivileged / "locked").chmod(0)
    (unprivileged / "names").chmod(0o400)  # its names can be read, and nothing else
    descriptor = os.open(unprivileged, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Workspace(descriptor, unprivileged, "1") as workspace:
            expected = ["1", "locked", "names", "open", "open/x", "z"]
            assert paths(workspace.tree()) == expected
            for limit in (1, 2, 100):
                assert paths(together(pages(workspace, limit=limit))) == expected
            for folder in ("locked", "names"):
                with pytest.raises(InvalidPath, match=f"'{folder}' .*permission denied"):
                    workspace.page(folder, limit=10)
                assert paths(workspace.page(limit=10, after=(folder.encode(), b"a")).items)[0] in (
                    "names", "open"
                )  # fmt: skip
    finally:
        (unprivileged / "locked").chmod(0o700)
        (unprivileged / "names").chmod(0o700)


def test_entries_may_disappear_while_pages_are_read(workspace: Workspace, work_dir: Path) -> None:
    with changing_folders(work_dir):
        for _ in range(20):
            listed = paths(together(pages(workspace, limit=7)))
            assert len(listed) == len(set(listed))
            assert {str(number) for number in range(50)} <= set(listed)


@pytest.mark.parametrize(
    "token",
    ["", "=", "a", "YQ==", "Y Q", "é", "YR", "L2E", "YS8", "Li4", "Lg", "AA", "a+b/", "YS8vYg"],
)
def test_foreign_page_tokens_are_rejected(token: str) -> None:
    with pytest.raises(InvalidPath, match="not a position of this listing"):
        page_tokens.decode(token)
