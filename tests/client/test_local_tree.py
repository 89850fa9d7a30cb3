"""Traversal of local directories for uploads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beray.transfers.local_tree import LocalEntryKind, walk_local_tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="creates links and pipes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "b" / "inner").mkdir(parents=True)
    (root / "a").mkdir()
    for name in ("z.txt", "b/2.txt", "b/1.txt", "b/inner/x"):
        (root / name).write_text(name)
    (root / "b" / "link").symlink_to(root / "a")
    (root / "broken").symlink_to("missing")
    (root / "to_file").symlink_to("z.txt")
    os.mkfifo(root / "pipe")
    return root


def test_directories_precede_their_entries_in_a_stable_order(folder: Path) -> None:
    found = [(entry.remote, entry.kind.name) for entry in walk_local_tree(folder)]
    assert found == [
        ("", "DIRECTORY"),
        ("broken", "SPECIAL"),
        ("pipe", "SPECIAL"),
        ("to_file", "FILE"),
        ("z.txt", "FILE"),
        ("a", "DIRECTORY"),
        ("b", "DIRECTORY"),
        ("b/1.txt", "FILE"),
        ("b/2.txt", "FILE"),
        ("b/link", "DIRECTORY_LINK"),
        ("b/inner", "DIRECTORY"),
        ("b/inner/x", "FILE"),
    ]


def test_paths_are_local_and_relative(folder: Path) -> None:
    for entry in walk_local_tree(folder):
        assert entry.path == folder / entry.relative


def test_an_excluded_directory_is_not_entered(folder: Path) -> None:
    entries = list(walk_local_tree(folder, is_excluded=lambda name: name == "b"))
    assert [entry.remote for entry in entries if entry.kind is LocalEntryKind.DIRECTORY] == [
        "",
        "a",
    ]


def test_a_directory_that_cannot_be_read_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(walk_local_tree(tmp_path / "missing"))


def test_names_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("")
    except OSError:
        pytest.skip("the file system does not support such names")
    assert [entry.remote for entry in walk_local_tree(root)][-1] == "\u2426FF"
