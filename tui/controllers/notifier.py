"""Unseen events and notifications about tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from beray.schema import Task
from tui import status
from tui.controllers.interfaces import ShowNotification
from tui.state import inbox
from tui.state.current_server import CurrentServer
from tui.state.tasks import TasksState
from tui.state.user_state import UserState
from tui.terminal import Terminal, status_notifications


class Notifier:
    """Tracks the seen events, and reports changes of status on the screen and to the terminal.

    Args:
        tasks: The tasks.
        server: Server of the tasks.
        user_state: Storage of the seen events.
        terminal: Title, progress and notifications of the terminal.
        notify: Shows a notification on the screen.
        is_on_top: Returns True if no other screen covers the tasks.
    """

    def __init__(
        self,
        *,
        tasks: TasksState,
        server: CurrentServer,
        user_state: UserState,
        terminal: Terminal,
        notify: ShowNotification,
        is_on_top: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._server = server
        self._user_state = user_state
        self._terminal = terminal
        self._notify = notify
        self._is_on_top = is_on_top

    def recall_seen(self) -> None:
        """Restore the seen events. At the first start, tasks that have ended count as seen."""
        seen, tasks = self._user_state.seen(self._server.account), self._tasks.tasks
        # A higher seq than the task's last one comes from a server that was reset.
        self._tasks.seen = {
            number: seq
            for number, seq in seen.items()
            if number in tasks and seq <= tasks[number].get("last_seq", seq)
        }
        if not seen:
            for task in tasks.values():
                if status.is_idle(task):
                    self._mark_seen(task["id"])

    def see_selected(self) -> None:
        """Mark the events of the selected task as seen."""
        if self._tasks.selected is not None:
            self._mark_seen(self._tasks.selected.task_id)

    def _mark_seen(self, task_id: int) -> None:
        seq = self._tasks.mark_seen(task_id)
        if seq is not None:
            self._user_state.mark_seen(self._server.account, task_id, seq)

    def announce_changes(self, before: Sequence[Task], stopping: Iterable[int]) -> None:
        """Notify the user of tasks that have stopped, completed, failed or need input.

        Args:
            before: The tasks before the change.
            stopping: Ids of the tasks that were stopping before the change.
        """
        tasks = self._tasks.tasks
        for task_id in sorted((set(stopping) - self._tasks.stopping) & tasks.keys()):
            task = tasks[task_id]
            word = "answer ended" if status.is_chat(task) else status.task_display(task).word
            self._notify(f"#{task_id} {word}")
        after = list(tasks.values())
        for text in status_notifications(before, after):
            self._terminal.notify(text)
        selected = self._tasks.selected.task_id if self._tasks.selected else None
        covered = not self._is_on_top()
        others = [task for task in before if covered or task["id"] != selected]
        for text in status_notifications(others, after):
            self._notify(text)

    def show_summary(self) -> None:
        """Update title and progress of the terminal."""
        tasks = self._tasks.tasks.values()
        self._terminal.show(
            running=sum(task["status"] == "RUNNING" for task in tasks),
            waiting=[
                task["id"]
                for task in tasks
                if task["status"] == "INPUT_REQUIRED" and not status.is_chat(task)
            ],
            failed_unread=sum(
                task["status"] == "FAILED" and inbox.unread(task, self._tasks.seen) > 0
                for task in tasks
            ),
        )
