"""Actions on tasks: create, stop, delete, run again and save."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beray.exceptions import TransferCancelled
from tui import messages, sanitize, status
from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import Dialogs, ShowNotification
from tui.io import background
from tui.io.background import MessageTarget
from tui.sanitize import local_name
from tui.state.current_server import CurrentServer
from tui.state.task_draft import TaskDraft, draft_from_task
from tui.state.tasks import TasksState
from tui.state.user_state import UserState

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.composer.sending import SubmitResult


class TaskActions:
    """Actions on the selected task. Their results arrive as messages.

    Args:
        server: Server of the tasks.
        tasks: Tasks, of which one is selected.
        user_state: Storage of drafts and of the history.
        target: Receives ``TaskCreated``, ``TaskStopping``, ``StopFailed``, ``TaskDeleted`` and
            ``OperationFailed``.
        dialogs: Asks the user.
        notify: Shows a notification.
        failures: Reports failed requests.
        on_change: Called after a task was marked as stopping, or not stopping any more.
    """

    def __init__(
        self,
        *,
        server: CurrentServer,
        tasks: TasksState,
        user_state: UserState,
        target: MessageTarget,
        dialogs: Dialogs,
        notify: ShowNotification,
        failures: FailureReporter,
        on_change: Callable[[], None],
    ) -> None:
        self._server = server
        self._tasks = tasks
        self._user_state = user_state
        self._target = target
        self._dialogs = dialogs
        self._notify = notify
        self._failures = failures
        self._on_change = on_change

    # Creating

    def compose(self, initial: TaskDraft | None = None, problem: str = "") -> None:
        """Open the composer.

        Args:
            initial: Initial content; by default the saved draft.
            problem: Reason why that content was rejected, or "".
        """
        self._dialogs.compose_task(initial, problem, self.create)

    def create(self, draft: TaskDraft) -> None:
        """Create the task of ``draft``, which is saved as a draft until the task exists."""
        from tui.composer.sending import SubmitResult, submit_draft  # may never be needed

        user_state, account, client = self._user_state, self._server.account, self._server.client
        user_state.submitted(account, draft)

        def created(sent: SubmitResult) -> messages.TaskCreated:
            user_state.created(account, draft)
            return messages.TaskCreated(sent.task)

        def refused(error: Exception) -> messages.OperationFailed:
            user_state.refused(account, draft)
            return messages.OperationFailed("create the task (press n to edit the draft)", error)

        def sent(outcome: SubmitResult | Exception | None) -> None:
            if isinstance(outcome, SubmitResult):
                self._target.post_message(created(outcome))
                if outcome.note:
                    self._notify(outcome.note, "warning")
            elif outcome is not None:
                refused(outcome)
                cancelled = isinstance(outcome, TransferCancelled)
                if not self._failures.session_ended(outcome):
                    self.compose(problem="" if cancelled else sanitize.error_text(outcome))

        if draft.attachments:
            self._dialogs.send(draft.goal, partial(submit_draft, client, draft), sent)
        else:
            background.run(self._target, lambda: created(submit_draft(client, draft)), refused)

    def run_again(self) -> None:
        """Create a task with the same goal, tools and options."""
        task = self._tasks.selected_task
        if task is not None and not status.is_chat(task):
            self.create(draft_from_task(task))

    # Stopping and deleting

    def stop(self) -> None:
        """Stop the selected task, or the current answer of the selected chat."""
        task, client = self._tasks.selected_task, self._server.client
        if task is None:
            return
        task_id = task["id"]
        if status.is_idle(task):
            chat = status.is_chat(task)
            self._notify(
                "The agent is not answering" if chat else f"Task #{task_id} has already ended"
            )
            return
        self._tasks.stopping.add(task_id)  # shown as stopping until it has ended
        self._on_change()
        background.run(
            self._target,
            lambda: messages.TaskStopping(task_id, client.stop_task(task_id).get("message") or ""),
            lambda error: messages.StopFailed(task_id, error),
        )

    def stop_failed(self, task_id: int, error: Exception) -> None:
        """Show that ``task_id`` is not stopping, and report the reason."""
        self._tasks.stopping.discard(task_id)
        self._on_change()
        self._failures.report("stop the task", error)

    def delete(self) -> None:
        """Delete the selected task after a confirmation."""
        task, client = self._tasks.selected_task, self._server.client
        if task is None:
            return
        task_id = task["id"]
        title = "Delete this task?"
        question = "Its events and files are deleted too. This cannot be undone."
        if status.is_chat(task):
            title = "Delete this chat?"
            question = (
                "Its messages, its files and the agent's memory of it are deleted too. "
                "This cannot be undone."
            )

        def confirmed() -> None:
            background.run(
                self._target,
                lambda: _deleted(client, task_id),
                lambda error: messages.OperationFailed("delete the task", error),
            )

        subject = sanitize.line(f"#{task_id}  {status.title(task)}", 200)
        self._dialogs.confirm(title, subject, question, "Delete", confirmed)

    # Saving files

    def save_zip(self, at: str | None = None) -> None:
        """Ask for a local path, then download all files of the selected task.

        Args:
            at: Checkpoint whose files are downloaded; ``None`` for the present files.
        """
        selected, client = self._tasks.selected, self._server.client
        if selected is not None:
            task_id = selected.task_id
            self._dialogs.save(
                sanitize.line(f"All files of task #{task_id}{_at(at)} as a ZIP"),
                Path.cwd() / f"task-{task_id}{f'-{at}' if at else ''}.zip",
                lambda target, overwrite, transfer: client.download_zip(
                    task_id, target, overwrite=overwrite, transfer=transfer, at=at
                ),
                self._saved,
            )

    def save_file(self, path: str, at: str | None = None) -> None:
        """Ask for a local path, then download a file of the selected task.

        Args:
            path: Path in the work_dir.
            at: Checkpoint whose version is downloaded; ``None`` for the present one.
        """
        selected, client = self._tasks.selected, self._server.client
        if selected is not None:
            task_id = selected.task_id
            self._dialogs.save(
                sanitize.line(f"{path} of task #{task_id}{_at(at)}"),
                Path.cwd() / local_name(path),
                lambda target, overwrite, transfer: client.download_file(
                    task_id, path, target, overwrite=overwrite, transfer=transfer, at=at
                ),
                self._saved,
            )

    def _saved(self, path: Path) -> None:
        self._notify(f"Saved {path}")


def _at(checkpoint: str | None) -> str:
    return "" if checkpoint is None else f" at {checkpoint}"


def _deleted(client: BeRayClient, task_id: int) -> messages.TaskDeleted:
    client.delete_task(task_id)
    return messages.TaskDeleted(task_id)
