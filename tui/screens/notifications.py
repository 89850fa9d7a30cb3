"""What has been seen of the tasks, and what is told of them outside of the dashboard."""

from __future__ import annotations

from collections.abc import Iterable

from beray.schema import Task
from tui import status, terminal
from tui.screens.task_detail import Watching
from tui.state import inbox


class Noticing(Watching):
    """The part of the main screen that keeps count of what is new."""

    def recall_seen(self) -> None:
        """Take up what was seen before this start. What had ended before the first is old."""
        seen, tasks = self.dashboard.memory.seen(self.account), self.board.tasks
        # One of which more was seen than there is belongs to a server that began anew.
        self.board.seen = {
            number: seq
            for number, seq in seen.items()
            if number in tasks and seq <= tasks[number].get("last_seq", seq)
        }
        if not seen:
            for task in self.board.tasks.values():
                if status.at_rest(task):
                    self._seen(task["id"], self.board.see(task["id"]))

    def see_watched(self) -> None:
        """The selected task is being looked at, where the dashboard is."""
        watched = self.board.watched
        if watched is not None and self.app.screen is self and self.app.app_focus:
            self._seen(watched.task_id, self.board.see(watched.task_id))

    def _seen(self, task_id: int, seq: int | None) -> None:
        if seq is not None:
            self.dashboard.memory.see(self.account, task_id, seq)

    def tell_news(self, before: Iterable[Task], stopping: Iterable[int]) -> None:
        """Say which of the tasks of ``before`` have finished, failed or wait by now."""
        asked = set(stopping) - self.board.stopping
        watched = self.board.watched.task_id if self.board.watched else None
        for task_id in sorted(asked & self.board.tasks.keys()):
            task = self.board.tasks[task_id]
            word = "answer ended" if status.is_chat(task) else status.look(task).word
            self.dashboard.say(f"#{task_id} {word}")
        elsewhere = self.app.screen is not self
        tasks = list(before)
        for words in terminal.news(tasks, list(self.board.tasks.values())):
            self.dashboard.terminal.tell(words)
        others = [task for task in tasks if elsewhere or task["id"] != watched]
        for words in terminal.news(others, list(self.board.tasks.values())):
            self.dashboard.say(words)

    def show_standing(self) -> None:
        """Let the terminal's title and progress say how the tasks stand."""
        tasks = self.board.tasks.values()
        self.dashboard.terminal.show(
            running=sum(task["status"] == "RUNNING" for task in tasks),
            waiting=[
                task["id"]
                for task in tasks
                if task["status"] == "INPUT_REQUIRED" and not status.is_chat(task)
            ],
            failed_unread=sum(
                task["status"] == "FAILED" and inbox.unread(task, self.board.seen) > 0
                for task in tasks
            ),
        )
