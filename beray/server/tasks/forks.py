"""Tasks that continue from a checkpoint of another task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from beray.schema import TERMINAL_STATUSES
from beray.server.storage.tables import StoredCheckpoint, Task
from beray.server.storage.tasks import TaskRepository
from beray.server.workspace.history.service import WorkDirHistory


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Checkpoint from which a task continues.

    Attributes:
        task: Task of the checkpoint.
        checkpoint: The checkpoint.
        conversation: True if the new task also continues the conversation with the model.
    """

    task: Task
    checkpoint: StoredCheckpoint
    conversation: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the origin in the format of the API."""
        return {
            "task": self.task.id,
            "seq": self.checkpoint.seq,
            "checkpoint": f"c{self.checkpoint.number}",
            "conversation": self.conversation,
        }


class TaskForks:
    """Copies of the files of checkpoints into the work_dirs of new tasks.

    Args:
        history: History of the work_dirs.
        tasks: Repository of tasks.
    """

    def __init__(self, *, history: WorkDirHistory, tasks: TaskRepository) -> None:
        self._history = history
        self._tasks = tasks

    async def populate(self, task: Task, origin: Origin) -> None:
        """Write the files of a checkpoint into the empty work_dir of a new task.

        A crash is completed by the next server. If this fails, the caller removes the task.

        Raises:
            RestoreCancelled: The new task was stopped or deleted meanwhile.
            ContentNotStored: The content of a file is not stored.
            DamagedContent: The content of a file is damaged.
            OSError: The files cannot be written.
        """

        def is_unwanted() -> bool:
            found = self._tasks.get(task.id)
            return found is None or found.status in TERMINAL_STATUSES

        await run_in_threadpool(
            self._history.restores.populate,
            task.id,
            task.user_id,
            origin.checkpoint.root,
            source=origin.task.id,
            is_cancelled=is_unwanted,
        )
