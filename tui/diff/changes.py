"""Changes of a task between two of its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beray.history_schema import Diff, FileDiff
from tui import sanitize
from tui.controllers.failures import FailureReporter
from tui.controllers.task_checkpoints import NO_HISTORY, lacks_history
from tui.diff.messages import ChangesArrived, ChangesFailed
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.checkpoints import CheckpointIndex, LogPosition
from tui.state.current_server import CurrentServer

if TYPE_CHECKING:
    from beray.client import BeRayClient


@dataclass(frozen=True)
class ChangeScope:
    """Range of changes.

    Attributes:
        step: Checkpoint after a step, or number of an event in a step; ``None`` for all changes
            of the task.
    """

    step: LogPosition | None = None


class ChangesController:
    """Reads the changes of a task.

    Args:
        task_id: The task.
        scope: Changes to read first.
        server: Server of the task.
        target: Receives the results of the requests.
        failures: Requests a new sign-in if the session has ended.
        on_change: Called after a change of the attributes.

    Attributes:
        task_id: As above.
        scope: Range of the changes; its step is the name of a checkpoint once it is known.
        checkpoints: Checkpoints of the task.
        diff: The changes, or ``None`` before they are known or if the task has none.
        is_reading: Whether a request is pending.
        failure: Error message of the last request, or "".
    """

    def __init__(
        self,
        task_id: int,
        scope: ChangeScope,
        *,
        server: CurrentServer,
        target: MessageTarget,
        failures: FailureReporter,
        on_change: Callable[[], None],
    ) -> None:
        self.task_id = task_id
        self.scope = scope
        self.checkpoints = CheckpointIndex()
        self.diff: Diff | None = None
        self.is_reading = False
        self.failure = ""
        self._server = server
        self._target = target
        self._failures = failures
        self._on_change = on_change
        self._request = 0

    @property
    def files(self) -> list[FileDiff]:
        """Changed files."""
        return self.diff["files"] if self.diff is not None else []

    # Requests

    def read(self) -> None:
        """Read the checkpoints and the changes."""
        self._request += 1
        request, client = self._request, self._server.client
        task_id, scope = self.task_id, self.scope
        self.is_reading, self.failure = True, ""
        background.run(
            self._target,
            lambda: _read(client, task_id, scope, request),
            lambda error: ChangesFailed(request, error),
        )
        self._on_change()

    def show(self, scope: ChangeScope) -> None:
        """Read another range of changes."""
        if scope != self.scope:
            self.scope = scope
            self.read()

    def step(self, by: int) -> bool:
        """Read the changes of the next step, or for -1 of the previous one.

        From the changes of the whole task, these are the first and the last step.

        Returns:
            Whether there is such a step.
        """
        name = self.scope.step if isinstance(self.scope.step, str) else ""
        found = self.checkpoints.step_beside(name, by)
        if found is not None:
            self.show(ChangeScope(found["checkpoint"]))
        return found is not None

    # Results

    def arrived(self, message: ChangesArrived) -> None:
        """Use the changes, unless others were requested meanwhile."""
        if message.request != self._request:
            return
        self.is_reading = False
        self.checkpoints, self.diff = message.checkpoints, message.diff
        if self.scope.step is not None and self.diff is not None:
            self.scope = ChangeScope(self.diff["to"]["checkpoint"])
        if self.diff is None:
            self.failure = "The task has no checkpoints yet."
        self._on_change()

    def failed(self, message: ChangesFailed) -> None:
        """Show why the changes could not be read."""
        if message.request != self._request:
            return
        self.is_reading, self.diff = False, None
        error = message.error
        self.failure = NO_HISTORY if lacks_history(error) else sanitize.error_text(error)
        self._failures.session_ended(message.error)
        self._on_change()

    # Restoring

    @property
    def restorable(self) -> list[tuple[str, str]]:
        """Checkpoints that can be restored, each with a description."""
        diff, newest = self.diff, self.checkpoints.newest
        if diff is None:
            return []
        states = [(diff["from"]["checkpoint"], "before these changes")]
        end = diff["to"]["checkpoint"]
        if newest is not None and end != newest["checkpoint"] and end != states[0][0]:
            states.append((end, "after these changes"))
        return states


def _read(client: BeRayClient, task_id: int, scope: ChangeScope, request: int) -> ChangesArrived:
    checkpoints = CheckpointIndex(client.list_checkpoints(task_id))
    step = scope.step
    if checkpoints.newest is None:
        return ChangesArrived(request, checkpoints, None)
    if step is None:
        return ChangesArrived(request, checkpoints, client.diff(task_id))
    found = checkpoints.step_of(step)
    end = step if found is None else found["checkpoint"]  # the server reports an unknown one
    before = checkpoints.before(str(end))
    start = end if before is None else before["checkpoint"]
    return ChangesArrived(request, checkpoints, client.diff(task_id, from_=start, to=end))
