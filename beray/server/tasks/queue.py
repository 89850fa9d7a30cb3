"""Queue of tasks, which run in a limited number of slots.

Users take turns, and the tasks of one user run in order of creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import MsgError, TaskStatusChanged
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.fair_queue import FairQueue
from beray.server.storage.database_errors import StorageError
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository, UnfinishedTask
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog, TaskClosed
from beray.server.tasks.run import RunExecutor
from beray.server.workspace.workspace import Workspaces

STOP_SECONDS: Final = 20.0
"""Maximum time that a request waits for the end of a run that it stops."""
STOP_RETRY_SECONDS: Final = 2
LOST_WORKER_ERROR: Final = MsgError(
    code="LOST_WORKER", details="The server stopped during the answer."
)

log = structlog.get_logger("beray.queue")


class RunQueue:
    """Queue and running tasks. Used on one event loop, between ``start`` and ``close``."""

    def __init__(
        self,
        tasks: TaskRepository,
        event_log: EventLog,
        runs: RunExecutor,
        workspaces: Workspaces,
        *,
        end_writer: EndWriter,
        slots: int,
        user_slots: int | None,
    ) -> None:
        self._tasks = tasks
        self._event_log = event_log
        self._runs = runs
        self._workspaces = workspaces
        self._end_writer = end_writer
        self._waiting = FairQueue(slots, user_slots)  # of task ids, which grow with creation
        self._running: dict[int, asyncio.Task[None]] = {}
        self._stop_reasons: dict[int, str] = {}
        self._closing = False

    @property
    def idle(self) -> bool:
        """True if no task is waiting or running."""
        return not self._waiting and not self._running

    async def start(self) -> None:
        """Recover the tasks of an earlier server: interrupted runs fail, queued tasks run."""
        work_dirs = await run_in_threadpool(self._workspaces.existing)
        after = 0
        while tasks := await run_in_threadpool(self._tasks.list_unfinished, after):
            for task in tasks:
                await self._recover(task, has_work_dir=task.id in work_dirs)
            after = tasks[-1].id
        self._start_waiting()

    async def _recover(self, task: UnfinishedTask, *, has_work_dir: bool) -> None:
        if task.chat is not None:
            # The answer is lost; the chat waits for its user.
            waits = TaskStatusChanged(status="INPUT_REQUIRED", reason="lost_worker")
            await self._end_writer.write(task.id, [LOST_WORKER_ERROR, waits])
        elif task.status == "QUEUED":
            await self._complete_creation(task, has_work_dir=has_work_dir)
            if not task.held:
                self._waiting.add(task.user_id, task.id)
        else:
            log.warning("a run was interrupted by the end of the server", task_id=task.id)
            await self._write_status(task.id, "FAILED", "lost_worker")

    async def _complete_creation(self, task: UnfinishedTask, *, has_work_dir: bool) -> None:
        """Complete the creation of a task that the end of a server interrupted."""
        if task.last_seq == 0:
            await self._write_status(task.id, "QUEUED", None)
        if not has_work_dir:
            log.warning("a work_dir was missing", task_id=task.id)
            try:
                await run_in_threadpool(self._workspaces.create, task.id, task.user_id)
            except OSError as error:
                # The run of this task will fail and report it; other tasks are not affected.
                log.error("a work_dir could not be created", task_id=task.id, exc_info=error)

    async def close(self) -> None:
        """Stop running tasks and wait for their ends; waiting tasks remain for the next server.

        Idempotent.
        """
        self._closing = True
        for task_id in self._running:
            self._cancel(task_id, "shutdown")
        if self._running:
            await asyncio.wait(list(self._running.values()))

    async def add(self, task: Task) -> None:
        """Log the status of a new task and, unless it is held, queue it."""
        task.last_seq = await self._event_log.append(task.id, TaskStatusChanged(status="QUEUED"))
        if not task.held:
            self.submit(task)

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._waiting.add(task.user_id, task.id)
        self._start_waiting()

    async def stop(self, task_id: int) -> bool:
        """Stop a task without waiting for the end of its run.

        The end is logged when the run has ended, or for a waiting task as soon as the log can be
        written.

        Returns:
            False if the task has ended already.
        """
        if task_id in self._running:
            self._cancel(task_id, "user")
            return True
        self._waiting.remove(task_id)
        return await self._write_status(task_id, "STOPPED", "user")

    async def stop_and_wait(self, task_id: int) -> None:
        """Stop a task and wait until its processes have ended.

        Raises:
            ApiHTTPError: The stop takes longer than ``STOP_SECONDS`` (503).
        """
        await self.stop(task_id)
        run = self._running.get(task_id)
        if run is not None:
            await wait_stopped(run, f"Task {task_id}")

    def _cancel(self, task_id: int, reason: str) -> None:
        # A second cancellation would interrupt the cleanup of the first.
        if task_id not in self._stop_reasons:
            self._stop_reasons[task_id] = reason
            self._running[task_id].cancel()

    def _start_waiting(self) -> None:
        while not self._closing and (item := self._waiting.take()) is not None:
            user_id, task_id = item
            run = asyncio.create_task(self._run(task_id), name=f"task-{task_id}")
            self._running[task_id] = run
            run.add_done_callback(partial(self._finish_run, user_id, task_id))

    def _finish_run(self, user_id: Hashable, task_id: int, run: asyncio.Task[None]) -> None:
        self._waiting.release(user_id)
        del self._running[task_id]
        self._stop_reasons.pop(task_id, None)
        if not run.cancelled() and (error := run.exception()) is not None:
            log.error("a run failed unexpectedly", task_id=task_id, exc_info=error)
        self._start_waiting()

    async def _run(self, task_id: int) -> None:
        try:
            status, reason = await self._execute(task_id)
        except asyncio.CancelledError:
            reason = self._stop_reasons.get(task_id)
            status = "STOPPED" if reason == "user" else "FAILED"
        except TaskClosed:
            return
        except (OSError, RuntimeError, StorageError) as error:
            log.error("a run failed with an error of the server", task_id=task_id, exc_info=error)
            status, reason = "FAILED", "error"
        # The run has ended and cannot be stopped any more.
        self._stop_reasons[task_id] = "ended"
        await self._write_status(task_id, status, reason)

    async def _execute(self, task_id: int) -> tuple[str, str | None]:
        await self._end_writer.wait_written(task_id)
        task = await retry_on_shortage(lambda: run_in_threadpool(self._tasks.get, task_id))
        if task is None:
            raise TaskClosed(f"task {task_id} was deleted")
        outcome = await self._runs.run(task)
        return outcome.status, outcome.reason

    async def _write_status(self, task_id: int, status: str, reason: str | None) -> bool:
        """Log a status; return False if the task has ended already."""
        return await self._end_writer.write(
            task_id, [TaskStatusChanged(status=status, reason=reason)]
        )


async def wait_stopped(run: asyncio.Task[None], subject: str) -> None:
    """Wait for the end of a run that is being stopped.

    Args:
        run: Task of the event loop that was cancelled.
        subject: Beginning of the message, such as "Task 5".

    Raises:
        ApiHTTPError: The stop takes longer than ``STOP_SECONDS`` (503).
    """
    _, running = await asyncio.wait([run], timeout=STOP_SECONDS)
    if running:
        raise ApiHTTPError(503, f"{subject} is still being stopped; try again.", STOP_RETRY_SECONDS)
