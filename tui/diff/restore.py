"""Restoring files of a task from a checkpoint: a dry run, then the restore itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from beray.history_schema import RestoreResult
from beray.sanitize import one_line
from tui import sanitize
from tui.controllers.failures import FailureReporter
from tui.diff.file_facts import file_count
from tui.diff.messages import RestoreArrived, RestoreFailed
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.current_server import CurrentServer


class RestoreTarget(NamedTuple):
    """State that can be restored.

    Attributes:
        checkpoint: Name of the checkpoint.
        description: Relation to the changes that are shown.
    """

    checkpoint: str
    description: str


class RestoreController:
    """Restores files after a dry run.

    Args:
        task_id: The task.
        targets: States that can be restored; the first one is selected.
        paths: Files and directories to restore; empty for all.
        server: Server of the task.
        messages: Receives the results of the requests.
        failures: Requests a new sign-in if the session has ended.
        on_change: Called after a change of the attributes.
        on_restored: Called with the result of the restore.

    Attributes:
        paths: As above.
        result: Result of the dry run of the selected state, or ``None`` before it is known.
        failure: Error message of the last request, or "".
        is_restoring: Whether the restore was requested.
    """

    def __init__(
        self,
        task_id: int,
        targets: Sequence[RestoreTarget],
        paths: Sequence[str],
        *,
        server: CurrentServer,
        messages: MessageTarget,
        failures: FailureReporter,
        on_change: Callable[[], None],
        on_restored: Callable[[RestoreResult], None],
    ) -> None:
        self.paths = paths
        self.result: RestoreResult | None = None
        self.failure = ""
        self.is_restoring = False
        self._task_id = task_id
        self._targets = targets
        self._selected = 0
        self._server = server
        self._messages = messages
        self._failures = failures
        self._on_change = on_change
        self._on_restored = on_restored
        self._request = 0

    @property
    def target(self) -> RestoreTarget:
        """The selected state."""
        return self._targets[self._selected]

    @property
    def other(self) -> RestoreTarget | None:
        """The state that ``switch`` selects."""
        if len(self._targets) < 2:
            return None
        return self._targets[(self._selected + 1) % len(self._targets)]

    @property
    def can_restore(self) -> bool:
        """True if the restore would change files."""
        return not self.is_restoring and self.result is not None and bool(self.result["files"])

    def preview(self) -> None:
        """Request the changes that the restore would make."""
        self.result, self.failure = None, ""
        self._send(dry_run=True)
        self._on_change()

    def switch(self) -> None:
        """Select the next state."""
        if self.other is not None and not self.is_restoring:
            self._selected = (self._selected + 1) % len(self._targets)
            self.preview()

    def restore(self) -> None:
        """Restore the selected state."""
        if self.can_restore:
            self.is_restoring = True
            self._send(dry_run=False)
            self._on_change()

    def _send(self, *, dry_run: bool) -> None:
        self._request += 1
        request, client, task_id = self._request, self._server.client, self._task_id
        to, paths = self.target.checkpoint, tuple(self.paths)
        background.run(
            self._messages,
            lambda: RestoreArrived(
                request, client.restore(task_id, to, paths=paths, dry_run=dry_run)
            ),
            lambda error: RestoreFailed(request, error),
        )

    # Results

    def arrived(self, message: RestoreArrived) -> None:
        """Use a result, unless another request was sent meanwhile."""
        if message.request != self._request:
            return
        if self.is_restoring:
            self.is_restoring = False
            self._on_restored(message.result)
        else:
            self.result = message.result
            self._on_change()

    def failed(self, message: RestoreFailed) -> None:
        """Show why a request failed. After a failed restore, the dry run is outdated."""
        if message.request != self._request:
            return
        self.is_restoring, self.result = False, None
        self.failure = sanitize.error_text(message.error)
        self._failures.session_ended(message.error)
        self._on_change()


def restored_text(result: RestoreResult) -> str:
    """Return a notification about a restore."""
    to = one_line(result["to"]["checkpoint"], 20)
    if not result["files"]:
        return f"The files are in the state of {to} already."
    text = f"Restored {file_count(len(result['files']))} to {to}."
    if (before := result.get("before")) is not None:
        text += f" To undo it, restore {one_line(before['checkpoint'], 20)}."
    return text
