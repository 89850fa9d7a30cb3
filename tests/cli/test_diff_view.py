"""Unified diffs and sums of changes for a terminal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from beray.cli.history import diff_view
from beray.history_schema import Diff, FileDiff

FILE = {"type": "file", "mode": "644", "size": 10}


def file(path: str, **fields: Any) -> FileDiff:
    return {"path": path, "change": "modified", "old": FILE, "new": FILE} | fields  # type: ignore[return-value]


def unified(*files: FileDiff, **fields: Any) -> list[str]:
    position = {"checkpoint": "c1", "seq": 1}
    diff: Diff = {"from": position, "to": position, "files": list(files)} | fields  # type: ignore[assignment]
    return ["".join(text for text, _ in line) for line in diff_view.unified(diff)]


def stat(*files: FileDiff) -> list[str]:
    return ["".join(text for text, _ in line) for line in diff_view.stat(files)]


def counted(path: str, added: int, deleted: int, **fields: Any) -> FileDiff:
    return file(path, lines_added=added, lines_deleted=deleted, **fields)


HUNK = {
    "old_start": 1, "old_lines": 1, "new_start": 1, "new_lines": 2, "lines": ["-a", "+b", "+c"],
}  # fmt: skip


def test_the_header_of_each_kind_of_change() -> None:
    assert unified(
        file("mode", new={**FILE, "mode": "755"}, hunks=[]),
        file("new", change="added", old=None, hunks=[HUNK]),
        file("gone", change="deleted", new=None, hunks=[HUNK]),
        file("b", change="renamed", old_path="a", similarity=90, hunks=[HUNK]),
        file("bin", old={**FILE, "size": 1}, binary=True),
        file("big", omitted="larger than 1 MiB"),
        file("d", change="added", old=None, new={"type": "directory", "mode": "755"}),
        file("l", old={"type": "link", "target": "x"}, new={"type": "link", "target": "y"}),
    ) == [
        "diff --git a/mode b/mode", "old mode 100644", "new mode 100755",
        "diff --git a/new b/new", "new file mode 100644", "--- /dev/null", "+++ b/new",
        "@@ -1 +1,2 @@", "-a", "+b", "+c",
        "diff --git a/gone b/gone", "deleted file mode 100644", "--- a/gone", "+++ /dev/null",
        "@@ -1 +1,2 @@", "-a", "+b", "+c",
        "diff --git a/a b/b", "similarity index 90%", "rename from a", "rename to b",
        "--- a/a", "+++ b/b", "@@ -1 +1,2 @@", "-a", "+b", "+c",
        "diff --git a/bin b/bin", "Binary files differ: 1 -> 10 bytes",
        "diff --git a/big b/big", "Not shown: larger than 1 MiB",
        "diff --git a/d b/d", "new file mode 040755",
        "diff --git a/l b/l", "-x", "\\ No newline at end of file", "+y",
        "\\ No newline at end of file",
    ]  # fmt: skip
    assert unified(truncated=True) == ["The diff has more files; pass a PATH to see them."]


def test_minimal_states_are_shown() -> None:
    assert unified({"path": "x", "change": "added", "new": {"type": "file"}}) == [
        "diff --git a/x b/x",
        "new file mode 100000",
    ]
    assert stat({"path": "x", "change": "other"}) == [
        " x | 0",
        " 1 file changed, 0 insertions(+), 0 deletions(-)",
    ]
    assert stat() == []


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("a", "b", "a => b"),
        ("d/a", "d/b", "d/{a => b}"),
        ("a/x", "b/x", "{a => b}/x"),
        ("d/a/x", "d/b/x", "d/{a => b}/x"),
        ("d/x", "d/e/x", "d/{ => e}/x"),
        ("x", "d/x", "x => d/x"),
    ],
)
def test_common_parts_of_a_renamed_path_are_shown_once(old: str, new: str, shown: str) -> None:
    row = stat(counted(new, 0, 0, change="renamed", old_path=old))[0]
    assert row == f" {shown} | 0"


def test_bars_fit_into_80_columns_of_a_pipe() -> None:
    rows = stat(
        counted("a" * 200, 1000, 0),
        counted("src/short.py", 1, 999),
        counted("日本語" * 20, 1, 0),
        counted("one", 0, 1),
    )
    assert max(map(_cells, rows)) == 80
    assert rows[0].startswith(" ...aaa")
    assert rows[1].rstrip("-").endswith("+")
    assert [row.count("|") for row in rows[:4]] == [1, 1, 1, 1]
    assert rows[3].endswith("|    1 -")
    assert rows[4] == " 4 files changed, 1002 insertions(+), 1000 deletions(-)"


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_bars_are_those_of_git(tmp_path: Path) -> None:
    # The name has 10 characters, so that git has 63 columns for the bars.
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "-q")
    counts = [(0, 3), (3, 0), (2, 5), (10, 20), (1, 1), (30, 3)]
    for number, (_, deleted) in enumerate(counts):
        (tmp_path / f"file{number}.txt").write_text("old\n" * deleted)
    git("add", ".")
    for number, (added, _) in enumerate(counts):
        (tmp_path / f"file{number}.txt").write_text("new\n" * added)
    expected = git("-c", "core.abbrev=7", "diff", "--stat=80")
    files = [counted(f"file{number}.txt", *count) for number, count in enumerate(counts)]
    assert stat(*files) == expected.splitlines()


def test_paths_and_lines_have_no_control_characters() -> None:
    lines = unified(file("a\n\x1b[2Jb\tc", hunks=[HUNK | {"lines": ["+\x1b[31mx\r"]}]))
    assert lines[0] == "diff --git a/a\u240a\u241b[2Jb\u2409c b/a\u240a\u241b[2Jb\u2409c"
