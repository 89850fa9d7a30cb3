"""Where local files go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beray.cli.uploads import plan
from beray.exceptions import ConfigurationError
from beray.transfers.wire_names import ANY_BYTES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.txt, data/b.txt, data/deep/c.txt and data/empty."""
    folder = tmp_path / "here"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "empty").mkdir()
    for name in ("a.txt", "data/b.txt", "data/deep/c.txt"):
        (folder / name).write_text(name)
    monkeypatch.chdir(folder)
    return folder


def paths(*names: str, to: str | None = None) -> dict[str, str]:
    uploads = plan([Path(name) for name in names], to).uploads
    return {upload.local.as_posix(): upload.path for upload in uploads}


def test_a_file_keeps_its_name_and_a_folder_the_names_below_it(folder: Path) -> None:
    assert paths("a.txt") == {"a.txt": "a.txt"}
    assert paths(str(folder / "a.txt")) == {(folder / "a.txt").as_posix(): "a.txt"}
    below = {"data/b.txt": "data/b.txt", "data/deep/c.txt": "data/deep/c.txt"}
    assert paths("data") == below
    assert paths("data/") == below


def test_to_is_the_name_of_one_and_the_folder_of_several() -> None:
    assert paths("a.txt", to="x/y.txt") == {"a.txt": "x/y.txt"}
    assert paths("a.txt", to="x/") == {"a.txt": "x/a.txt"}
    assert paths("data", to="x") == {"data/b.txt": "x/b.txt", "data/deep/c.txt": "x/deep/c.txt"}
    assert paths("data", to="x/")["data/b.txt"] == "x/data/b.txt"
    assert paths("a.txt", "data/b.txt", to="x") == {"a.txt": "x/a.txt", "data/b.txt": "x/b.txt"}
    assert paths("a.txt", to="/") == {"a.txt": "a.txt"}


def test_a_folder_without_a_name_gives_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths(".", to="x/")["a.txt"] == "x/a.txt"
    assert paths(".")["data/b.txt"] == "data/b.txt"
    monkeypatch.chdir("data")
    assert paths("..", to="x")["../a.txt"] == "x/a.txt"
    assert paths("..")["../a.txt"] == "a.txt"


def test_what_cannot_be_uploaded_is_told(folder: Path) -> None:
    (folder / "data" / "link").symlink_to(folder)
    (folder / "data" / "dangling").symlink_to(folder / "nowhere")
    left_out = plan([Path("data")]).left_out
    assert sorted(left_out) == [
        f"{Path('data/dangling')} is not a file",
        f"{Path('data/link')} is a link to a folder",
    ]


def test_all_folders_are_planned_by_their_paths() -> None:
    assert [one.path for one in plan([Path("data")]).folders] == ["data", "data/deep", "data/empty"]
    assert [one.path for one in plan([Path(".")], "x/").folders][:2] == ["x", "x/data"]
    assert [one.path for one in plan([Path()]).folders] == ["data", "data/deep", "data/empty"]


@pytest.mark.parametrize("names", [["a.txt", "data/deep/../../a.txt"], ["a.txt", "./a.txt"]])
def test_two_that_would_become_one_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="would both become"):
        paths(*names)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_refused() -> None:
    os.mkfifo("pipe")
    with pytest.raises(ConfigurationError, match="neither a file nor a folder"):
        plan([Path("pipe")])


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_a_name_that_is_not_utf8_gets_its_wire_name(folder: Path) -> None:
    names = (b"caf\xe9/\xff.txt", "caf␦E9/literal".encode())
    for name in names:
        place = folder / os.fsdecode(name)
        place.parent.mkdir(exist_ok=True)
        place.write_text("x")
    assert set(paths(os.fsdecode(b"caf\xe9")).values()) == {"caf␦E9/␦FF.txt"}
    assert set(paths("caf␦E9").values()) == {"caf␦E2␦90␦A6E9/literal"}
