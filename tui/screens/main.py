"""Main screen: the task list, and the log and files of the selected task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import ContentSwitcher, Static

from beray.config import Target
from beray.exceptions import APIError, AuthenticationError, InvalidResponseError
from beray.schema import Task
from tui import messages, sanitize, status
from tui.io.task_feed_reader import Successor, TaskFeedReader
from tui.screens.chat import ChatActions
from tui.state.tasks import ConnectionState
from tui.widgets.key_footer import KeyFooter
from tui.widgets.status_bar import StatusBar

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.widgets.inbox import Inbox

_TICK_SECONDS: Final = 1.0
_FOOTER_SECONDS: Final = 0.3
"""Maximum time to wait until the footer is shown."""
_PANES_STYLESHEET: Final = Path(__file__).with_name("panes.tcss")


class MainScreen(ChatActions):
    """Main screen. Messages of background threads update ``task_state``, and widgets show it."""

    AUTO_FOCUS = ""
    # The most important keys for new users come first: a narrow footer is cut off.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "message", "Message", tooltip="Write to the selected chat"),
        Binding("n", "new_task", "New", tooltip="Create a task, with files if needed"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys and symbols"),
        Binding("q", "app.quit", "Quit", tooltip="Tasks keep running on the server"),
        Binding("e", "show('events')", "Events", tooltip="Show the task's log"),
        Binding("f", "show('files')", "Files", tooltip="Show the task's files"),
        Binding("s", "stop_task", "Stop", tooltip="Stop the selected task"),
        Binding("x", "delete_task", "Delete", tooltip="Delete the task, its events and files"),
        Binding("r", "run_again", "Again", tooltip="The same goal as a new task"),
        Binding("d", "download", "Save", tooltip="Download the selected file"),
        Binding("z", "download_zip", "ZIP", tooltip="Download all files of the task"),
        Binding("c", "new_chat", "Chat", show=False, tooltip="Talk with the agent in a new chat"),
        Binding("P", "app.prefabs", "Prefabs", show=False, tooltip="Run functions with files"),
        Binding("f5", "refresh_files", "Read the files again", show=False),
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
        self._board_reader: TaskFeedReader | None = None
        self._shown_tasks: list[Task] = []

    # Composition

    def compose(self) -> ComposeResult:
        yield StatusBar(self._target)
        with ContentSwitcher(initial="loading", id="body"):
            yield Static("Loading tasks …", id="loading", classes="note", markup=False)
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.set_interval(_TICK_SECONDS, self._tick)
        # The footer is not rendered while the terminal does not have the focus.
        self.set_timer(_FOOTER_SECONDS, self._begin)

    def on_key_footer_shown(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Start the task feed; its imports would delay the first frame."""
        if self._board_reader is None:
            self._read_board(None)

    async def _load_panes(self) -> bool:
        """Create the panes, which would delay the first frame.

        Returns:
            Whether the panes exist; False if the app is closing.
        """
        if self._panes is None:
            from tui.screens.panes import Panes, Welcome

            sheet = self.app.stylesheet
            if not sheet.has_source(str(_PANES_STYLESHEET)):
                sheet.read(_PANES_STYLESHEET)
                sheet.parse()
            welcome, panes = Welcome(id="welcome"), Panes(id="panes")
            welcome.display = panes.display = False
            await self.query_one("#body").mount(welcome, panes)
            if not panes.complete:
                return False
            panes.detail.border_title = self.detail_title()
            self._panes = panes
            self.dashboard.on_ready()
        return True

    def _read_board(self, last_event_id: str | None) -> None:
        self._board_reader = TaskFeedReader(
            self.client, self, last_event_id=last_event_id, successor=self._successor
        )

    def on_unmount(self) -> None:
        if self._board_reader is not None:
            self._board_reader.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        task = self.task_state.selected_task
        if action == "stop_task":
            # None dims the key, which is then handled by ``key_s``.
            if task is None or status.is_idle(task) or task["id"] in self.task_state.stopping:
                return None
            return True
        if action == "message":
            return self.selected_chat is not None
        if action == "run_again":
            return True if task is not None and not status.is_chat(task) else None
        if action in ("delete_task", "show", "download_zip", "refresh_files"):
            return True if task is not None else None
        if action == "download":
            return True if self.selected_file is not None else None
        return True

    def key_s(self) -> None:
        if self.task_state.selected_task is not None:
            self.action_stop_task()

    # Task list

    @property
    def _inbox(self) -> Inbox:
        return self.panes.inbox

    def filter_tasks(self) -> None:
        """Focus the filter of the task list."""
        if self._panes is not None:
            self._inbox.action_filter()

    async def on_updates_waiting(self) -> None:
        if self._board_reader is not None and await self._load_panes():
            before, stopping = list(self.task_state.tasks.values()), set(self.task_state.stopping)
            was_loaded = self.task_state.loaded
            if self.task_state.apply(self._board_reader.take()):
                if was_loaded:
                    self.announce_changes(before, stopping)
                else:
                    self.recall_seen()
                self._sort()
            else:
                self._shown_tasks = [
                    self.task_state.tasks[task["id"]] for task in self._shown_tasks
                ]
            self._show_board()

    def on_task_feed_connected(self) -> None:
        if self.task_state.loaded:
            self.task_state.set_online()
            self._show_board()

    def on_task_feed_failed(self, message: messages.TaskFeedFailed) -> None:
        error = message.error
        if isinstance(error, AuthenticationError):
            self.ask_to_sign_in(error)
            return
        refused = isinstance(error, (APIError, InvalidResponseError))
        code = f" ({error.status_code})" if isinstance(error, APIError) else ""
        retry_at = self.clock() + timedelta(seconds=message.retry_in)
        self.task_state.failed(sanitize.error_text(error) + code, retry_at, refused=refused)
        self._show_board()

    def on_client_replaced(self, message: messages.ClientReplaced) -> None:
        self.query_one(StatusBar).show_target(message.target)
        self.use_client(message.client)

    def use_client(self, client: BeRayClient) -> None:
        """Use ``client`` from now on; the task feed resumes after its last update."""
        super().use_client(client)
        reader = self._board_reader
        if reader is not None and reader.client is not client:
            reader.close()
            self._read_board(reader.last_event_id)

    def tasks_changed(self) -> None:
        """Show a change that was made here, and poll a server that has no task feed."""
        if self._board_reader is not None:
            self._board_reader.refresh()
        self._sort()
        self._show_board()

    def _sort(self) -> None:
        self.task_state.sort(self.clock())
        self._shown_tasks = self.task_state.shown

    def on_inbox_filtered(self, message: Inbox.Filtered) -> None:
        self.task_state.query = message.query
        self._shown_tasks = self.task_state.shown
        self._show_board()

    def _tick(self) -> None:
        """Update the displayed times, and mark the events on screen as seen."""
        if self.app.screen is self:
            self._show_board()

    def _show_board(self) -> None:
        """Update all widgets from ``task_state``."""
        task_state = self.task_state
        self.query_one(StatusBar).show(task_state.connection, self._retry_in())
        if not task_state.loaded:
            self._show_loading()
            return
        empty = not task_state.tasks
        self.query_one("#body", ContentSwitcher).current = "welcome" if empty else "panes"
        if not empty and self.focused is None and self.app.app_focus:
            self.set_focus(self._inbox.tasks)
        self.see_watched()
        self._inbox.show(
            self._shown_tasks,
            len(task_state.tasks),
            self.clock(),
            task_state.unread,
            task_state.stopping,
        )
        self.show_task_summary()
        self.show_selected()

    def _retry_in(self) -> int | None:
        retry_at = self.task_state.retry_at
        return None if retry_at is None else ceil((retry_at - self.clock()).total_seconds())

    def _show_loading(self) -> None:
        loading = self.query_one("#loading", Static)
        text: list[Content | str | tuple[str, str]] = []
        if self.task_state.connection is ConnectionState.OFFLINE:
            text = [("Cannot reach the server\n\n", "bold"), sanitize.line(self.task_state.failure)]
        if self.task_state.connection is ConnectionState.REFUSED:
            text = [sanitize.line(self.task_state.failure, style="bold")]
        if text:
            text.append(("\n\nThe dashboard retries automatically.", "dim"))
            loading.update(Content.assemble(*text))
        loading.set_class(bool(text), "failed")

    async def on_task_created(self, message: messages.TaskCreated) -> None:
        await self.put_and_select(message.task)

    async def put_and_select(self, task: Task) -> None:
        if not await self._load_panes():
            return
        self.task_state.put(task)
        self._inbox.action_unfilter()
        self.task_state.query = ""
        self.tasks_changed()
        self._inbox.tasks.select(task["id"])
        self._turn_to("events")
        self.watch_task(task["id"], settle=False)

    def on_task_ended(self, message: messages.TaskEnded) -> None:
        before, stopping = list(self.task_state.tasks.values()), set(self.task_state.stopping)
        if self.task_state.ended(message.task_id, message.event):
            self.announce_changes(before, stopping)
            self.tasks_changed()

    def on_task_list_highlighted(self) -> None:
        self.watch_task(self._inbox.tasks.highlighted)
        self._show_board()

    async def on_task_list_opened(self) -> None:
        if self.selected_chat is not None:
            await self.action_message()
        else:
            await self.action_show("events")

    def on_task_stopping(self, message: messages.TaskStopping) -> None:
        self.tasks_changed()

    def on_task_deleted(self, message: messages.TaskDeleted) -> None:
        self.task_state.deleted(message.task_id)
        self.tasks_changed()
