"""Paths of uploaded files in the work_dir."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beray.cli.uploads import plan_uploads
from beray.exceptions import ConfigurationError
from beray.transfers.wire_names import ANY_BYTES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory with a.txt, data/b.txt, data/deep/c.txt and data/empty."""
    folder = tmp_path / "here"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "empty").mkdir()
    for name in ("a.txt", "data/b.txt", "data/deep/c.txt"):
        (folder / name).write_text(name)
    monkeypatch.chdir(folder)
    return folder


def paths(*names: str, to: str | None = None) -> dict[str, str]:
    uploads = plan_uploads([Path(name) for name in names], to).uploads
    return {upload.local.as_posix(): upload.path for upload in uploads}


def test_files_and_directories_keep_their_names(folder: Path) -> None:
    assert paths("a.txt") == {"a.txt": "a.txt"}
    assert paths(str(folder / "a.txt")) == {(folder / "a.txt").as_posix(): "a.txt"}
    below = {"data/b.txt": "data/b.txt", "data/deep/c.txt": "data/deep/c.txt"}
    assert paths("data") == below
    assert paths("data/") == below


def test_to_is_the_path_of_one_file_or_the_directory_of_several() -> None:
    assert paths("a.txt", to="x/y.txt") == {"a.txt": "x/y.txt"}
    assert paths("a.txt", to="x/") == {"a.txt": "x/a.txt"}
    assert paths("data", to="x") == {"data/b.txt": "x/b.txt", "data/deep/c.txt": "x/deep/c.txt"}
    assert paths("data", to="x/")["data/b.txt"] == "x/data/b.txt"
    assert paths("a.txt", "data/b.txt", to="x") == {"a.txt": "x/a.txt", "data/b.txt": "x/b.txt"}
    assert paths("a.txt", to="/") == {"a.txt": "a.txt"}


def test_a_directory_without_a_name_is_replaced_by_its_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert paths(".", to="x/")["a.txt"] == "x/a.txt"
    assert paths(".")["data/b.txt"] == "data/b.txt"
    monkeypatch.chdir("data")
    assert paths("..", to="x")["../a.txt"] == "x/a.txt"
    assert paths("..")["../a.txt"] == "a.txt"


def test_skipped_entries_are_reported(folder: Path) -> None:
    (folder / "data" / "link").symlink_to(folder)
    (folder / "data" / "dangling").symlink_to(folder / "nowhere")
    skipped = plan_uploads([Path("data")]).skipped
    assert sorted(skipped) == [
        f"{Path('data/dangling')} is not a file",
        f"{Path('data/link')} is a symbolic link to a directory",
    ]


def test_all_directories_are_planned() -> None:
    assert [directory.path for directory in plan_uploads([Path("data")]).directories] == [
        "data",
        "data/deep",
        "data/empty",
    ]
    assert [directory.path for directory in plan_uploads([Path(".")], "x/").directories][:2] == [
        "x",
        "x/data",
    ]
    assert [directory.path for directory in plan_uploads([Path()]).directories] == [
        "data",
        "data/deep",
        "data/empty",
    ]


@pytest.mark.parametrize("names", [["a.txt", "data/deep/../../a.txt"], ["a.txt", "./a.txt"]])
def test_two_files_with_the_same_path_are_rejected(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="would both be uploaded as"):
        paths(*names)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_named_pipe_is_rejected() -> None:
    os.mkfifo("pipe")
    with pytest.raises(ConfigurationError, match="neither a file nor a directory"):
        plan_uploads([Path("pipe")])


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_a_name_that_is_not_utf8_becomes_a_wire_name(folder: Path) -> None:
    names = (b"caf\xe9/\xff.txt", "caf␦E9/literal".encode())
    for name in names:
        place = folder / os.fsdecode(name)
        place.parent.mkdir(exist_ok=True)
        place.write_text("x")
    assert set(paths(os.fsdecode(b"caf\xe9")).values()) == {"caf␦E9/␦FF.txt"}
    assert set(paths("caf␦E9").values()) == {"caf␦E2␦90␦A6E9/literal"}
