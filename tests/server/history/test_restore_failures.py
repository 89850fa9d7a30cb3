"""Restores that fail: they change nothing, or are undone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beray.server.workspace import tree
from beray.server.workspace.disk_quota import DiskQuota, InsufficientSpace
from beray.server.workspace.disk_usage import DiskLimits
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.restore import ChangeFailed, RestoreCancelled
from beray.server.workspace.history.restores import UndoFailed
from beray.server.workspace.safe_open import MissingPath
from tests.server.history.recorded_work_dir import (
    TASK,
    USER,
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)
from tests.server.history.two_states import (
    assert_nothing_staged,
    first_state,
    numbers,
    second_state,
    two_states,
)
from tests.small_disk import fill, mounted

MIB = 1024 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RecordedWorkDir]:
    """Work_dir on a file system of 24 MiB."""
    with mounted(tmp_path / "disk") as disk, recorded_work_dir(disk / "data") as work:
        yield work


def test_a_full_disk_changes_nothing(small: RecordedWorkDir) -> None:
    work = small
    (work.path / "a").write_bytes(bytes(1000) + os.urandom(4 * MIB))
    (work.path / "b").write_text("b")
    work.recorded()
    (work.path / "a").unlink()
    (work.path / "b").write_text("changed")
    work.recorded()
    before = state_of(work.path)
    filler = fill(work.data.parent)
    for paths in ([], ["a"], ["b"]):
        with pytest.raises(OSError) as caught:
            work.restore("c1", paths=paths)
        assert caught.value.errno == errno.ENOSPC
        assert state_of(work.path) == before
        assert_nothing_staged(work)
    # There is space for the contents, but not for the checkpoint after the restore.
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 64 * 1024)
    with pytest.raises(OSError, match="No space"):
        work.restore("c1", paths=["b"])
    assert state_of(work.path) == before
    filler.unlink()
    work.restore("c1", paths=["b"])
    assert (work.path / "b").read_text() == "b"
    work.restore("c1")
    assert (work.path / "a").stat().st_size == 4 * MIB + 1000


def quota(limits: DiskLimits) -> Callable[[Path], DiskQuota]:
    return lambda path: DiskQuota(path, limits)


def test_a_quota_changes_nothing(tmp_path: Path) -> None:
    limits = DiskLimits(10 * MIB, 20)
    with recorded_work_dir(tmp_path / "data", quota_of=quota(limits)) as work:
        for name in ("a", "b"):
            (work.path / name).write_bytes(os.urandom(4 * MIB))
        work.recorded()
        for name in ("a", "b"):
            (work.path / name).unlink()
        (work.path / "now").write_bytes(os.urandom(4 * MIB))
        work.recorded()
        before = state_of(work.path)
        work.workspaces.quota(TASK).forget()  # type: ignore[union-attr]
        with pytest.raises(InsufficientSpace):
            work.restore("c1", paths=["a", "b"])
        assert state_of(work.path) == before
        work.restore("c1", paths=["a"])
        # The whole state fits, because other files are removed.
        work.restore("c1")
        assert set(state_of(work.path)) == {b"a", b"b"}
        work.restore("c2")
        assert state_of(work.path) == before


def test_many_small_files_fit_into_a_quota(tmp_path: Path) -> None:
    """Files that are replaced need no further space, and neither do further names."""
    limits = DiskLimits(60 * 4096, 30)
    with recorded_work_dir(tmp_path / "data", quota_of=quota(limits)) as work:
        for number in range(29):
            (work.path / f"old{number}").write_text("old")
            (work.path / f"old{number}").chmod(0o600)
        work.recorded()
        for number in range(29):
            (work.path / f"old{number}").write_text("new")
            (work.path / f"old{number}").chmod(0o644)
        work.recorded()
        work.restore("c1")
        for number in range(29):
            (work.path / f"old{number}").rename(work.path / f"new{number}")
        work.recorded()
        work.restore("c1")
        assert set(os.listdir(work.path)) == {f"old{number}" for number in range(29)}


def test_a_sparse_file_gives_no_space_to_others(tmp_path: Path) -> None:
    limits = DiskLimits(6 * MIB, 100)
    with recorded_work_dir(tmp_path / "data", quota_of=quota(limits)) as work:
        (work.path / "a").write_bytes(os.urandom(4 * MIB))
        work.recorded()
        (work.path / "a").unlink()
        (work.path / "b").write_bytes(os.urandom(4 * MIB))
        with (work.path / "sparse").open("wb") as file:
            file.truncate(100 * MIB)
        work.recorded()
        work.workspaces.quota(TASK).forget()  # type: ignore[union-attr]
        with pytest.raises(InsufficientSpace):
            work.restore("c1", paths=["a", "sparse"])
        assert (work.path / "sparse").exists()


def test_a_failing_change_is_undone(unprivileged_work: RecordedWorkDir) -> None:
    """Everything is changed except for one file, which belongs to another user."""
    work = unprivileged_work
    first_state(work.path)
    (work.path / "m").mkdir()
    (work.path / "m" / "foreign").write_text("before")
    work.recorded()
    second_state(work.path)
    (work.path / "m" / "foreign").unlink()
    if not as_root(lambda: make_foreign(work.path / "m")):
        pytest.skip("only root can create files of other users")
    work.recorded()
    before = state_of(work.path)
    for paths in ([], ["m/foreign"], ["src", "m", "kind"]):
        with pytest.raises(ChangeFailed) as caught:
            work.restore("c1", paths=paths)
        assert caught.value.path == "m/foreign"
        assert state_of(work.path) == before
        assert_nothing_staged(work)
        assert numbers(work) == [1, 2]
    work.restore("c1", paths=["src", "kind"])
    assert (work.path / "kind").is_dir()
    as_root(lambda: tree.remove(work.path / "m"))


def make_foreign(folder: Path) -> None:
    """Create a file of root in a directory of root."""
    (folder / "foreign").write_text("now")
    os.chown(folder, 0, 0)
    folder.chmod(0o755)


def as_root(action: Callable[[], None]) -> bool:
    user = os.geteuid()
    try:
        os.seteuid(0)
    except PermissionError:
        return False
    try:
        action()
    finally:
        os.seteuid(user)
    return True


def test_an_immutable_file_is_not_half_restored(work: RecordedWorkDir) -> None:
    _, second = two_states(work)
    if os.system(f"chattr +i '{work.path}/only now' 2>/dev/null"):
        pytest.skip("the file system has no immutable files")
    try:
        with pytest.raises(ChangeFailed) as caught:
            work.restore("c1")
        assert caught.value.path == "only now"
        assert state_of(work.path) == second
        assert_nothing_staged(work)
    finally:
        os.system(f"chattr -i '{work.path}/only now'")
    work.restore("c1")


def test_a_cancelled_restore_changes_nothing(work: RecordedWorkDir) -> None:
    _, second = two_states(work)
    target = work.history.positions.find(TASK, "c1")
    with pytest.raises(RestoreCancelled):
        work.history.restores.restore(TASK, USER, target, seq=0, is_cancelled=lambda: True)
    assert state_of(work.path) == second
    assert_nothing_staged(work)
    assert numbers(work) == [1, 2]


def test_a_large_file_is_cancelled_while_it_is_copied(work: RecordedWorkDir) -> None:
    (work.path / "large").write_bytes(os.urandom(40 * MIB))
    row = work.recorded()
    calls = 0

    def is_cancelled() -> bool:
        nonlocal calls
        calls += 1
        return calls > 1

    work.workspaces.create(2)
    with pytest.raises(RestoreCancelled):
        work.history.restores.populate(2, USER, row.root, is_cancelled=is_cancelled)
    assert calls == 2
    assert list(work.workspaces.path(2).iterdir()) == []


def test_a_removed_task_ends_its_restore(work: RecordedWorkDir) -> None:
    two_states(work)
    target = work.history.positions.find(TASK, "c1")
    work.workspaces.remove(TASK)
    with pytest.raises(MissingPath):
        work.history.restores.restore(TASK, USER, target, seq=0)
    work.workspaces.create(TASK)


def test_an_interrupted_fork_without_its_content_is_reported(tmp_path: Path) -> None:
    """The task must not run with a part of its files."""
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "a").write_bytes(os.urandom(1000))
        row = work.recorded()
        work.workspaces.create(2)
        work.repositories.checkpoints.begin_restore(2, USER, row.root, None, "fork")
        (pack,) = work.pack_files()
        content = pack.read_bytes()
        pack.write_bytes(b"")
    with recorded_work_dir(tmp_path / "data") as work:
        assert work.history.recover({TASK: USER, 2: USER}) == [2]
        pack.write_bytes(content)
        assert work.history.recover({TASK: USER, 2: USER}) == []
        assert state_of(work.workspaces.path(2)) == state_of(work.path)
        assert_nothing_staged(work)


def test_recovery_survives_work_dirs_that_cannot_be_used(work: RecordedWorkDir) -> None:
    two_states(work)
    row = work.history.positions.find(TASK, "c1")
    for task in (2, 3):
        work.repositories.checkpoints.begin_restore(task, USER, row.root, None, "restore")
    work.workspaces.path(2).symlink_to("/")
    assert work.history.recover({2: USER, 3: USER}) == []
    pending = work.repositories.checkpoints.list_pending()
    assert [one.task_id for one in pending] == [2]
    assert state_of(work.workspaces.path(3))[b"src/a"][-1] == b"a"
    # The task was deleted.
    assert work.history.recover({3: USER}) == []
    assert_nothing_staged(work)


def test_damaged_content_changes_nothing(work: RecordedWorkDir) -> None:
    _, second = two_states(work)
    lose_content(work, "c1", b"src/a")
    with recorded_work_dir(work.data) as fresh:
        with pytest.raises(DamagedContent, match="'src/a' cannot be restored"):
            fresh.restore("c1")
        assert state_of(fresh.path) == second
        assert_nothing_staged(fresh)


def lose_content(work: RecordedWorkDir, position: str, path: bytes) -> None:
    """Remove the content of a file from the store, and nothing else."""
    digest = work.entries(work.history.positions.find(TASK, position))[path].digest
    work.repositories.blobs.delete(USER, [digest])


def test_a_failure_that_cannot_be_undone_is_reported(unprivileged: Path) -> None:
    with recorded_work_dir(unprivileged / "data") as work:
        (work.path / "a").write_text("before")
        (work.path / "m").mkdir()
        (work.path / "m" / "foreign").write_text("before")
        work.recorded()
        (work.path / "a").write_text("now")
        if not as_root(lambda: make_foreign(work.path / "m")):
            pytest.skip("only root can create files of other users")
        work.recorded()
        work.damage(work.entries(work.history.positions.find(TASK, "c2"))[b"a"].digest)
    with recorded_work_dir(unprivileged / "data") as work:
        with pytest.raises(UndoFailed, match="Permission denied"):
            work.restore("c1")
        assert (work.path / "a").read_text() == "before"
        as_root(lambda: tree.remove(work.path / "m"))
        work.restore("c1")
        assert_nothing_staged(work)


def test_a_checkpoint_that_cannot_be_stored_undoes_the_restore(tmp_path: Path) -> None:
    failing: list[OSError] = []

    def count_lines(*_: object) -> None:
        if failing:
            raise failing.pop()

    with recorded_work_dir(tmp_path / "data", count_lines=count_lines) as work:
        first, second = two_states(work)
        failing.append(OSError(errno.EIO, "the store failed"))
        with pytest.raises(OSError, match="the store failed"):
            work.restore("c1")
        assert state_of(work.path) == second
        assert numbers(work) == [1, 2]
        assert_nothing_staged(work)
        work.restore("c1")
        assert state_of(work.path) == first
