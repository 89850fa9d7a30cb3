"""Deletion of tasks: immediate for users, and in small steps in the database.

The transaction that deletes the row of a task also records its id in ``deleted_tasks``. The record
is deleted after the files and all events of the task; after a crash, the next server continues.
Only directories with such a record are removed: any other work_dir without a task belongs to
another database, for example a newer one than the backup that was restored.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.storage.database_errors import StorageError, error_text
from beray.server.storage.database_space import DatabaseSpace
from beray.server.storage.disk_reserve import DiskReserve
from beray.server.storage.events import EventRepository
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.conversations import Conversations
from beray.server.workspace.workspace import Workspaces

INITIAL_STEP: Final = 500
"""Events, or pages of the database, in the first transaction. Its duration sets later sizes."""
MIN_STEP: Final = 100
MAX_STEP: Final = 50_000
STEP_SECONDS: Final = 0.02
"""Intended duration of a transaction, without its commit. Other writers use the pause after it."""
MIN_PAUSE_SECONDS: Final = 0.01
MAX_PAUSE_SECONDS: Final = 0.1
RETAINED_FREE_PAGES: Final = 256
"""Free pages that remain in the database file for new content."""
TRUNCATE_ATTEMPTS: Final = 40
"""Maximum number of attempts to truncate the write-ahead log, which readers can prevent."""
TRUNCATE_PAUSE_SECONDS: Final = 0.25
_MAX_LOGGED_NAMES: Final = 20

log = structlog.get_logger("beray.tasks")


class TaskDeletion:
    """Deletion of tasks. Used on one event loop, within ``running``.

    Args:
        tasks: Repository of tasks.
        events: Repository of events.
        space: Unused space of the database, which is returned to the file system.
        reserve: Reserved disk space, which is refilled after deletions.
        workspaces: Work_dirs of tasks.
        conversations: Messages of tasks and chats.
        delete_checkpoints: Deletes the checkpoints of a task.
        wait_restored: Waits until the work_dir of a task is not being restored.
    """

    def __init__(
        self,
        *,
        tasks: TaskRepository,
        events: EventRepository,
        space: DatabaseSpace,
        reserve: DiskReserve,
        workspaces: Workspaces,
        conversations: Conversations,
        delete_checkpoints: Callable[[int], Awaitable[None]],
        wait_restored: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._tasks = tasks
        self._events = events
        self._space = space
        self._reserve = reserve
        self._workspaces = workspaces
        self._conversations = conversations
        self._delete_checkpoints = delete_checkpoints
        self._wait_restored = wait_restored
        self._changed = asyncio.Event()
        self._failed: set[int] = set()

    async def delete(self, task_id: int) -> None:
        """Delete a task that is not running. Its events are deleted in the background.

        Raises:
            OSError: Some files cannot be removed; the next server tries again.
            StorageError: The database cannot be written; nothing was deleted.
        """
        try:
            await run_in_threadpool(self._tasks.delete, task_id)
            if self._wait_restored is not None:
                # Copying of contents ends soon, because the task is gone.
                await self._wait_restored(task_id)
            await run_in_threadpool(self._remove_files, task_id)
        except OSError:
            self._failed.add(task_id)
            raise
        finally:
            self._changed.set()

    async def discard_new(self, task_id: int) -> None:
        """Remove a new task as if it had never been created."""
        await run_in_threadpool(self._tasks.undo_create, task_id)
        self._changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Complete recorded deletions in the background, including those of earlier servers."""
        self._changed.set()
        worker = asyncio.create_task(self._work(), name="task-deletion")
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.wait([worker])

    def report_unknown(self, tasks: Collection[int]) -> None:
        """Log work_dirs that belong to neither a task nor a recorded deletion. Blocks."""
        known = {*tasks, *self._tasks.list_deleted()}
        unknown = sorted(self._workspaces.existing() - known)
        if unknown:
            log.warning(
                "work_dirs without a task are left in place; move or delete them yourself",
                directory=str(self._workspaces.root),
                count=len(unknown),
                names=unknown[:_MAX_LOGGED_NAMES],
            )

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                found = await retry_on_shortage(lambda: run_in_threadpool(self._tasks.list_deleted))
                for task_id in found:
                    if task_id not in self._failed:
                        await self._try_complete_deletion(task_id)
                await self._shrink()
            except StorageError as error:
                log.error("the deletion of tasks could not continue", problem=error_text(error))

    async def _try_complete_deletion(self, task_id: int) -> None:
        try:
            await self._complete_deletion(task_id)
        except (OSError, StorageError) as error:
            self._failed.add(task_id)
            log.error(
                "a deleted task could not be removed completely; the next start tries again",
                task_id=task_id,
                problem=error_text(error),
            )

    async def _complete_deletion(self, task_id: int) -> None:
        """Remove the remaining parts of a deleted task, the record last."""
        await run_in_threadpool(self._remove_files, task_id)
        await self._delete_checkpoints(task_id)
        await _repeat_in_steps(lambda limit: self._events.delete_first(task_id, limit))
        await retry_on_shortage(lambda: run_in_threadpool(self._tasks.forget_deleted, task_id))

    async def _shrink(self) -> None:
        """Return the free pages of the database to the file system."""

        def step(pages: int) -> bool:
            return self._space.return_pages(pages) > RETAINED_FREE_PAGES

        free = await retry_on_shortage(lambda: run_in_threadpool(self._space.free_pages))
        if free > RETAINED_FREE_PAGES:
            await _repeat_in_steps(step)
        elif not self._reserve.is_incomplete:
            return
        for _ in range(TRUNCATE_ATTEMPTS):
            if await retry_on_shortage(lambda: run_in_threadpool(self._space.truncate_log)):
                return
            await asyncio.sleep(TRUNCATE_PAUSE_SECONDS)

    def _remove_files(self, task_id: int) -> None:
        if os.path.lexists(self._workspaces.path(task_id)):
            self._workspaces.remove(task_id)
        self._conversations.delete(task_id)


async def _repeat_in_steps(step: Callable[[int], bool]) -> None:
    """Call ``step`` in threads until it returns False, with pauses and an adapted size.

    Args:
        step: Receives the size of the step and returns whether more steps are needed.
    """
    size, overhead = INITIAL_STEP, float("inf")
    while True:
        started = time.monotonic()
        more = await retry_on_shortage(lambda size=size: run_in_threadpool(step, size))  # type: ignore[misc]
        seconds = time.monotonic() - started
        if not more:
            return
        # The commit takes a constant time, which may be longer than the step on a slow disk.
        overhead = min(overhead, seconds)
        target = size * STEP_SECONDS / max(seconds - overhead, 1e-6)
        size = max(MIN_STEP, min(round(target), 2 * size, MAX_STEP))
        await asyncio.sleep(min(max(seconds, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS))
