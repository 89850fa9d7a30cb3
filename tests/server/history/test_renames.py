"""Detection of renamed files by digests and by similar content."""

from __future__ import annotations

import random

import pytest

from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.reader import Change
from beray.server.workspace.history.renames import MAX_CANDIDATES, find_renames
from tests.server.history.states import Contents, link, not_stored


def text(seed: int, lines: int = 40) -> list[bytes]:
    generator = random.Random(seed)
    return [b"%016x\n" % generator.getrandbits(64) for _ in range(lines)]


def renames(
    contents: Contents, deleted: dict[bytes, Entry], added: dict[bytes, Entry]
) -> dict[bytes, tuple[bytes, int]]:
    """New path, similarity by old path."""
    found = find_renames(
        [Change(path, entry, None) for path, entry in sorted(deleted.items())],
        [Change(path, None, entry) for path, entry in sorted(added.items())],
        contents.read,
    )
    return {rename.deleted.path: (rename.added.path, rename.similarity) for rename in found}


def test_identical_files_are_renamed_without_reading_them() -> None:
    contents = Contents()
    files = {b"%d" % number: contents.file(b"%d" % number) for number in range(3000)}
    moved = {b"new/" + path: entry for path, entry in files.items()}
    assert renames(contents, files, moved) == {path: (b"new/" + path, 100) for path in files}
    assert contents.reads == []


def test_identical_files_keep_their_directories_and_names() -> None:
    contents = Contents()
    same = contents.file(b"the same")
    old = [b"lib/a/LICENSE", b"lib/b/LICENSE", b"lib/b/COPY", b"other"]
    new = [b"src/b/LICENSE", b"src/a/LICENSE", b"src/c/COPY", b"another"]
    assert renames(contents, dict.fromkeys(old, same), dict.fromkeys(new, same)) == {
        b"lib/a/LICENSE": (b"src/a/LICENSE", 100),
        b"lib/b/LICENSE": (b"src/b/LICENSE", 100),
        b"lib/b/COPY": (b"src/c/COPY", 100),
        b"other": (b"another", 100),
    }


def test_each_file_is_used_once() -> None:
    contents = Contents()
    same = contents.file(b"the same")
    found = renames(contents, {b"a": same}, {b"b": same, b"c": same})
    assert found == {b"a": (b"b", 100)}


@pytest.mark.parametrize(("kept", "similarity"), [(39, 97), (20, 50), (19, None), (0, None)])
def test_similarity_is_the_percentage_of_equal_lines(kept: int, similarity: int | None) -> None:
    contents = Contents()
    lines = text(1)
    old = contents.file(b"".join(lines))
    new = contents.file(b"".join(lines[:kept] + text(2)[kept:]))
    expected = {} if similarity is None else {b"old": (b"new", similarity)}
    assert renames(contents, {b"old": old}, {b"new": new}) == expected


def test_reordered_lines_are_not_identical() -> None:
    contents = Contents()
    old, new = contents.file(b"".join(text(1))), contents.file(b"".join(text(1)[::-1]))
    assert renames(contents, {b"old": old}, {b"new": new}) == {b"old": (b"new", 99)}


def test_the_most_similar_file_is_used() -> None:
    contents = Contents()
    lines = text(1)
    added = {b"new": contents.file(b"".join(lines))}
    deleted = {
        b"%d" % kept: contents.file(b"".join(lines[:kept] + text(2)[kept:]))
        for kept in (25, 35, 30)
    }
    assert renames(contents, deleted, added) == {b"35": (b"new", 87)}


def test_equal_similarity_prefers_the_same_name() -> None:
    contents = Contents()
    lines = text(1)
    old = contents.file(b"".join(lines))
    added = {
        path: contents.file(b"".join([*lines[:-1], path.ljust(16) + b"\n"]))
        for path in (b"b/x", b"c/a", b"d/x")
    }
    assert renames(contents, {b"a": old}, added) == {b"a": (b"c/a", 97)}


def test_binary_files_are_compared_in_chunks() -> None:
    contents = Contents()
    content = random.Random(1).randbytes(20_000)
    old, new = contents.file(content), contents.file(content[:15_000] + b"\0" * 5_000)
    ((path, similarity),) = renames(contents, {b"old": old}, {b"new": new}).values()
    assert path == b"new"
    assert 70 <= similarity <= 76


def test_long_lines_are_compared_in_chunks() -> None:
    contents = Contents()
    line = b",".join(text(1, 2000)).replace(b"\n", b"")
    old, new = contents.file(line), contents.file(line + b"end")
    assert renames(contents, {b"old": old}, {b"new": new}) == {b"old": (b"new", 99)}


def test_files_that_cannot_be_renamed() -> None:
    contents = Contents()
    lines = text(1)
    large = contents.file(b"".join(lines) * 3)
    small = contents.file(b"".join(lines))
    assert renames(contents, {b"large": large}, {b"small": small}) == {}
    assert contents.reads == []  # sizes that differ by a factor of 3
    empty = contents.file(b"")
    assert renames(contents, {b"a": empty}, {b"b": empty}) == {}
    assert renames(contents, {b"a": not_stored(3)}, {b"b": not_stored(3)}) == {}
    assert renames(contents, {b"a": link(b"x")}, {b"b": link(b"x")}) == {}


def test_damaged_files_are_not_compared() -> None:
    contents = Contents()
    lines = text(1)
    old, other = contents.file(b"".join(lines)), contents.file(b"".join(lines[1:]))
    new = contents.file(b"".join(lines[:-1]))
    contents.damage(old)
    assert renames(contents, {b"old": old, b"other": other}, {b"new": new}) == {
        b"other": (b"new", 97)
    }


def test_many_modified_files_are_renamed() -> None:
    contents = Contents()
    old = {b"%d" % number: b"".join(text(number)) for number in range(MAX_CANDIDATES)}
    deleted = {path: contents.file(content) for path, content in old.items()}
    added = {b"new/" + path: contents.file(content + b"more\n") for path, content in old.items()}
    found = renames(contents, deleted, added)
    assert {path: new for path, (new, _) in found.items()} == {path: b"new/" + path for path in old}


def test_many_files_of_one_template_are_renamed() -> None:
    contents = Contents()
    template = b"".join(text(1, 100))
    old = {b"%d" % number: b"".join(text(number + 2, 3)) for number in range(500)}
    deleted = {path: contents.file(template + content) for path, content in old.items()}
    added = {
        b"new/%d" % (-int(path)): contents.file(b"more\n" + template + content)
        for path, content in old.items()
    }
    found = renames(contents, deleted, added)
    assert {path: new for path, (new, _) in found.items()} == {
        path: b"new/%d" % (-int(path)) for path in old
    }


def test_files_without_rare_lines_are_renamed() -> None:
    contents = Contents()
    template = b"".join(text(1))
    deleted = {b"%d" % number: contents.file(template + b"x\n" * number) for number in range(20)}
    added = {b"new": contents.file(template[:-17])}
    assert renames(contents, deleted, added) == {b"0": (b"new", 97)}


def test_more_candidates_are_renamed_only_if_identical() -> None:
    contents = Contents()
    count = MAX_CANDIDATES + 1
    old = {b"%d" % number: b"".join(text(number, 4)) for number in range(count)}
    deleted = {path: contents.file(content) for path, content in old.items()}
    added = {b"new/" + path: contents.file(content + b"more\n") for path, content in old.items()}
    added[b"same"] = contents.file(b"same")
    deleted[b"z"] = contents.file(b"same")
    assert renames(contents, deleted, added) == {b"z": (b"same", 100)}
    assert contents.reads == []
