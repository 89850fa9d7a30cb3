"""Runs of tasks: their position in the queue, their ends, and their recovery."""

from __future__ import annotations

import os
from collections.abc import Sequence

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import Event, TaskStatusChanged
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository, UnfinishedTask
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import TaskClosed
from beray.server.tasks.forks import TaskForks
from beray.server.tasks.run import GoalRunner
from beray.server.tasks.run_policy import Run, SlotLimits, StopReason
from beray.server.workspace.workspace import Workspaces

log = structlog.get_logger("beray.queue")


def goal_run(task: Task | UnfinishedTask) -> Run:
    """Return the run of a task. The runs of one user start in order of creation of the tasks."""
    return Run(kind="goal", task_id=task.id, user_id=task.user_id, position=task.id)


class GoalPolicy:
    """``RunPolicy`` of tasks. The run logs the terminal status of its task."""

    outlives_server = True

    def __init__(
        self,
        *,
        limits: SlotLimits,
        tasks: TaskRepository,
        workspaces: Workspaces,
        conversations: Conversations,
        forks: TaskForks,
        goal_runner: GoalRunner,
        end_writer: EndWriter,
    ) -> None:
        self.limits = limits
        self._tasks = tasks
        self._workspaces = workspaces
        self._conversations = conversations
        self._forks = forks
        self._goal_runner = goal_runner
        self._end_writer = end_writer

    async def prepare(self, run: Run) -> None:
        """Do nothing: the run of a task has no message."""

    async def execute(self, run: Run) -> Sequence[Event]:
        """Run the goal of the task and return its terminal status.

        Raises:
            TaskClosed: The task has ended or was deleted.
        """
        task = await retry_on_shortage(lambda: run_in_threadpool(self._tasks.get, run.task_id))
        if task is None:
            raise TaskClosed(f"task {run.task_id} was deleted")
        outcome = await self._goal_runner.run(task)
        return [TaskStatusChanged(status=outcome.status, reason=outcome.reason)]

    def stopped(self, run: Run, reason: StopReason) -> Sequence[Event]:
        """Return the status ``STOPPED``, or ``FAILED`` if the server stops."""
        status = "STOPPED" if reason == "user" else "FAILED"
        return [TaskStatusChanged(status=status, reason=reason)]

    def failed(self, run: Run) -> Sequence[Event]:
        """Return the status ``FAILED``."""
        return [TaskStatusChanged(status="FAILED", reason="error")]

    def on_end(self, run: Run) -> None:
        """Do nothing: the event log has published the terminal status."""

    async def stop_idle(self, task_id: int) -> bool:
        """End a task that has no run, such as a held one; return False if it has ended already."""
        return await self._write_status(task_id, "STOPPED", "user")

    async def recover(self, tasks: Sequence[UnfinishedTask]) -> list[Run]:
        """End interrupted tasks as failed; return runs for the queued tasks that are not held."""
        missing = await run_in_threadpool(self._missing_work_dirs, tasks)
        runs = []
        for task in tasks:
            if task.status != "QUEUED":
                log.warning("a run was interrupted by the end of the server", task_id=task.id)
                await self._write_status(task.id, "FAILED", "lost_worker")
                continue
            has_work_dir = task.id not in missing
            if task.last_seq == 0 and not await self._complete_messages(
                task, has_work_dir=has_work_dir
            ):
                await self._write_status(task.id, "FAILED", "error")
                continue
            await self._complete_creation(task, has_work_dir=has_work_dir)
            if not task.held:
                runs.append(goal_run(task))
        return runs

    def subject(self, task_id: int) -> str:
        """Return the subject of messages about a run."""
        return f"Task {task_id}"

    def _missing_work_dirs(self, tasks: Sequence[UnfinishedTask]) -> set[int]:
        paths = {task.id: self._workspaces.path(task.id) for task in tasks}
        return {task_id for task_id, path in paths.items() if not os.path.lexists(path)}

    async def _complete_messages(self, task: UnfinishedTask, *, has_work_dir: bool) -> bool:
        """Complete the conversation that a new task continues; return False if that fails."""
        try:
            if not has_work_dir:
                await run_in_threadpool(self._conversations.prepare, task.id)
            await run_in_threadpool(self._forks.complete_messages, task.id)
        except OSError as error:
            log.error("a conversation could not be copied", task_id=task.id, exc_info=error)
            return False
        return True

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

    async def _write_status(self, task_id: int, status: str, reason: str | None) -> bool:
        """Log a status; return False if the task has ended already."""
        return await self._end_writer.write(
            task_id, [TaskStatusChanged(status=status, reason=reason)]
        )
