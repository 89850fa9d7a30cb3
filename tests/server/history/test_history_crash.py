"""SIGKILL at every point of a checkpoint, a restore, a fork and a collection: nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beray.server.storage.tasks import TaskSpec
from tests.server.history.killed_process import runs_to_end
from tests.server.history.recorded_work_dir import (
    TASK,
    USER,
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)

FORK = 2
STRIDES = pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.long)])
Operation = Callable[[RecordedWorkDir], Any]


def first_state(path: Path) -> None:
    (path / "kept").write_text("kept")
    (path / "changed").write_text("before")
    (path / "large").write_bytes(os.urandom(1_100_000))
    (path / "folder" / "deep").mkdir(parents=True)
    (path / "folder" / "deep" / "file").write_text("deep")
    (path / "becomes a folder").write_text("file")
    (path / "link").symlink_to("kept")
    (path / "empty").mkdir(mode=0o750)


def second_state(path: Path) -> None:
    (path / "changed").write_text("after")
    (path / "large").write_bytes(os.urandom(1_100_000))
    shutil.rmtree(path / "folder")
    (path / "becomes a folder").unlink()
    (path / "becomes a folder").mkdir()
    (path / "becomes a folder" / "new").write_text("new")
    (path / "link").unlink()
    (path / "link").write_text("no link")
    (path / "kept").chmod(0o600)
    (path / "empty").rmdir()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return a data directory with two checkpoints, and the states of the work_dir in them."""
    data = tmp_path_factory.mktemp("template") / "data"
    with recorded_work_dir(data) as work:
        first_state(work.path)
        work.recorded()
        states = [state_of(work.path)]
        second_state(work.path)
        work.recorded()
        states.append(state_of(work.path))
    return data, states


def killed_at_points(
    template: Path,
    directory: Path,
    operation: Operation,
    check: Callable[[RecordedWorkDir], None],
    stride: int,
) -> int:
    """Kill an operation at each point, let the next server recover, and check the result.

    Args:
        template: Data directory before the operation.
        directory: Directory for copies of it.
        operation: The operation.
        check: Checks the work_dir after the recovery.
        stride: Distance of the points; 1 for all.

    Returns:
        Number of points.
    """

    def run(begin: Callable[[], None]) -> None:
        with recorded_work_dir(data) as work:
            begin()
            operation(work)

    point = 1 - stride
    while True:
        point += stride
        data = directory / str(point)
        shutil.copytree(template, data, symlinks=True)
        ended = runs_to_end(run, point)
        with recorded_work_dir(data) as work:
            work.history.recover({TASK: USER, FORK: USER})
            check(work)
            assert_no_leftovers(work)
        shutil.rmtree(data)
        if ended:
            return point


def assert_no_leftovers(work: RecordedWorkDir) -> None:
    """Check that every pack has a row and an object, and that nothing is staged."""
    assert work.repositories.blobs.list_unstored() == []
    assert work.repositories.checkpoints.list_pending() == []
    work.history.collect(USER)
    work.store.remove_orphans()
    assert len(work.pack_files()) == len(work.repositories.blobs.pack_use(USER))
    assert not (work.workspaces.root / ".restoring" / str(TASK)).exists()


def assert_restorable(work: RecordedWorkDir, states: list[Any]) -> None:
    for number, state in enumerate(states, start=1):
        work.restore(f"c{number}")
        assert state_of(work.path) == state


@STRIDES
def test_kill_during_a_checkpoint(
    template: tuple[Path, list[Any]], tmp_path: Path, stride: int
) -> None:
    data, states = template

    def operation(work: RecordedWorkDir) -> None:
        (work.path / "third").write_text("third")
        work.recorded()

    def check(work: RecordedWorkDir) -> None:
        now = state_of(work.path)
        work.record()
        newest = work.history.positions.find(TASK, None)
        assert_restorable(work, states)
        work.restore(f"c{newest.number}")
        assert state_of(work.path) == now

    assert killed_at_points(data, tmp_path, operation, check, stride) > 10


@STRIDES
def test_kill_during_a_restore(
    template: tuple[Path, list[Any]], tmp_path: Path, stride: int
) -> None:
    data, states = template
    found = []

    def check(work: RecordedWorkDir) -> None:
        found.append(states.index(state_of(work.path)))
        assert_restorable(work, states)

    points = killed_at_points(data, tmp_path, lambda work: work.restore("c1"), check, stride)
    assert points > 30
    # Once the restore has begun to change files, it is always completed.
    assert found == sorted(found, reverse=True)
    assert set(found) == {0, 1}


@STRIDES
def test_kill_during_a_fork(template: tuple[Path, list[Any]], tmp_path: Path, stride: int) -> None:
    data, states = template

    def operation(work: RecordedWorkDir) -> None:
        root = work.history.positions.find(TASK, "c1").root
        user = work.repositories.user_id()
        assert user == USER
        work.repositories.tasks.create(user, TaskSpec("!true"), held=True)
        task = work.repositories.tasks.create(
            user, TaskSpec("!true"), held=False, initial_state=root
        )
        assert task.id == FORK
        work.workspaces.create(FORK)
        work.history.restores.populate(FORK, USER, root)

    def check(work: RecordedWorkDir) -> None:
        assert_restorable(work, states)
        task = work.repositories.tasks.get(FORK)
        if task is not None:
            assert state_of(work.workspaces.path(FORK)) == states[0]

    assert killed_at_points(data, tmp_path, operation, check, stride) > 30


@STRIDES
def test_kill_during_a_collection(
    template: tuple[Path, list[Any]], tmp_path: Path, stride: int
) -> None:
    data, states = template

    def operation(work: RecordedWorkDir) -> None:
        work.repositories.checkpoints.delete(TASK, [1])
        work.history.collect(USER)

    def check(work: RecordedWorkDir) -> None:
        work.restore("c2")
        assert state_of(work.path) == states[1]

    assert killed_at_points(data, tmp_path, operation, check, stride) > 5
