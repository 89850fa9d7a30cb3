"""Execution of a plan: all of its changes, or none.

New contents are first written to a staging directory, where their digests are checked. Then they
are moved into place, and replaced files are moved to a directory beside them until the end.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from beray.apply.local_state import LocalFiles
from beray.apply.plan import ApplyPlan, FileWrite, parents
from beray.apply.source import CheckpointFiles, StagedFile
from beray.exceptions import TransferError
from beray.transfers import digest, file_modes
from beray.transfers.local_files import (
    CREATE_FLAGS,
    can_sync_file_system,
    current_umask,
    rename_without_replacing,
    require_absent,
    sync_file_system,
    write_all,
)
from beray.transfers.local_names import on_disk
from beray.transfers.staging import (
    UndoSteps,
    create_directories,
    disk_errors,
    roll_back,
    staging_directory,
)

_PRIVATE: Final = 0o600
_MAX_INDIVIDUAL_SYNCS: Final = 100
"""Number of files up to which each file is flushed to disk individually."""


def apply_plan(plan: ApplyPlan, files: CheckpointFiles) -> None:
    """Make the changes of a plan.

    Args:
        plan: A plan without conflicts.
        files: Downloads the new contents.

    Raises:
        TransferError: A file has changed since the plan was made, a content is not that of the
            plan, or a change failed. Nothing was changed, or the message names the directory that
            contains the original files.
        BeRayException: A content cannot be read from the server; nothing was changed.
    """
    assert not plan.conflicts
    if not plan.changes:
        return
    with staging_directory(plan.root) as staged:
        sources = _stage(plan, files, staged)
        _require_unchanged(plan)
        move = _Move(plan, staged.with_name("old"))
        try:
            move.run(sources)
        except BaseException as error:
            failed, result = roll_back(move.undo, move.originals)
            if isinstance(error, OSError):
                where = error.filename2 or error.filename or plan.root
                reason = f"{error.strerror or error}; {result}"
                raise TransferError(f"{os.fsdecode(where)}: {reason}", reason=reason) from error
            if failed:
                error.add_note(result)
            raise


def _stage(plan: ApplyPlan, files: CheckpointFiles, staged: Path) -> dict[str, Path]:
    """Write all new files and links to a staging directory; return them by path."""
    sources: dict[str, Path] = {}
    missing: list[StagedFile] = []
    for number, write in enumerate(plan.writes.values()):
        source = sources[write.path] = staged / str(number)
        with disk_errors(source):
            if write.data is not None:
                _create_file(source, write.data)
            elif write.same_as is not None:
                shutil.copyfile(Path(plan.root, on_disk(write.same_as)), source)
            elif write.state.get("size") == 0:
                _create_file(source, b"")
            else:
                missing.append(StagedFile(write.path, write.state.get("size"), source))
    if missing:
        files.save(plan.checkpoint, missing)
    default_mode = 0o666 & ~current_umask(staged)
    sync_once = len(plan.writes) > _MAX_INDIVIDUAL_SYNCS and can_sync_file_system()
    for write in plan.writes.values():
        with disk_errors(sources[write.path]):
            _finish_file(sources[write.path], write, default_mode, sync=not sync_once)
    if sync_once:
        with disk_errors(staged):
            sync_file_system(staged)
    for number, (path, target) in enumerate(plan.links.items()):
        sources[path] = staged / f"link{number}"
        with disk_errors(plan.root / on_disk(path)):
            sources[path].symlink_to(on_disk(target))
    return sources


def _create_file(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, CREATE_FLAGS, _PRIVATE), "wb", buffering=0) as file:
        write_all(file, content)


def _finish_file(path: Path, write: FileWrite, default_mode: int, *, sync: bool) -> None:
    """Check the content of a staged file, flush it to disk if ``sync``, and set its mode."""
    if os.name == "posix":
        path.chmod(_PRIVATE)  # the mode of a download may not permit reading
    expected = write.state["sha256"].lower() if write.data is None else None
    with path.open("r+b") as file:
        if expected is not None and digest.sha256_of_file(file).hex() != expected:
            raise TransferError(
                f"{write.path!r}: the content of the server is not that of the diff; nothing was "
                "changed"
            )
        if sync:
            os.fsync(file.fileno())
        file_modes.set_file_mode(file.fileno(), default_mode if write.mode is None else write.mode)


def _require_unchanged(plan: ApplyPlan) -> None:
    """Check that the local files are still those with which the plan was made.

    Raises:
        TransferError: A file has changed.
    """
    local = LocalFiles(plan.root)
    for path, signature in plan.signatures.items():
        with disk_errors(local.local(path)):
            if local.signature(path) != signature:
                raise TransferError(
                    f"{path!r} was changed by another program meanwhile; nothing was changed, "
                    "repeat the command"
                )


class _Move:
    """Move of staged files into place.

    Attributes:
        originals: Directory to which replaced and removed files are moved.
        undo: Undo steps; each is recorded before its step.
    """

    def __init__(self, plan: ApplyPlan, originals: Path) -> None:
        self._plan = plan
        self.originals = originals
        self.undo: UndoSteps = []
        self._count = 0

    def run(self, sources: dict[str, Path]) -> None:
        """Make all changes.

        Args:
            sources: Staged files and links by path.
        """
        plan = self._plan
        self.originals.mkdir()
        for path in sorted(plan.removals):
            self._remove(self._local(path))
        self._remove_directories()
        usable = {plan.root}
        for path in sorted([*sources, *plan.directories]):
            local = self._local(path)
            is_directory = path in plan.directories
            create_directories(local if is_directory else local.parent, usable, self.undo)
        for path, source in sorted(sources.items()):
            self._place(source, self._local(path))
        new_modes = {path: mode for path, mode in plan.directories.items() if mode is not None}
        # Deepest first: nothing can be changed in a directory without permission.
        for path, mode in sorted((plan.modes | new_modes).items(), reverse=True):
            self._set_mode(self._local(path), mode)

    def _local(self, path: str) -> Path:
        return self._plan.root / on_disk(path)

    def _backup(self) -> Path:
        self._count += 1
        return self.originals / str(self._count)

    def _remove(self, path: Path) -> None:
        backup = self._backup()
        self.undo.append(lambda: _move_back(backup, path))
        path.rename(backup)

    def _remove_directories(self) -> None:
        """Remove the directories that are empty now, deepest first."""
        plan = self._plan
        created = [*plan.writes, *plan.links, *plan.directories]
        kept = {parent for path in created for parent in parents(path)}
        kept |= plan.kept_directories | plan.directories.keys()
        emptied = {parent for path in plan.removals for parent in parents(path)}
        emptied |= plan.removed_directories
        emptied |= {parent for path in plan.removed_directories for parent in parents(path)}
        for path in sorted(emptied - kept, key=lambda path: path.count("/"), reverse=True):
            local = self._local(path)
            mode = local.lstat().st_mode & file_modes.BITS
            self.undo.append(lambda local=local, mode=mode: _recreate(local, mode))  # type: ignore[misc]
            try:
                local.rmdir()
            except OSError as error:
                self.undo.pop()
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def _place(self, source: Path, path: Path) -> None:
        if not os.path.lexists(path):
            inode = source.lstat().st_ino
            self.undo.append(lambda: _remove_placed(path, inode))
            if source.is_symlink():
                source.rename(path)
            else:
                rename_without_replacing(source, path)
            return
        backup = self._backup()
        self.undo.append(lambda: _put_back(backup, path))
        try:
            # The path then always has the old or the new content.
            os.link(path, backup, follow_symlinks=False)
        except (OSError, NotImplementedError):
            path.rename(backup)
        source.replace(path)

    def _set_mode(self, path: Path, mode: int) -> None:
        if os.name != "posix":
            return
        old = path.lstat().st_mode & file_modes.BITS
        self.undo.append(lambda: path.chmod(old))
        with suppress(NotImplementedError):
            path.chmod(mode)


def _move_back(backup: Path, path: Path) -> None:
    if os.path.lexists(backup):
        require_absent(path, overwrite=False)
        backup.rename(path)


def _put_back(backup: Path, path: Path) -> None:
    if not os.path.lexists(backup):
        return
    if os.path.lexists(path) and path.lstat().st_ino == backup.lstat().st_ino:
        backup.unlink()  # a second link to the original, which was not replaced
    else:
        backup.replace(path)


def _recreate(directory: Path, mode: int) -> None:
    if not os.path.lexists(directory):
        directory.mkdir()
        file_modes.set_directory_mode(directory, mode)


def _remove_placed(path: Path, inode: int) -> None:
    if os.path.lexists(path) and path.lstat().st_ino == inode:
        path.unlink()
