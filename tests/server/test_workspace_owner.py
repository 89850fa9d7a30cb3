"""Work_dirs of a server that is not root, for which modes are permissions."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from beray.server.workspace.workspace import InvalidPath, Workspaces
from tests.work_dirs import TASK, put, read, staged

UID = 2_147_400_001


@pytest.fixture
def workspaces() -> Iterator[Workspaces]:
    # Directories of tmp_path are closed to other users.
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.chown(folder, UID, UID)
            os.seteuid(UID)
        yield Workspaces(folder / "workspaces")
    finally:
        if is_root:
            os.seteuid(0)
        for place, names, _ in os.walk(folder):
            for name in names:
                os.chmod(Path(place, name), 0o700)
        shutil.rmtree(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_upload_into_a_read_only_directory_can_be_repeated(workspaces: Workspaces) -> None:
    work_dir = workspaces.create(TASK)
    with workspaces.open(TASK) as workspace:
        for content in (b"first", b"second"):
            put(workspace, "tree/deep/file", content)
            workspace.make_directory("tree/deep", 0o555)
            workspace.make_directory("tree", 0o500)
            assert read(workspace, "tree/deep/file") == content
        put(workspace, "tree/deep/new/file", b"x")
        workspace.make_directory("tree/deep/empty")
    assert (mode(work_dir / "tree"), mode(work_dir / "tree/deep")) == (0o500, 0o555)
    assert sorted(os.listdir(work_dir / "tree/deep")) == ["empty", "file", "new"]
    assert staged(workspaces) == []


def test_concurrent_uploads_into_a_read_only_directory_keep_its_mode(
    workspaces: Workspaces,
) -> None:
    work_dir = workspaces.create(TASK)
    (work_dir / "closed").mkdir(mode=0o555)
    with workspaces.open(TASK) as workspace, ThreadPoolExecutor(8) as threads:
        names = [f"{number:03}" for number in range(200)]
        list(threads.map(lambda name: put(workspace, f"closed/{name}", b"x"), names))
    assert sorted(os.listdir(work_dir / "closed")) == names
    assert mode(work_dir / "closed") == 0o555


def test_a_directory_that_cannot_be_opened_is_named(workspaces: Workspaces) -> None:
    work_dir = workspaces.create(TASK)
    (work_dir / "closed").mkdir(mode=0o000)
    with workspaces.open(TASK) as workspace, pytest.raises(InvalidPath, match="'closed/x'"):
        put(workspace, "closed/x", b"x")
    assert mode(work_dir / "closed") == 0
    assert staged(workspaces) == []
