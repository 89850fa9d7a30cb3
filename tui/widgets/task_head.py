"""What a task is: its goal, status, times and the state of its stream, in two lines."""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from beray.schema import Task
from tui import sanitize, status
from tui.state.selected_task import WatchedTask
from tui.widgets.words import tell


class TaskHead(Vertical):
    """Is given a task and what is known of its stream."""

    def compose(self) -> ComposeResult:
        yield Static(id="goal", markup=False)
        with Horizontal():
            yield Static(id="task-status", markup=False)
            yield Static(id="task-facts", markup=False)
            yield Static(id="stream", markup=False)

    def show(self, task: Task, watched: WatchedTask, now: datetime, *, stopping: bool) -> None:
        look = status.look(task, stopping=stopping)
        words, name = watched.stream_words(now)
        word = Content(f"{look.glyph} {look.word}")
        tell(self.query_one("#goal", Static), sanitize.line(status.title(task), 1000))
        tell(self.query_one("#task-status", Static), word, look.style)
        tell(self.query_one("#task-facts", Static), _facts(task, now))
        tell(self.query_one("#stream", Static), Content(words), name)


def _facts(task: Task, now: datetime) -> Content:
    facts = [f"#{task['id']}"]
    if task.get("reason"):
        facts.append(str(task["reason"]))
    time = status.elapsed(task, now)
    if time:
        facts.append(time)
    runner, model = task.get("runner"), task.get("model")
    if used := status.used(task):
        facts.append(used)
    if runner:
        facts.append(str(model or runner))
    if tags := task.get("tags"):
        facts.append(", ".join(map(str, tags)))
    return sanitize.line("  ·  ".join(facts), 200)
