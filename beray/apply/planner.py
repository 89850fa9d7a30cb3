"""Comparison of the differences between two checkpoints with a local directory.

A file that has the old content is replaced, and one that has the new content is left unchanged. A
text with other changes gets those of the task if they fit; anything else is a conflict. All
conflicts are found before anything is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from beray.apply import text_merge
from beray.apply.directories import plan_directories
from beray.apply.local_state import LocalFiles, LocalState
from beray.apply.path_changes import (
    PathChange,
    changes_by_path,
    folded,
    invalid_diff,
    is_file,
    is_same_content,
    is_same_type,
    makes_way,
    with_changed_bits,
)
from beray.apply.paths import (
    is_git_name,
    path_problem,
    resolved_target_problem,
    target_problem,
)
from beray.apply.plan import AppliedChange, ApplyPlan, Change, Conflict, FileWrite, parents
from beray.apply.source import CheckpointReader
from beray.exceptions import InvalidArgument
from beray.history_schema import Diff, DiffHunk, FileState
from beray.transfers import file_modes
from beray.transfers.local_names import LocalNames, on_wire

_FILE_TYPES: Final = ("file", "link")
_KIND_NAMES: Final = {
    "file": "a file",
    "directory": "a directory",
    "link": "a symbolic link",
    "special": "a pipe, socket or device",
}


class _Unfit(Exception):
    """The change of a path cannot be applied."""

    def __init__(self, reason: str, *, is_overwritable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_overwritable = is_overwritable


def plan_changes(
    diff: Diff,
    root: str | os.PathLike[str],
    reader: CheckpointReader,
    *,
    exclude: Iterable[str] = (),
    force: bool = False,
) -> ApplyPlan:
    """Compare a diff with a local directory, without writing anything.

    Args:
        diff: Differences between two checkpoints, with all files.
        root: Local directory.
        reader: Reads the contents of texts that have to be merged.
        exclude: Shell patterns of paths to leave unchanged, as for uploads.
        force: Replace local files whose changes do not fit.

    Raises:
        NotADirectoryError: ``root`` is not a directory.
        InvalidArgument: ``root`` belongs to the directory of a git repository.
        InvalidResponseError: The diff contradicts itself or the contents.
        BeRayException: A content cannot be read from the server.
    """
    directory = Path(root).resolve()
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a directory", str(root))
    if any(map(is_git_name, directory.parts)):
        raise InvalidArgument(
            f"{root} belongs to the directory of a git repository, in which no changes are applied"
        )
    changes = changes_by_path(diff["files"], list(exclude))
    return _Planner(diff, changes, LocalFiles(directory), reader, force=force).plan()


class _Planner:
    def __init__(
        self,
        diff: Diff,
        changes: dict[str, PathChange],
        local: LocalFiles,
        reader: CheckpointReader,
        *,
        force: bool,
    ) -> None:
        self._changes = changes
        self._local = local
        self._reader = reader
        self._force = force
        self._from, self._to = diff["from"]["checkpoint"], diff["to"]["checkpoint"]
        self._plan = ApplyPlan(local.root, self._to)
        self._deleted = {path for path, change in changes.items() if change.new is None}
        self._parents_of_deleted = {parent for path in self._deleted for parent in parents(path)}
        self._parents_of_new = {
            parent for path in changes.keys() - self._deleted for parent in parents(path)
        }
        self._deleted_by_fold = {folded(path): path for path in self._deleted}
        self._moved: set[str] = set()
        """Sources of renames whose local content is now at the new path."""

    def plan(self) -> ApplyPlan:
        """Return the plan."""
        self._check_names()
        if not self._plan.conflicts:
            sources = {change.source for change in self._changes.values()}
            # New paths of renames first: they determine what happens to the old paths.
            for change in sorted(
                self._changes.values(),
                key=lambda change: (change.path in sources, change.new is None, change.path),
            ):
                self._check(change)
        if not self._plan.conflicts:
            plan_directories(self._plan, self._local, self._reader, self._parents_of_new)
        self._plan.changes.sort(key=lambda change: change.path)
        self._plan.unchanged.sort()
        self._plan.conflicts.sort(key=lambda conflict: conflict.path)
        return self._plan

    def _check_names(self) -> None:
        """Find unsafe paths and targets, before any of them is looked up."""
        names = LocalNames()
        for path, change in sorted(self._changes.items()):
            new = change.new
            reason = path_problem(path)
            if reason is None and new is not None:
                reason = names.add(path, is_directory=new["type"] == "directory")
                if reason is None and new["type"] == "link":
                    reason = target_problem(path, new.get("target", ""))
            if reason is not None:
                self._plan.conflicts.append(Conflict(path, reason))

    def _check(self, change: PathChange) -> None:
        path = change.path
        try:
            self._require_reachable(path)
            self._plan.signatures[path] = self._local.signature(path)
            if change.new is None:
                self._delete(change)
            elif change.new["type"] == "directory":
                self._make_directory(change, change.new)
            else:
                self._write(change, change.new)
        except _Unfit as unfit:
            conflict = Conflict(path, unfit.reason, unfit.is_overwritable and not self._force)
            self._plan.conflicts.append(conflict)
        except OSError as error:
            reason = f"cannot be read here: {error.strerror or error}"
            self._plan.conflicts.append(Conflict(path, reason))

    # State of the local directory

    def _require_reachable(self, path: str) -> None:
        """Check that the directories above a path are directories, or do not exist.

        A file or link above it is permitted if the diff removes it, or creates it in place of a
        directory whose entries it deletes.
        """
        for parent in parents(path):
            found = self._local.state(parent)
            if found is None:
                return
            if found.kind == "directory":
                continue
            change = self._changes.get(parent)
            is_expected = change is not None and (
                makes_way(change) or (path in self._deleted and is_file(change.new))
            )
            if not is_expected:
                raise _Unfit(f"cannot be reached: {parent!r} is {_KIND_NAMES[found.kind]} here")
            return

    def _state(self, path: str) -> LocalState | None:
        """Return the state of a path; ``None`` if it does not exist, or below a file or link."""
        for parent in parents(path):
            found = self._local.state(parent)
            if found is None or found.kind != "directory":
                return None
        return self._local.state(path)

    def _target(self, path: str) -> LocalState | None:
        """Return the state of a path that will be created; ``None`` if it does not exist then.

        On a file system that ignores case, the old path of a renamed file may be the same file.
        """
        found = self._state(path)
        other = self._deleted_by_fold.get(folded(path), path)
        if found is None or other == path or self._state(other) is None:
            return found
        return None if self._local.is_same_file(path, other) else found

    def _is_emptied(self, path: str) -> bool:
        """Return True if the diff deletes everything below a local directory."""
        top = self._local.local(path)
        for folder, directories, files in os.walk(top, onerror=_raise):
            relative = Path(folder).relative_to(self._local.root)
            for name in files:
                if on_wire(relative / name) not in self._deleted:
                    return False
            for name in directories:
                below = on_wire(relative / name)
                if below not in self._deleted and below not in self._parents_of_deleted:
                    return False
        return True

    # Changes of one path

    def _delete(self, change: PathChange) -> None:
        path, old = change.path, change.old
        assert old is not None
        found = self._state(path)
        if found is None or (found.kind == "directory") != (old["type"] == "directory"):
            self._plan.unchanged.append(path)  # what was deleted does not exist here
        elif found.kind == "directory":
            if path in self._parents_of_new:
                self._plan.unchanged.append(path)
            elif self._is_emptied(path):
                self._plan.removed_directories.add(path)
                self._show(path, "deleted")
            else:
                self._plan.kept.append(path)
        elif path in self._moved:
            self._plan.removals.add(path)
        else:
            has_changes = not self._local.has_content(path, old)
            if has_changes:
                self._overwrite(_unfit(found, old))
            self._plan.removals.add(path)
            self._show(path, "deleted", is_overwritten=has_changes)

    def _make_directory(self, change: PathChange, new: FileState) -> None:
        path = change.path
        found = self._state(path)
        self._plan.kept_directories.add(path)
        if found is not None and found.kind == "directory":
            self._set_mode(change, found)
            return
        if found is not None:
            if change.old is None or not self._local.has_content(path, change.old):
                raise _Unfit(f"is {_KIND_NAMES[found.kind]} here, not a directory")
            self._plan.removals.add(path)
        self._plan.directories[path] = file_modes.parse(new.get("mode"))
        self._show(path, "added" if found is None else "modified")

    def _write(self, change: PathChange, new: FileState) -> None:
        """Plan the change of a path that becomes a file or a link."""
        path, old = change.path, change.old
        if new["type"] not in _FILE_TYPES:
            raise _Unfit(f"has the type {new['type']!r}, which cannot be created")
        if new["type"] == "link":
            problem = resolved_target_problem(self._local.root, path, new.get("target", ""))
            if problem is not None:
                raise _Unfit(problem)
        found = self._target(path)
        if found is not None and self._local.has_content(path, new):
            self._set_mode(change, found)
            return
        if found is not None and found.kind == "directory":
            was_directory = path in self._parents_of_deleted or (old and not is_file(old))
            if not was_directory or not self._is_emptied(path):
                raise _Unfit("is a directory here")
            self._plan.removed_directories.add(path)
            found = None
        if change.source is not None:
            self._rename(change, new, found, change.source)
        elif found is None:
            if old is not None and old["type"] != "directory":
                self._overwrite(_unfit(found, old))
            self._put(change, new, None)
        elif old is not None and found.kind == old["type"] and is_same_content(old, new):
            # Only the mode has changed, which does not depend on the local content.
            self._set_mode(change, found)
        elif old is not None and self._local.has_content(path, old):
            self._put(change, new, found)
        else:
            self._put_changed(change, new, found)

    def _put_changed(self, change: PathChange, new: FileState, found: LocalState) -> None:
        """Plan the change of a file that has other changes here."""
        try:
            data = self._merge(change, change.old, new, change.path, found)
        except _Unfit as unfit:
            self._overwrite(unfit)
            self._put(change, new, found, is_overwritten=True)
        else:
            if data == self._local.read(change.path):
                self._set_mode(change, found)  # has the changes of the task already
            else:
                self._put(change, new, found, data=data)

    def _rename(
        self, change: PathChange, new: FileState, found: LocalState | None, source: str
    ) -> None:
        """Plan a renamed file, from the local file at its old path."""
        path = change.path
        old = self._changes[source].old
        assert old is not None
        if found is not None and path not in self._moved:
            is_old = change.old is not None and self._local.has_content(path, change.old)
            if not is_old:
                self._overwrite(_unfit(found, change.old))
        self._require_reachable(source)
        origin = self._state(source)
        data, is_overwritten = None, False
        if origin is None:
            reason = f"was renamed from {source!r}, which does not exist here"
            self._overwrite(_Unfit(reason, is_overwritable=True))
        elif not self._local.has_content(source, old):
            try:
                data = self._merge(change, old, new, source, origin)
            except _Unfit as unfit:
                self._overwrite(unfit)
                is_overwritten = True
        is_unchanged = origin is not None and data is None and not is_overwritten
        mode = file_modes.parse(new.get("mode"))
        if origin is not None and origin.kind == "file":
            mode = with_changed_bits(origin.mode, old, new)
        self._add_content(
            path,
            new,
            mode,
            data=data,
            same_as=source if is_unchanged and is_same_content(old, new) else None,
        )
        self._moved.add(source)
        self._show(
            path,
            "renamed",
            old_path=source,
            is_merged=data is not None,
            is_overwritten=is_overwritten,
        )

    def _put(
        self,
        change: PathChange,
        new: FileState,
        found: LocalState | None,
        *,
        data: bytes | None = None,
        is_overwritten: bool = False,
    ) -> None:
        """Plan a file or link that is new, or replaces a file or link."""
        mode = file_modes.parse(new.get("mode"))
        if found is not None and found.kind == "file" and is_same_type(change.old, new):
            mode = with_changed_bits(found.mode, change.old, new)
        self._add_content(change.path, new, mode, data=data)
        self._show(
            change.path,
            "added" if found is None and change.old is None else "modified",
            is_merged=data is not None,
            is_overwritten=is_overwritten,
        )

    def _add_content(
        self,
        path: str,
        new: FileState,
        mode: int | None,
        *,
        data: bytes | None = None,
        same_as: str | None = None,
    ) -> None:
        if new["type"] == "link":
            self._plan.links[path] = new.get("target", "")
        elif "sha256" not in new and data is None:
            raise _Unfit("has a content that the server has not stored")
        else:
            self._plan.writes[path] = FileWrite(path, new, mode, data, same_as)

    def _set_mode(self, change: PathChange, found: LocalState) -> None:
        """Plan the mode of a path, if the diff changes it."""
        mode = found.mode
        if found.kind != "link" and os.name == "posix" and change.new is not None:
            mode = with_changed_bits(found.mode, change.old, change.new)
        if mode == found.mode:
            self._plan.unchanged.append(change.path)
        else:
            self._plan.modes[change.path] = mode
            self._show(change.path, "modified")

    def _overwrite(self, unfit: _Unfit) -> None:
        """Raise ``unfit``, unless the local file may be overwritten."""
        if not (self._force and unfit.is_overwritable):
            raise unfit

    def _show(
        self,
        path: str,
        change: Change,
        *,
        old_path: str | None = None,
        is_merged: bool = False,
        is_overwritten: bool = False,
    ) -> None:
        self._plan.changes.append(AppliedChange(path, change, old_path, is_merged, is_overwritten))

    # Texts with other changes

    def _merge(
        self,
        change: PathChange,
        old: FileState | None,
        new: FileState,
        local_path: str,
        found: LocalState,
    ) -> bytes:
        """Return the content of a local text with the changes of the task.

        It is the same if the text has these changes already.

        Raises:
            _Unfit: They do not fit.
        """
        if old is None or not found.kind == old["type"] == new["type"] == "file":
            raise _unfit(found, old)
        if is_same_content(old, new):
            return self._local.read(local_path)
        is_stored = "sha256" in old and "sha256" in new
        size = max(found.size, old.get("size", 0), new.get("size", 0))
        if not is_stored or size > text_merge.MAX_BYTES:
            raise _unfit(found, old)
        hunks = self._hunks(change)
        if not hunks:
            raise _unfit(found, old)
        before = self._read(self._from, change.source or change.path, old)
        after = self._read(self._to, change.path, new)
        local = self._local.read(local_path)
        try:
            if text_merge.is_merged(local, before, after, hunks):
                return local
            return text_merge.merge(local, before, after, hunks)
        except text_merge.MergeConflict as error:
            reason = f"has other changes here, and {error}"
            raise _Unfit(reason, is_overwritable=True) from None
        except ValueError as error:
            raise invalid_diff(f"{change.path!r}: {error}") from None

    def _hunks(self, change: PathChange) -> Sequence[DiffHunk]:
        """Return the changes of a text; empty for a binary file."""
        entry = change.entry
        if entry is None or entry.get("binary"):
            return ()
        if "hunks" in entry:
            return entry["hunks"]
        # The server omits the hunks of further files in a large diff.
        paths = [path for path in (change.source, change.path) if path is not None]
        return self._reader.hunks(self._from, self._to, paths)

    def _read(self, checkpoint: str, path: str, state: FileState) -> bytes:
        content = self._reader.read(checkpoint, path)
        if sha256(content).hexdigest() != state["sha256"].lower():
            raise invalid_diff(f"{path!r} has another content in {checkpoint}")
        return content


def _unfit(found: LocalState | None, old: FileState | None) -> _Unfit:
    """Return the conflict of a path that is not in its old state here."""
    if found is None:
        reason = "does not exist here"
    elif found.kind not in _FILE_TYPES:
        return _Unfit(f"is {_KIND_NAMES[found.kind]} here")
    elif old is None:
        reason = "exists here with another content"
    elif found.kind != old["type"]:
        reason = f"is {_KIND_NAMES[found.kind]} here"
    elif found.kind == "file" and "sha256" not in old:
        reason = "cannot be compared, as the server has not stored its old content"
    else:
        reason = "has other changes here"
    return _Unfit(reason, is_overwritable=True)


def _raise(error: OSError) -> None:
    raise error
