"""Panes of the main screen: the task list and the selected task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import ContentSwitcher, Static

from beray.sanitize import one_line
from tui.log.pane import LogPane
from tui.widgets.inbox import Inbox
from tui.widgets.task_head import TaskHead

if TYPE_CHECKING:
    from tui.widgets.file_browser import FileBrowser

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
        self._files: FileBrowser | None = None
        self.detail = ContentSwitcher(self.events, initial="events", id="detail")
        self.of_task = Vertical(self.head, self.detail, id="task")
        self.is_beside = False
        """True if the files are shown beside the log."""
        self._position = ""
        self._files_at: str | None = None
        self.detail.border_title = self._detail_title()

    @property
    def complete(self) -> bool:
        """True if all panes are mounted; False if the app closed meanwhile."""
        return self.is_attached and all(
            pane.children for pane in (self.inbox, self.head, self.events)
        )

    def compose(self) -> ComposeResult:
        yield self.inbox
        yield self.of_task

    @property
    def shown(self) -> str:
        """Visible part of the selected task: "events" or "files"."""
        return self.detail.current or "events"

    @property
    def shows_files(self) -> bool:
        """True if the files are visible."""
        return self.shown == "files" or self.is_beside

    def turn_to(self, what: str) -> None:
        """Show the "events" or the "files" of the selected task."""
        self.detail.current = what
        self.detail.border_title = self._detail_title()
        self._show_position()
        self._arrange()

    def set_beside(self, *, beside: bool) -> None:
        """Show the tree of the files beside the log, or the log alone."""
        self.is_beside = beside
        self._arrange()

    def _arrange(self) -> None:
        """Show both panes if the files are beside the log; the tree has no preview there."""
        if self._files is None:
            return
        both = self.is_beside and self.shown == "events"
        self.detail.set_class(both, "beside")
        self._files.display = both or self.shown == "files"
        self._files.set_preview(shown=not both)

    def show_files_at(self, checkpoint: str | None) -> None:
        """Show the checkpoint whose files are shown; ``None`` for the present files."""
        self._files_at = one_line(checkpoint, 20) if checkpoint is not None else None
        self.detail.border_title = self._detail_title()

    def show_position(self, text: str) -> None:
        """Show the position in the log below the log."""
        self._position = text
        self._show_position()

    async def add_files(self) -> FileBrowser:
        """Add the files, which are not needed before they are first shown."""
        from tui.widgets.file_browser import FileBrowser

        self._files = files = FileBrowser(id="files")
        await self.detail.add_content(files)
        return files

    def _show_position(self) -> None:
        self.detail.border_subtitle = self._position if self.shown == "events" else ""

    def _detail_title(self) -> Content:
        """Return the names of both panes; a click shows the other one."""
        events, files = ("b", "dim") if self.shown == "events" else ("dim", "b")
        at = f" at {self._files_at}" if self._files_at and self.shows_files else ""
        return Content.from_markup(
            f"[{events} @click=screen.show('events')]Events[/]"
            f" [dim]│[/] [{files} @click=screen.show('files')]Files$at[/]",
            at=at,
        )


class Welcome(Container):
    """Explanation that is shown while there are no tasks."""

    def compose(self) -> ComposeResult:
        yield Static(_WELCOME)
