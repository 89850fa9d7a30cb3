"""Patches, applied by the git of this machine."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from beray.server.workspace.history.contents import MAX_COMPARED_BYTES
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.unified import MAX_BINARY_BYTES, unified_diff
from beray.transfers import wire_names
from tests.server.history.states import Contents, changes, link, not_stored

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

File = tuple[str, bytes]  # type ("file", "program", "link") and content or target
Tree = Mapping[bytes, File]


def entries(contents: Contents, tree: Tree) -> dict[bytes, Entry]:
    modes = {"file": 0o644, "program": 0o755}
    return {
        path: link(content) if kind == "link" else contents.file(content, modes[kind])
        for path, (kind, content) in tree.items()
    }


def patch(old: Tree, new: Tree, context: int = 3) -> bytes:
    contents = Contents()
    found = changes(entries(contents, old), entries(contents, new))
    return b"".join(unified_diff(found, contents.read, context=context))


def write(root: bytes, tree: Tree) -> None:
    for path, (kind, content) in tree.items():
        target = os.path.join(root, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if kind == "link":
            os.symlink(content, target)
        else:
            with open(target, "wb") as file:
                file.write(content)
            os.chmod(target, 0o755 if kind == "program" else 0o644)


def scan(root: bytes) -> dict[bytes, File]:
    found: dict[bytes, File] = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(mode):
                found[key] = "link", os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    found[key] = "program" if mode & 0o100 else "file", file.read()
    return found


def git_apply(folder: Path, data: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
    }
    return subprocess.run(
        ["git", "apply", *options], cwd=folder, env=environment, input=data, capture_output=True
    )


def assert_applies(old: Tree, new: Tree, context: int = 3) -> None:
    data = patch(old, new, context)
    if not data:
        assert old == new
        return
    options = [] if context else ["--unidiff-zero"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tree"
        folder.mkdir()
        write(os.fsencode(folder), old)
        result = git_apply(folder, data, *options)
        assert result.returncode == 0, (result.stderr, data)
        assert scan(os.fsencode(folder)) == new, data
        result = git_apply(folder, data, "--reverse", *options)
        assert result.returncode == 0, (result.stderr, data)
        assert scan(os.fsencode(folder)) == old, data


LONG = b"".join(b"line %d\n" % number for number in range(60))
NAMES = [
    b"a",
    b"b",
    b"dir",
    b"a b",
    b" x ",
    b'"',
    b"\\",
    b"tab\t",
    b"new\nline",
    b"b b",
    "é".encode(),
]
NAMES += [b"-x", b"\x7f\x01", b"~", b"end "] + ([b"\xff\xfe"] if wire_names.ANY_BYTES else [])
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
TEXTS = st.lists(
    st.sampled_from(
        [b"x", b"y", b"", b"-- a", b"+", b"\r", b"\\ No newline at end of file", b"\xff"]
    ),
    max_size=12,
).flatmap(lambda lines: st.sampled_from([b"\n".join(lines), b"\n".join([*lines, b""])]))
EDITED = st.integers(0, len(LONG)).flatmap(
    lambda at: st.sampled_from([LONG, LONG[:at] + b"edit" + LONG[at:], LONG[:at] + LONG[at + 9 :]])
)
BINARY = st.binary(max_size=150).map(lambda data: b"\0" + data) | st.just(
    b"x" * 8000 + b"\n\0\ny\n"
)
CONTENTS = TEXTS | EDITED | BINARY | st.just(b"")
# Git does not replace a link by a directory if the link refers to itself or to existing files.
FILES: st.SearchStrategy[File] = st.tuples(
    st.sampled_from(["file", "program"]), CONTENTS
) | st.tuples(st.just("link"), st.sampled_from([b"missing", b"../x y", b"\xc3\xa9\n"]))


def without_conflicts(files: dict[bytes, File]) -> dict[bytes, File]:
    """Remove paths below files."""
    found: dict[bytes, File] = {}
    for path in sorted(files):
        parts = path.split(b"/")
        if not any(b"/".join(parts[:count]) in found for count in range(1, len(parts))):
            found[path] = files[path]
    return found


TREES = st.dictionaries(PATHS, FILES, max_size=8).map(without_conflicts)


@st.composite
def two_trees(draw: st.DrawFn) -> tuple[dict[bytes, File], dict[bytes, File]]:
    """A tree, and another with some of the same files at the same or other paths."""
    old = draw(TREES)
    new = dict(draw(TREES))
    for path, file in old.items():
        action = draw(st.sampled_from(["keep", "rename", "delete", "mode"]))
        if action == "keep":
            new[path] = file
        elif action == "rename":
            new[draw(PATHS)] = file
        elif action == "mode" and file[0] != "link":
            new[path] = "program" if file[0] == "file" else "file", file[1]
    return old, without_conflicts(new)


@needs_git
@given(two_trees(), st.sampled_from([3, 3, 3, 1, 0, 10]))
@example(({b"x": ("file", b"1")}, {b"x/y": ("file", b"1")}), 3)
@example(({b"x/y": ("file", LONG)}, {b"x": ("file", LONG + b"end")}), 3)
@example(({b"d/f": ("file", b"1")}, {b"d": ("link", b"missing")}), 3)
@example(({b"d": ("link", b"missing")}, {b"d/f": ("file", b"1")}), 3)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_git_applies_a_patch_of_random_trees(
    trees: tuple[dict[bytes, File], dict[bytes, File]], context: int
) -> None:
    assert_applies(*trees, context)


def test_the_headers_are_those_of_git() -> None:
    old = {b"mod": ("file", b"a\nb\n"), b"old name": ("file", LONG), b"gone": ("link", b"target")}
    new = {
        b"mod": ("file", b"a\nc\n"),
        b"new name": ("program", LONG),
        b"caf\xc3\xa9": ("file", b"x"),
        b"empty": ("file", b""),
    }
    assert patch(old, new).splitlines() == [
        rb'diff --git "a/caf\303\251" "b/caf\303\251"',
        b"new file mode 100644",
        b"index 0000000000000000000000000000000000000000..c1b0730e0133447badcfd47fd144e254807b06e1",
        b"--- /dev/null",
        rb'+++ "b/caf\303\251"',
        b"@@ -0,0 +1,1 @@",
        b"+x",
        b"\\ No newline at end of file",
        b"diff --git a/empty b/empty",
        b"new file mode 100644",
        b"index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
        b"diff --git a/gone b/gone",
        b"deleted file mode 120000",
        b"index 1de565933b05f74c75ff9a6520af5f9f8a5a2f1d..0000000000000000000000000000000000000000",
        b"--- a/gone",
        b"+++ /dev/null",
        b"@@ -1,1 +0,0 @@",
        b"-target",
        b"\\ No newline at end of file",
        b"diff --git a/mod b/mod",
        b"index 422c2b7ab3b3c668038da977e4e93a5fc623169c..0f7bc766052a5a0ee28a393d51d2370f96d8ceb8 100644",
        b"--- a/mod",
        b"+++ b/mod",
        b"@@ -1,2 +1,2 @@",
        b" a",
        b"-b",
        b"+c",
        b"diff --git a/old name b/new name",
        b"old mode 100644",
        b"new mode 100755",
        b"similarity index 100%",
        b"rename from old name",
        b"rename to new name",
    ]


@needs_git
def test_large_binary_files_are_rejected_by_git(tmp_path: Path) -> None:
    content = b"\0" + random.Random(1).randbytes(MAX_BINARY_BYTES)
    old, new = {b"x": ("file", content)}, {b"x": ("file", content[:-1] + b"y")}
    data = patch(old, new)
    assert data == (
        b"diff --git a/x b/x\nindex 0000000..0000000 100644\nBinary files a/x and b/x differ\n"
    )
    (tmp_path / "x").write_bytes(content)
    result = git_apply(tmp_path, data)
    assert result.returncode
    assert b"cannot apply binary patch to 'x'" in result.stderr
    assert (tmp_path / "x").read_bytes() == content


@needs_git
def test_the_largest_binary_file_is_included() -> None:
    content = b"\0" + random.Random(1).randbytes(MAX_BINARY_BYTES - 1)
    assert_applies({b"x": ("file", content)}, {b"x": ("file", content[:-1]), b"y": ("file", b"")})


@needs_git
@pytest.mark.parametrize("reason", ["damaged", "large", "not stored", "added"])
def test_a_patch_without_a_content_is_rejected_by_git(tmp_path: Path, reason: str) -> None:
    contents = Contents()
    old: dict[bytes, Entry] = {b"a": contents.file(b"a\n"), b"x": contents.file(b"x\n")}
    new: dict[bytes, Entry] = {b"a": contents.file(b"b\n"), b"x": contents.file(b"y\n")}
    if reason == "damaged":
        contents.damage(new[b"x"])
    elif reason == "large":
        new[b"x"] = contents.file(b"x" * (MAX_COMPARED_BYTES + 1))
    else:
        new[b"x"] = not_stored(2)
    if reason == "added":
        del old[b"x"]
    data = b"".join(unified_diff(changes(old, new), contents.read))
    (tmp_path / "a").write_bytes(b"a\n")
    if b"x" in old:
        (tmp_path / "x").write_bytes(b"x\n")
    before = scan(os.fsencode(tmp_path))
    result = git_apply(tmp_path, data)
    assert result.returncode
    assert b"cannot apply binary patch to 'x'" in result.stderr
    assert scan(os.fsencode(tmp_path)) == before


def test_what_git_does_not_store_is_not_included() -> None:
    contents = Contents()
    old = {
        b"mode": contents.file(b"a", mode=0o644),
        b"directory": Entry("directory", mode=0o755),
        b"fifo": Entry("special"),
    }
    new = {b"mode": contents.file(b"a", mode=0o600), b"other": Entry("directory", mode=0o755)}
    assert list(unified_diff(changes(old, new), contents.read)) == []


@needs_git
def test_a_repository_with_an_index_accepts_the_patch(tmp_path: Path) -> None:
    old: Tree = {b"x": ("file", LONG), b"y": ("file", b"\0a")}
    new: Tree = {b"z": ("program", LONG + b"end\n"), b"y": ("file", b"\0b")}
    write(os.fsencode(tmp_path), old)
    for command in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    result = git_apply(tmp_path, patch(old, new), "--index")
    assert result.returncode == 0, result.stderr
    shutil.rmtree(tmp_path / ".git")
    assert scan(os.fsencode(tmp_path)) == new
