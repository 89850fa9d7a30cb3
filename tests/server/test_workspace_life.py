"""Creation and removal of work_dirs."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from beray.server.workspace.workspace import (
    ASIDE,
    InvalidPath,
    MissingPath,
    Workspace,
    Workspaces,
    open_work_dir,
)
from tests.work_dirs import TASK, put, staged

pytestmark = pytest.mark.usefixtures("resolution")


def test_a_work_dir_is_for_its_owner_alone(workspaces: Workspaces, work_dir: Path) -> None:
    assert work_dir == workspaces.path(TASK) == workspaces.root / "7"
    assert stat.S_IMODE(work_dir.stat().st_mode) == 0o700


def test_a_work_dir_of_another_database_is_moved_aside(
    workspaces: Workspaces, work_dir: Path
) -> None:
    (work_dir / "kept").write_text("1")
    number = int(work_dir.name)
    fresh = workspaces.create(number)
    assert fresh == work_dir and list(fresh.iterdir()) == []
    [aside] = (workspaces.root / ASIDE).iterdir()
    assert aside.name.startswith(f"{number}-")
    assert (aside / "kept").read_text() == "1"
    assert workspaces.existing() == {number}


def test_a_missing_directory_of_work_dirs_is_created_again(
    workspaces: Workspaces, work_dir: Path
) -> None:
    number = int(work_dir.name) + 1
    shutil.rmtree(workspaces.root)
    created = workspaces.create(number)
    with open_work_dir(created) as workspace, workspace.write("a") as writer:
        writer.write(b"1")
    assert (created / "a").read_bytes() == b"1"
    workspaces.remove(number)


def test_a_missing_work_dir_and_a_link_in_its_place_are_errors(
    workspaces: Workspaces, outside: Path
) -> None:
    with pytest.raises(MissingPath, match="work_dir of task 8"):
        workspaces.open(8)
    workspaces.path(8).symlink_to(outside)
    with pytest.raises(InvalidPath, match="link"):
        workspaces.open(8)
    workspaces.remove(8)
    assert not workspaces.path(8).is_symlink()


def test_removing_follows_no_link_and_can_be_repeated(
    workspaces: Workspaces, work_dir: Path, outside: Path
) -> None:
    (work_dir / "a").mkdir()
    (work_dir / "a/link").symlink_to(outside)
    (work_dir / "link").symlink_to(outside / "secret")
    os.mkfifo(work_dir / "a/fifo")
    for _ in range(2):
        workspaces.remove(TASK)
        assert sorted(os.listdir(workspaces.root)) == [".incoming"]
        assert staged(workspaces) == []


def test_a_server_starts_with_nothing_left_over_from_the_last(
    workspaces: Workspaces, workspace: Workspace
) -> None:
    writer = workspace.write("a")
    writer.write(b"half")
    (workspaces.root / ".incoming/grave/7/deep").mkdir(parents=True)
    again = Workspaces(workspaces.root)
    assert staged(again) == []
    assert again.path(TASK).is_dir()
    writer.discard()


def test_unreadable_directories_are_removed(unprivileged: Path) -> None:
    workspaces = Workspaces(unprivileged / "workspaces")
    work_dir = workspaces.create(TASK)
    (work_dir / "a/b/c").mkdir(parents=True)
    (work_dir / "a/b/file").write_bytes(b"")
    (work_dir / "a/b/file").chmod(0)
    for folder in ("a/b/c", "a/b", "a", "."):
        (work_dir / folder).chmod(0)
    with pytest.raises(PermissionError):
        os.listdir(work_dir)
    workspaces.remove(TASK)
    assert os.listdir(workspaces.root) == [".incoming"]
    assert staged(workspaces) == []


def test_unreadable_directories_are_listed_without_contents(
    unprivileged: Path,
) -> None:
    workspaces = Workspaces(unprivileged / "workspaces")
    work_dir = workspaces.create(TASK)
    (work_dir / "folder/inner").mkdir(parents=True)
    (work_dir / "file").write_bytes(b"x")
    (work_dir / "folder").chmod(0)
    (work_dir / "file").chmod(0)
    with workspaces.open(TASK) as workspace:
        assert [item["path"] for item in workspace.tree()] == ["file", "folder"]
        for path in ("file", "folder/inner"):
            with pytest.raises(InvalidPath, match="permission denied"):
                workspace.open_file(path)
        with pytest.raises(InvalidPath, match="permission denied"):
            put(workspace, "folder/new")
    work_dir.joinpath("folder").chmod(0o700)
