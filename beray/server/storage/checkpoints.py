"""Repository of the checkpoints of work_dirs, and of restores that a crash may interrupt."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import delete, func, select

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import upsert
from beray.server.storage.tables import PendingRestore, StoredCheckpoint
from beray.server.storage.times import utc_now


class NewCheckpoint(NamedTuple):
    """Checkpoint to store; see ``StoredCheckpoint``."""

    seq: int
    reason: str
    root: bytes
    files: int
    bytes: int
    not_stored: int
    added: int = 0
    modified: int = 0
    deleted: int = 0
    lines_added: int | None = None
    lines_deleted: int | None = None


class CheckpointRepository:
    """Checkpoints of all tasks. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def add(self, task_id: int, user_id: int, checkpoint: NewCheckpoint) -> StoredCheckpoint:
        """Store a checkpoint with the next number of the task, and end its pending restore."""
        newest = select(func.max(StoredCheckpoint.number)).where(
            StoredCheckpoint.task_id == task_id
        )
        with self._database.writing() as session:
            row = StoredCheckpoint(
                task_id=task_id,
                user_id=user_id,
                number=(session.scalar(newest) or 0) + 1,
                created_at=utc_now(),
                **checkpoint._asdict(),
            )
            session.add(row)
            session.execute(delete(PendingRestore).where(PendingRestore.task_id == task_id))
        return row

    def get(self, task_id: int, number: int) -> StoredCheckpoint | None:
        """Return the checkpoint with this number."""
        with self._database.reading() as session:
            return session.get(StoredCheckpoint, (task_id, number))

    def first(self, task_id: int) -> StoredCheckpoint | None:
        """Return the oldest checkpoint of a task."""
        own = select(StoredCheckpoint).where(StoredCheckpoint.task_id == task_id)
        with self._database.reading() as session:
            return session.scalar(own.order_by(StoredCheckpoint.number).limit(1))

    def newest(self, task_id: int, *, seq: int | None = None) -> StoredCheckpoint | None:
        """Return the newest checkpoint of a task, or the newest at or before ``seq``."""
        own = select(StoredCheckpoint).where(StoredCheckpoint.task_id == task_id)
        if seq is not None:
            own = own.where(StoredCheckpoint.seq <= seq)
        with self._database.reading() as session:
            return session.scalar(own.order_by(StoredCheckpoint.number.desc()).limit(1))

    def list_page(self, task_id: int, after: int, limit: int) -> list[StoredCheckpoint]:
        """Return the first ``limit`` checkpoints with a number above ``after``, in order."""
        page = (
            select(StoredCheckpoint)
            .where(StoredCheckpoint.task_id == task_id, StoredCheckpoint.number > after)
            .order_by(StoredCheckpoint.number)
            .limit(limit)
        )
        with self._database.reading() as session:
            return list(session.scalars(page))

    def roots_of_user(self, user_id: int) -> list[bytes]:
        """Return the manifests of a user's checkpoints and pending restores, without repetition."""
        checkpoints = select(StoredCheckpoint.root).where(StoredCheckpoint.user_id == user_id)
        pending = select(PendingRestore.root).where(PendingRestore.user_id == user_id)
        with self._database.reading() as session:
            return list(session.scalars(checkpoints.union(pending)))

    def tasks_of_user(self, user_id: int) -> list[int]:
        """Return the ids of the tasks of a user that have checkpoints, oldest first."""
        tasks = (
            select(StoredCheckpoint.task_id)
            .where(StoredCheckpoint.user_id == user_id)
            .distinct()
            .order_by(StoredCheckpoint.task_id)
        )
        with self._database.reading() as session:
            return list(session.scalars(tasks))

    def delete(self, task_id: int, numbers: Collection[int]) -> None:
        """Delete checkpoints of a task, at most a few hundred."""
        named = StoredCheckpoint.number.in_(numbers)
        gone = delete(StoredCheckpoint).where(StoredCheckpoint.task_id == task_id, named)
        self._database.write_with_reserve(lambda session: session.execute(gone))

    def delete_of_task(self, task_id: int) -> int | None:
        """Delete all checkpoints of a task and its pending restore.

        Returns:
            The user of the task; None if it had neither.
        """
        tables = (StoredCheckpoint, PendingRestore)
        with self._database.reading() as session:
            users = [
                session.scalar(select(table.user_id).where(table.task_id == task_id).limit(1))
                for table in tables
            ]
        user_id = next((user for user in users if user is not None), None)
        if user_id is not None:
            for table in tables:
                gone = delete(table).where(table.task_id == task_id)
                self._database.write_with_reserve(
                    lambda session, gone=gone: session.execute(gone)  # type: ignore[misc]
                )
        return user_id

    # Restores

    def begin_restore(
        self, task_id: int, user_id: int, root: bytes, paths: list[str] | None, reason: str
    ) -> None:
        """Record that a work_dir is being changed to the state ``root``; ``add`` ends this."""
        values = {"user_id": user_id, "root": root, "paths": paths, "reason": reason}
        with self._database.writing() as session:
            session.execute(upsert(PendingRestore, {"task_id": task_id}, values))

    def begin_undo(self, task_id: int, user_id: int, root: bytes) -> None:
        """Record that a work_dir is being returned to the state before a restore."""
        values = {"user_id": user_id, "root": root, "paths": None, "reason": "restore"}
        undone = upsert(PendingRestore, {"task_id": task_id}, values)
        self._database.write_with_reserve(lambda session: session.execute(undone))

    def end_restore(self, task_id: int) -> None:
        """Remove the record of ``begin_restore`` without a new checkpoint."""
        gone = delete(PendingRestore).where(PendingRestore.task_id == task_id)
        self._database.write_with_reserve(lambda session: session.execute(gone))

    def list_pending(self) -> list[PendingRestore]:
        """Return the restores that have begun and not ended."""
        with self._database.reading() as session:
            return list(session.scalars(select(PendingRestore).order_by(PendingRestore.task_id)))
