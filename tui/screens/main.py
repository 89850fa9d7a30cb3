"""The main screen: the tasks, and what the selected one does and has made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import ClassVar

from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import ContentSwitcher, Footer, Static

from beray.client import BeRayClient
from beray.config import Target
from beray.exceptions import APIError, AuthenticationError, InvalidResponseError
from beray.text import one_line
from tui import messages, safe, status
from tui.background import Poller, Successor
from tui.screens.watching import Watching
from tui.state import Connection
from tui.widgets.file_browser import FileBrowser
from tui.widgets.line_view import LineView
from tui.widgets.status_bar import StatusBar
from tui.widgets.task_head import TaskHead
from tui.widgets.task_list import TaskList

_WELCOME = Content.from_markup(
    "[b]No tasks yet[/b]\n\n"
    "A task is a goal in plain words; it is worked on in a folder of its own, and what "
    "happens is shown here as it comes.\n\n"
    "[$text-primary b]n[/]  makes one.   "
    "[$text-primary b]![/] before the goal makes it a shell command:\n\n"
    "[$text-muted]!echo hello > hello.txt; ls -l[/]"
)


class MainScreen(Watching):
    """Holds the board; messages from the background change it, widgets are given from it."""

    CSS_PATH = "main.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new_task", "New"),
        Binding("s", "stop_task", "Stop"),
        Binding("x", "delete_task", "Delete"),
        Binding("e", "show('events')", "Events"),
        Binding("f", "show('files')", "Files"),
        Binding("d", "download", "Save"),
        Binding("z", "download_zip", "ZIP"),
        Binding("r", "refresh_files", "Refresh", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(
        self,
        client: BeRayClient,
        target: Target,
        clock: Callable[[], datetime],
        successor: Successor | None = None,
    ) -> None:
        super().__init__(client, clock)
        self._target = target
        self._successor = successor
        self.renewable = successor is not None
        self._poller: Poller | None = None

    # What is on the screen

    def compose(self) -> ComposeResult:
        yield StatusBar(self._target)
        with ContentSwitcher(initial="loading", id="body"):
            yield Static("Reading the tasks …", id="loading", classes="note", markup=False)
            with Container(id="welcome"):
                yield Static(_WELCOME)
            with Container(id="panes"):
                tasks = TaskList(id="tasks")
                tasks.border_title = "Tasks"
                yield tasks
                with Vertical(id="task"):
                    yield TaskHead()
                    with ContentSwitcher(initial="events", id="detail") as detail:
                        detail.border_title = self.detail_title()
                        yield LineView(id="events")
                        yield FileBrowser(id="files")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self._poller = Poller(self.client, self, successor=self._successor)

    def on_unmount(self) -> None:
        if self._poller is not None:
            self._poller.close()

    def commands(self) -> Iterable[SystemCommand]:
        """What the palette offers here."""
        yield SystemCommand("New task", "Give a goal", self.action_new_task)
        if self.board.watched_task is not None:
            yield SystemCommand("Stop task", "Stop the selected task", self.action_stop_task)
            yield SystemCommand("Delete task", "With its events and files", self.action_delete_task)
            yield SystemCommand("Events", "What the task does", lambda: self.action_show("events"))
            yield SystemCommand("Files", "What the task made", lambda: self.action_show("files"))
            yield SystemCommand("Download ZIP", "All files of the task", self.action_download_zip)
            if self.selected_file is not None:
                yield SystemCommand("Download file", "The selected one", self.action_download)
        yield SystemCommand("Help", "The keys", self.action_help)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        task = self.board.watched_task
        if action == "stop_task":
            # None dims its key, which then comes to ``key_s``.
            return True if task is not None and not status.has_ended(task) else None
        if action in ("delete_task", "show", "download_zip", "refresh_files"):
            return True if task is not None else None
        if action == "download":
            return True if self.selected_file is not None else None
        return True

    def key_s(self) -> None:
        if self.board.watched_task is not None:
            self.action_stop_task()

    def _show_board(self) -> None:
        """Give every widget what the board knows now."""
        board = self.board
        self.query_one(StatusBar).show(board.connection)
        body = self.query_one("#body", ContentSwitcher)
        if not board.loaded:
            loading = self.query_one("#loading", Static)
            words: list[Content | str | tuple[str, str]] = []
            if board.connection is Connection.OFFLINE:
                words = [("The server does not answer\n\n", "bold"), safe.line(board.failure)]
            if board.connection is Connection.REFUSED:
                words = [safe.line(board.failure, style="bold")]
            if words:
                loading.update(
                    Content.assemble(*words, ("\n\nIt is asked again every second.", "dim"))
                )
            loading.set_class(bool(words), "failed")
            return
        empty = not board.tasks
        body.current = "welcome" if empty else "panes"
        tasks = self.query_one(TaskList)
        if not empty and self.focused is None:
            self.set_focus(tasks)
        tasks.show(board.tasks, self.clock())
        running = sum(task["status"] == "RUNNING" for task in board.tasks)
        tasks.border_title = f"Tasks · {len(board.tasks)}" if board.tasks else "Tasks"
        tasks.border_subtitle = f"{running} running" if running else ""
        self.show_watched()

    # The list

    def on_tasks_arrived(self, message: messages.TasksArrived) -> None:
        if self._poller is not None and message.generation == self._poller.generation:
            self.board.arrived(message.tasks)
            self._show_board()

    def on_poll_failed(self, message: messages.PollFailed) -> None:
        error = message.error
        if isinstance(error, AuthenticationError):
            self.ask_to_sign_in(error)
            return
        refused = isinstance(error, (APIError, InvalidResponseError))
        code = f" ({error.status_code})" if isinstance(error, APIError) else ""
        self.board.failed(safe.words(error) + code, refused=refused)
        self._show_board()

    def on_renewed(self, message: messages.Renewed) -> None:
        self.query_one(StatusBar).show_target(message.target)
        self.go_on_with(message.client)

    def tasks_changed(self) -> None:
        """Something here has changed the tasks: show that, and ask the server anew."""
        if self._poller is not None:
            self._poller.refresh()
        self._show_board()

    def on_task_created(self, message: messages.TaskCreated) -> None:
        self.board.created(message.task)
        self.tasks_changed()
        self.query_one(TaskList).select(message.task["id"])
        self._turn_to("events")
        self.watch_task(message.task["id"], settle=False)

    def on_task_ended(self, message: messages.TaskEnded) -> None:
        self.tasks_changed()

    def on_task_list_highlighted(self, message: TaskList.Highlighted) -> None:
        self.watch_task(self.query_one(TaskList).highlighted)

    def on_task_stopping(self, message: messages.TaskStopping) -> None:
        self.notify(one_line(message.words), markup=False)
        self.tasks_changed()

    def on_task_deleted(self, message: messages.TaskDeleted) -> None:
        self.board.deleted(message.task_id)
        self.tasks_changed()
