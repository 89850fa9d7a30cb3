"""Differences between two states of a work_dir, with renamed files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from beray.history_schema import FileChange
from beray.server.workspace.history.contents import ReadContent, is_unchanged
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.reader import Change
from beray.server.workspace.history.renames import find_renames


@dataclass(frozen=True, slots=True)
class PathDifference:
    """Difference of one path in the view of users.

    Attributes:
        path: Path after the change, or the deleted path.
        change: Kind of the change.
        old: Entry before the change; None if it was added.
        new: Entry after the change; None if it was deleted.
        old_path: Path before the change; differs from ``path`` for renamed files.
        similarity: Percentage of equal content of a renamed file, otherwise 0.
    """

    path: bytes
    change: FileChange
    old: Entry | None
    new: Entry | None
    old_path: bytes = field(kw_only=True)
    similarity: int = field(default=0, kw_only=True)


def find_differences(changes: Iterable[Change], read: ReadContent) -> list[PathDifference]:
    """Return the differences between two states in ascending order of their paths.

    A directory is listed only if it is empty or its mode changed. A change of the type is the
    deletion of a path and the addition of the same path. A changed time of modification alone is
    not listed, except for a file without stored content, which has probably changed.

    Args:
        changes: Changed paths, including the content of added and deleted directories.
        read: Returns the content of a file, to find renamed ones.
    """
    changes = sorted(changes, key=lambda change: change.path)
    old_parents = {_parent(change.path) for change in changes if change.old is not None}
    new_parents = {_parent(change.path) for change in changes if change.new is not None}
    deleted: list[Change] = []
    added: list[Change] = []
    found: list[PathDifference] = []
    for change in changes:
        path, old, new = change.path, change.old, change.new
        if old is not None and new is not None and old.kind == new.kind:
            if old.mode != new.mode or not is_unchanged(old, new):
                found.append(PathDifference(path, "modified", old, new, old_path=path))
            continue
        if old is not None and not (old.kind == "directory" and path in old_parents):
            deleted.append(change)
        if new is not None and not (new.kind == "directory" and path in new_parents):
            added.append(change)

    renames = find_renames(
        [change for change in deleted if change.new is None],
        [change for change in added if change.old is None],
        read,
    )
    found += (
        PathDifference(
            rename.added.path,
            "renamed",
            rename.deleted.old,
            rename.added.new,
            old_path=rename.deleted.path,
            similarity=rename.similarity,
        )
        for rename in renames
    )
    sources = {rename.deleted.path for rename in renames}
    targets = {rename.added.path for rename in renames}
    found += (
        PathDifference(change.path, "deleted", change.old, None, old_path=change.path)
        for change in deleted
        if change.path not in sources
    )
    found += (
        PathDifference(change.path, "added", None, change.new, old_path=change.path)
        for change in added
        if change.path not in targets
    )
    return sorted(found, key=lambda difference: (difference.path, difference.old is None))


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
