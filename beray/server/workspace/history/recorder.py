"""Recording of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import structlog

from beray.server.storage.checkpoints import CheckpointRepository, NewCheckpoint
from beray.server.storage.tables import StoredCheckpoint
from beray.server.workspace.history.blobs import BlobStore
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.file_contents import FileContents
from beray.server.workspace.history.known_work_dirs import KnownWorkDirs
from beray.server.workspace.history.reader import Change, CheckpointReader
from beray.server.workspace.history.scan import PathParts, Problem, WorkDirScan
from beray.server.workspace.history.work_tree import Totals
from beray.server.workspace.workspace import Workspaces

log = structlog.get_logger("beray.history")

MAX_COUNTED_CHANGES: Final = 1000
"""Maximum number of changed files whose lines are counted."""

LineCounter = Callable[[Sequence[Change], Callable[[Entry], bytes]], tuple[int, int] | None]
"""Function that counts the added and deleted lines of changes; None: too many."""


class Recorded(NamedTuple):
    """Result of recording a checkpoint.

    Attributes:
        checkpoint: The checkpoint.
        problems: Changed files whose content is not stored, or may be inconsistent.
    """

    checkpoint: StoredCheckpoint
    problems: list[Problem]

    @property
    def has_changes(self) -> bool:
        """True if files differ from the previous checkpoint."""
        row = self.checkpoint
        return bool(row.added or row.modified or row.deleted)


class ChangeCounts(NamedTuple):
    """Numbers of the changed entries, and of the changed lines; None: not counted."""

    added: int = 0
    modified: int = 0
    deleted: int = 0
    lines_added: int | None = None
    lines_deleted: int | None = None


class _Scanned(NamedTuple):
    """State of a work_dir, whose blobs are stored."""

    root: bytes
    totals: Totals
    problems: list[Problem]


class CheckpointRecorder:
    """Recorder of the states of work_dirs. Methods block; called in threads.

    Args:
        workspaces: Work_dirs of the tasks.
        checkpoints: Repository of the checkpoints.
        blobs: Store of the contents.
        known: States in memory.
        file_limit: Maximum size of a file whose content is stored, in bytes.
        count_lines: Counter of changed lines.
    """

    def __init__(
        self,
        *,
        workspaces: Workspaces,
        checkpoints: CheckpointRepository,
        blobs: BlobStore,
        known: KnownWorkDirs,
        file_limit: int,
        count_lines: LineCounter,
    ) -> None:
        self._workspaces = workspaces
        self._checkpoints = checkpoints
        self._blobs = blobs
        self._known = known
        self._file_limit = file_limit
        self._count_lines = count_lines

    def record(
        self,
        task_id: int,
        user_id: int,
        *,
        seq: int,
        reason: str,
        paths: Collection[PathParts] | None = None,
        always: bool = False,
        trusted: Mapping[bytes, Entry] | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Recorded | None:
        """Record the state of a work_dir; return None if nothing has changed.

        The caller holds ``KnownWorkDirs.exclusive`` for the task.

        Args:
            task_id: Id of the task.
            user_id: User of the task.
            seq: ``seq`` of the last event before the checkpoint.
            reason: Occasion.
            paths: Paths that may have changed; None compares all.
            always: Record the state even if it is that of the newest checkpoint.
            trusted: Entries by path that were just written; their contents are not read again.
            is_cancelled: Returns True if the checkpoint is no longer wanted.

        Raises:
            ScanCancelled: ``is_cancelled`` returned True.
            PathError: The work_dir does not exist.
            OSError: The state cannot be stored.
            StorageError: The state cannot be stored.
        """
        newest = self._checkpoints.newest(task_id)
        before = newest.root if newest is not None else b""
        with self._scanned(task_id, user_id, paths, trusted, is_cancelled) as scanned:
            if scanned.root == before and not always:
                return None
            counts = self._counts(user_id, before, scanned.root)
            row = self._checkpoints.add(
                task_id,
                user_id,
                NewCheckpoint(
                    seq=seq,
                    reason=reason,
                    root=scanned.root,
                    **scanned.totals._asdict(),
                    **counts._asdict(),
                ),
            )
        return Recorded(row, scanned.problems)

    @contextmanager
    def scanned(self, task_id: int, user_id: int) -> Iterator[bytes]:
        """Store the state of a work_dir without a checkpoint; yield its manifest.

        The manifest is protected from collections during the block.
        """
        with self._scanned(task_id, user_id, None, None, lambda: False) as scanned:
            yield scanned.root

    @contextmanager
    def _scanned(
        self,
        task_id: int,
        user_id: int,
        paths: Collection[PathParts] | None,
        trusted: Mapping[bytes, Entry] | None,
        is_cancelled: Callable[[], bool],
    ) -> Iterator[_Scanned]:
        """Compare a work_dir with its known state; yield the result once its blobs are stored.

        The blobs are protected during the block. The known state is kept if the block succeeds.
        """
        known = self._known.take(task_id)
        with self._blobs.writing(user_id) as writer, self._workspaces.open(task_id) as work_dir:
            scan = WorkDirScan(
                work_dir.descriptor,
                known,
                writer=writer,
                contents=FileContents(writer, self._file_limit, is_cancelled),
                trusted=trusted,
            )
            if paths is None or not known.node:
                scan.scan_all()
            else:
                scan.scan_paths(paths)
            writer.flush()
            totals, entries = known.totals()
            yield _Scanned(known.node, totals, scan.problems)
        self._known.put(task_id, known, entries)

    def _counts(self, user_id: int, before: bytes, after: bytes) -> ChangeCounts:
        """Return the numbers of the differences of two manifests."""
        if not before:
            return ChangeCounts()
        added = modified = deleted = 0
        changes: list[Change] = []
        reader = CheckpointReader(self._blobs, user_id)
        try:
            for change in reader.changes(before, after):
                old, new = change.old, change.new
                if not _has_file(change):
                    continue
                if old is not None and new is not None and old.is_same_content(new):
                    continue
                added += old is None
                modified += old is not None and new is not None
                deleted += new is None
                if len(changes) <= MAX_COUNTED_CHANGES:
                    changes.append(change)
        except DamagedContent as error:
            # The new state can be recorded nevertheless.
            log.error("a checkpoint is damaged", user_id=user_id, problem=error.reason)
            return ChangeCounts(added, modified, deleted)
        lines = None
        if len(changes) <= MAX_COUNTED_CHANGES:
            lines = self._count_lines(changes, reader.read)
        return ChangeCounts(added, modified, deleted, *(lines or (None, None)))


def _has_file(change: Change) -> bool:
    """Return True if one side of a change is not a directory."""
    return any(side is not None and side.kind != "directory" for side in (change.old, change.new))
