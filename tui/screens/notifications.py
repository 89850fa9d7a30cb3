"""Unseen events and notifications about tasks."""

from __future__ import annotations

from collections.abc import Iterable

from beray.schema import Task
from tui import status, terminal
from tui.screens.task_detail import TaskDetail
from tui.state import inbox


class TaskNotifications(TaskDetail):
    """Part of the main screen that tracks seen events and reports changes of status."""

    def recall_seen(self) -> None:
        """Restore the seen events. At the first start, tasks that have ended count as seen."""
        seen, tasks = self.dashboard.user_state.seen(self.account), self.task_state.tasks
        # A higher seq than the task's last one comes from a server that was reset.
        self.task_state.seen = {
            number: seq
            for number, seq in seen.items()
            if number in tasks and seq <= tasks[number].get("last_seq", seq)
        }
        if not seen:
            for task in self.task_state.tasks.values():
                if status.is_idle(task):
                    self._seen(task["id"], self.task_state.mark_seen(task["id"]))

    def see_watched(self) -> None:
        """Mark the events of the selected task as seen if the screen is visible and focused."""
        watched = self.task_state.selected
        if watched is not None and self.app.screen is self and self.app.app_focus:
            self._seen(watched.task_id, self.task_state.mark_seen(watched.task_id))

    def _seen(self, task_id: int, seq: int | None) -> None:
        if seq is not None:
            self.dashboard.user_state.mark_seen(self.account, task_id, seq)

    def announce_changes(self, before: Iterable[Task], stopping: Iterable[int]) -> None:
        """Notify the user of tasks that have stopped, completed, failed or need input."""
        asked = set(stopping) - self.task_state.stopping
        watched = self.task_state.selected.task_id if self.task_state.selected else None
        for task_id in sorted(asked & self.task_state.tasks.keys()):
            task = self.task_state.tasks[task_id]
            word = "answer ended" if status.is_chat(task) else status.task_display(task).word
            self.dashboard.show_notification(f"#{task_id} {word}")
        elsewhere = self.app.screen is not self
        tasks = list(before)
        for text in terminal.status_notifications(tasks, list(self.task_state.tasks.values())):
            self.dashboard.terminal.notify(text)
        others = [task for task in tasks if elsewhere or task["id"] != watched]
        for text in terminal.status_notifications(others, list(self.task_state.tasks.values())):
            self.dashboard.show_notification(text)

    def show_task_summary(self) -> None:
        """Update title and progress of the terminal."""
        tasks = self.task_state.tasks.values()
        self.dashboard.terminal.show(
            running=sum(task["status"] == "RUNNING" for task in tasks),
            waiting=[
                task["id"]
                for task in tasks
                if task["status"] == "INPUT_REQUIRED" and not status.is_chat(task)
            ],
            failed_unread=sum(
                task["status"] == "FAILED" and inbox.unread(task, self.task_state.seen) > 0
                for task in tasks
            ),
        )
