"""ZIP archives: their content, omitted files, and completeness."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray.server.files.http_ranges import BLOCK_BYTES, IncompleteFile
from beray.server.workspace import archive
from beray.server.workspace.workspace import InvalidPath, MissingPath, Workspace, Workspaces
from tests.work_dirs import TASK, open_descriptors


@pytest.fixture
def workspace(workspaces: Workspaces, work_dir: Path) -> Iterator[Workspace]:
    before = open_descriptors()
    with workspaces.open(TASK) as opened:
        yield opened
    assert open_descriptors() == before


def zipped(workspace: Workspace, *paths: str) -> zipfile.ZipFile:
    data = b"".join(archive.stream_zip(workspace, archive.select_paths(workspace, paths)))
    opened = zipfile.ZipFile(io.BytesIO(data))
    assert opened.testzip() is None
    return opened


def fill(work_dir: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        target = work_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir() if path.endswith("/") else target.write_bytes(data)


FILES = {"a/b/c.txt": b"c", "a/x": b"x" * 100, "empty/": b"", "z": b"", "ü/日本.txt": b"\xff\0"}


def test_the_whole_work_dir(workspace: Workspace, work_dir: Path, tmp_path: Path) -> None:
    fill(work_dir, FILES)
    for paths in ([], ["."], ["", "./"]):
        names = ["a/", "a/b/", "a/b/c.txt", "a/x", "empty/", "z", "ü/", "ü/日本.txt"]
        opened = zipped(workspace, *paths)
        assert opened.namelist() == names
        opened.extractall(tmp_path / "out")
        assert not subprocess.call(["diff", "-r", work_dir, tmp_path / "out"])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a"], ["a/", "a/b/", "a/b/c.txt", "a/x"]),
        (["a/b/c.txt"], ["a/b/c.txt"]),
        (["a", "a/b", "./a", "a//b/c.txt", "a/"], ["a/", "a/b/", "a/b/c.txt", "a/x"]),
        (["z", "a/x", "z"], ["a/x", "z"]),
        (["empty"], ["empty/"]),
        (["a", "."], ["a/", "a/b/", "a/b/c.txt", "a/x", "empty/", "z", "ü/", "ü/日本.txt"]),
    ],
)
def test_named_paths_each_thing_once(
    workspace: Workspace, work_dir: Path, paths: list[str], names: list[str]
) -> None:
    fill(work_dir, FILES)
    assert zipped(workspace, *paths).namelist() == names


def test_an_empty_work_dir_is_an_empty_archive(workspace: Workspace) -> None:
    assert zipped(workspace).namelist() == []


@pytest.mark.parametrize(
    ("paths", "error", "reason"),
    [
        (["a", "absent", "gone"], MissingPath, "'absent'"),
        (["absent/x"], MissingPath, "'absent/x'"),
        (["../x", "absent"], InvalidPath, "'../x'"),
        (["/etc"], InvalidPath, "absolute"),
        (["link"], InvalidPath, "link"),
        (["link/x"], InvalidPath, "link"),
        (["fifo"], InvalidPath, "neither"),
        (["z/x"], InvalidPath, "not a folder"),
        (["\ud800"], InvalidPath, "UTF-8"),
    ],
)
def test_unarchivable_files_are_reported_before_the_response(
    workspace: Workspace, work_dir: Path, paths: list[str], error: type[Exception], reason: str
) -> None:
    fill(work_dir, FILES)
    (work_dir / "link").symlink_to("a")
    os.mkfifo(work_dir / "fifo")
    with pytest.raises(error, match=reason):
        archive.select_paths(workspace, paths)


def test_links_and_special_files_are_left_out(
    workspace: Workspace, work_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (work_dir / "a").mkdir()
    (work_dir / "a/file").write_bytes(b"file")
    (work_dir / "a/link").symlink_to(tmp_path / "secret")
    (work_dir / "folder").symlink_to(tmp_path)
    os.mkfifo(work_dir / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(work_dir)
        listening.bind("socket")
    assert zipped(workspace).namelist() == ["a/", "a/file"]


def test_modes_and_times_are_kept(workspace: Workspace, work_dir: Path) -> None:
    fill(work_dir, {"run": b"", "old": b"", "far": b"", "folder/": b""})
    (work_dir / "run").chmod(0o4750)
    (work_dir / "folder").chmod(0o705)
    os.utime(work_dir / "run", (1_700_000_001, 1_700_000_001))
    os.utime(work_dir / "old", (-(10**9), -(10**9)))
    os.utime(work_dir / "far", (2**33, 2**33))
    members = {info.filename: info for info in zipped(workspace).infolist()}
    assert members["run"].external_attr >> 16 == stat.S_IFREG | 0o750
    assert members["folder/"].external_attr >> 16 == stat.S_IFDIR | 0o705
    assert members["run"].date_time == (2023, 11, 14, 22, 13, 20)
    assert members["run"].extra[-4:] == (1_700_000_001).to_bytes(4, "little")
    assert members["old"].date_time == (1980, 1, 1, 0, 0, 0)
    assert members["far"].date_time[0] <= 2107


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
def test_names_that_are_not_utf8_are_all_there(workspace: Workspace, work_dir: Path) -> None:
    for name in (b"x\xfe", b"x\xff", "x\ufffd".encode(), "x␦FF".encode()):
        Path(os.fsdecode(os.fsencode(work_dir) + b"/" + name)).write_bytes(name)
    for name in (b"d\xfe", b"d\xff"):
        folder = Path(os.fsdecode(os.fsencode(work_dir) + b"/" + name))
        folder.mkdir()
        (folder / "f").write_bytes(name)
    opened = zipped(workspace)
    assert {name: opened.read(name) for name in opened.namelist()} == {
        "d␦FE/": b"", "d␦FE/f": b"d\xfe", "d␦FF/": b"", "d␦FF/f": b"d\xff",
        "x␦FE": b"x\xfe", "x␦FF": b"x\xff", "x\ufffd": "x\ufffd".encode(),
        "x␦E2␦90␦A6FF": "x␦FF".encode(),
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_reads_it(workspace: Workspace, work_dir: Path, tmp_path: Path) -> None:
    fill(work_dir, FILES | {"large": random.Random(1).randbytes(3 * BLOCK_BYTES)})
    out = tmp_path / "out.zip"
    out.write_bytes(b"".join(archive.stream_zip(workspace, archive.select_paths(workspace, []))))
    subprocess.run(["unzip", "-tq", out], check=True, stdout=subprocess.DEVNULL)


def test_a_member_that_may_pass_the_limit_of_zip_is_zip64(
    workspace: Workspace, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    fill(work_dir, {"small": b"s" * 900, "large": b"l" * 1100, "small-again": b""})
    opened = zipped(workspace)
    versions = {info.filename: info.extract_version for info in opened.infolist()}
    assert versions["large"] >= 45 > versions["small"]
    assert opened.read("large") == b"l" * 1100


def test_the_memory_stays_flat(workspace: Workspace, work_dir: Path) -> None:
    block = random.Random(1).randbytes(BLOCK_BYTES)
    with (work_dir / "large").open("wb") as file:
        for _ in range(24):
            file.write(block)
    chosen = archive.select_paths(workspace, [])
    tracemalloc.start()
    try:
        size = sum(len(data) for data in archive.stream_zip(workspace, chosen))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 24 * BLOCK_BYTES
    assert most < 6 * BLOCK_BYTES


def test_unreadable_files_are_reported_before_the_response(unprivileged: Path) -> None:
    workspaces = Workspaces(unprivileged / "workspaces")
    fill(workspaces.create(TASK), {"a/file": b"", "b/folder/": b"", "c": b"c"})
    locked = [workspaces.path(TASK) / name for name in ("a/file", "b/folder")]
    with workspaces.open(TASK) as workspace:
        for path, name in zip(locked, ("a", "b"), strict=True):
            path.chmod(0)
            for paths in ([], [name]):
                with pytest.raises(InvalidPath, match=f"'{name}/.*permission denied"):
                    archive.select_paths(workspace, paths)
            path.chmod(0o700)
        assert zipped(workspace, "c").namelist() == ["c"]


def begun(workspace: Workspace, work_dir: Path) -> Iterator[bytes]:
    """An archive that has sent its first bytes and has the file ``z`` still before it."""
    fill(work_dir, {"a": random.Random(1).randbytes(4 * BLOCK_BYTES), "y/f": b"f", "z": b"z"})
    blocks = archive.stream_zip(workspace, archive.select_paths(workspace, []))
    assert next(blocks)
    return blocks


def test_a_file_that_vanishes_breaks_the_archive(workspace: Workspace, work_dir: Path) -> None:
    blocks = begun(workspace, work_dir)
    (work_dir / "z").unlink()
    with pytest.raises(IncompleteFile):
        list(blocks)


def test_a_folder_that_vanishes_breaks_the_archive(workspace: Workspace, work_dir: Path) -> None:
    blocks = begun(workspace, work_dir)
    shutil.rmtree(work_dir / "y")
    with pytest.raises(IncompleteFile):
        list(blocks)


def test_a_file_that_shrinks_breaks_the_archive(workspace: Workspace, work_dir: Path) -> None:
    blocks = begun(workspace, work_dir)
    os.truncate(work_dir / "a", 10)
    with pytest.raises(IncompleteFile):
        list(blocks)


@pytest.mark.parametrize("name", ["y", "z"])
def test_entries_that_become_links_are_not_followed(
    workspace: Workspace, work_dir: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_bytes(b"secret" * 100)
    blocks = begun(workspace, work_dir)
    (work_dir / name).rename(work_dir / "aside")
    (work_dir / name).symlink_to(secret if name == "y" else secret / "f")
    with pytest.raises(IncompleteFile):
        list(blocks)


def test_an_abandoned_archive_closes_its_files(workspace: Workspace, work_dir: Path) -> None:
    before = open_descriptors()
    blocks = begun(workspace, work_dir)
    assert open_descriptors() > before
    blocks.close()  # type: ignore[attr-defined]
    assert open_descriptors() == before


def test_too_long_paths_are_reported_before_the_response(
    workspace: Workspace, work_dir: Path
) -> None:
    folder = os.open(work_dir, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    with pytest.raises(InvalidPath, match="too long for an archive"):
        archive.select_paths(workspace, [])
