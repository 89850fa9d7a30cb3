"""What can be done to the selected task, and the dialogs that ask before it is done."""

from __future__ import annotations

from pathlib import Path

from textual.screen import Screen

from beray.client import BeRayClient
from beray.exceptions import AuthenticationError
from beray.text import one_line
from tui import background, messages, safe, status
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen
from tui.screens.new_task import NewTaskScreen
from tui.screens.save import SaveScreen
from tui.state import Board

_NOT_IN_NAMES = '\\/:*?"<>|'


class TaskActions(Screen[None]):
    """The actions of the main screen. What comes of them arrives as messages."""

    def __init__(self, client: BeRayClient) -> None:
        super().__init__()
        self.client = client
        self.board = Board()
        self.renewable = False
        """Whether a token may be refused because another server has taken the place of ours."""

    def session_ended(self, error: Exception) -> bool:
        """Whether ``error`` means that the user has to sign in again; if so, tell the app."""
        if not isinstance(error, AuthenticationError) or self.renewable:
            return False
        self.ask_to_sign_in(error)
        return True

    def ask_to_sign_in(self, error: Exception) -> None:
        self.app.post_message(messages.SessionEnded(safe.words(error)))

    def on_failed(self, message: messages.Failed) -> None:
        message.stop()
        if not self.session_ended(message.error):
            words = f"Could not {message.what}: {safe.words(message.error)}"
            self.notify(one_line(words), severity="error", markup=False)

    def action_new_task(self) -> None:
        def entered(goal: str | None) -> None:
            if goal is not None:
                client = self.client
                background.run(
                    self,
                    lambda: messages.TaskCreated(client.create_task(goal)),
                    lambda error: messages.Failed("create the task", error),
                )

        self.app.push_screen(NewTaskScreen(), entered)

    def action_stop_task(self) -> None:
        task, client = self.board.watched_task, self.client
        if task is not None:
            task_id = task["id"]
            if status.has_ended(task):
                self.notify(f"Task #{task_id} has ended already", markup=False)
                return
            background.run(
                self,
                lambda: messages.TaskStopping(task_id, client.stop_task(task_id)["message"]),
                lambda error: messages.Failed("stop the task", error),
            )

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

        subject = safe.line(f"#{task_id}  {task['goal']}", 200)
        question = "Its events and its files are deleted with it. This cannot be undone."
        screen = ConfirmScreen("Delete this task?", subject, question, "Delete")
        self.app.push_screen(screen, answered)

    def action_download_zip(self) -> None:
        watched, client = self.board.watched, self.client
        if watched is not None:
            task_id = watched.task_id
            screen = SaveScreen(
                safe.line(f"All files of task #{task_id}, as a ZIP"),
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
            screen = SaveScreen(
                safe.line(f"{path}, of task #{task_id}"),
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
        self.app.push_screen(HelpScreen())


def _deleted(client: BeRayClient, task_id: int) -> messages.TaskDeleted:
    client.delete_task(task_id)
    return messages.TaskDeleted(task_id)


def local_name(path: str) -> str:
    """A name to suggest for a file of the server's: printable, without a folder."""
    name = one_line(path.rpartition("/")[2], 120)
    name = "".join("_" if letter in _NOT_IN_NAMES else letter for letter in name)
    return name if name.strip(". ") else "download"
