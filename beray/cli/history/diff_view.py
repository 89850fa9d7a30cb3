"""Differences between two states of a work_dir, in the formats of ``git diff``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from beray.cli import output
from beray.cli.output import Span
from beray.history_schema import Diff, FileDiff, FileState

_STYLES: Final = {"+": "green", "-": "red"}
_GIT_TYPES: Final = {"file": "100", "link": "120", "directory": "040"}
_NO_NEWLINE: Final = "\\ No newline at end of file"
_PIPE_COLUMNS: Final = 80
_MIN_NAME_COLUMNS: Final = 10
_MIN_BAR_COLUMNS: Final = 6

Line = list[Span]


def path_text(path: str) -> str:
    """Return a path for one line of text."""
    return output.file_line(path).replace("\t", "\u2409")


def unified(diff: Diff) -> Iterator[Line]:
    """Yield the lines of a unified diff, for a reader."""
    for file in diff["files"]:
        yield from _header(file)
        yield from _content(file)
    if diff.get("truncated"):
        yield [("The diff has more files; pass a PATH to see them.", "yellow")]


def _header(file: FileDiff) -> Iterator[Line]:
    path, old_path = file["path"], file.get("old_path") or file["path"]
    old, new = file.get("old"), file.get("new")
    head = [f"diff --git a/{path_text(old_path)} b/{path_text(path)}"]
    if old is None and new is not None:
        head.append(f"new file mode {_git_mode(new)}")
    elif new is None and old is not None:
        head.append(f"deleted file mode {_git_mode(old)}")
    elif old is not None and new is not None and _git_mode(old) != _git_mode(new):
        head += [f"old mode {_git_mode(old)}", f"new mode {_git_mode(new)}"]
    if file["change"] == "renamed":
        if "similarity" in file:
            head.append(f"similarity index {file['similarity']}%")
        head += [f"rename from {path_text(old_path)}", f"rename to {path_text(path)}"]
    if file.get("hunks"):
        head.append(f"--- {f'a/{path_text(old_path)}' if old is not None else '/dev/null'}")
        head.append(f"+++ {f'b/{path_text(path)}' if new is not None else '/dev/null'}")
    for text in head:
        yield [(text, "bold")]


def _content(file: FileDiff) -> Iterator[Line]:
    old, new = file.get("old"), file.get("new")
    hunks = file.get("hunks")
    if hunks:
        for hunk in hunks:
            before = _range(hunk["old_start"], hunk["old_lines"])
            after = _range(hunk["new_start"], hunk["new_lines"])
            yield [(f"@@ -{before} +{after} @@", "cyan")]
            for line in hunk["lines"]:
                yield [(line, _STYLES.get(line[:1], ""))]
    elif file.get("omitted"):
        yield [(f"Not shown: {file['omitted']}", "yellow")]
    elif file.get("binary"):
        yield [(f"Binary files differ: {_sizes(file)}", "")]
    else:
        for state, sign in ((old, "-"), (new, "+")):
            if state is not None and state["type"] == "link" and not _is_same_link(old, new):
                yield [(f"{sign}{state.get('target', '')}", _STYLES[sign])]
                yield [(_NO_NEWLINE, "")]


def _is_same_link(old: FileState | None, new: FileState | None) -> bool:
    return old is not None and new is not None and old.get("target") == new.get("target")


def _git_mode(state: FileState) -> str:
    kind = _GIT_TYPES.get(state["type"], "000")
    return kind + ("000" if state["type"] == "link" else state.get("mode", "000"))


def _range(start: int, count: int) -> str:
    return str(start) if count == 1 else f"{start},{count}"


def _sizes(file: FileDiff) -> str:
    sizes = (
        0 if state is None else state.get("size", 0) for state in (file.get("old"), file.get("new"))
    )
    return f"{' -> '.join(map(str, sizes))} bytes"


@dataclass(frozen=True)
class _Row:
    """Row of ``--stat``."""

    name: str
    added: int
    deleted: int
    note: str = ""
    """Text in place of the number and the bar."""


def stat(files: Iterable[FileDiff], *, indent: str = "") -> Iterator[Line]:
    """Yield one line per file with a bar of its changes, and their sum.

    Args:
        files: Changed files.
        indent: Prefix of each line.
    """
    rows = [_stat_row(file) for file in files]
    if not rows:
        return
    yield from _aligned(rows, indent)
    added, deleted = sum(row.added for row in rows), sum(row.deleted for row in rows)
    parts = [f"{len(rows)} file{'s' * (len(rows) != 1)} changed"]
    if added or not deleted:
        parts.append(f"{added} insertion{'s' * (added != 1)}(+)")
    if deleted or not added:
        parts.append(f"{deleted} deletion{'s' * (deleted != 1)}(-)")
    yield [(f"{indent} {', '.join(parts)}", "")]


def _stat_row(file: FileDiff) -> _Row:
    name = path_text(file["path"])
    states = [state for state in (file.get("old"), file.get("new")) if state is not None]
    if file["change"] == "renamed":
        name = _renamed(path_text(file.get("old_path") or ""), name)
    elif any(state["type"] == "directory" for state in states):
        name += "/"
    added, deleted = file.get("lines_added", 0), file.get("lines_deleted", 0)
    if not file.get("hunks") and (file.get("binary") or file.get("omitted")):
        return _Row(name, added, deleted, f"Bin {_sizes(file)}" if file.get("binary") else "large")
    return _Row(name, added, deleted)


def _renamed(old: str, new: str) -> str:
    """Return ``dir/{old => new}/name`` for a renamed file, with the common parts only once."""
    before, after = old.split("/"), new.split("/")
    shorter = min(len(before), len(after)) - 1
    start = 0
    while start < shorter and before[start] == after[start]:
        start += 1
    end = 0
    longest = shorter - start + (start > 0)
    while end < longest and before[-1 - end] == after[-1 - end]:
        end += 1
    middle = ["/".join(parts[start : len(parts) - end]) for parts in (before, after)]
    if not start and not end:
        return f"{old} => {new}"
    braces = f"{{{middle[0]} => {middle[1]}}}"
    return "/".join([*before[:start], braces, *before[len(before) - end :]])


def _aligned(rows: list[_Row], indent: str) -> Iterator[Line]:
    from rich.cells import cell_len

    is_terminal = output.is_terminal(sys.stdout)
    columns = shutil.get_terminal_size().columns if is_terminal else _PIPE_COLUMNS
    counts = [row.added + row.deleted for row in rows]
    notes = max(len(row.note) for row in rows)
    digits = max(*(len(str(count)) for count in counts), len("Bin") if notes else 0)
    # " NAME | COUNT BAR"
    left = columns - len(indent) - len("  |  ") - digits
    names = max(cell_len(row.name) for row in rows)
    bar = max(*counts, notes - digits - 1 if notes else 0)
    if names + bar > left:
        bar = max(min(bar, left - names, left), min(bar, left * 3 // 8), _MIN_BAR_COLUMNS)
        names = min(names, max(left - bar, _MIN_NAME_COLUMNS))
    most = max(*counts, 1)
    for row in rows:
        name = _shortened(row.name, names)
        start = f"{indent} {name}{' ' * (names - cell_len(name))} | "
        if row.note:
            yield [(start + row.note, "")]
            continue
        count = row.added + row.deleted
        added, deleted = _bars(row, min(most, bar), most)
        yield [
            (f"{start}{count:>{digits}}" + (" " if count else ""), ""),
            ("+" * added, "green"),
            ("-" * deleted, "red"),
        ]


def _bars(row: _Row, columns: int, most: int) -> tuple[int, int]:
    """Return the lengths of both bars; a side with changes has at least one column."""
    total = row.added + row.deleted
    if most <= columns:
        return row.added, row.deleted
    length = max(round(total * columns / most), (row.added > 0) + (row.deleted > 0))
    added = min(max(round(length * row.added / max(total, 1)), row.added > 0), length)
    if row.deleted and added == length:
        added -= 1
    return added, length - added


def _shortened(name: str, columns: int) -> str:
    """Return the end of a name, after an ellipsis if it does not fit."""
    from rich.cells import cell_len

    if cell_len(name) <= columns:
        return name
    while name and cell_len(name) > columns - 3:
        name = name[1:]
    # Prefer the start of a directory name.
    slash = name.find("/")
    return "..." + (name[slash:] if 0 <= slash < len(name) // 2 else name)
