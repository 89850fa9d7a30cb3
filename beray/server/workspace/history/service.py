"""History of the work_dirs of all tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from beray.server.objects.store import BlockingObjects
from beray.server.storage.blobs import BlobRepository
from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.workspace.history.blobs import BlobStore, batches
from beray.server.workspace.history.collection import Collection as BlobCollection
from beray.server.workspace.history.known_work_dirs import KnownWorkDirs
from beray.server.workspace.history.positions import CheckpointPositions
from beray.server.workspace.history.reader import CheckpointReader
from beray.server.workspace.history.recorder import CheckpointRecorder, LineCounter, Recorded
from beray.server.workspace.history.restores import WorkDirRestores
from beray.server.workspace.history.scan import PathParts
from beray.server.workspace.history.thinning import Thinning, superfluous
from beray.server.workspace.workspace import Workspaces

TIGHT: Final = Thinning(newest=1, steps=0)
"""Checkpoints that ended tasks keep if the history of their user is full."""
FULL_RATIO: Final = 0.8
"""Used part of a user's limit from which on older tasks keep fewer checkpoints."""

log = structlog.get_logger("beray.history")


class HistoryLimits(NamedTuple):
    """Limits of the stored contents, in bytes.

    Attributes:
        user_bytes: Maximum size of the history of one user; 0 turns the history off.
        file_bytes: Maximum size of a file whose content is stored.
    """

    user_bytes: int
    file_bytes: int


class WorkDirHistory:
    """History of all work_dirs. Methods block; called in threads.

    Args:
        workspaces: Work_dirs of the tasks.
        checkpoints: Repository of the checkpoints.
        blobs: Repository of the locations of contents.
        objects: Store of the contents.
        limits: Limits of the contents.
        has_space: Returns True if the disk has space for a number of bytes.
        count_lines: Counter of changed lines.

    Attributes:
        positions: Positions of checkpoints.
        restores: Restores of work_dirs.
    """

    def __init__(
        self,
        *,
        workspaces: Workspaces,
        checkpoints: CheckpointRepository,
        blobs: BlobRepository,
        objects: BlockingObjects,
        limits: HistoryLimits,
        has_space: Callable[[int], bool],
        count_lines: LineCounter,
    ) -> None:
        self._limits = limits
        self._workspaces = workspaces
        self._checkpoints = checkpoints
        self._known = KnownWorkDirs()
        self._blobs = BlobStore(
            blobs=blobs, objects=objects, limit_bytes=limits.user_bytes, has_space=has_space
        )
        self._collection = BlobCollection(checkpoints=checkpoints, blobs=self._blobs)
        self._recorder = CheckpointRecorder(
            workspaces=workspaces,
            checkpoints=checkpoints,
            blobs=self._blobs,
            known=self._known,
            file_limit=limits.file_bytes,
            count_lines=count_lines,
        )
        self.positions = CheckpointPositions(checkpoints=checkpoints)
        self.restores = WorkDirRestores(
            workspaces=workspaces,
            checkpoints=checkpoints,
            blobs=self._blobs,
            known=self._known,
            recorder=self._recorder,
        )

    @property
    def is_on(self) -> bool:
        """False if the operator has turned the history off."""
        return self._limits.user_bytes > 0

    def work_dir(self, task_id: int) -> Path:
        """Return the path of a task's work_dir."""
        return self._workspaces.path(task_id)

    def recover(self, users: dict[int, int]) -> list[int]:
        """Complete what the end of an earlier server interrupted.

        Args:
            users: User of each task that exists.

        Returns:
            New tasks that do not have all of their files, which must not run.
        """
        try:
            self._blobs.remove_interrupted()
        except OSError as error:
            log.error("incomplete packs of the history could not be removed", problem=str(error))
        return self.restores.complete_interrupted(users)

    def reader(self, user_id: int) -> CheckpointReader:
        """Return a reader of the checkpoints of a user."""
        return CheckpointReader(self._blobs, user_id)

    def record(
        self,
        task_id: int,
        user_id: int,
        *,
        seq: int,
        reason: str,
        paths: Collection[PathParts] | None = None,
        always: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Recorded | None:
        """Record the state of a work_dir; see ``CheckpointRecorder.record``."""
        with self._known.exclusive(task_id):
            return self._recorder.record(
                task_id,
                user_id,
                seq=seq,
                reason=reason,
                paths=paths,
                always=always,
                is_cancelled=is_cancelled,
            )

    def used_bytes(self, user_id: int) -> int:
        """Return the size of the stored contents of a user in bytes."""
        return self._blobs.blobs.used_bytes(user_id)

    # Removal

    def thin(self, task_id: int, thinning: Thinning = Thinning()) -> bool:  # noqa: B008 - immutable
        """Delete superfluous checkpoints of a task; return True if there were any."""
        rows = self._checkpoints.list_page(task_id, 0, 2**31)
        numbers = superfluous(rows, thinning)
        for batch in batches(numbers):
            self._checkpoints.delete(task_id, batch)
        return bool(numbers)

    def thin_user(self, user_id: int, *, running: Collection[int]) -> bool:
        """Delete checkpoints of ended tasks, oldest first, if the history of a user is nearly full.

        Args:
            user_id: Id of the user.
            running: Tasks that keep all checkpoints.

        Returns:
            True if checkpoints were deleted.
        """
        if self.used_bytes(user_id) < FULL_RATIO * self._limits.user_bytes:
            return False
        tasks = [task for task in self._checkpoints.tasks_of_user(user_id) if task not in running]
        thinned = [self.thin(task, TIGHT) for task in tasks]
        return any(thinned)

    def delete_of_task(self, task_id: int) -> int | None:
        """Delete the checkpoints of a task; return its user, None if it had none.

        The work_dir has been removed, so no other checkpoint follows. The contents are removed by
        the next ``collect``.
        """
        with self._known.exclusive(task_id):
            self._known.forget(task_id)
            return self._checkpoints.delete_of_task(task_id)

    def collect(self, user_id: int) -> None:
        """Remove the contents of a user that no checkpoint refers to; see ``Collection``."""
        self._collection.collect(user_id)

    def users(self) -> list[int]:
        """Return the users that have stored contents."""
        return self._blobs.blobs.users()
