"""Hints about changed paths: from reports of the operating system to checkpoints."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from beray.server.workspace import watcher
from beray.server.workspace.watcher import MAX_CHANGED_PATHS, ChangedPaths, FileWatcher
from beray.server.workspace.workspace import Workspaces
from beray.transfers.wire_names import ANY_BYTES
from tests.server.history.recorded_work_dir import RecordedWorkDir, recorded_work_dir

Paths = set[tuple[bytes, ...]] | None


# The set of paths


def collecting() -> ChangedPaths:
    """Return the paths after the first call of ``take``, from which on they are complete."""
    paths = ChangedPaths()
    assert paths.take(is_complete=True) is None
    return paths


def test_paths_are_taken_once() -> None:
    paths = collecting()
    paths.add(["a", "b"])
    paths.add(["a", "b"])
    paths.add(["c"])
    assert paths.take(is_complete=True) == {(b"a", b"b"), (b"c",)}
    assert paths.take(is_complete=True) == set()


def test_paths_before_the_first_take_are_unknown() -> None:
    paths = ChangedPaths()
    paths.add(["a"])
    assert paths.take(is_complete=True) is None
    assert paths.take(is_complete=True) == set()


def test_lost_changes_make_every_path_possible() -> None:
    paths = collecting()
    paths.add(["a"])
    paths.lose()
    paths.add(["b"])
    assert paths.take(is_complete=True) is None
    paths.add(["c"])
    assert paths.take(is_complete=True) == {(b"c",)}


def test_an_incomplete_take_is_followed_by_another_one() -> None:
    paths = collecting()
    paths.add(["a"])
    assert paths.take(is_complete=False) is None
    paths.add(["b"])
    # A change between both may be reported late.
    assert paths.take(is_complete=True) is None
    paths.add(["c"])
    assert paths.take(is_complete=True) == {(b"c",)}


def test_too_many_paths_are_not_reliable() -> None:
    paths = collecting()
    for number in range(MAX_CHANGED_PATHS):
        paths.add([str(number)])
    paths.add(["0"])
    paths.add([str(MAX_CHANGED_PATHS)])
    assert paths.take(is_complete=True) is None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["a", "caf\ufffd"], (b"a",)),
        (["caf\ufffd", "a"], ()),
        (["caf\ufffd"], ()),
        ([], ()),
        (["né", "\U0001f600"], ("né".encode(), "\U0001f600".encode())),
    ],
)
def test_names_that_are_not_exact(parts: list[str], expected: tuple[bytes, ...]) -> None:
    paths = collecting()
    paths.add(parts)
    assert paths.take(is_complete=True) == {expected}


# Reports of the operating system


@asynccontextmanager
async def watching(root: Path) -> AsyncIterator[FileWatcher]:
    """Watch a directory of work_dirs; return when changes are reported."""
    files = FileWatcher(root)
    files.start()
    try:
        await synchronized(files)
        yield files
    finally:
        await files.close()


async def synchronized(files: FileWatcher) -> None:
    """Wait until the changes so far were reported, however loaded the machine is."""
    while not await files.synchronize():
        continue


async def test_synchronize_needs_a_running_watcher(workspaces: Workspaces) -> None:
    files = FileWatcher(workspaces.root)
    assert not await files.synchronize()
    files.start()
    await files.close()
    assert not await files.synchronize()
    assert os.listdir(workspaces.root / ".incoming") == []


async def test_changes_before_synchronize_are_reported(
    workspaces: Workspaces, work_dir: Path
) -> None:
    (work_dir / "old" / "inner").mkdir(parents=True)
    other = workspaces.create(8)
    async with watching(workspaces.root) as files:
        with files.collecting(work_dir) as paths:
            await synchronized(files)
            assert paths.take(is_complete=True) is None
            for number in range(20):
                (work_dir / f"new{number}").touch()
                (work_dir / "old" / "inner" / "file").write_text(f"{number}")
                (other / "other").write_text(f"{number}")
                await synchronized(files)
                found = paths.take(is_complete=True)
                assert found is not None
                assert {(f"new{number}".encode(),), (b"old", b"inner", b"file")} <= found
                assert (b"other",) not in found
    assert os.listdir(workspaces.root / ".incoming") == []


async def test_concurrent_synchronizations(workspaces: Workspaces) -> None:
    async with watching(workspaces.root) as files:
        await asyncio.gather(*(synchronized(files) for _ in range(50)))


async def test_a_missing_directory_for_marks(workspaces: Workspaces, work_dir: Path) -> None:
    async with watching(workspaces.root) as files:
        shutil.rmtree(workspaces.root / ".incoming")
        assert not await files.synchronize()


async def test_more_changes_than_the_system_reports(workspaces: Workspaces, work_dir: Path) -> None:
    async with watching(workspaces.root) as files:
        with files.collecting(work_dir) as paths:
            paths.take(is_complete=True)
            for number in range(3 * MAX_CHANGED_PATHS):
                (work_dir / str(number)).touch()
            await synchronized(files)
            assert paths.take(is_complete=True) is None


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
async def test_a_name_that_is_not_utf8_ends_the_watcher_for_a_time_only(
    workspaces: Workspaces, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(watcher, "RESTART_PAUSE_FACTOR", 0)
    monkeypatch.setattr(watcher, "POLL_SECONDS", 0.01)
    other = workspaces.create(8)
    async with watching(workspaces.root) as files:
        with files.collecting(work_dir) as paths, files.collecting(other) as other_paths:
            await synchronized(files)
            for one in (paths, other_paths):
                one.take(is_complete=True)
            name = os.path.join(os.fsencode(work_dir), b"caf\xe9")
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
            # Any path may have changed meanwhile.
            while paths.take(is_complete=await files.synchronize()) is not None:
                continue
            await synchronized(files)
            other_paths.take(is_complete=True)
            (other / "later").touch()
            await synchronized(files)
            assert other_paths.take(is_complete=True) == {(b"later",)}


# Checkpoints from reports


def change_at_random(path: Path, chance: random.Random) -> None:
    """Make some changes, with nested and renamed directories."""
    names = ["a", "b", "c", "né\ufffd"]
    for _ in range(chance.randint(1, 6)):
        one, other = (
            path / "/".join(chance.choice(names) for _ in range(chance.randint(1, 4)))
            for _ in range(2)
        )
        with suppress(OSError):
            match chance.randint(0, 6):
                case 0 | 1:
                    one.parent.mkdir(parents=True, exist_ok=True)
                    one.write_text(f"{chance.random()}")
                case 2:
                    one.mkdir(parents=True)
                    (one / "quick").write_text("quick")
                case 3:
                    shutil.rmtree(one) if one.is_dir() else one.unlink()
                case 4:
                    one.rename(other)
                case 5:
                    one.chmod(chance.choice([0o700, 0o755, 0o750]))
                case 6:
                    with one.open("a") as file:
                        file.write("more")


async def test_reported_paths_lead_to_complete_checkpoints(tmp_path: Path) -> None:
    chance = random.Random(11)
    with recorded_work_dir(tmp_path / "data") as work:
        async with watching(work.workspaces.root) as files:
            with files.collecting(work.path) as paths:
                for _ in range(80):
                    change_at_random(work.path, chance)
                    await record_reported(work, files, paths)


async def record_reported(work: RecordedWorkDir, files: FileWatcher, paths: ChangedPaths) -> None:
    """Record what was reported, and check that a comparison of all files finds nothing else."""
    await synchronized(files)
    hints = paths.take(is_complete=True)
    await asyncio.to_thread(record, work, hints)
    assert await asyncio.to_thread(record, work, None) is None, hints


def record(work: RecordedWorkDir, paths: Paths) -> object:
    work.seq += 1
    return work.history.record(1, 1, seq=work.seq, reason="step", paths=paths)


async def test_files_in_new_directories_are_found(tmp_path: Path) -> None:
    """Directories that appear faster than they can be watched."""
    with recorded_work_dir(tmp_path / "data") as work:
        async with watching(work.workspaces.root) as files:
            with files.collecting(work.path) as paths:
                await record_reported(work, files, paths)
                for number in range(30):
                    deep = work.path / f"{number}" / "/".join("abcdefgh")
                    deep.mkdir(parents=True)
                    (deep / "file").write_text("file")
                    await record_reported(work, files, paths)
                    (deep / "file").write_text("changed")
                    (deep.parent / "file").write_text("new")
                    await record_reported(work, files, paths)


async def test_a_tree_that_is_moved_in_and_out(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        outside = tmp_path / "outside"
        (outside / "x" / "y").mkdir(parents=True)
        (outside / "x" / "y" / "file").write_text("file")
        async with watching(work.workspaces.root) as files:
            with files.collecting(work.path) as paths:
                await record_reported(work, files, paths)
                for _ in range(10):
                    outside.rename(work.path / "in")
                    await record_reported(work, files, paths)
                    (work.path / "in" / "x" / "y" / "file").write_text("changed")
                    await record_reported(work, files, paths)
                    (work.path / "in").rename(work.path / "again")
                    await record_reported(work, files, paths)
                    (work.path / "again" / "x" / "y" / "file").write_text("changed again")
                    await record_reported(work, files, paths)
                    (work.path / "again").rename(outside)
                    await record_reported(work, files, paths)
                    (outside / "x" / "y" / "file").write_text("not in the work_dir")
