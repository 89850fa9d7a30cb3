"""Header of the selected task: goal, status, facts and stream state in two lines."""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from beray.schema import Task, TaskOrigin
from tui import sanitize, status
from tui.state.selected_task import SelectedTask
from tui.widgets.drawing import update_label


class TaskHead(Vertical):
    """Header of the selected task."""

    def compose(self) -> ComposeResult:
        yield Static(id="goal", markup=False)
        with Horizontal():
            yield Static(id="task-status", markup=False)
            yield Static(id="task-facts", markup=False)
            yield Static(id="stream", markup=False)

    def show(self, task: Task, watched: SelectedTask, now: datetime, *, stopping: bool) -> None:
        """Show ``task`` and the state of its stream."""
        look = status.task_display(task, stopping=stopping)
        text, name = watched.stream_text(now)
        word = Content(f"{look.glyph} {look.word}")
        update_label(self.query_one("#goal", Static), sanitize.line(status.title(task), 1000))
        update_label(self.query_one("#task-status", Static), word, look.style)
        update_label(self.query_one("#task-facts", Static), _facts(task, now))
        update_label(self.query_one("#stream", Static), Content(text), name)


def _facts(task: Task, now: datetime) -> Content:
    facts = [f"#{task['id']}"]
    if origin := status.origin_text(task):
        # The server states it if the runner keeps no conversation.
        is_partial = (task.get("from") or TaskOrigin(task=0)).get("conversation") is False
        facts.append(f"from #{origin}{', files only' if is_partial else ''}")
    if task.get("reason"):
        facts.append(str(task["reason"]))
    time = status.elapsed(task, now)
    if time:
        facts.append(time)
    runner, model = task.get("runner"), task.get("model")
    if used := status.usage_text(task):
        facts.append(used)
    if runner:
        facts.append(str(model or runner))
    if tags := task.get("tags"):
        facts.append(", ".join(map(str, tags)))
    return sanitize.line("  ·  ".join(facts), 200)
