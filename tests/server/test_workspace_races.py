"""A task that swaps its folders for links, all the time, gets nothing out and nothing in."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beray.server.workspace import tree
from beray.server.workspace.workspace import InvalidPath, MissingPath, Workspace, Workspaces

ROUNDS = 2000


pytestmark = pytest.mark.usefixtures("resolution")


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    work_dir = Workspaces(tmp_path / "workspaces").create(1)
    (work_dir / "a/b").mkdir(parents=True)
    (work_dir / "a/b/file").write_bytes(b"inside")
    return work_dir


@pytest.fixture
def workspace(work_dir: Path) -> Iterator[Workspace]:
    # Not through a new Workspaces: it would empty what is under way.
    descriptor = os.open(work_dir, os.O_RDONLY)
    incoming = work_dir.parent / ".incoming"
    with Workspace(descriptor, incoming, work_dir.name) as workspace:
        yield workspace
    assert os.listdir(incoming) == []


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    (outside / "file").write_bytes(b"secret")
    (outside / "b/file").write_bytes(b"secret")
    yield outside
    found = {str(path.relative_to(outside)) for path in outside.rglob("*")}
    assert found == {"b", "file", "b/file"}
    assert (outside / "file").read_bytes() == (outside / "b/file").read_bytes() == b"secret"


@contextmanager
def swapping(real: Path, target: Path) -> Iterator[Callable[[], int]]:
    """Swap ``real`` with a link to ``target`` until the block ends; gives the swaps so far."""
    link, aside = real.with_name("link"), real.with_name("aside")
    link.symlink_to(target)
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            os.rename(real, aside)
            _rename(link, real)
            os.rename(real, link)
            _rename(aside, real)
            swaps += 1

    def count() -> int:
        assert thread.is_alive()
        return swaps

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def _rename(source: Path, target: Path) -> None:
    while True:
        try:
            return os.rename(source, target)
        except OSError:
            # An upload has made a folder by this name in the gap.
            shutil.rmtree(target, ignore_errors=True)


@pytest.fixture(params=["a", "a/b", "a/b/file"])
def swapped(request: pytest.FixtureRequest, work_dir: Path, outside: Path) -> tuple[Path, Path]:
    """Return a path in the work_dir and the outside path that replaces it."""
    inside: str = request.param
    return work_dir / inside, {"a": outside, "a/b": outside / "b"}.get(inside, outside / "file")


def test_reading_never_gives_a_byte_from_outside(
    workspace: Workspace, swapped: tuple[Path, Path]
) -> None:
    seen = {"read": 0, "refused": 0}
    with swapping(*swapped) as swaps:
        while sum(seen.values()) < ROUNDS or swaps() < 100 or not all(seen.values()):
            try:
                file, _ = workspace.open_file("a/b/file")
            except (InvalidPath, MissingPath):
                seen["refused"] += 1
            else:
                with file:
                    assert file.read() == b"inside"
                seen["read"] += 1


def test_writing_never_puts_a_byte_outside(
    workspace: Workspace, swapped: tuple[Path, Path]
) -> None:
    seen = {"written": 0, "refused": 0}
    with swapping(*swapped) as swaps:
        # Not until both were seen: an upload can replace the link itself, for good.
        while sum(seen.values()) < ROUNDS // 20 or swaps() < 100:
            try:
                with workspace.write("a/b/file") as writer:
                    writer.write(b"inside")
            except (InvalidPath, MissingPath):
                seen["refused"] += 1
            else:
                seen["written"] += 1


def test_listing_never_tells_a_name_from_outside(
    workspace: Workspace, work_dir: Path, outside: Path
) -> None:
    for name in ("a", "b"):
        (work_dir / "x" / name).mkdir(parents=True)
    known = {"a", "b", "x", "file", "aside"}
    listed = 0
    with swapping(work_dir / "x", outside.parent) as swaps:
        while listed < ROUNDS // 4 or swaps() < 100:
            assert {item["name"] for item in workspace.tree()} <= known
            listed += 1


@pytest.mark.parametrize("kind", ["removed", "file", "link", "filled"])
def test_an_entry_that_changes_during_a_removal_is_looked_at_again(
    workspaces: Workspaces, outside: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = workspaces.create(2)
    (path / "folder" / "inner").mkdir(parents=True)
    grant, changed = tree.grant_owner_access, list[str]()

    def change_afterwards(directory: int, name: str) -> bool:
        is_directory = grant(directory, name)
        if name == "inner" and not changed:
            changed.append(name)
            if kind == "filled":
                os.mkdir("another", dir_fd=directory)
                return is_directory
            os.rmdir(name, dir_fd=directory)
            if kind == "file":
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=directory))
            elif kind == "link":
                os.symlink(outside, name, dir_fd=directory)
        return is_directory

    monkeypatch.setattr(tree, "grant_owner_access", change_afterwards)
    workspaces.remove(2)
    assert changed and not path.exists()


def test_removing_while_a_folder_becomes_a_link_removes_nothing_outside(
    work_dir: Path, outside: Path
) -> None:
    workspaces = Workspaces(work_dir.parent)
    stop = threading.Event()

    def swap() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            folder = workspaces.path(2) / str(number % 7)
            try:
                folder.mkdir()
                folder.rmdir()
                folder.symlink_to(outside)
                folder.unlink()
            except FileNotFoundError:
                continue
            except FileExistsError:
                folder.unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(ROUNDS // 10):
            (workspaces.create(2) / "folder").mkdir()
            workspaces.remove(2)
    finally:
        stop.set()
        thread.join()
