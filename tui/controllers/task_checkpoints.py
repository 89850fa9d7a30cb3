"""Checkpoints of the selected task, read when they are first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from beray.exceptions import APIError
from beray.schema import TaskEvent
from tui import messages
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.checkpoints import CheckpointIndex, LogPosition
from tui.state.current_server import CurrentServer
from tui.state.tasks import TasksState

NO_HISTORY: Final = "This server keeps no history of the files of tasks."
Use = Callable[[CheckpointIndex], None]
Fail = Callable[[Exception], None]


class TaskCheckpoints:
    """Checkpoints of the selected task.

    Args:
        tasks: Tasks, of which one is selected.
        server: Server of the tasks.
        target: Receives ``CheckpointsArrived`` and ``CheckpointsFailed``.
    """

    def __init__(self, *, tasks: TasksState, server: CurrentServer, target: MessageTarget) -> None:
        self._tasks = tasks
        self._server = server
        self._target = target
        self._index: CheckpointIndex | None = None
        self._is_current = False
        """False if there may be newer checkpoints than those in the index."""
        self._waiting: list[tuple[Use, Fail]] = []

    def task_selected(self) -> None:
        """Forget the checkpoints of the previous task, and drop what waits for them."""
        self._index, self._is_current = None, False
        self._waiting.clear()

    def events_received(self, events: Iterable[TaskEvent]) -> None:
        """Read the checkpoints again when they are next needed, if there is a new one."""
        if self._is_current and any(map(_may_have_checkpoint, events)):
            self._is_current = False

    def changed(self) -> None:
        """Read the checkpoints again when they are next needed."""
        self._is_current = False

    def with_position(self, position: LogPosition | None, use: Use, fail: Fail) -> None:
        """Call ``use`` with the checkpoints up to a position, once they are known.

        Args:
            position: Position in the log; ``None`` for its end.
            use: Called with the checkpoints, at once if they are known.
            fail: Called with the error if they cannot be read.
        """
        index = self._index
        if index is not None and (self._is_current or _has(index, position)):
            use(index)
            return
        self._waiting.append((use, fail))
        if len(self._waiting) == 1:
            self._read()

    def _read(self) -> None:
        selected, client = self._tasks.selected, self._server.client
        if selected is None:
            self._waiting.clear()
            return
        task_id = selected.task_id
        self._is_current = True  # until an event is received
        background.run(
            self._target,
            lambda: messages.CheckpointsArrived(
                task_id, CheckpointIndex(client.list_checkpoints(task_id))
            ),
            lambda error: messages.CheckpointsFailed(task_id, error),
        )

    # Results, which are dropped if another task was selected meanwhile

    def arrived(self, message: messages.CheckpointsArrived) -> None:
        """Use the checkpoints."""
        if self._is_selected(message.task_id):
            self._index = message.index
            waiting, self._waiting = self._waiting, []
            for use, _ in waiting:
                use(message.index)

    def failed(self, message: messages.CheckpointsFailed) -> None:
        """Pass the error on."""
        if self._is_selected(message.task_id):
            self._is_current = False
            waiting, self._waiting = self._waiting, []
            for _, fail in waiting:
                fail(message.error)

    def _is_selected(self, task_id: int) -> bool:
        selected = self._tasks.selected
        return selected is not None and selected.task_id == task_id


def _has(index: CheckpointIndex, position: LogPosition | None) -> bool:
    """Return True if newer checkpoints are irrelevant for a position."""
    if isinstance(position, str):
        return index.get(position) is not None
    newest = index.newest
    return position is not None and newest is not None and position < newest["seq"]


def lacks_history(error: Exception) -> bool:
    """Return True if the server does not know requests for checkpoints."""
    if not isinstance(error, APIError):
        return False
    # Other errors with status 404 name the task or the checkpoint.
    is_unknown = error.status_code == 404 and error.error_detail in (None, "", "Not Found")
    return is_unknown or error.status_code == 405


def _may_have_checkpoint(event: TaskEvent) -> bool:
    """Return True if the server may have made a checkpoint before this event."""
    fields: Any = event
    payload = fields.get("payload")
    is_reported = isinstance(payload, dict) and payload.get("kind") == "checkpoint"
    return is_reported or event.get("type") == "TASK_STATUS"
