"""Checkpoints from reported paths: they contain what a comparison of all files finds."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from beray.server.workspace.history.file_contents import RACY_NS
from tests.server.history.recorded_work_dir import RecordedWorkDir
from tests.support import until

Change = Callable[[Path], object]


def first_state(path: Path) -> None:
    for name in ("a/1", "a/2", "a/b/3", "a/b/c/4", "d/5", "e"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (path / "empty").mkdir()


def rename(old: str, new: str) -> Change:
    return lambda path: (path / old).rename(path / new)


def removed(name: str, then: Change = lambda _: None) -> Change:
    def change(path: Path) -> None:
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink()
        then(path)

    return change


def written(name: str) -> Change:
    def change(path: Path) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("written")

    return change


def linked(name: str, target: str) -> Change:
    return lambda path: (path / name).symlink_to(target)


@pytest.mark.parametrize(
    ("change", "hints"),
    [
        (written("new"), ["new"]),
        (written("new/x/y/z"), ["new"]),
        (written("new/x/y/z"), ["new/x/y/z"]),
        (written("new/x/y/z"), ["new/x", "new/x/y/z", "new/x/y/z/none"]),
        (written("a/b/3"), ["a/b/3"]),
        (written("a/b/3"), ["a", "a/b", "a/b/3"]),
        (written("a/b/3"), ["a/b"]),
        (rename("a", "z"), ["a", "z"]),
        (rename("a", "z"), ["a/b/c/4", "a/1", "z"]),
        (rename("a/b", "b"), ["a/b", "b"]),
        (rename("a/b", "d/b"), ["a/b", "d/b/c"]),
        (rename("e", "empty/e"), ["e", "empty/e"]),
        (removed("a"), ["a"]),
        (removed("a"), ["a/b/c/4"]),
        (removed("a"), ["a/none/none"]),
        (removed("a/b/c"), ["a/b/c", "a/b/c/4"]),
        (removed("a", written("a")), ["a"]),
        (removed("a", written("a")), ["a/b/c/4"]),
        (removed("e", written("e/inner")), ["e"]),
        (removed("e", written("e/inner")), ["e/inner"]),
        (removed("a", written("a/b/c/new")), ["a"]),
        (removed("a", written("a/b/c/new")), ["a/1", "a/2", "a/b/3", "a/b/c"]),
        (removed("a", linked("a", "d")), ["a"]),
        (removed("a", linked("a", "d")), ["a/b/3"]),
        (removed("a", linked("a", "../../outside")), ["a/b/3", "a/1"]),
        (removed("empty"), ["empty"]),
        (removed("empty", written("empty")), ["empty"]),
        (lambda path: (path / "a/b").chmod(0o700), ["a/b"]),
        (lambda path: (path / "e").chmod(0o600), ["e"]),
        (lambda path: os.mkfifo(path / "a/fifo"), ["a/fifo"]),
        (written("a/new"), ["."]),
        (lambda _: None, ["none", "a/none", "none/none/none", "e/none", "e/none/none"]),
        (lambda _: None, ["a/1", "d", "empty"]),
    ],
)
def test_hints_find_what_a_full_comparison_finds(
    work: RecordedWorkDir, change: Change, hints: list[str]
) -> None:
    first_state(work.path)
    (work.data / "outside").mkdir()
    (work.data / "outside" / "1").write_text("outside")
    work.recorded()
    change(work.path)
    row = work.record(*([] if hints == ["."] else hints))
    # The same state, without knowledge of the one before.
    assert_complete(work, row and row.checkpoint.root)


def assert_complete(work: RecordedWorkDir, root: bytes | None) -> None:
    """Check that a manifest is that of all files; None: that of the newest checkpoint."""
    newest = work.history.positions.find(1, None)
    if root is not None:
        assert newest.root == root
    fresh = work.repositories.checkpoints.newest(1)
    assert fresh is not None
    work.history.delete_of_task(1)  # forgets the known state
    assert work.recorded().root == newest.root


def test_random_changes_with_hints(work: RecordedWorkDir) -> None:
    """Hints of all changed paths are enough, in any order and with paths that never existed."""
    chance = random.Random(7)
    names = ["a", "b", "c"]

    def path() -> str:
        return "/".join(chance.choice(names) for _ in range(chance.randint(1, 4)))

    work.recorded()
    for _ in range(150):
        hints: list[str] = [path()]
        for _ in range(chance.randint(1, 4)):
            changed, target = path(), path()
            hints.append(changed)
            with suppress(OSError):
                match chance.randint(0, 4):
                    case 0:
                        written(changed)(work.path)
                        hints[-1:] = ["/".join(changed.split("/")[:n]) for n in range(1, 6)]
                    case 1:
                        removed(changed)(work.path)
                    case 2:
                        rename(changed, target)(work.path)
                        hints.append(target)
                    case 3:
                        (work.path / changed).mkdir(parents=True)
                        hints[-1:] = ["/".join(changed.split("/")[:n]) for n in range(1, 6)]
                    case 4:
                        linked(changed, target)(work.path)
        chance.shuffle(hints)
        work.record(*hints)
        newest = work.history.positions.find(1, None)
        assert work.record() is None, (hints, work.entries(newest))


def wait_for_distinct_times(path: Path) -> None:
    """Wait until a later change has another time stamp; earlier, the path is checked anyway."""
    until(lambda: time.time_ns() - path.stat().st_ctime_ns > 2 * RACY_NS)


def test_what_was_not_reported_is_found_by_a_full_comparison(work: RecordedWorkDir) -> None:
    first_state(work.path)
    wait_for_distinct_times(work.path / "a/b/3")
    work.recorded()
    (work.path / "a/b/3").write_text("changed silently")
    assert work.record("d") is None
    assert work.content(work.recorded(), b"a/b/3") == b"changed silently"
