"""Forks copy files from the work_dir of the other task, if these have not changed."""

from __future__ import annotations

import os
from pathlib import Path

from beray.server.storage.tasks import TaskSpec
from tests.server.history.recorded_work_dir import (
    TASK,
    USER,
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)

LARGE = os.urandom(12 * 1024 * 1024)


def fork(work: RecordedWorkDir) -> Path:
    """Fork the newest checkpoint to a new task; return its work_dir."""
    user = work.repositories.user_id()
    assert user == USER
    root = work.history.positions.find(TASK, None).root
    task = work.repositories.tasks.create(user, TaskSpec("!true"), held=True, initial_state=root)
    if task.id == TASK:
        task = work.repositories.tasks.create(
            user, TaskSpec("!true"), held=True, initial_state=root
        )
    work.workspaces.create(task.id)
    work.history.restores.populate(task.id, USER, root, source=TASK)
    return work.workspaces.path(task.id)


def settle(path: Path) -> None:
    """Give the files times in the past, so that their signatures are certain."""
    for file in path.rglob("*"):
        os.utime(file, (1, 1))


def test_files_that_have_not_changed_are_copied(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "large").write_bytes(LARGE)
        (work.path / "small").write_text("small")
        settle(work.path)
        work.recorded()
        work.record()  # reads again what was written just before the first checkpoint
        state = state_of(work.path)
        for pack in work.pack_files():
            if pack.stat().st_size > 8 * 1024 * 1024:
                pack.unlink()
        assert state_of(fork(work)) == state


def test_a_file_that_was_changed_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "large").write_bytes(LARGE)
        (work.path / "small").write_text("small")
        (work.path / "folder").mkdir()
        (work.path / "folder" / "file").write_text("file")
        settle(work.path)
        work.recorded()
        state = state_of(work.path)
        (work.path / "large").write_bytes(b"other" + LARGE)
        (work.path / "small").unlink()
        (work.path / "small").symlink_to("/etc/passwd")
        (work.path / "folder" / "file").unlink()
        (work.path / "folder").rmdir()
        (work.path / "folder").symlink_to("/etc")
        assert state_of(fork(work)) == state


def test_without_the_state_in_memory_files_are_read_from_the_checkpoint(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "large").write_bytes(LARGE)
        work.recorded()
        state = state_of(work.path)
    with recorded_work_dir(tmp_path / "data") as work:
        assert state_of(fork(work)) == state
