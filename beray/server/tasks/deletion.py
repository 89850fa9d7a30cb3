"""Deletion of tasks: at once for users, and in small steps for the database.

The transaction that removes a task's row also records its id in ``deleted_tasks``. The record
goes when the files and all events of the task are gone; what a crash leaves is removed by the
next server. Only directories with such a record are ever removed: any other work_dir without a
task belongs to another database, for example a newer one than the backup that was restored.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray.server.chats.history import ChatHistory
from beray.server.runtime.shortage import patiently
from beray.server.storage.store import Store
from beray.server.workspace.workspace import Workspaces

FIRST_STEP: Final = 500
"""Events, or pages of the file, of the first transaction. The next sizes depend on its time."""
LEAST_STEP: Final = 100
MOST_STEP: Final = 50_000
STEP_SECONDS: Final = 0.02
"""Intended duration of a transaction, without its commit. Others write in the pause after it."""
LEAST_PAUSE_SECONDS: Final = 0.01
MOST_PAUSE_SECONDS: Final = 0.1
KEPT_PAGES: Final = 256
"""Free pages that stay in the database file for new content."""
LOG_TRIES: Final = 40
"""Attempts to truncate the write-ahead log, which readers can prevent."""
LOG_PAUSE_SECONDS: Final = 0.25
_NAMED: Final = 20

log = structlog.get_logger("beray.tasks")


class TaskDeletion:
    """Used on one event loop, while ``running``.

    Args:
        conversation_file: returns the file with the history of a chat.
    """

    def __init__(
        self, store: Store, workspaces: Workspaces, conversation_file: Callable[[int], Path]
    ) -> None:
        self._store = store
        self._workspaces = workspaces
        self._conversation_file = conversation_file
        self._changed = asyncio.Event()
        self._failed: set[int] = set()

    async def delete(self, task_id: int) -> None:
        """Delete a task that is not running. Its events go later.

        Raises:
            OSError: some files cannot be removed; the next server tries it again.
            SQLAlchemyError: nothing was deleted.
        """
        try:
            await run_in_threadpool(self._store.remove_task, task_id)
            await run_in_threadpool(self._remove_files, task_id)
        except OSError:
            self._failed.add(task_id)
            raise
        finally:
            self._changed.set()

    async def undo(self, task_id: int) -> None:
        """Remove a task as if it had never been created."""
        await run_in_threadpool(self._store.undo_task, task_id)
        self._changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Remove what is recorded, in the background, also by earlier servers."""
        self._changed.set()
        working = asyncio.create_task(self._work(), name="task-deletion")
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait([working])

    def report_unknown(self, tasks: Collection[int]) -> None:
        """Log the work_dirs that belong to neither a task nor a record. Blocks; for threads."""
        known = {*tasks, *self._store.deleted_tasks()}
        unknown = sorted(self._workspaces.existing() - known)
        if unknown:
            log.warning(
                "work_dirs without a task are left in place; move or delete them yourself",
                directory=str(self._workspaces.root),
                count=len(unknown),
                names=unknown[:_NAMED],
            )

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                found = await patiently(lambda: run_in_threadpool(self._store.deleted_tasks))
                for task_id in found:
                    if task_id not in self._failed:
                        await self._try_to_finish(task_id)
                await self._shrink()
            except SQLAlchemyError as error:
                log.error("the database could not be made smaller", problem=_problem(error))

    async def _try_to_finish(self, task_id: int) -> None:
        try:
            await self._finish(task_id)
        except (OSError, SQLAlchemyError) as error:
            self._failed.add(task_id)
            log.error(
                "a deleted task could not be removed completely; the next start tries it again",
                task_id=task_id,
                problem=_problem(error),
            )

    async def _finish(self, task_id: int) -> None:
        """Remove what is left of a deleted task, the record last."""
        await run_in_threadpool(self._remove_files, task_id)
        await _in_steps(lambda limit: self._store.remove_events(task_id, limit))
        await patiently(lambda: run_in_threadpool(self._store.forget_deleted, task_id))

    async def _shrink(self) -> None:
        """Return the free pages of the database to the file system."""

        def step(pages: int) -> bool:
            return self._store.return_pages(pages) > KEPT_PAGES

        free = await patiently(lambda: run_in_threadpool(self._store.free_pages))
        if free > KEPT_PAGES:
            await _in_steps(step)
        elif not self._store.reserve.is_incomplete:
            return
        for _ in range(LOG_TRIES):
            if await patiently(lambda: run_in_threadpool(self._store.truncate_log)):
                return
            await asyncio.sleep(LOG_PAUSE_SECONDS)

    def _remove_files(self, task_id: int) -> None:
        if os.path.lexists(self._workspaces.path(task_id)):
            self._workspaces.remove(task_id)
        ChatHistory(self._conversation_file(task_id)).delete()


def _problem(error: Exception) -> str:
    return str(getattr(error, "orig", error))


async def _in_steps(step: Callable[[int], bool]) -> None:
    """Call ``step`` in threads until it returns False, with pauses, and a size that suits.

    Args:
        step: takes the size of the step; False: nothing is left.
    """
    size, overhead = FIRST_STEP, float("inf")
    while True:
        began = time.monotonic()
        more = await patiently(lambda size=size: run_in_threadpool(step, size))  # type: ignore[misc]
        took = time.monotonic() - began
        if not more:
            return
        # A commit takes its time whatever the size; on a slow disk, that alone may be too long.
        overhead = min(overhead, took)
        wanted = size * STEP_SECONDS / max(took - overhead, 1e-6)
        size = max(LEAST_STEP, min(round(wanted), 2 * size, MOST_STEP))
        await asyncio.sleep(min(max(took, LEAST_PAUSE_SECONDS), MOST_PAUSE_SECONDS))
