"""Positions in the history of a task: ``seq`` of events and names of checkpoints."""

from __future__ import annotations

import re
from typing import Final

from beray.history_schema import Checkpoint, CheckpointPosition
from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.storage.tables import StoredCheckpoint

Position = int | str
"""``seq`` of an event, or the name of a checkpoint such as ``c3``."""

_NAME: Final = re.compile(r"c[1-9][0-9]{0,17}")
_SEQ: Final = re.compile(r"0|[1-9][0-9]{0,17}")


class UnknownCheckpoint(Exception):
    """A task has no checkpoint at a position.

    Attributes:
        reason: Message for the user.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_position(text: str) -> Position:
    """Return the position in a string.

    Raises:
        ValueError: The string is neither a ``seq`` nor the name of a checkpoint.
    """
    if _NAME.fullmatch(text):
        return text
    if _SEQ.fullmatch(text):
        return int(text)
    raise ValueError(
        f"{text[:100]!r} is not a position; give the seq of an event such as 17, or a checkpoint "
        "such as c3"
    )


class CheckpointPositions:
    """Positions of the checkpoints of all tasks. Methods block; called in threads."""

    def __init__(self, *, checkpoints: CheckpointRepository) -> None:
        self._checkpoints = checkpoints

    def find(self, task_id: int, position: Position | None) -> StoredCheckpoint:
        """Return the checkpoint at a position.

        Args:
            task_id: Id of the task.
            position: ``seq`` (the newest checkpoint at or before it), name, or None for the
                newest checkpoint.

        Raises:
            UnknownCheckpoint: The task has no checkpoint there.
        """
        if isinstance(position, str):
            found = self._checkpoints.get(task_id, int(position[1:]))
        else:
            found = self._checkpoints.newest(task_id, seq=position)
        if found is None:
            raise UnknownCheckpoint(self._why_unknown(task_id, position))
        return found

    def first(self, task_id: int) -> StoredCheckpoint:
        """Return the oldest checkpoint of a task.

        Raises:
            UnknownCheckpoint: The task has none.
        """
        found = self._checkpoints.first(task_id)
        if found is None:
            raise UnknownCheckpoint(self._why_unknown(task_id, None))
        return found

    def list_page(self, task_id: int, after: int, limit: int) -> list[StoredCheckpoint]:
        """Return the first ``limit`` checkpoints of a task after the number ``after``."""
        return self._checkpoints.list_page(task_id, after, limit)

    def _why_unknown(self, task_id: int, position: Position | None) -> str:
        first = self._checkpoints.first(task_id)
        newest = self._checkpoints.newest(task_id)
        if first is None or newest is None:
            return (
                f"Task {task_id} has no checkpoints: it has not started, or the history was turned "
                "off when it ran."
            )
        if isinstance(position, str):
            known = f"its checkpoints are c{first.number} to c{newest.number}"
            if first.number < int(position[1:]) < newest.number:
                known += ", of which some steps were removed to limit their number"
            return f"Task {task_id} has no checkpoint {position}; {known}."
        return (
            f"Task {task_id} has no checkpoint at or before event {position}; the first is "
            f"c{first.number}, after event {first.seq}."
        )


def position_to_wire(row: StoredCheckpoint) -> CheckpointPosition:
    """Return the name and the ``seq`` of a checkpoint in the format of the API."""
    return {"checkpoint": f"c{row.number}", "seq": row.seq}


def checkpoint_to_wire(row: StoredCheckpoint) -> Checkpoint:
    """Return a checkpoint in the format of the API."""
    wire: Checkpoint = {
        "checkpoint": f"c{row.number}",
        "seq": row.seq,
        "created_at": row.created_at,
        "reason": row.reason,
        "files": row.files,
        "bytes": row.bytes,
        "added": row.added,
        "modified": row.modified,
        "deleted": row.deleted,
        "not_stored": row.not_stored,
    }
    if row.lines_added is not None and row.lines_deleted is not None:
        wire["lines_added"] = row.lines_added
        wire["lines_deleted"] = row.lines_deleted
    return wire
