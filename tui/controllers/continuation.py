"""New tasks that continue another one from one of its checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import ShowNotification
from tui.controllers.task_checkpoints import NO_HISTORY, TaskCheckpoints, lacks_history
from tui.state.checkpoints import CheckpointIndex, LogPosition
from tui.state.task_draft import DraftOrigin, TaskDraft
from tui.state.tasks import TasksState


class ContinuationController:
    """Opens the composer for a task that continues the selected one.

    Args:
        tasks: Tasks, of which one is selected.
        checkpoints: Checkpoints of the selected task.
        compose: Opens the composer with a draft.
        notify: Shows a notification.
        failures: Reports failed requests.
    """

    def __init__(
        self,
        *,
        tasks: TasksState,
        checkpoints: TaskCheckpoints,
        compose: Callable[[TaskDraft], None],
        notify: ShowNotification,
        failures: FailureReporter,
    ) -> None:
        self._tasks = tasks
        self._checkpoints = checkpoints
        self._compose = compose
        self._notify = notify
        self._failures = failures

    def compose(self, position: LogPosition | None) -> None:
        """Open the composer, once the checkpoint is known.

        Args:
            position: Position from which the new task continues; ``None`` for the newest
                checkpoint.
        """
        selected = self._tasks.selected
        if selected is None:
            return
        task_id = selected.task_id

        def found(index: CheckpointIndex) -> None:
            checkpoint = index.newest if position is None else index.at(position)
            if checkpoint is None:
                missing = position if isinstance(position, str) else "checkpoint"
                self._notify(f"Task #{task_id} has no {missing} to continue from.", "warning")
                return
            self._compose(TaskDraft(origin=DraftOrigin(task_id, checkpoint["checkpoint"])))

        def failed(error: Exception) -> None:
            if lacks_history(error):
                self._notify(NO_HISTORY, "warning")
            else:
                self._failures.report("read the checkpoints of the task", error)

        self._checkpoints.with_position(position, found, failed)
