"""Restores of everything and of paths: contents, modes, times and types."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from beray.server.workspace import tree
from beray.server.workspace.history.path_selection import PathSelection
from beray.server.workspace.safe_open import InvalidPath, MissingPath
from tests.server.history.recorded_work_dir import (
    TASK,
    RecordedWorkDir,
    state_of,
)
from tests.server.history.two_states import (
    assert_nothing_staged,
    numbers,
    two_states,
)

MIB = 1024 * 1024


def test_a_restore_and_its_undo(any_work: RecordedWorkDir) -> None:
    work = any_work
    first, second = two_states(work)
    restored = work.restore("c1")
    assert state_of(work.path) == first
    assert restored.before.number == 2
    assert restored.checkpoint is not None
    assert (restored.checkpoint.number, restored.checkpoint.reason) == (3, "restore")
    assert restored.checkpoint.root == work.history.positions.find(TASK, "c1").root
    work.restore("c2")
    assert state_of(work.path) == second
    work.restore("c3")
    assert state_of(work.path) == first
    # Nothing differs any more.
    again = work.restore("c1")
    assert (again.changes, again.checkpoint) == ([], None)
    assert numbers(work) == [1, 2, 3, 4, 5]
    assert_nothing_staged(work)


def test_changes_since_the_last_checkpoint_are_recorded_first(work: RecordedWorkDir) -> None:
    two_states(work)
    (work.path / "unrecorded").write_text("unrecorded")
    state = state_of(work.path)
    restored = work.restore("c1")
    assert (restored.before.number, restored.before.reason) == (3, "upload")
    work.restore("c3")
    assert state_of(work.path) == state


def test_a_dry_run_changes_nothing(work: RecordedWorkDir) -> None:
    first, second = two_states(work)
    before = {path: path.stat().st_ino for path in work.path.rglob("*") if path.is_file()}
    planned = work.restore("c1", dry_run=True)
    assert planned.checkpoint is None
    assert state_of(work.path) == second
    assert {path: path.stat().st_ino for path in work.path.rglob("*") if path.is_file()} == before
    assert numbers(work) == [1, 2]
    assert work.restore("c1").changes == planned.changes
    assert state_of(work.path) == first


@pytest.mark.parametrize(
    ("paths", "restored"),
    [
        (["src/a"], {b"src/a"}),
        (["src"], {b"src/a", b"src/b", b"src/new", b"src/deep", b"src/deep/c"}),
        (["src/", "./src/a"], {b"src/a", b"src/b", b"src/new", b"src/deep", b"src/deep/c"}),
        (["only then"], {b"only then"}),
        (["only now"], {b"only now"}),
        (["only now", "only then"], {b"only now", b"only then"}),
        (["src/deep/c"], {b"src/deep", b"src/deep/c"}),
        (["kind"], {b"kind", b"kind/inner"}),
        (["kind/inner"], {b"kind", b"kind/inner"}),
        (["other/folder/x"], {b"other/folder/x"}),
        (["other"], {b"other", b"other/folder", b"other/folder/x"}),
        (["empty"], {b"empty"}),
        (["link", "large"], {b"link", b"large"}),
    ],
)
def test_only_selected_paths_change(
    work: RecordedWorkDir, paths: list[str], restored: set[bytes]
) -> None:
    first, second = two_states(work)
    work.restore("c1", paths=paths)
    expected = {path: state for path, state in second.items() if path not in restored}
    expected |= {path: state for path, state in first.items() if path in restored}
    assert state_of(work.path) == expected
    work.restore("c2", paths=paths)
    # A directory above a path that exists only in one of the states remains.
    remaining = state_of(work.path)
    assert {path: remaining[path] for path in second if path != b"kind"} == {
        path: state for path, state in second.items() if path != b"kind"
    }
    assert_nothing_staged(work)


def test_a_path_does_not_change_the_modes_above_it(work: RecordedWorkDir) -> None:
    two_states(work)
    (work.path / "src").chmod(0o711)
    work.restore("c1", paths=["src/a"])
    assert stat.S_IMODE((work.path / "src").stat().st_mode) == 0o711
    assert (work.path / "src" / "a").read_text() == "a"


def test_the_work_dir_itself_is_a_path(work: RecordedWorkDir) -> None:
    first, _ = two_states(work)
    for paths in (["."], ["", "src"], ["./"]):
        work.restore("c1", paths=paths)
        assert state_of(work.path) == first
        work.restore("c2")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("none", MissingPath),
        ("src/none", MissingPath),
        ("src/a/none", MissingPath),
        ("../outside", InvalidPath),
        ("/etc", InvalidPath),
        ("a\0b", InvalidPath),
        ("\ud800", InvalidPath),
        ("x" * 300, InvalidPath),
    ],
)
def test_invalid_paths_change_nothing(
    work: RecordedWorkDir, path: str, error: type[Exception]
) -> None:
    _, second = two_states(work)
    for dry_run in (True, False):
        with pytest.raises(error):
            work.restore("c1", paths=["src", path], dry_run=dry_run)
    assert state_of(work.path) == second
    assert numbers(work) == [1, 2]


def test_many_paths_are_selected_in_one_pass() -> None:
    deep = [b"d"] * 2000
    selection = PathSelection([deep, *([b"%d" % number, b"x"] for number in range(10_000))])
    assert selection.relation(b"/".join(deep)) == "inside"
    assert selection.relation(b"/".join([*deep, b"e"])) == "inside"
    assert selection.relation(b"/".join(deep[:-1])) == "above"
    assert selection.relation(b"/".join(deep[:-1]) + b"/e") == "outside"
    assert [selection.relation(path) for path in (b"77", b"77/x", b"77/x/y", b"77/y", b"y")] == [
        "above", "inside", "inside", "outside", "outside",
    ]  # fmt: skip
    assert PathSelection().relation(b"anything") == "inside"


def test_special_files(work: RecordedWorkDir) -> None:
    (work.path / "becomes special").write_text("file")
    (work.path / "was special").mkdir()
    os.mkfifo(work.path / "was special" / "fifo")
    os.mkfifo(work.path / "replaced")
    work.recorded()
    (work.path / "becomes special").unlink()
    os.mkfifo(work.path / "becomes special")
    shutil.rmtree(work.path / "was special")
    (work.path / "replaced").unlink()
    (work.path / "replaced").write_text("a file")
    work.recorded()
    work.restore("c1")
    assert (work.path / "becomes special").read_text() == "file"
    # Special files cannot be created; what is in their place stays.
    assert list((work.path / "was special").iterdir()) == []
    assert (work.path / "replaced").read_text() == "a file"
    work.restore("c2")
    assert not (work.path / "was special").exists()
    assert_nothing_staged(work)


def test_modes_and_times(any_work: RecordedWorkDir) -> None:
    work = any_work
    (work.path / "file").write_text("file")
    (work.path / "folder").mkdir()
    (work.path / "folder" / "inner").write_text("inner")
    os.utime(work.path / "file", ns=(1, 1_000_000_007))
    for path, mode in (("file", 0o751), ("folder/inner", 0o444), ("folder", 0o555)):
        (work.path / path).chmod(mode)
    work.recorded()
    state = state_of(work.path)
    (work.path / "folder").chmod(0o777)
    os.utime(work.path / "file")
    (work.path / "file").chmod(0o600)
    (work.path / "folder" / "inner").chmod(0o600)
    (work.path / "folder" / "inner").write_text("changed")
    (work.path / "folder" / "new").write_text("new")
    (work.path / "folder").chmod(0o500)
    work.recorded()
    work.restore("c1")
    assert state_of(work.path) == state


def test_directories_that_deny_access(any_work: RecordedWorkDir) -> None:
    work = any_work
    folders = [work.path / "a", work.path / "a" / "b", work.path / "a" / "b" / "c"]
    folders[-1].mkdir(parents=True)
    for folder in folders:
        (folder / "kept").write_text("kept")
        (folder / "changed").write_text("before")

    def set_modes(*modes: int) -> None:
        for folder, mode in reversed(list(zip(folders, modes, strict=True))):
            folder.chmod(mode)

    def get_modes() -> list[int]:
        found = []
        for folder in folders:
            found.append(stat.S_IMODE(folder.lstat().st_mode))
            folder.chmod(0o700)
        set_modes(*found)
        return found

    def open_all() -> None:
        for folder in folders:
            folder.chmod(0o700)

    rows = []
    recorded = [[0, 0, 0], [0o400, 0o200, 0o100], [0o700, 0, 0o700]]
    for number, modes in enumerate(recorded):
        open_all()
        (folders[number] / "changed").write_text(f"{number}")
        (folders[-1] / f"added{number}").write_text("added")
        set_modes(*modes)
        rows.append(work.recorded().number)
    for paths in ([], ["a/b/c"], ["a/b/c/changed"]):
        for number in (*rows, *reversed(rows)):
            before = get_modes()
            work.restore(f"c{number}", paths=paths)
            after = get_modes()
            open_all()
            assert (folders[2] / "changed").read_text() == ("2" if number == 3 else "before")
            set_modes(*after)
            if paths:
                assert after[:2] == before[:2]
            else:
                assert after == recorded[number - 1]
    # All of it is removed, too.
    open_all()
    shutil.rmtree(work.path / "a")
    row = work.recorded()
    work.restore("c1")
    assert stat.S_IMODE((work.path / "a").lstat().st_mode) == 0
    work.restore(f"c{row.number}")
    assert list(work.path.iterdir()) == []


def test_deep_trees(work: RecordedWorkDir) -> None:
    folder = os.open(work.path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    row = work.recorded()
    tree.remove(work.path / "d")
    empty = work.recorded()
    work.restore(f"c{row.number}")
    assert work.recorded(always=True).root == row.root
    work.restore(f"c{empty.number}")
    assert list(work.path.iterdir()) == []


def test_random_modes(unprivileged_work: RecordedWorkDir) -> None:
    """Every state is restored, whatever its files and directories permit their owner."""
    work = unprivileged_work
    chance = random.Random(3)
    states = []
    for _ in range(25):
        change_anything(work.path, chance)
        row = work.record()
        if row is not None:
            states.append((row.checkpoint.number, full_state(work.path)))
        assert full_state(work.path) == states[-1][1]
    for number, state in [*states, *reversed(states)]:
        work.restore(f"c{number}")
        assert full_state(work.path) == state


def change_anything(path: Path, chance: random.Random) -> None:
    """Change entries at random, with all permissions meanwhile, and then modes at random."""
    modes = {one: one.lstat().st_mode for one in opened_entries(path)}
    for _ in range(4):
        names = "/".join(chance.choice("abc") for _ in range(chance.randint(1, 3)))
        target = path / names
        with suppress(OSError):
            match chance.randint(0, 3):
                case 0:
                    target.mkdir(parents=True)
                case 1:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(f"{chance.random()}")
                case 2:
                    tree.remove(target) if target.is_dir() else target.unlink()
                case 3:
                    target.rename(path / chance.choice("abc"))
    for one in sorted(path.rglob("*"), reverse=True):
        if one not in modes or chance.random() < 0.4:
            modes[one] = chance.choice([0, 0o100, 0o200, 0o400, 0o500, 0o644, 0o755, 0o077])
        one.chmod(modes[one] & 0o777)


def opened_entries(path: Path) -> Iterator[Path]:
    """Yield everything below a directory, with its mode, which is changed to 0700 after that."""
    for one in path.iterdir():
        yield one
        one.chmod(0o700)
        if one.is_dir():
            yield from opened_entries(one)


def full_state(path: Path) -> dict[str, tuple[object, ...]]:
    """Return modes, times and contents of everything below a directory, whatever the modes are."""
    modes = {one: one.lstat().st_mode & 0o777 for one in opened_entries(path)}
    found: dict[str, tuple[object, ...]] = {
        str(one.relative_to(path)): (mode, None)
        if one.is_dir()
        else (mode, one.read_bytes(), one.stat().st_mtime_ns)
        for one, mode in modes.items()
    }
    for one, mode in sorted(modes.items(), reverse=True):
        one.chmod(mode)
    return found
