"""Uploads of directories: selection of files, remote names, and errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import InvalidArgument, NotFoundError
from beray.schema import FileItem, UploadedFile
from beray.transfers import digest
from beray.transfers.sync_folder import upload_folder
from beray.transfers.transfer import Transfer


class FakeDirectory:
    """Implementation of ``RemoteDirectory`` in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.listed: list[str] = []
        self.made: dict[str, int | None] = {}

    def tree(self, path: str) -> list[FileItem]:
        self.listed.append(path)
        below = "" if path == "." else path + "/"
        found = [name for name in self.files if name.startswith(below)]
        if below and not found:
            raise NotFoundError("nothing there", status_code=404)
        return [
            FileItem(name=name, path=name, type="file", size=len(self.files[name]))
            for name in found
        ]

    def sha256(self, path: str) -> bytes | None:
        import io

        return digest.sha256_of_file(io.BytesIO(self.files[path])) if self.files[path] else None

    def upload(self, local: Path, path: str, transfer: Transfer) -> UploadedFile:
        self.files[path] = local.read_bytes()
        return UploadedFile(message="", path=path, size=len(self.files[path]))

    def make_directory(self, path: str, mode: int | None) -> UploadedFile:
        self.made[path] = mode
        return UploadedFile(message="", path=path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    for name in ("a.py", "sub/b.py", "sub/deep/c.txt", "secret/d.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("path", ["dst", "./dst", "dst/", "dst/./", "dst//", "./dst//.", "././dst"])
def test_equivalent_remote_paths_are_the_same_directory(source: Path, path: str) -> None:
    work_dir = FakeDirectory()
    first = upload_folder(work_dir, source, "dst/x", include=["*.py"])
    assert first.uploaded == ["dst/x/a.py", "dst/x/secret/d.py", "dst/x/sub/b.py"]
    again = upload_folder(work_dir, source, f"{path}/x/", include=["*.py"])
    assert again.uploaded == []
    assert again.unchanged == first.uploaded
    assert work_dir.listed == ["dst/x", "dst/x"]


@pytest.mark.parametrize("path", ["", ".", "./", ".//.", "./."])
def test_the_work_dir_itself(source: Path, path: str) -> None:
    work_dir = FakeDirectory()
    upload_folder(work_dir, source, path, include=["a.py"])
    assert list(work_dir.files) == ["a.py"]
    assert work_dir.listed == ["."]


@pytest.mark.parametrize("path", ["..", "../x", "a/..", "a/../b", "./..", "/a", "//a"])
def test_a_path_outside_the_work_dir_is_rejected(source: Path, path: str) -> None:
    work_dir = FakeDirectory()
    with pytest.raises(InvalidArgument):
        upload_folder(work_dir, source, path)
    assert work_dir.listed == []


@pytest.mark.parametrize("patterns", [{"include": "*.py"}, {"exclude": "secret"}])
def test_a_single_pattern_is_rejected(source: Path, patterns: dict[str, Any]) -> None:
    work_dir = FakeDirectory()
    with pytest.raises(InvalidArgument):
        upload_folder(work_dir, source, **patterns)
    assert work_dir.files == {}


@pytest.fixture
def unreadable(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory that cannot be listed, even if the tests run as root."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if os.path.basename(path) == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        yield source


def test_an_unreadable_directory_is_an_error(unreadable: Path) -> None:
    work_dir = FakeDirectory()
    with pytest.raises(PermissionError, match="secret"):
        upload_folder(work_dir, unreadable)
    assert work_dir.files == {}


def test_an_excluded_directory_need_not_be_readable(unreadable: Path) -> None:
    work_dir = FakeDirectory()
    upload_folder(work_dir, unreadable, exclude=["sec*"])
    assert sorted(work_dir.files) == ["a.py", "sub/b.py", "sub/deep/c.txt"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_a_name_that_is_not_utf8_is_uploaded_under_its_wire_name(source: Path) -> None:
    work_dir = FakeDirectory()
    (source / os.fsdecode(b"z\xff.py")).write_text("1")
    assert "dst/z␦FF.py" in upload_folder(work_dir, source, "dst").uploaded
    assert "dst/z␦FF.py" in upload_folder(work_dir, source, "dst").unchanged
    excluded = upload_folder(FakeDirectory(), source, exclude=[os.fsdecode(b"z\xff*")])
    assert "z␦FF.py" not in excluded.uploaded
