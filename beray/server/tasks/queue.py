"""The queue of runs: as many tasks at once as there are slots, users in turn.

The tasks of one user run in order of creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray.events import MsgError, TaskStatusChanged
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.fair_queue import FairQueue
from beray.server.runtime.shortage import patiently
from beray.server.storage.store import Store, UnfinishedTask
from beray.server.storage.tables import Task
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog, TaskEnded
from beray.server.tasks.run import Runs
from beray.server.workspace.workspace import Workspaces

STOP_SECONDS: Final = 20.0
"""Time that a request waits for the end of a run that it has stopped."""
STOP_RETRY_SECONDS: Final = 2
LOST: Final = MsgError(code="LOST_WORKER", details="The server ended in the middle of the answer.")

log = structlog.get_logger("beray.queue")


class RunQueue:
    """Used on one event loop, between ``start`` and ``close``."""

    def __init__(
        self,
        store: Store,
        event_log: EventLog,
        runs: Runs,
        workspaces: Workspaces,
        *,
        ends: EndWriter,
        slots: int,
        user_slots: int | None,
    ) -> None:
        self._store = store
        self._event_log = event_log
        self._runs = runs
        self._workspaces = workspaces
        self._ends = ends
        self._waiting = FairQueue(slots, user_slots)  # of task ids, which grow with creation
        self._running: dict[int, asyncio.Task[None]] = {}
        self._stop_reasons: dict[int, str] = {}
        self._closing = False

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    async def start(self) -> None:
        """Take up what an earlier server left: lost runs have failed, queued tasks run."""
        work_dirs = await run_in_threadpool(self._workspaces.existing)
        after = 0
        while left := await run_in_threadpool(self._store.unfinished_tasks, after):
            for task in left:
                await self._take_up(task, has_work_dir=task.id in work_dirs)
            after = left[-1].id
        self._fill()

    async def _take_up(self, task: UnfinishedTask, *, has_work_dir: bool) -> None:
        if task.chat is not None:
            # It waits for its user; the answer that was under way is lost.
            waits = TaskStatusChanged(status="INPUT_REQUIRED", reason="lost_worker")
            await self._ends.write(task.id, [LOST, waits])
        elif task.status == "QUEUED":
            await self._complete(task, has_work_dir=has_work_dir)
            if not task.held:
                self._waiting.add(task.user_id, task.id)
        else:
            log.warning("a run was lost", task_id=task.id)
            await self._write_status(task.id, "FAILED", "lost_worker")

    async def _complete(self, task: UnfinishedTask, *, has_work_dir: bool) -> None:
        """Do what a server that died while it created a task had still to do."""
        if task.last_seq == 0:
            await self._write_status(task.id, "QUEUED", None)
        if not has_work_dir:
            log.warning("a work_dir was missing", task_id=task.id)
            try:
                await run_in_threadpool(self._workspaces.create, task.id, task.user_id)
            except OSError as error:
                # Its run will fail and say so; the others have theirs.
                log.error("it could not be made", task_id=task.id, exc_info=error)

    async def close(self) -> None:
        """Stop what runs and wait for it; what waits stays queued for the next server.

        Idempotent.
        """
        self._closing = True
        for task_id in self._running:
            self._cancel(task_id, "shutdown")
        if self._running:
            await asyncio.wait(list(self._running.values()))

    async def created(self, task: Task) -> None:
        """A task is there: say so in its log and, unless it is held, queue it."""
        task.last_seq = await self._event_log.append(task.id, TaskStatusChanged(status="QUEUED"))
        if not task.held:
            self.submit(task)

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._waiting.add(task.user_id, task.id)
        self._fill()

    async def stop(self, task_id: int) -> bool:
        """Stop a task; ``False`` where it has ended already.

        Returns soon: the end of a running one is in its event log when it has come, and that of
        one that waits as soon as the log can be written.
        """
        if task_id in self._running:
            self._cancel(task_id, "user")
            return True
        self._waiting.remove(task_id)
        return await self._write_status(task_id, "STOPPED", "user")

    async def stopped(self, task_id: int) -> None:
        """Stop a task and return when nothing of it is running any more.

        Raises:
            ApiHTTPError: 503, this takes longer than ``STOP_SECONDS``.
        """
        await self.stop(task_id)
        run = self._running.get(task_id)
        if run is not None:
            await ended_in_time(run, f"Task {task_id}")

    def _cancel(self, task_id: int, reason: str) -> None:
        # A second cancel would interrupt the sweeping of the first.
        if task_id not in self._stop_reasons:
            self._stop_reasons[task_id] = reason
            self._running[task_id].cancel()

    def _fill(self) -> None:
        while not self._closing and (taken := self._waiting.take()) is not None:
            user_id, task_id = taken
            run = asyncio.create_task(self._run(task_id), name=f"task-{task_id}")
            self._running[task_id] = run
            run.add_done_callback(partial(self._free, user_id, task_id))

    def _free(self, user_id: Hashable, task_id: int, run: asyncio.Task[None]) -> None:
        self._waiting.release(user_id)
        del self._running[task_id]
        self._stop_reasons.pop(task_id, None)
        if not run.cancelled() and (error := run.exception()) is not None:
            log.error("a run failed unexpectedly", task_id=task_id, exc_info=error)
        self._fill()

    async def _run(self, task_id: int) -> None:
        try:
            status, reason = await self._outcome(task_id)
        except asyncio.CancelledError:
            reason = self._stop_reasons.get(task_id)
            status = "STOPPED" if reason == "user" else "FAILED"
        except TaskEnded:
            return
        except (OSError, RuntimeError, SQLAlchemyError) as error:
            log.error("a run broke", task_id=task_id, exc_info=error)
            status, reason = "FAILED", "error"
        # It has ended, and only says so now: too late for a stop.
        self._stop_reasons[task_id] = "ended"
        await self._write_status(task_id, status, reason)

    async def _outcome(self, task_id: int) -> tuple[str, str | None]:
        await self._ends.written(task_id)
        task = await patiently(lambda: run_in_threadpool(self._store.task, task_id))
        if task is None:
            raise TaskEnded(f"task {task_id} is gone")
        outcome = await self._runs.run(task)
        return outcome.status, outcome.reason

    async def _write_status(self, task_id: int, status: str, reason: str | None) -> bool:
        """Log a status; ``False`` where the task has ended already."""
        return await self._ends.write(task_id, [TaskStatusChanged(status=status, reason=reason)])


async def ended_in_time(run: asyncio.Task[None], what: str) -> None:
    """Wait for the end of a run that is being stopped.

    Raises:
        ApiHTTPError: 503, this takes longer than ``STOP_SECONDS``.
    """
    _, running = await asyncio.wait([run], timeout=STOP_SECONDS)
    if running:
        raise ApiHTTPError(503, f"{what} is still being stopped; try again.", STOP_RETRY_SECONDS)
