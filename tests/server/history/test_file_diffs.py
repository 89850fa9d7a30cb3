"""Differences of files in the format of the API."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from beray.history_schema import FileDiff
from beray.server.workspace.history.contents import MAX_COMPARED_BYTES
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.file_diffs import DiffLimits, FileDiffs, count_changed_lines
from beray.transfers import wire_names
from tests.server.history.recorded_work_dir import recorded_work_dir
from tests.server.history.states import Contents, changes, link, not_stored

A = b"one\ntwo\nthree\n"
B = b"one\n2\nthree\nfour\n"


@pytest.fixture
def contents() -> Contents:
    return Contents()


def diffs(
    contents: Contents, old: Mapping[bytes, Entry], new: Mapping[bytes, Entry], **options: Any
) -> list[FileDiff]:
    found = list(FileDiffs(changes(old, new), contents.read, **options))
    TypeAdapter(list[FileDiff]).validate_python(found)
    return found


def summary(found: list[FileDiff]) -> list[tuple[str, str]]:
    return [(item["change"], item["path"]) for item in found]


def test_a_modified_file(contents: Contents) -> None:
    old, new = contents.file(A), contents.file(B, mode=0o600)
    assert diffs(contents, {b"src/x": old}, {b"src/x": new}) == [
        {
            "path": "src/x",
            "change": "modified",
            "old": old.to_wire(),
            "new": new.to_wire(),
            "lines_added": 2,
            "lines_deleted": 1,
            "hunks": [
                {
                    "old_start": 1,
                    "old_lines": 3,
                    "new_start": 1,
                    "new_lines": 4,
                    "lines": [" one", "-two", "+2", " three", "+four"],
                }
            ],
        }
    ]


def test_files_are_sorted_by_path(contents: Contents) -> None:
    old = {b"b": contents.file(A), b"c": contents.file(b"c"), b"d/x": contents.file(b"same")}
    new = {b"b": contents.file(B), b"a": contents.file(b"a"), b"aa/y": contents.file(b"same")}
    found = diffs(contents, old, new)
    assert summary(found) == [
        ("added", "a"),
        ("renamed", "aa/y"),
        ("modified", "b"),
        ("deleted", "c"),
    ]
    assert [item.get("old_path") for item in found] == [None, "d/x", None, None]


def test_added_and_deleted_files_have_one_state(contents: Contents) -> None:
    found = diffs(contents, {b"x": contents.file(A)}, {b"y": contents.file(b"\xff\n")})
    assert ["old" in item for item in found] == [True, False]
    assert ["new" in item for item in found] == [False, True]
    assert found[0]["hunks"][0]["lines"] == ["-one", "-two", "-three"]
    assert found[1]["hunks"][0]["lines"] == ["+\ufffd"]


def test_renamed_files(contents: Contents) -> None:
    lines = b"".join(b"%d\n" % number for number in range(20))
    old = {b"same": contents.file(A), b"similar": contents.file(lines)}
    new = {b"x/same": contents.file(A, mode=0o755), b"x/similar": contents.file(lines + b"more")}
    same, similar = diffs(contents, old, new)
    assert (same["change"], same["old_path"], same["similarity"]) == ("renamed", "same", 100)
    assert same["hunks"] == []
    assert (same["old"]["mode"], same["new"]["mode"]) == ("644", "755")
    assert (similar["change"], similar["old_path"], similar["path"]) == (
        "renamed",
        "similar",
        "x/similar",
    )
    assert 50 <= similar["similarity"] < 100
    assert (similar["lines_added"], similar["lines_deleted"]) == (1, 0)
    assert similar["hunks"][0]["lines"][-2:] == ["+more", "\\ No newline at end of file"]


def test_modes_and_times(contents: Contents) -> None:
    old = {
        b"mode": contents.file(A, mode=0o644),
        b"time": contents.file(A, mtime_ns=1),
        b"directory/x": contents.file(A),
        b"directory": Entry("directory", mode=0o755),
    }
    new = old | {
        b"mode": contents.file(A, mode=0o755),
        b"time": contents.file(A, mtime_ns=2),
        b"directory": Entry("directory", mode=0o700),
    }
    directory, file = diffs(contents, old, new)
    assert (directory["path"], directory["change"], directory["hunks"]) == (
        "directory",
        "modified",
        [],
    )
    assert (file["path"], file["change"], file["hunks"]) == ("mode", "modified", [])
    assert (file["old"]["mode"], file["new"]["mode"]) == ("644", "755")
    assert contents.reads == []


def test_directories_are_listed_if_they_are_empty(contents: Contents) -> None:
    file, directory = contents.file(A), Entry("directory", mode=0o755)
    old = {b"a": directory, b"b/x/y": file}
    new = {b"c": directory, b"d/x/z": contents.file(b"other"), b"d/e": directory}
    assert summary(diffs(contents, old, new)) == [
        ("deleted", "a"),
        ("deleted", "b/x/y"),
        ("added", "c"),
        ("added", "d/e"),
        ("added", "d/x/z"),
    ]


def test_a_changed_type_is_a_deletion_and_an_addition(contents: Contents) -> None:
    file, fifo = contents.file(A), Entry("special", mode=0o644)
    old = {b"1": file, b"2": file, b"3/x": file, b"4": fifo}
    new = {
        b"1": link(b"target"),
        b"2/y": contents.file(b"y"),
        b"3": contents.file(b"3"),
        b"4": file,
    }
    found = diffs(contents, old, new)
    assert summary(found) == [
        ("deleted", "1"),
        ("added", "1"),
        ("deleted", "2"),
        ("added", "2/y"),
        ("added", "3"),
        ("deleted", "3/x"),
        ("deleted", "4"),
        ("added", "4"),
    ]
    assert found[6]["hunks"] == []


def test_links_are_compared_by_their_targets(contents: Contents) -> None:
    (found,) = diffs(contents, {b"x": link(b"a")}, {b"x": link(b"b")})
    assert found["change"] == "modified"
    assert found["hunks"][0]["lines"] == [
        "-a",
        "\\ No newline at end of file",
        "+b",
        "\\ No newline at end of file",
    ]
    assert (found["old"]["target"], found["new"]["target"]) == ("a", "b")


def test_binary_files_have_no_hunks(contents: Contents) -> None:
    old = {b"binary": contents.file(b"a\0b"), b"late": contents.file(b"x" * 8000 + b"\0")}
    new = {b"binary": contents.file(A), b"late": contents.file(A)}
    binary, text = diffs(contents, old, new)
    assert binary["binary"] is True
    assert "hunks" not in binary
    assert "lines_added" not in binary
    assert "binary" not in text
    assert text["lines_deleted"] == 1


def test_content_that_cannot_be_compared_is_omitted(contents: Contents) -> None:
    large = contents.file(b"x" * (MAX_COMPARED_BYTES + 1))
    damaged = contents.file(b"damaged")
    contents.damage(damaged)
    old = {b"damaged": damaged, b"large": large, b"missing": not_stored(5)}
    new = {b"damaged": contents.file(A), b"large": contents.file(A), b"missing": not_stored(5, 2)}
    found = diffs(contents, old, new)
    assert [item["omitted"] for item in found] == [
        "damaged: the blob is missing",
        "larger than 4 MiB",
        "not stored",
    ]
    assert all("hunks" not in item and "lines_added" not in item for item in found)
    assert large.digest not in contents.reads


def test_an_unchanged_file_without_content_may_change_its_mode(contents: Contents) -> None:
    old, new = not_stored(5), Entry("file", 0o600, 5, 1)
    (found,) = diffs(contents, {b"x": old}, {b"x": new})
    assert (found["change"], found["hunks"]) == ("modified", [])


@pytest.mark.skipif(not wire_names.ANY_BYTES, reason="names are Unicode on this platform")
def test_paths_are_wire_names(contents: Contents) -> None:
    old, new = {b"caf\xe9": contents.file(A)}, {b"\xe9t\xe9": contents.file(A)}
    (found,) = diffs(contents, old, new)
    assert (found["old_path"], found["path"]) == ("caf␦E9", "␦E9t␦E9")


def test_context(contents: Contents) -> None:
    (found,) = diffs(contents, {b"x": contents.file(A)}, {b"x": contents.file(B)}, context=0)
    assert [hunk["lines"] for hunk in found["hunks"]] == [["-two", "+2"], ["+four"]]


def test_totals(contents: Contents) -> None:
    old = {b"x": contents.file(A), b"y": contents.file(A)}
    new = {b"x": contents.file(B), b"y": contents.file(B), b"z": contents.file(b"\0")}
    result = FileDiffs(changes(old, new), contents.read)
    assert len(list(result)) == 3
    assert (result.lines_added, result.lines_deleted, result.truncated) == (4, 2, False)


def test_the_number_of_files_is_limited(contents: Contents) -> None:
    new = {b"%d" % number: contents.file(b"%d" % number) for number in range(4)}
    result = FileDiffs(changes({}, new), contents.read, limits=DiffLimits(files=3))
    assert [item["path"] for item in result] == ["0", "1", "2"]
    assert result.truncated
    result = FileDiffs(changes({}, new), contents.read, limits=DiffLimits(files=4))
    assert len(list(result)) == 4
    assert not result.truncated


def test_the_size_of_hunks_is_limited(contents: Contents) -> None:
    new = {
        b"1": contents.file(b"x" * 40),
        b"2": contents.file(b"line\n" * 10_000),
        b"3": contents.file(b"y" * 40),
    }
    first, second, third = diffs(contents, {}, new, limits=DiffLimits(hunk_bytes=200))
    assert first["hunks"]
    assert third["hunks"]
    assert "hunks" not in second
    assert second["omitted"] == "limit of 200 bytes for the differences of all files reached"
    assert second["lines_added"] == 10_000


def test_the_size_of_contents_is_limited(contents: Contents) -> None:
    old = {b"1": contents.file(A), b"2": contents.file(A)}
    new = {b"1": contents.file(B), b"2": contents.file(B), b"3": link(b"target")}
    first, second, third = diffs(contents, old, new, limits=DiffLimits(read_bytes=len(A + B)))
    assert first["hunks"]
    assert second["omitted"] == "limit of 31 bytes for the contents of all files reached"
    assert third["hunks"]
    assert len(contents.reads) == 2


def test_changed_lines_are_counted(contents: Contents) -> None:
    lines = b"".join(b"%d\n" % number for number in range(20))
    old = {b"x": contents.file(A), b"moved": contents.file(lines), b"same": contents.file(b"same")}
    new = {
        b"x": contents.file(B),
        b"y": contents.file(lines + b"more\n"),
        b"z": contents.file(b"same"),
        b"binary": contents.file(b"\0\n"),
        b"missing": not_stored(10**9),
    }
    assert count_changed_lines(changes(old, new), contents.read, max_bytes=1000) == (3, 1)


def test_changed_lines_are_not_counted_beyond_a_limit(contents: Contents) -> None:
    old, new = {b"x": contents.file(A)}, {b"x": contents.file(B)}
    found = changes(old, new)
    assert count_changed_lines(found, contents.read, max_bytes=len(A + B)) == (2, 1)
    contents.reads.clear()
    assert count_changed_lines(found, contents.read, max_bytes=len(A + B) - 1) is None
    assert len(contents.reads) <= 1


def test_differences_of_recorded_checkpoints(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as recorded:
        root = recorded.path
        (root / "src").mkdir()
        (root / "src" / "x").write_bytes(A)
        (root / "old").write_bytes(b"moved\n" * 9)
        (root / "type").mkdir()
        (root / "type" / "inner").write_bytes(b"1\n")
        before = recorded.recorded()
        (root / "src" / "x").write_bytes(B)
        (root / "old").rename(root / "src" / "new")
        shutil.rmtree(root / "type")
        (root / "type").symlink_to("src")
        (root / "empty").mkdir()
        after = recorded.recorded()

        found = list(recorded.reader.changes(before.root, after.root))
        diffs = FileDiffs(found, recorded.reader.read)
        assert summary(list(diffs)) == [
            ("added", "empty"),
            ("renamed", "src/new"),
            ("modified", "src/x"),
            ("added", "type"),
            ("deleted", "type/inner"),
        ]
        assert (diffs.lines_added, diffs.lines_deleted) == (3, 2)
        assert count_changed_lines(found, recorded.reader.read, max_bytes=1000) == (3, 2)
