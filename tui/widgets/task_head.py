"""What a task is: its goal, status, times and the state of its stream, in two lines."""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from beray.schema import Task
from tui import safe, status
from tui.watched import WatchedTask


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
        self.query_one("#goal", Static).update(safe.line(task["goal"], 1000))
        word = self.query_one("#task-status", Static)
        word.update(Content(f"{look.glyph} {look.word}"))
        word.set_classes(look.style)
        self.query_one("#task-facts", Static).update(_facts(task, now))
        stream = self.query_one("#stream", Static)
        words, name = watched.stream_words(now)
        stream.update(Content(words))
        stream.set_classes(name)


def _facts(task: Task, now: datetime) -> Content:
    facts = [f"#{task['id']}"]
    if task.get("reason"):
        facts.append(str(task["reason"]))
    time = status.elapsed(task, now)
    if time:
        facts.append(time)
    return safe.line("  ·  ".join(facts), 200)
