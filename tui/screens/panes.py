"""Panes of the main screen: the task list and the selected task."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import ContentSwitcher, Static

from tui.log.pane import LogPane
from tui.widgets.inbox import Inbox
from tui.widgets.task_head import TaskHead

_WELCOME = Content.from_markup(
    "[b]No tasks yet[/b]\n\n"
    "A task is a goal in plain language. The agent works on it in a folder of its own, "
    "and its events are shown here as they happen.\n\n"
    "Press [$text-primary b]n[/] to create a task. "
    "A goal that starts with [$text-primary b]![/] is a shell command:\n\n"
    "[$text-muted]!echo hello > hello.txt; ls -l[/]"
)


class Panes(Container):
    """The two panes, next to each other or stacked."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.inbox = Inbox(id="tasks")
        self.head = TaskHead()
        self.events = LogPane(id="events")
        self.detail = ContentSwitcher(self.events, initial="events", id="detail")
        self.of_task = Vertical(self.head, self.detail, id="task")

    @property
    def complete(self) -> bool:
        """True if all panes are mounted; False if the app closed meanwhile."""
        return self.is_attached and all(
            pane.children for pane in (self.inbox, self.head, self.events)
        )

    def compose(self) -> ComposeResult:
        yield self.inbox
        yield self.of_task


class Welcome(Container):
    """Explanation that is shown while there are no tasks."""

    def compose(self) -> ComposeResult:
        yield Static(_WELCOME)
