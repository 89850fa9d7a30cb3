"""Changes of a diff by their paths, with the states before and after them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from beray.exceptions import InvalidResponseError
from beray.history_schema import FileDiff, FileState
from beray.transfers import file_modes
from beray.transfers.path_patterns import matches


@dataclass
class PathChange:
    """States of one path before and after the change."""

    path: str
    old: FileState | None = None
    new: FileState | None = None
    entry: FileDiff | None = None
    """Entry of the diff with the new state."""
    source: str | None = None
    """Previous path of a renamed file."""


def changes_by_path(files: Sequence[FileDiff], exclude: Sequence[str]) -> dict[str, PathChange]:
    """Return the states of each path. A renamed file is a deletion and an addition.

    Raises:
        InvalidResponseError: A path has two old or two new states.
    """
    changes: dict[str, PathChange] = {}
    for entry in files:
        path, old, new = entry["path"], entry.get("old"), entry.get("new")
        source = entry.get("old_path") if entry["change"] == "renamed" else None
        if old is None and new is None:
            raise invalid_diff(f"{path!r} has no state")
        if old is not None and not matches(source or path, exclude):
            change = changes.setdefault(source or path, PathChange(source or path))
            if change.old is not None:
                raise invalid_diff(f"{source or path!r} is listed twice")
            change.old = old
        if new is not None and not matches(path, exclude):
            change = changes.setdefault(path, PathChange(path))
            if change.new is not None:
                raise invalid_diff(f"{path!r} is listed twice")
            change.new, change.entry, change.source = new, entry, source
    for change in changes.values():
        if change.source not in changes:
            change.source = None  # excluded, so that the file is a new one
    return changes


def invalid_diff(reason: str) -> InvalidResponseError:
    """Return the exception for a diff that contradicts itself or the contents."""
    return InvalidResponseError(f"the diff of the server is invalid: {reason}", body="")


def makes_way(change: PathChange) -> bool:
    """Return True if a file or link does not exist after a change."""
    return is_file(change.old) and not is_file(change.new)


def is_file(state: FileState | None) -> bool:
    """Return True for anything that exists and is not a directory."""
    return state is not None and state["type"] != "directory"


def is_same_type(old: FileState | None, new: FileState) -> bool:
    """Return True if a path had the same type before the change."""
    return old is not None and old["type"] == new["type"]


def is_same_content(old: FileState, new: FileState) -> bool:
    """Return True if two states differ at most in their modes."""
    if old["type"] != new["type"]:
        return False
    if old["type"] == "file":
        return "sha256" in old and old["sha256"] == new.get("sha256")
    return old.get("target") == new.get("target")


def with_changed_bits(mode: int, old: FileState | None, new: FileState) -> int:
    """Return a local mode with the permission bits that the task has changed.

    The modes of a checkout differ from those of the task by the umask of its user.
    """
    before = file_modes.parse(old.get("mode")) if old is not None else None
    after = file_modes.parse(new.get("mode"))
    if before is None or after is None or not is_same_type(old, new):
        return mode
    changed = before ^ after
    return mode & ~changed | after & changed


def folded(path: str) -> str:
    """Return a path without the differences that some file systems ignore."""
    return unicodedata.normalize("NFC", path).casefold()
