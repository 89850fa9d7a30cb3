"""Files of a work_dir: access inside, rejection of everything outside."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beray.server.workspace.workspace import InvalidPath, MissingPath, Workspace, Workspaces
from tests.work_dirs import TASK, put, read, staged

pytestmark = pytest.mark.usefixtures("resolution")


def test_a_file_written_is_the_file_read(workspace: Workspace, work_dir: Path) -> None:
    put(workspace, "a/b/c.txt", b"hello")
    assert read(workspace, "a/b/c.txt") == b"hello"
    assert (work_dir / "a/b/c.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("path", ["./a/b", "a/./b", "a//b", ".//a/.//b"])
def test_a_path_is_read_as_posix_reads_it(workspace: Workspace, path: str) -> None:
    put(workspace, "a/b", b"1")
    assert read(workspace, path) == b"1"
    put(workspace, path, b"2")
    assert read(workspace, "a/b") == b"2"


def test_readers_see_a_replaced_file_atomically(workspace: Workspace) -> None:
    put(workspace, "a", b"old")
    with workspace.write("a") as writer:
        writer.write(b"n" * 100_000)
        assert read(workspace, "a") == b"old"
    assert read(workspace, "a") == b"n" * 100_000
    assert writer.size == 100_000


def test_a_writer_that_fails_leaves_nothing(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path
) -> None:
    with pytest.raises(RuntimeError), workspace.write("new/folder/file") as writer:
        writer.write(b"half")
        raise RuntimeError("the client went away")
    assert os.listdir(work_dir) == []
    assert staged(workspaces) == []


def test_parents_of_a_failed_write_are_removed(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path
) -> None:
    (work_dir / "kept").mkdir()
    with pytest.raises(MissingPath), workspace.write("kept/made/made/file"):
        # The rename is the last step: it fails once the parents are there.
        [name] = staged(workspaces)
        (workspaces.root / ".incoming" / name).unlink()
    assert os.listdir(work_dir / "kept") == []
    assert staged(workspaces) == []


def test_a_folder_that_takes_the_name_during_an_upload_is_left_alone(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path
) -> None:
    with pytest.raises(InvalidPath, match="is a folder"), workspace.write("a/b"):
        (work_dir / "a/b/c").mkdir(parents=True)
    assert os.listdir(work_dir / "a/b") == ["c"]
    assert staged(workspaces) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("//etc/passwd", "absolute"),
        ("..", "'..'"),
        ("../outside/secret", "'..'"),
        ("a/../../outside/secret", "'..'"),
        ("a/..", "'..'"),
        ("a\0b", "NUL"),
        ("\ud800", "UTF-8"),
        ("n" * 256, "too long"),
        ("n/" * 3000 + "n", "too long"),
        (".", "names a folder"),
        ("", "names a folder"),
        ("./", "names a folder"),
        ("a/", "names a folder"),
        ("a/.", "names a folder"),
        ("folder", "is a folder"),
        ("file/below", "not a folder"),
        ("link", "link"),
        ("dangling", "link"),
        ("linked/secret", "link"),
        ("linked/new", "link"),
        ("linked/new/new", "link"),
        ("folder/up/outside/secret", "link"),
        ("inner-link", "link"),
        ("fifo", "neither"),
        ("socket", "neither"),
    ],
)
def test_paths_that_are_not_files_of_the_work_dir_are_rejected(
    workspaces: Workspaces,
    workspace: Workspace,
    work_dir: Path,
    outside: Path,
    path: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (work_dir / "folder").mkdir()
    (work_dir / "file").write_bytes(b"file")
    (work_dir / "link").symlink_to(outside / "secret")
    (work_dir / "dangling").symlink_to(outside / "new")
    (work_dir / "linked").symlink_to(outside)
    (work_dir / "inner-link").symlink_to("file")
    (work_dir / "folder/up").symlink_to("../..")
    os.mkfifo(work_dir / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(work_dir)  # the name of a socket must be short
        listening.bind("socket")
    before = sorted(os.walk(work_dir))

    with pytest.raises(InvalidPath, match=reason) as reading:
        workspace.open_file(path)
    with pytest.raises(InvalidPath, match=reason):
        put(workspace, path)

    reading.value.reason.encode()
    assert sorted(os.walk(work_dir)) == before
    assert staged(workspaces) == []


def test_a_missing_file_is_missing(workspace: Workspace) -> None:
    for path in ("absent", "absent/file"):
        with pytest.raises(MissingPath, match="absent"):
            workspace.open_file(path)
    with pytest.raises(MissingPath):
        workspace.tree("absent")


def test_reading_does_not_disturb_a_fifo(workspace: Workspace, work_dir: Path) -> None:
    os.mkfifo(work_dir / "fifo")
    with pytest.raises(InvalidPath):
        workspace.open_file("fifo")
    # The other end was not opened, so a writer still finds no reader.
    with pytest.raises(OSError, match="No such device"):
        os.open(work_dir / "fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_a_folder_that_becomes_a_link_during_an_upload_is_not_followed(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path, outside: Path
) -> None:
    (work_dir / "folder").mkdir()
    with pytest.raises(InvalidPath, match="link"), workspace.write("folder/secret") as writer:
        writer.write(b"overwritten")
        (work_dir / "folder").rmdir()
        (work_dir / "folder").symlink_to(outside)
    assert staged(workspaces) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
def test_new_files_have_the_default_modes_of_commands(
    workspace: Workspace, work_dir: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        put(workspace, "d/a")
        workspace.make_directory("e/f")
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((work_dir / name).stat().st_mode) for name in ("d", "d/a", "e/f")}
    assert modes == {"d": 0o755, "d/a": 0o644, "e/f": 0o755}


def test_a_file_that_appears_meanwhile_gives_its_mode(workspace: Workspace, work_dir: Path) -> None:
    with workspace.write("a") as writer:
        writer.write(b"new")
        (work_dir / "a").write_text("old")
        (work_dir / "a").chmod(0o711)
    assert (work_dir / "a").read_bytes() == b"new"
    assert stat.S_IMODE((work_dir / "a").stat().st_mode) == 0o711


def test_a_folder_is_made_once_and_never_in_the_place_of_something(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path, outside: Path
) -> None:
    assert workspace.make_directory("a//b/./c/", 0o2750) == "a/b/c"
    (work_dir / "a" / "b" / "c" / "kept").write_text("x")
    (work_dir / "file").write_text("x")
    (work_dir / "link").symlink_to(outside)
    assert workspace.make_directory("a/b/c") == "a/b/c"
    modes = [stat.S_IMODE((work_dir / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")]
    assert modes == [0o755, 0o755, 0o750]
    for path in (
        "",
        ".",
        "..",
        "/a",
        "a/../b",
        "file",
        "file/x",
        "link",
        "link/x",
        "\0",
        "x" * 256,
    ):
        with pytest.raises(InvalidPath):
            workspace.make_directory(path, 0o777)
    assert workspace.make_directory("a", 0o555) == "a"
    assert stat.S_IMODE((work_dir / "a").stat().st_mode) == 0o555
    assert stat.S_IMODE(work_dir.stat().st_mode) == 0o700
    assert sorted(os.listdir(work_dir)) == ["a", "file", "link"]
    assert os.listdir(work_dir / "a" / "b" / "c") == ["kept"]
    assert os.listdir(outside) == ["secret"]
    assert staged(workspaces) == []


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["", ".", "..", "a", "file", "linked", "up", "\0", "~", "...", "é"]),
            st.text(st.characters(), max_size=4),
        ),
        max_size=6,
    ).map("/".join)
)
def test_any_string_is_a_file_inside_or_a_clean_refusal(
    workspaces: Workspaces, workspace: Workspace, work_dir: Path, outside: Path, path: str
) -> None:
    for name, target in (("linked", outside), ("up", Path(".."))):
        if not (work_dir / name).is_symlink():
            (work_dir / name).symlink_to(target)
    try:
        put(workspace, path, b"data")
    except InvalidPath as error:
        error.reason.encode()
        with pytest.raises((InvalidPath, MissingPath)):
            workspace.open_file(path)
    else:
        assert read(workspace, path) == b"data"
        assert (work_dir / os.fsdecode(path.encode())).read_bytes() == b"data"
        assert (work_dir / path).resolve().is_relative_to(work_dir)
    assert staged(workspaces) == []
    assert sorted(os.listdir(workspaces.root)) == [".incoming", str(TASK)]
    assert os.listdir(outside) == ["secret"]
