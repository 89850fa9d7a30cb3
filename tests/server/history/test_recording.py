"""Checkpoints contain every entry of a work_dir, with its type, mode and content."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from beray.server.workspace import tree
from beray.server.workspace.history.entries import Entry
from tests.server.history.recorded_work_dir import (
    TASK,
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)
from tests.work_dirs import make_chain, open_descriptors

LARGE = 3_000_000


def once(action: Callable[[], object]) -> Callable[[], bool]:
    """Return a callback that performs an action when a scan asks whether it is cancelled."""
    waiting = [action]

    def is_cancelled() -> bool:
        if waiting:
            waiting.pop()()
        return False

    return is_cancelled


def modes(path: Path) -> dict[str, int]:
    """Return the permission bits of everything at and below a path, without entering it."""
    found = {path.name: stat.S_IMODE(path.lstat().st_mode)}
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK, effective_ids=True):
        for child in path.iterdir():
            found |= {f"{path.name}/{name}": mode for name, mode in modes(child).items()}
    return found


# Types and names


def test_ignored_files_and_nested_repositories(work: RecordedWorkDir) -> None:
    files = {
        ".gitignore": b"*.log\nbuild/\n",
        "a.log": b"log",
        "build/out": b"out",
        ".git/HEAD": b"ref: refs/heads/main\n",
        ".git/objects/aa/bb": b"\0" * 10,
        "nested/.git/config": b"[core]\n",
        "nested/file": b"nested",
        "node_modules/x/package.json": b"{}",
    }
    for name, content in files.items():
        (work.path / name).parent.mkdir(parents=True, exist_ok=True)
        (work.path / name).write_bytes(content)
    row = work.recorded()
    assert {name: work.content(row, name.encode()) for name in files} == files
    assert (row.files, row.bytes) == (len(files), sum(map(len, files.values())))


def test_empty_directories_and_modes(any_work: RecordedWorkDir) -> None:
    for number, mode in enumerate((0o700, 0o755, 0o500, 0o070, 0o000, 0o777)):
        (any_work.path / f"d{number}").mkdir()
        (any_work.path / f"d{number}").chmod(mode)
        (any_work.path / f"f{number}").write_bytes(b"f")
        (any_work.path / f"f{number}").chmod(mode)
    (any_work.path / "f1").chmod(0o4755)
    before = modes(any_work.path)
    row = any_work.recorded()
    assert modes(any_work.path) == before
    found = any_work.entries(row)
    for number, mode in enumerate((0o700, 0o755, 0o500, 0o070, 0o000, 0o777)):
        assert found[b"d%d" % number] == Entry("directory", mode, reference=found[b"d0"].reference)
        file = found[b"f%d" % number]
        assert (file.kind, file.mode, file.size, file.is_stored) == ("file", mode, 1, True)
    assert any_work.record() is None


def test_directories_without_permissions_are_read(any_work: RecordedWorkDir) -> None:
    inner = any_work.path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "secret").write_bytes(b"secret")
    (inner / "secret").chmod(0)
    (any_work.path / "outer" / "z").write_bytes(b"z")
    for path in (inner, inner.parent):
        path.chmod(0)
    before = modes(any_work.path)
    row = any_work.recorded()
    assert modes(any_work.path) == before
    found = any_work.entries(row)
    assert set(found) == {b"outer", b"outer/inner", b"outer/inner/secret", b"outer/z"}
    assert [entry.mode for _, entry in sorted(found.items())] == [0, 0, 0, 0o644]
    assert any_work.content(row, b"outer/inner/secret") == b"secret"
    # Hints lead into the same directories.
    for paths in (["outer/inner/secret"], ["outer/inner"], ["outer"], ["outer/inner/none"]):
        assert any_work.record(*paths) is None
    assert modes(any_work.path) == before
    for path in (inner.parent, inner, inner / "secret"):
        path.chmod(0o700)
    (inner / "secret").write_bytes(b"new")
    for path in (inner / "secret", inner, inner.parent):
        path.chmod(0)
    assert (
        any_work.content(any_work.recorded("outer/inner/secret"), b"outer/inner/secret") == b"new"
    )
    for path in (inner.parent, inner):
        path.chmod(0o700)


def test_many_directories_without_permissions(unprivileged_work: RecordedWorkDir) -> None:
    work, before = unprivileged_work, open_descriptors()
    for number in range(2000):
        (work.path / f"d{number}").mkdir()
        (work.path / f"d{number}" / "f").touch()
        (work.path / f"d{number}").chmod(0o200)
    row = work.recorded()
    assert row.files == 2000
    assert set(modes(work.path).values()) == {0o700, 0o200}
    assert open_descriptors() == before


def test_deep_directories_without_permissions(unprivileged_work: RecordedWorkDir) -> None:
    work = unprivileged_work
    make_chain(work.path, 300)
    folder = work.path
    for _ in range(300):
        folder = folder / "d"
    for _ in range(300):
        folder.chmod(0o300)
        folder = folder.parent
    before = open_descriptors()
    row = work.recorded()
    assert row.files == 300
    assert len(work.entries(row)) == 900
    assert open_descriptors() == before
    for _ in range(300):
        folder = folder / "d"
        assert stat.S_IMODE(folder.lstat().st_mode) == 0o300


def test_what_cannot_be_read_is_reported(unprivileged_work: RecordedWorkDir) -> None:
    work = unprivileged_work
    (work.path / "own").write_bytes(b"own")
    if not _as_root(lambda: _foreign(work.path)):
        pytest.skip("only root can create files of other users")
    recorded = work.record()
    assert recorded is not None
    assert {problem.path for problem in recorded.problems} == {b"file", b"folder"}
    assert all("cannot be read" in problem.reason for problem in recorded.problems)
    found = work.entries(recorded.checkpoint)
    assert set(found) == {b"file", b"folder", b"own", b"readable", b"readable/inner"}
    assert not found[b"file"].is_stored
    assert work.content(recorded.checkpoint, b"readable/inner") == b"inner"
    # It is reported once.
    (work.path / "own").write_bytes(b"changed")
    again = work.record()
    assert again is not None
    assert again.problems == []
    _as_root(lambda: tree.remove(work.path))


def _foreign(path: Path) -> None:
    """Create files of root, some of which others cannot read."""
    (path / "file").write_bytes(b"root")
    (path / "file").chmod(0o600)
    (path / "folder").mkdir(mode=0o700)
    (path / "folder" / "inner").write_bytes(b"root")
    (path / "readable").mkdir(mode=0o755)
    (path / "readable" / "inner").write_bytes(b"inner")


def _as_root(action: Callable[[], None]) -> bool:
    """Perform an action as root; return False if that is not possible."""
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_links_and_special_files(
    work: RecordedWorkDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    links = {
        "dangling": "nowhere/at/all",
        "absolute": str(outside / "secret"),
        "folder": str(outside),
        "loop": "loop",
        "pair1": "pair2",
        "pair2": "pair1",
        "up": "../../..",
        "self": ".",
        "long": "x" * 4000,
    }
    for name, target in links.items():
        (work.path / name).symlink_to(target)
    (work.path / os.fsdecode(b"bytes\xff")).symlink_to(os.fsdecode(b"\xfe"))
    os.mkfifo(work.path / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(work.path)
        listening.bind("socket")
        row = work.recorded()
    found = work.entries(row)
    for name, target in links.items():
        assert found[name.encode()] == Entry("link", target=target.encode())
    assert found[b"bytes\xff"].target == b"\xfe"
    assert found[b"fifo"] == Entry("special", 0o640)
    assert found[b"socket"].kind == "special"
    assert len(found) == len(links) + 3
    assert not any(b"secret" in path for path in found)
    assert (row.files, row.bytes, row.not_stored) == (len(found), 0, 0)
    assert work.record() is None


def test_names_of_any_bytes(work: RecordedWorkDir) -> None:
    base = os.fsencode(work.path)
    names = [bytes((byte,)) for byte in range(1, 256) if byte not in b"./"]
    names += [b"\xff" * 255, b"\xc3(", "né".encode(), b"-rf", b" ", b"\n", b"a\\b", "␦FF".encode()]
    for name in names:
        with open(os.path.join(base, name), "wb") as file:
            file.write(name)
    row = work.recorded()
    found = work.entries(row)
    assert set(found) == set(names)
    assert all(work.content(row, name) == name for name in names)


def test_hard_links_are_separate_files(work: RecordedWorkDir) -> None:
    (work.path / "a").write_bytes(b"x" * LARGE)
    row = work.recorded()
    size = work.stored_bytes()
    os.link(work.path / "a", work.path / "b")
    row = work.recorded()
    assert work.content(row, b"b") == b"x" * LARGE
    assert work.stored_bytes() < size + 1000
    with (work.path / "b").open("ab") as file:
        file.write(b"more")
    work.record("b")
    work.record()  # the other name was not reported, but its signature has changed as well
    row = work.history.positions.find(TASK, None)
    assert work.content(row, b"a") == work.content(row, b"b") == b"x" * LARGE + b"more"


@pytest.mark.parametrize("time_ns", [0, -1, -(10**18), 2**62, 2**63 - 1, 2**63, 13 * 10**18])
def test_any_modification_time(work: RecordedWorkDir, time_ns: int) -> None:
    (work.path / "file").write_bytes(b"file")
    os.utime(work.path / "file", ns=(time_ns, time_ns))
    if (work.path / "file").stat().st_mtime_ns != time_ns:
        pytest.skip("the file system does not have this time")
    row = work.recorded()
    assert work.entries(row)[b"file"].mtime_ns == time_ns
    os.utime(work.path / "file")
    work.restore(f"c{row.number}")
    assert (work.path / "file").stat().st_mtime_ns == time_ns


def test_sparse_files(work: RecordedWorkDir) -> None:
    with (work.path / "sparse").open("wb") as file:
        file.seek(200_000_000)
        file.write(b"end")
    row = work.recorded()
    assert work.stored_bytes() < 1_000_000
    (work.path / "sparse").unlink()
    work.restore(f"c{row.number}")
    status = (work.path / "sparse").stat()
    assert status.st_size == 200_000_003
    assert status.st_blocks * 512 < 20_000_000
    with (work.path / "sparse").open("rb") as file:
        file.seek(200_000_000)
        assert file.read() == b"end"


# Sizes


def test_deep_trees(work: RecordedWorkDir) -> None:
    before = open_descriptors()
    make_chain(work.path, 3000)
    row = work.recorded()
    assert row.files == 3000
    assert work.record() is None
    shutil.rmtree(work.path / "e")
    assert work.recorded("e", "d/d/d/f").files == 3000
    assert open_descriptors() == before


def test_deep_hints_of_a_removed_tree(work: RecordedWorkDir) -> None:
    make_chain(work.path, 1200)
    work.recorded()
    tree.remove(work.path / "d")
    deepest = "/".join(["d"] * 1200)
    row = work.recorded(deepest, f"{deepest[:-4]}/e", "none/" + deepest)
    assert set(work.entries(row)) == {b"e", b"f"}


def test_directories_grow_and_shrink(work: RecordedWorkDir) -> None:
    """Cross all numbers of entries at which the number of buckets changes."""
    sizes = [1, 256, 257, 512, 513, 5000, 4097, 4096, 1025, 1024, 256, 255, 0, 1000]
    states = []
    for size in sizes:
        existing = {path.name for path in work.path.iterdir()}
        wanted = {f"file{number}" for number in range(size)}
        hints = sorted(existing ^ wanted)
        for name in existing - wanted:
            (work.path / name).unlink()
        for name in wanted - existing:
            (work.path / name).write_text(name)
        row = work.recorded(*hints)
        assert row.files == size
        assert set(work.entries(row)) == {name.encode() for name in wanted}
        states.append((row, state_of(work.path)))
    for row, state in (states[5], states[2], states[-3]):
        work.restore(f"c{row.number}")
        assert state_of(work.path) == state


def test_one_change_in_a_large_directory_is_small(work: RecordedWorkDir) -> None:
    for number in range(5000):
        (work.path / f"file{number}").write_text(f"{number}\n" * 20)
    work.recorded()
    size = work.stored_bytes()
    (work.path / "file77").write_text("changed")
    row = work.recorded("file77")
    assert (row.modified, row.added, row.deleted) == (1, 0, 0)
    assert work.stored_bytes() - size < 20_000


# Changes during and between scans


def test_a_file_that_changes_while_it_is_read_is_read_again(work: RecordedWorkDir) -> None:
    path = work.path / "file"
    path.write_bytes(os.urandom(LARGE))
    calls = 0

    def change_once() -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:  # after the first chunk
            path.write_bytes(b"x" * LARGE)
        return False

    recorded = work.record(is_cancelled=change_once)
    assert recorded is not None
    assert recorded.problems == []
    assert work.content(recorded.checkpoint, b"file") == b"x" * LARGE


def test_a_file_that_always_changes_is_flagged(work: RecordedWorkDir) -> None:
    path = work.path / "file"
    path.write_bytes(os.urandom(LARGE))

    def change() -> bool:
        with path.open("ab") as file:
            file.write(b"more")
        return False

    recorded = work.record(is_cancelled=change)
    assert recorded is not None
    (problem,) = recorded.problems
    assert (problem.path, problem.reason) == (b"file", "it changed while it was read")
    # A later checkpoint reads it again, also if nothing is reported about it.
    (work.path / "other").touch()
    row = work.recorded("other")
    assert work.content(row, b"file") == path.read_bytes()


def test_same_size_and_times_within_one_tick(work: RecordedWorkDir) -> None:
    """A change within the resolution of time stamps is found by the next checkpoint."""
    path = work.path / "file"
    for number in range(40):
        path.write_bytes(b"%03d" % number)
        row = work.recorded("file")
        assert work.content(row, b"file") == b"%03d" % number


def test_a_change_that_keeps_size_and_time_of_modification(work: RecordedWorkDir) -> None:
    path = work.path / "file"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    work.recorded()
    path.write_bytes(b"two")
    os.utime(path, ns=(10**18, 10**18))
    assert work.content(work.recorded(), b"file") == b"two"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "missing"])
def test_a_file_that_is_replaced_just_before_it_is_opened(
    work: RecordedWorkDir, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    for name in ("a", "b", "c"):
        (work.path / name).write_bytes(name.encode())

    def replace() -> None:
        (work.path / "a").unlink()
        if kind == "link":
            (work.path / "a").symlink_to(tmp_path / "secret")
        elif kind == "folder":
            (work.path / "a").mkdir()
            (work.path / "a" / "inner").touch()
        elif kind == "fifo":
            os.mkfifo(work.path / "a")

    row = work.recorded(is_cancelled=once(replace))
    assert work.content(row, b"b") == b"b"
    found = work.entries(row)
    assert b"a" not in found or not found[b"a"].digest
    expected = {b"b", b"c"} if kind == "missing" else {b"a", b"b", b"c"}
    if kind == "folder":
        expected |= {b"a/inner"}
    # The next checkpoint has what replaced it, also if nothing is reported about it.
    (work.path / "b").write_bytes(b"new")
    assert set(work.entries(work.recorded("b"))) == expected


def test_a_directory_that_is_replaced_by_a_link_during_the_scan(
    work: RecordedWorkDir, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("1", "2", "3"):
        (outside / name).write_bytes(b"secret")
        for folder in ("a", "b"):
            (work.path / folder).mkdir(exist_ok=True)
            (work.path / folder / name).write_bytes(name.encode())

    def replace() -> None:  # during the scan of "a"
        for folder in ("a", "b"):
            (work.path / folder).rename(work.data / folder)
            (work.path / folder).symlink_to(outside)

    row = work.recorded(is_cancelled=once(replace))
    assert all(work.content(row, b"a/" + name) == name for name in (b"1", b"2", b"3"))
    assert work.entries(row)[b"b"].kind == "link"
    row = work.recorded("a")
    assert {path: entry.kind for path, entry in work.entries(row).items()} == {
        b"a": "link",
        b"b": "link",
    }


def test_identical_content_is_stored_once(work: RecordedWorkDir) -> None:
    content = os.urandom(LARGE)
    for name in ("a", "b", "c"):
        (work.path / name).write_bytes(content)
    work.recorded()
    assert work.stored_bytes() < LARGE + 10_000
    (work.path / "a").rename(work.path / "d")
    work.recorded()
    assert work.stored_bytes() < LARGE + 10_000


def test_other_users_have_their_own_blobs(work: RecordedWorkDir) -> None:
    (work.path / "a").write_bytes(content := os.urandom(LARGE))
    work.recorded()
    other_task, other_user = 2, 2
    path = work.workspaces.create(other_task)
    (path / "a").write_bytes(content)
    recorded = work.history.record(other_task, other_user, seq=1, reason="step")
    assert recorded is not None
    assert work.history.used_bytes(other_user) > LARGE
    work.history.delete_of_task(1)
    work.history.collect(1)
    assert work.stored_bytes() == 0
    reader = work.history.reader(other_user)
    assert reader.read(reader.entry(recorded.checkpoint.root, [b"a"])) == content


@pytest.mark.parametrize("size", [1024 * 1024 - 1, 1024 * 1024, 20 * 1024 * 1024])
def test_appending_to_a_large_file_stores_the_end(work: RecordedWorkDir, size: int) -> None:
    path = work.path / "file"
    path.write_bytes(os.urandom(size))
    work.recorded()
    before = work.stored_bytes()
    with path.open("ab") as file:
        file.write(os.urandom(1024 * 1024))
    row = work.recorded("file")
    assert work.stored_bytes() - before < 5 * 1024 * 1024
    assert work.content(row, b"file") == path.read_bytes()
    assert work.entries(row)[b"file"].size == size + 1024 * 1024


def test_inserting_at_the_start_of_a_large_file_stores_the_start(work: RecordedWorkDir) -> None:
    path = work.path / "file"
    content = os.urandom(20 * 1024 * 1024)
    path.write_bytes(content)
    work.recorded()
    before = work.stored_bytes()
    path.write_bytes(b"inserted" + content)
    row = work.recorded()
    assert work.stored_bytes() - before < 8 * 1024 * 1024
    assert work.content(row, b"file") == b"inserted" + content


def test_a_new_process_continues(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "a").write_bytes(b"a")
        first = work.recorded()
    with recorded_work_dir(tmp_path / "data") as work:
        assert work.record() is None
        (work.path / "b").write_bytes(b"b")
        second = work.recorded("b")  # hints are not enough without a known state
        assert second.number == first.number + 1
        assert (second.added, second.modified, second.deleted) == (1, 0, 0)
        assert set(work.entries(second)) == {b"a", b"b"}
