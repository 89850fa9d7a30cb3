"""Tasks that continue from a checkpoint of another task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from beray.schema import TERMINAL_STATUSES
from beray.server.storage.tables import StoredCheckpoint, Task
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.work_dir_access import RunActive, WorkDirAccess
from beray.server.workspace.history.restore import RestoreCancelled
from beray.server.workspace.history.service import WorkDirHistory
from beray.server.workspace.safe_open import MissingPath

log = structlog.get_logger("beray.tasks")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Checkpoint from which a task continues.

    Attributes:
        task: Task of the checkpoint.
        checkpoint: The checkpoint.
        seq: ``seq`` of the last event of that task which the new task continues; at or after the
            checkpoint.
        conversation: True if the new task also continues the conversation with the model.
    """

    task: Task
    checkpoint: StoredCheckpoint
    seq: int
    conversation: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the origin in the format of the API."""
        return {
            "task": self.task.id,
            "seq": self.seq,
            "checkpoint": f"c{self.checkpoint.number}",
            "conversation": self.conversation,
        }


class TaskForks:
    """Copies of checkpoints and conversations for new tasks.

    Args:
        history: History of the work_dirs.
        tasks: Repository of tasks.
        conversations: Messages of tasks and chats.
        access: Access to work_dirs; runs and uploads wait for the files of a new task.
    """

    def __init__(
        self,
        *,
        history: WorkDirHistory,
        tasks: TaskRepository,
        conversations: Conversations,
        access: WorkDirAccess,
    ) -> None:
        self._history = history
        self._tasks = tasks
        self._conversations = conversations
        self._access = access

    def has_messages(self, source: Task, seq: int) -> bool:
        """Return True if a task or chat has messages up to an event. Blocks."""
        return self._conversations.has_messages(source.id, _end_of_messages(source, seq))

    async def populate(self, task: Task, origin: Origin) -> None:
        """Copy the files and the messages of an origin to a new task.

        A crash is completed by the next server. If this fails, the caller removes the task.

        Raises:
            RestoreCancelled: The new task was stopped or deleted meanwhile.
            ContentNotStored: The content of a file is not stored.
            DamagedContent: The content of a file is damaged.
            OSError: The files or messages cannot be written.
        """

        def is_unwanted() -> bool:
            found = self._tasks.get(task.id)
            return found is None or found.status in TERMINAL_STATUSES

        def copy() -> None:
            try:
                self._history.restores.populate(
                    task.id,
                    task.user_id,
                    origin.checkpoint.root,
                    source=origin.task.id,
                    is_cancelled=is_unwanted,
                )
            except MissingPath:
                if not is_unwanted():
                    raise
                raise RestoreCancelled from None
            if origin.conversation:
                self._copy_messages(origin.task, origin.seq, task.id)

        try:
            async with self._access.restore(task.id):
                await run_in_threadpool(copy)
        except RunActive:  # a held task was started, and did not wait for its files
            raise RestoreCancelled from None

    def complete_messages(self, task_id: int) -> None:
        """Copy the messages for a task whose creation was interrupted, if it continues any. Blocks.

        Raises:
            OSError: The messages cannot be copied.
        """
        task = self._tasks.get(task_id)
        if task is None or task.origin is None or not task.origin["conversation"]:
            return
        source = self._tasks.get(task.origin["task"])
        if source is None:
            log.warning("the conversation of a deleted task cannot be copied", task_id=task_id)
            return
        self._copy_messages(source, task.origin["seq"], task_id)

    def _copy_messages(self, source: Task, seq: int, target_id: int) -> None:
        self._conversations.fork(source.id, _end_of_messages(source, seq), target_id)


def _end_of_messages(source: Task, seq: int) -> int | None:
    """Return the ``seq`` for ``Conversations.fork``: None for everything, after the last run."""
    is_idle = source.status not in ("QUEUED", "RUNNING")
    return None if is_idle and seq >= source.last_seq else seq
