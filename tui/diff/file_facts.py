"""Descriptions of the changes of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from beray.history_schema import Diff, DiffHunk, FileDiff, FileState
from beray.sanitize import one_line
from tui import status

_SHOWN_DIGEST: Final = 12
"""Digits of a SHA-256 that are displayed."""
_MAX_PATH_CHARS: Final = 1000


class ChangeMark(NamedTuple):
    """Letter and component class of a type of change."""

    letter: str
    style: str


_MARKS: Final = {
    "added": ChangeMark("A", "change--added"),
    "modified": ChangeMark("M", "change--modified"),
    "deleted": ChangeMark("D", "change--deleted"),
    "renamed": ChangeMark("R", "change--renamed"),
}
MARK_STYLES: Final = frozenset(mark.style for mark in _MARKS.values())


def change_mark(change: str) -> ChangeMark:
    """Return the mark of a type of change, also of an unknown one."""
    return _MARKS.get(change) or ChangeMark("?", "change--modified")


def counts(added: int | None, deleted: int | None) -> str:
    """Return numbers of changed lines, such as ``+12 −3``; "" if they are 0 or unknown."""
    parts = [f"+{added:,}" if added else "", f"−{deleted:,}" if deleted else ""]
    return " ".join(filter(None, parts))


def file_counts(file: FileDiff) -> str:
    """Return the numbers of changed lines of a file."""
    return counts(file.get("lines_added"), file.get("lines_deleted"))


def file_count(number: int, *, more: bool = False) -> str:
    """Return a number of files in words; ``more`` if there are others."""
    plus = "+" if more else ""
    return f"{number:,}{plus} {'file' if number == 1 and not more else 'files'}"


def title(file: FileDiff) -> str:
    """Return the path of a file; of a renamed one, also the path before."""
    path, old = one_line(file["path"], _MAX_PATH_CHARS), file.get("old_path")
    return f"{one_line(old, _MAX_PATH_CHARS)} → {path}" if old else path


def facts(file: FileDiff) -> list[str]:
    """Return how a file was changed, apart from its lines."""
    old, new = file.get("old"), file.get("new")
    found = [one_line(str(file["change"]), 20)]
    if (similarity := file.get("similarity")) is not None:
        found.append("unchanged" if similarity == 100 else f"{similarity} % similar")
    if (kind := _kind(file)) != "file":
        found.append(one_line(kind, 20))
    if old and new and old.get("mode") != new.get("mode"):
        found.append(f"mode {_mode(old)} → {_mode(new)}")
    if file.get("binary"):
        found.append("binary")
    if lines := file_counts(file):
        found.append(lines)
    return found


def _kind(file: FileDiff) -> str:
    state = file.get("new") or file.get("old")
    return state["type"] if state else "file"


def _mode(state: FileState) -> str:
    return one_line(state.get("mode", "?"), 8)


def shown_hunks(file: FileDiff) -> list[DiffHunk]:
    """Return the changed lines to show; [] if ``reason_without_lines`` is shown instead."""
    return [] if _kind(file) == "link" else file.get("hunks") or []


def reason_without_lines(file: FileDiff) -> str:
    """Return why a file has no changed lines to show, as lines of text."""
    old, new = file.get("old"), file.get("new")
    if omitted := file.get("omitted"):
        return f"The lines are not shown: {omitted}\n\n{_states(old, new)}".rstrip()
    if file.get("binary"):
        return f"A binary file.\n\n{_states(old, new)}".rstrip()
    if _kind(file) == "link":
        return _states(old, new)
    if _kind(file) == "directory":
        return "An empty directory." if file["change"] != "modified" else _states(old, new)
    if file["change"] == "renamed":
        return "Renamed without other changes."
    if old and new and old.get("mode") != new.get("mode"):
        return f"Only the mode changed.\n\n{_states(old, new)}"
    return "An empty file." if file["change"] != "modified" else _states(old, new)


def _states(old: FileState | None, new: FileState | None) -> str:
    lines = [
        f"{name}  {_state(state)}"
        for name, state in (("before", old), ("after ", new))
        if state is not None
    ]
    return "\n".join(lines)


def _state(state: FileState) -> str:
    if (target := state.get("target")) is not None:
        return f"→ {one_line(target, _MAX_PATH_CHARS)}"
    parts = []
    if (size := state.get("size")) is not None:
        parts.append(status.size(size))
    if mode := state.get("mode"):
        parts.append(f"mode {one_line(mode, 8)}")
    if digest := state.get("sha256"):
        parts.append(f"SHA-256 {one_line(digest, 80)[:_SHOWN_DIGEST]}…")
    elif state.get("type", "file") == "file":
        parts.append("content not stored")
    return "  ".join(parts)


def summary(diff: Diff) -> str:
    """Return the range and the size of a diff, such as ``c1 → c4 · 3 files +12 −3``."""
    start, end = (one_line(diff[side]["checkpoint"], 20) for side in ("from", "to"))
    parts = [f"{start} → {end}", file_count(len(diff["files"]), more=diff.get("truncated", False))]
    if lines := counts(diff.get("lines_added"), diff.get("lines_deleted")):
        parts.append(lines)
    return " · ".join(parts)


def index_of(files: Sequence[FileDiff], path: str | None) -> int:
    """Return the index of the file with a path; by default 0."""
    return next((index for index, file in enumerate(files) if file["path"] == path), 0)
