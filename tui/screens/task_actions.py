"""What can be done to the selected task, and the dialogs that ask before it is done."""

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
from tui.state.tasks import Board
from tui.state.user_state import account_of

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.composer.sending import SubmitResult
    from tui.dashboard import Dashboard


class TaskActions(Screen[None]):
    """The actions of the main screen. What comes of them arrives as messages."""

    def __init__(self, client: BeRayClient) -> None:
        super().__init__()
        self.client = client
        self.board = Board()
        self.renewable = False
        """Whether a token may be refused because another server has taken the place of ours."""

    @property
    def dashboard(self) -> Dashboard:
        """The application, which remembers and knows the terminal."""
        return cast("Dashboard", self.app)

    @property
    def account(self) -> str:
        """By which name what belongs to the account is remembered."""
        return account_of(self.dashboard.target)

    def session_ended(self, error: Exception) -> bool:
        """Whether ``error`` means that the user has to sign in again; if so, tell the app."""
        if not isinstance(error, AuthenticationError) or self.renewable:
            return False
        self.ask_to_sign_in(error)
        return True

    def ask_to_sign_in(self, error: Exception) -> None:
        self.app.post_message(messages.SessionEnded(sanitize.words(error)))

    def on_failed(self, message: messages.Failed) -> None:
        message.stop()
        if not self.session_ended(message.error):
            words = f"Could not {message.what}: {sanitize.words(message.error)}"
            self.notify(one_line(words), severity="error", markup=False)

    def on_stop_failed(self, message: messages.StopFailed) -> None:
        message.stop()
        self.board.stopping.discard(message.task_id)
        self.tasks_changed()
        self.on_failed(messages.Failed("stop the task", message.error))

    def tasks_changed(self) -> None:
        """Something here has changed the tasks."""
        raise NotImplementedError

    def action_new_task(self) -> None:
        self.compose_task()

    def compose_task(self, initial: TaskDraft | None = None, refusal: str = "") -> None:
        """Ask for a task, with ``initial`` as a beginning, or what was begun before.

        Args:
            refusal: why that was not taken the last time.
        """

        from tui.composer.screen import ComposerScreen  # screens that may never be shown

        def entered(order: TaskDraft | None) -> None:
            if order is not None:
                self.send_order(order)

        memory, account = self.dashboard.memory, self.account
        self.app.push_screen(ComposerScreen(memory, account, initial, problem=refusal), entered)

    def send_order(self, order: TaskDraft) -> None:
        """Create the task of ``order``; until there is one, the order stays a draft."""
        memory, account, client = self.dashboard.memory, self.account, self.client
        memory.submitted(account, order)

        from tui.composer.sending import SubmitResult, submit_draft
        from tui.composer.sending_screen import SendingScreen

        def created(sent: SubmitResult) -> messages.TaskCreated:
            memory.created(account, order)
            return messages.TaskCreated(sent.task)

        def refused(error: Exception) -> messages.Failed:
            memory.refused(account, order)
            return messages.Failed("create the task, which n brings back", error)

        def sent(outcome: SubmitResult | Exception | None) -> None:
            if isinstance(outcome, SubmitResult):
                self.post_message(created(outcome))
                if outcome.note:
                    self.notify(one_line(outcome.note), severity="warning", markup=False)
            elif outcome is not None:
                refused(outcome)
                cancelled = isinstance(outcome, TransferCancelled)
                if not self.session_ended(outcome):
                    self.compose_task(refusal="" if cancelled else sanitize.words(outcome))

        if order.attachments:
            work = partial(submit_draft, client, order)
            self.app.push_screen(SendingScreen(order.goal, work), sent)
        else:
            background.run(self, lambda: created(submit_draft(client, order)), refused)

    def action_stop_task(self) -> None:
        task, client = self.board.watched_task, self.client
        if task is not None:
            task_id = task["id"]
            if status.at_rest(task):
                words = f"Task #{task_id} has ended already"
                if status.is_chat(task):
                    words = "No answer is under way"
                self.notify(words, markup=False)
                return
            self.board.stopping.add(task_id)  # shown from here on, until it has ended
            self.tasks_changed()
            background.run(
                self,
                lambda: messages.TaskStopping(
                    task_id, client.stop_task(task_id).get("message") or ""
                ),
                lambda error: messages.StopFailed(task_id, error),
            )

    def action_run_again(self) -> None:
        """The same goal with the same tools, as a new task."""
        task = self.board.watched_task
        if task is not None and not status.is_chat(task):
            self.send_order(draft_from_task(task))

    def action_delete_task(self) -> None:
        task = self.board.watched_task
        if task is None:
            return
        task_id, client = task["id"], self.client

        def answered(yes: bool | None) -> None:
            if yes:
                background.run(
                    self,
                    lambda: _deleted(client, task_id),
                    lambda error: messages.Failed("delete the task", error),
                )

        subject = sanitize.line(f"#{task_id}  {status.title(task)}", 200)
        from tui.screens.confirm import ConfirmScreen

        title = "Delete this task?"
        question = "Its events and its files are deleted with it. This cannot be undone."
        if status.is_chat(task):
            title = "Delete this chat?"
            question = (
                "All that was said in it is lost, its files and what the agent remembers of it "
                "as well. This cannot be undone."
            )
        screen = ConfirmScreen(title, subject, question, "Delete")
        self.app.push_screen(screen, answered)

    def action_download_zip(self) -> None:
        watched, client = self.board.watched, self.client
        if watched is not None:
            task_id = watched.task_id
            from tui.screens.save import SaveScreen

            screen = SaveScreen(
                sanitize.line(f"All files of task #{task_id}, as a ZIP"),
                Path.cwd() / f"task-{task_id}.zip",
                lambda target, overwrite, transfer: client.download_zip(
                    task_id, target, overwrite=overwrite, transfer=transfer
                ),
            )
            self.app.push_screen(screen, self._saved)

    def save_file(self, path: str) -> None:
        """Ask where to, then download ``path`` of the selected task's work_dir."""
        watched, client = self.board.watched, self.client
        if watched is not None:
            task_id = watched.task_id
            from tui.screens.save import SaveScreen

            screen = SaveScreen(
                sanitize.line(f"{path}, of task #{task_id}"),
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
