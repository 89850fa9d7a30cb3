"""Restores of checkpoints, which can be undone and survive a crash at any point.

A restore is recorded in the database before it changes the work_dir. If the server is killed then,
the next start plans and applies it again. If a change fails, the state before is restored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.storage.database_errors import StorageError
from beray.server.storage.tables import StoredCheckpoint
from beray.server.workspace import safe_open, tree
from beray.server.workspace.history.blobs import BlobStore
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.known_work_dirs import KnownWorkDirs
from beray.server.workspace.history.local_copies import LocalCopies
from beray.server.workspace.history.path_selection import PathSelection
from beray.server.workspace.history.reader import Change, CheckpointReader
from beray.server.workspace.history.recorder import CheckpointRecorder
from beray.server.workspace.history.restore import (
    ContentNotStored,
    Parts,
    Restorer,
    require_undoable,
    select,
)
from beray.server.workspace.safe_open import MissingPath, PathError, quote_path
from beray.server.workspace.workspace import Workspaces
from beray.transfers import wire_names

STAGING: Final = ".restoring"
"""Directory for new contents, in the directory of the work_dirs."""

log = structlog.get_logger("beray.history")


class UndoFailed(Exception):
    """A restore failed after some changes, which could not be undone. The message is the cause."""


class Restored(NamedTuple):
    """Result of a restore.

    Attributes:
        changes: Changes of the work_dir.
        before: Checkpoint with the state before the changes.
        checkpoint: New checkpoint; None if nothing was changed.
    """

    changes: list[Change]
    before: StoredCheckpoint
    checkpoint: StoredCheckpoint | None


class WorkDirRestores:
    """Restores of the work_dirs of all tasks. Methods block; called in threads.

    Args:
        workspaces: Work_dirs of the tasks.
        checkpoints: Repository of the checkpoints.
        blobs: Store of the contents.
        known: States in memory.
        recorder: Recorder of checkpoints.
    """

    def __init__(
        self,
        *,
        workspaces: Workspaces,
        checkpoints: CheckpointRepository,
        blobs: BlobStore,
        known: KnownWorkDirs,
        recorder: CheckpointRecorder,
    ) -> None:
        self._workspaces = workspaces
        self._checkpoints = checkpoints
        self._blobs = blobs
        self._known = known
        self._recorder = recorder

    def restore(
        self,
        task_id: int,
        user_id: int,
        target: StoredCheckpoint,
        *,
        seq: int,
        paths: Sequence[str] = (),
        dry_run: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Restored:
        """Change a work_dir to the state of a checkpoint, and record the result.

        The state before is recorded first, so a restore can be undone.

        Args:
            task_id: Id of the task, which must not be running.
            user_id: User of the task.
            target: Checkpoint of the task.
            seq: ``seq`` of the last event of the task.
            paths: Files and directories to restore; empty for all.
            dry_run: Return the changes only.
            is_cancelled: Returns True if the restore is no longer wanted.

        Raises:
            InvalidPath: A path is invalid.
            MissingPath: Nothing is at a path, neither now nor in the checkpoint.
            ContentNotStored: A content to restore, or one that it would remove, is not stored.
            DamagedContent: A content to restore is damaged.
            RestoreCancelled: ``is_cancelled`` returned True.
            UndoFailed: A change failed, and so did the return to the state before.
            OSError: The contents cannot be written; nothing was changed.
            StorageError: The database cannot be written; nothing was changed.
        """
        parsed = parse_paths(paths)
        with self._known.exclusive(task_id), self._blobs.pinned(user_id, target.root):
            self._recorder.record(task_id, user_id, seq=seq, reason="upload")
            current = self._checkpoints.newest(task_id)
            assert current is not None
            reader = CheckpointReader(self._blobs, user_id)
            for parts in parsed:
                require_path(reader, parts, current, target)
            changes = _planned(reader, current.root, target.root, parsed)
            if dry_run or not changes:
                return Restored(changes, current, None)
            require_undoable(changes)
            wanted = list(paths) if parsed else None
            row = self._change(
                task_id, user_id, changes, target.root, wanted, seq=seq, reason="restore",
                undo=current.root, is_cancelled=is_cancelled,
            )  # fmt: skip
            return Restored(changes, current, row)

    def populate(
        self,
        task_id: int,
        user_id: int,
        root: bytes,
        *,
        source: int | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> StoredCheckpoint:
        """Write the files of a checkpoint into the empty work_dir of a new task.

        The restore has been recorded with the task. If this fails, the caller removes the task.

        Args:
            task_id: Id of the new task.
            user_id: User of the task.
            root: Manifest of the checkpoint.
            source: Task of the checkpoint. Files that it still has are copied from its work_dir.
            is_cancelled: Returns True if the task is no longer wanted.

        Raises:
            ContentNotStored: A content is not stored.
            DamagedContent: A content is damaged.
            RestoreCancelled: ``is_cancelled`` returned True.
            OSError: The contents cannot be written.
        """
        with ExitStack() as opened:
            copies = self._local_copies(source, opened)
            opened.enter_context(self._known.exclusive(task_id))
            reader = CheckpointReader(self._blobs, user_id)
            changes = _planned(reader, b"", root)
            return self._change(
                task_id, user_id, changes, root, None, seq=0, reason="fork",
                copies=copies, is_cancelled=is_cancelled,
            )  # fmt: skip

    def _local_copies(self, source: int | None, opened: ExitStack) -> LocalCopies | None:
        if source is None:
            return None
        try:
            work_dir = opened.enter_context(self._workspaces.open(source))
        except PathError:
            return None  # the contents are in the blobs
        return LocalCopies(work_dir.descriptor, self._known.files(source))

    def complete_interrupted(self, users: dict[int, int]) -> list[int]:
        """Complete the restores and forks that the end of an earlier server interrupted.

        Args:
            users: User of each task that exists.

        Returns:
            New tasks that do not have all of their files, which must not run.
        """
        staging = self._workspaces.root / STAGING
        if staging.is_dir():
            tree.remove(staging)
        incomplete = []
        for pending in self._checkpoints.list_pending():
            if pending.task_id not in users:
                self._checkpoints.end_restore(pending.task_id)
                continue
            try:
                self._complete(pending.task_id, pending.user_id, pending.root, pending.paths)
            except (OSError, PathError, StorageError, DamagedContent, ContentNotStored) as error:
                log.error(
                    "an interrupted restore could not be completed",
                    task_id=pending.task_id,
                    problem=str(error),
                )
                if pending.reason == "fork":
                    incomplete.append(pending.task_id)
        return incomplete

    def _complete(self, task_id: int, user_id: int, root: bytes, paths: list[str] | None) -> None:
        if not os.path.lexists(self._workspaces.path(task_id)):
            self._workspaces.create(task_id, user_id)
        newest = self._checkpoints.newest(task_id)
        seq, reason = (newest.seq, "restore") if newest is not None else (0, "fork")
        with self._recorder.scanned(task_id, user_id) as current:
            reader = CheckpointReader(self._blobs, user_id)
            changes = _planned(reader, current, root, parse_paths(paths or ()))
        self._change(task_id, user_id, changes, root, paths, seq=seq, reason=reason)
        log.info("an interrupted restore was completed", task_id=task_id)

    def _change(
        self,
        task_id: int,
        user_id: int,
        changes: list[Change],
        root: bytes,
        paths: list[str] | None,
        *,
        seq: int,
        reason: str,
        undo: bytes | None = None,
        copies: LocalCopies | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> StoredCheckpoint:
        """Apply changes and record the new state.

        Args:
            task_id: Id of the task.
            user_id: User of the task.
            changes: Changes to apply.
            root: Manifest of the checkpoint that is restored.
            paths: Restored paths; None for all.
            seq: ``seq`` of the last event.
            reason: Occasion.
            undo: Manifest of the state to return to if a change fails.
            copies: Files of another work_dir that have some of the contents.
            is_cancelled: Returns True if the restore is no longer wanted.
        """
        with self._workspaces.open(task_id) as work_dir:
            restorer = Restorer(
                work_dir.descriptor,
                self._staging(f"{task_id}"),
                CheckpointReader(self._blobs, user_id),
                quota=self._workspaces.quota(task_id),
                copies=copies,
                is_partial=paths is not None,
                is_cancelled=is_cancelled,
            )
            with restorer.staged(changes):
                self._checkpoints.begin_restore(task_id, user_id, root, paths, reason)
                try:
                    restorer.apply(changes)
                    restorer.release_space()
                    return self._record(task_id, user_id, changes, seq=seq, reason=reason)
                except (OSError, StorageError, DamagedContent) as error:
                    if undo is not None:
                        self._undo(task_id, user_id, work_dir.descriptor, undo, error)
                    raise

    def _staging(self, name: str) -> Path:
        staging = self._workspaces.root / STAGING
        staging.mkdir(mode=0o700, exist_ok=True)
        return staging / name

    def _record(
        self, task_id: int, user_id: int, changes: list[Change], *, seq: int, reason: str
    ) -> StoredCheckpoint:
        trusted = {
            change.path: change.new
            for change in changes
            if change.new is not None and change.new.kind == "file" and change.new.digest
        }
        recorded = self._recorder.record(
            task_id, user_id, seq=seq, reason=reason, always=True, trusted=trusted
        )
        assert recorded is not None
        return recorded.checkpoint

    def _undo(
        self, task_id: int, user_id: int, work_dir: int, root: bytes, cause: Exception
    ) -> None:
        """Return to the state before a restore that failed.

        Raises:
            UndoFailed: This is not possible.
        """
        reader = CheckpointReader(self._blobs, user_id)
        # What a quota counts was in the work_dir before.
        restorer = Restorer(work_dir, self._staging(f"{task_id}-undo"), reader)
        try:
            self._checkpoints.begin_undo(task_id, user_id, root)
            with self._recorder.scanned(task_id, user_id) as current:
                changes = _planned(reader, current, root)
            with restorer.staged(changes):
                restorer.apply(changes)
            self._checkpoints.end_restore(task_id)
        except (OSError, PathError, StorageError, DamagedContent, ContentNotStored) as error:
            log.error("a failed restore could not be undone", task_id=task_id, problem=str(error))
            raise UndoFailed(str(cause)) from cause
        finally:
            self._known.forget(task_id)


def parse_paths(paths: Sequence[str]) -> list[Parts]:
    """Return the parts of paths; an empty list if the work_dir itself is among them.

    Raises:
        InvalidPath: A path is invalid.
    """
    parsed = [safe_open.parse_path(path) for path in paths]
    return [] if () in parsed else parsed


def require_path(reader: CheckpointReader, parts: Parts, *checkpoints: StoredCheckpoint) -> None:
    """Check that a path exists in one of the checkpoints.

    Raises:
        MissingPath: It exists in none of them.
    """
    if not any(_exists(reader, checkpoint.root, parts) for checkpoint in checkpoints):
        names = " and ".join(f"c{checkpoint.number}" for checkpoint in checkpoints)
        path = quote_path(wire_names.encode(b"/".join(parts)))
        raise MissingPath(f"{path} exists in none of the checkpoints {names}")


def _exists(reader: CheckpointReader, root: bytes, parts: Parts) -> bool:
    try:
        reader.entry(root, parts)
    except MissingPath:
        return False
    return True


def _planned(
    reader: CheckpointReader, current: bytes, root: bytes, paths: Sequence[Parts] = ()
) -> list[Change]:
    """Return the changes from one manifest to another that a restore makes.

    Special files cannot be created.
    """
    selection = PathSelection(paths)
    changes = select(reader.changes(current, root, selection), selection)
    return [change for change in changes if change.new is None or change.new.kind != "special"]
