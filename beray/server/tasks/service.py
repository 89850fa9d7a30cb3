"""Start of tasks that users have created."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from beray.events import TaskStatusChanged
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.executor import Executor
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.goal_policy import goal_run


class TaskService:
    """Submits new tasks and held tasks to the executor."""

    def __init__(
        self, *, tasks: TaskRepository, event_log: EventLog, feed: TaskFeed, executor: Executor
    ) -> None:
        self._tasks = tasks
        self._event_log = event_log
        self._feed = feed
        self._executor = executor

    async def add(self, task: Task) -> None:
        """Log the status of a new task and, unless it is held, submit its run.

        Raises:
            TaskClosed: The task was stopped or deleted meanwhile.
            StorageError: The status cannot be saved.
        """
        task.last_seq = await self._event_log.append(task.id, TaskStatusChanged(status="QUEUED"))
        if not task.held:
            self._executor.submit(goal_run(task))

    async def release(self, task_id: int) -> Task | None:
        """Submit the run of a held task; return the task, or None if it is not held."""
        task = await run_in_threadpool(self._tasks.release, task_id)
        if task is not None:
            self._executor.submit(goal_run(task))
            self._feed.wake(task.user_id)
        return task
