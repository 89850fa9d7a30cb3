"""Actions on the selected task, with their dialogs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual.screen import Screen

from beray.exceptions import AuthenticationError, TransferCancelled
from beray.sanitize import one_line
from tui import messages, sanitize, status
from tui.io import background
from tui.sanitize import local_name
from tui.state.task_draft import TaskDraft, draft_from_task
from tui.state.tasks import TasksState
from tui.state.user_state import account_of

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.composer.sending import SubmitResult
    from tui.dashboard import Dashboard


class TaskActions(Screen[None]):
    """Base of the main screen with the actions. Their results arrive as messages."""

    def __init__(self, client: BeRayClient) -> None:
        super().__init__()
        self.client = client
        self.task_state = TasksState()
        self.renewable = False
        """True if a token may be rejected because another server has replaced the current one."""

    @property
    def dashboard(self) -> Dashboard:
        """The application."""
        return cast("Dashboard", self.app)

    @property
    def account(self) -> str:
        """Key under which the state of the account is saved."""
        return account_of(self.dashboard.target)

    def session_ended(self, error: Exception) -> bool:
        """Return True if ``error`` requires a new sign-in; if so, notify the app."""
        if not isinstance(error, AuthenticationError) or self.renewable:
            return False
        self.ask_to_sign_in(error)
        return True

    def ask_to_sign_in(self, error: Exception) -> None:
        """Have the app check the session and ask the user to sign in."""
        self.app.post_message(messages.SessionEnded(sanitize.error_text(error)))

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        if not self.session_ended(message.error):
            text = f"Could not {message.action}: {sanitize.error_text(message.error)}"
            self.notify(one_line(text), severity="error", markup=False)

    def on_stop_failed(self, message: messages.StopFailed) -> None:
        message.stop()
        self.task_state.stopping.discard(message.task_id)
        self.tasks_changed()
        self.on_operation_failed(messages.OperationFailed("stop the task", message.error))

    def tasks_changed(self) -> None:
        """Update the task list after a change that was made here."""
        raise NotImplementedError

    def action_new_task(self) -> None:
        self.compose_task()

    def compose_task(self, initial: TaskDraft | None = None, problem: str = "") -> None:
        """Open the composer.

        Args:
            initial: Initial content; by default the saved draft.
            problem: Reason why that content was rejected, or "".
        """
        from tui.composer.screen import ComposerScreen  # imported here: may never be shown

        def entered(order: TaskDraft | None) -> None:
            if order is not None:
                self.send_order(order)

        user_state, account = self.dashboard.user_state, self.account
        self.app.push_screen(ComposerScreen(user_state, account, initial, problem=problem), entered)

    def send_order(self, order: TaskDraft) -> None:
        """Create the task of ``order``, which is saved as a draft until the task exists."""
        user_state, account, client = self.dashboard.user_state, self.account, self.client
        user_state.submitted(account, order)

        from tui.composer.sending import SubmitResult, submit_draft
        from tui.composer.sending_screen import SendingScreen

        def created(sent: SubmitResult) -> messages.TaskCreated:
            user_state.created(account, order)
            return messages.TaskCreated(sent.task)

        def refused(error: Exception) -> messages.OperationFailed:
            user_state.refused(account, order)
            return messages.OperationFailed("create the task (press n to edit the draft)", error)

        def sent(outcome: SubmitResult | Exception | None) -> None:
            if isinstance(outcome, SubmitResult):
                self.post_message(created(outcome))
                if outcome.note:
                    self.notify(one_line(outcome.note), severity="warning", markup=False)
            elif outcome is not None:
                refused(outcome)
                cancelled = isinstance(outcome, TransferCancelled)
                if not self.session_ended(outcome):
                    self.compose_task(problem="" if cancelled else sanitize.error_text(outcome))

        if order.attachments:
            work = partial(submit_draft, client, order)
            self.app.push_screen(SendingScreen(order.goal, work), sent)
        else:
            background.run(self, lambda: created(submit_draft(client, order)), refused)

    def action_stop_task(self) -> None:
        task, client = self.task_state.selected_task, self.client
        if task is not None:
            task_id = task["id"]
            if status.is_idle(task):
                text = f"Task #{task_id} has already ended"
                if status.is_chat(task):
                    text = "The agent is not answering"
                self.notify(text, markup=False)
                return
            self.task_state.stopping.add(task_id)  # shown as stopping until it has ended
            self.tasks_changed()
            background.run(
                self,
                lambda: messages.TaskStopping(
                    task_id, client.stop_task(task_id).get("message") or ""
                ),
                lambda error: messages.StopFailed(task_id, error),
            )

    def action_run_again(self) -> None:
        """Create a task with the same goal, tools and options."""
        task = self.task_state.selected_task
        if task is not None and not status.is_chat(task):
            self.send_order(draft_from_task(task))

    def action_delete_task(self) -> None:
        task = self.task_state.selected_task
        if task is None:
            return
        task_id, client = task["id"], self.client

        def answered(yes: bool | None) -> None:
            if yes:
                background.run(
                    self,
                    lambda: _deleted(client, task_id),
                    lambda error: messages.OperationFailed("delete the task", error),
                )

        subject = sanitize.line(f"#{task_id}  {status.title(task)}", 200)
        from tui.screens.confirm import ConfirmScreen

        title = "Delete this task?"
        question = "Its events and files are deleted too. This cannot be undone."
        if status.is_chat(task):
            title = "Delete this chat?"
            question = (
                "Its messages, its files and the agent's memory of it are deleted too. "
                "This cannot be undone."
            )
        screen = ConfirmScreen(title, subject, question, "Delete")
        self.app.push_screen(screen, answered)

    def action_download_zip(self) -> None:
        watched, client = self.task_state.selected, self.client
        if watched is not None:
            task_id = watched.task_id
            from tui.screens.save import SaveScreen

            screen = SaveScreen(
                sanitize.line(f"All files of task #{task_id} as a ZIP"),
                Path.cwd() / f"task-{task_id}.zip",
                lambda target, overwrite, transfer: client.download_zip(
                    task_id, target, overwrite=overwrite, transfer=transfer
                ),
            )
            self.app.push_screen(screen, self._saved)

    def save_file(self, path: str) -> None:
        """Ask for a local path, then download ``path`` from the selected task's work_dir."""
        watched, client = self.task_state.selected, self.client
        if watched is not None:
            task_id = watched.task_id
            from tui.screens.save import SaveScreen

            screen = SaveScreen(
                sanitize.line(f"{path} of task #{task_id}"),
                Path.cwd() / local_name(path),
                lambda target, overwrite, transfer: client.download_file(
                    task_id, path, target, overwrite=overwrite, transfer=transfer
                ),
            )
            self.app.push_screen(screen, self._saved)

    def _saved(self, path: Path | None) -> None:
        if path is not None:
            self.notify(one_line(f"Saved {path}"), markup=False)

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen())


def _deleted(client: BeRayClient, task_id: int) -> messages.TaskDeleted:
    client.delete_task(task_id)
    return messages.TaskDeleted(task_id)
