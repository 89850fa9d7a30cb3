"""Conversations of tasks and chats with their language model, as files.

A conversation is complete up to the position that was recorded last. A task that continues another
one gets a copy of a part of its conversation; it then has a file of its own. The format of the
files is defined by ``beray.server.runners.chat_history``.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

import structlog

from beray.server.runners.chat_history import ChatHistory

FOLDER: Final = "conversations"
"""Name of the directory in the data directory."""
ASIDE: Final = ".aside"
"""Directory of conversations that belong to tasks of another database."""

log = structlog.get_logger("beray.tasks")


class Conversations:
    """Files of all conversations. Synchronous; called in threads.

    Args:
        directory: Directory of the files, which is created if necessary.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, task_id: int) -> Path:
        """Return the path of the history file of a task or chat."""
        return self._directory / f"{task_id:d}.jsonl"

    def history(self, task_id: int) -> ChatHistory:
        """Return the history of a task or chat."""
        return ChatHistory(self.path(task_id))

    def prepare(self, task_id: int) -> None:
        """Move existing files aside, because a new task has no conversation.

        They belong to a task of another database, for example a newer one than the backup that
        was restored, and possibly to another user.

        Raises:
            OSError: A file cannot be moved.
        """
        existing = self.history(task_id).files()
        if not existing:
            return
        aside = self._directory / ASIDE / f"{task_id}-{uuid.uuid4().hex[:8]}"
        aside.mkdir(mode=0o700, parents=True)
        for path in existing:
            path.rename(aside / path.name)
        log.warning(
            "a conversation of another database was moved aside",
            task_id=task_id,
            now_at=str(aside),
        )

    def record_position(self, task_id: int, seq: int) -> None:
        """Record that all messages so far belong to the events up to ``seq``.

        Called while the run waits or has ended, because it writes to the same file. Does nothing
        if the task has no conversation.

        Raises:
            OSError: The position cannot be saved.
        """
        self.history(task_id).append_position(seq)

    def has_messages(self, task_id: int, seq: int | None) -> bool:
        """Return True if ``fork`` with these arguments copies any messages.

        Raises:
            OSError: The conversation cannot be read.
        """
        return bool(self.history(task_id).records(seq))

    def fork(self, source_id: int, seq: int | None, target_id: int) -> bool:
        """Copy a part of a conversation to a new task, completely or not at all.

        A repetition after a crash has no further effect.

        Args:
            source_id: Id of the task or chat to copy from, which may have a run.
            seq: ``seq`` of an event of the source; messages up to the last complete step at or
                before it are copied. None copies everything, including an interrupted step; it is
                meant for a source without a run and a ``seq`` at or after its last event.
            target_id: Id of the new task, which has not started.

        Returns:
            False if the source has no messages up to there; the new task then has no conversation.

        Raises:
            OSError: The source cannot be read, or the copy cannot be saved. No copy remains.
        """
        return self.history(target_id).copy_from(self.history(source_id), seq)

    def delete(self, task_id: int) -> None:
        """Delete the conversation of a task, if there is one.

        Raises:
            OSError: A file cannot be deleted.
        """
        self.history(task_id).delete()
