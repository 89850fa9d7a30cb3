"""What the main screen shows once it knows the tasks: the inbox, and the selected task."""

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
    "A task is a goal in plain words; it is worked on in a folder of its own, and what "
    "happens is shown here as it comes.\n\n"
    "[$text-primary b]n[/]  makes one.   "
    "[$text-primary b]![/] before the goal makes it a shell command:\n\n"
    "[$text-muted]!echo hello > hello.txt; ls -l[/]"
)


class Panes(Container):
    """The two panes, side by side or one below the other."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.inbox = Inbox(id="tasks")
        self.head = TaskHead()
        self.events = LogPane(id="events")
        self.detail = ContentSwitcher(self.events, initial="events", id="detail")
        self.of_task = Vertical(self.head, self.detail, id="task")

    @property
    def complete(self) -> bool:
        """Whether all is there; not so where the app is left while they are mounted."""
        return self.is_attached and all(
            pane.children for pane in (self.inbox, self.head, self.events)
        )

    def compose(self) -> ComposeResult:
        yield self.inbox
        yield self.of_task


class Welcome(Container):
    """What there is to say where there are no tasks."""

    def compose(self) -> ComposeResult:
        yield Static(_WELCOME)
