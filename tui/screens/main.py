"""The main screen: the inbox, and what the selected task does and has made."""

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
from tui.io.task_feed_reader import BoardReader, Successor
from tui.screens.chat import Chatting
from tui.state.tasks import Connection
from tui.widgets.key_footer import KeyFooter
from tui.widgets.status_bar import StatusBar

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.widgets.inbox import Inbox

_TICK_SECONDS: Final = 1.0
_KEYS_SECONDS: Final = 0.3
"""How long is waited for the keys to be shown."""
_PANES: Final = Path(__file__).with_name("panes.tcss")


class MainScreen(Chatting):
    """Holds the board; messages from the background change it, widgets are given from it."""

    AUTO_FOCUS = ""
    # What a newcomer needs comes first: a narrow footer ends somewhere behind it.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "message", "Message", tooltip="Say something in the selected chat"),
        Binding("n", "new_task", "New", tooltip="Give a goal, with files if need be"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="The keys, and glyphs"),
        Binding("q", "app.quit", "Quit", tooltip="Leave; tasks go on running on the server"),
        Binding("e", "show('events')", "Events", tooltip="What the task does"),
        Binding("f", "show('files')", "Files", tooltip="What the task has made"),
        Binding("s", "stop_task", "Stop", tooltip="Stop the selected task"),
        Binding("x", "delete_task", "Delete", tooltip="Delete it, with its events and files"),
        Binding("r", "run_again", "Again", tooltip="The same goal as a new task"),
        Binding("d", "download", "Save", tooltip="Download the selected file"),
        Binding("z", "download_zip", "ZIP", tooltip="Download all files of the task"),
        Binding("c", "new_chat", "Chat", show=False, tooltip="Talk with the agent: a new chat"),
        Binding("P", "app.prefabs", "Prefabs", show=False, tooltip="Functions to call, with files"),
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
        self._board_reader: BoardReader | None = None
        self._shown_tasks: list[Task] = []

    # What is on the screen

    def compose(self) -> ComposeResult:
        yield StatusBar(self._target)
        with ContentSwitcher(initial="loading", id="body"):
            yield Static("Reading the tasks …", id="loading", classes="note", markup=False)
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.set_interval(_TICK_SECONDS, self._tick)
        # A terminal that is not in front is shown no keys.
        self.set_timer(_KEYS_SECONDS, self._begin)

    def on_key_footer_shown(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Read the tasks. What that imports would delay the first frame."""
        if self._board_reader is None:
            self._read_board(None)

    async def _furnish(self) -> bool:
        """Bring in the panes: the first frame is there sooner without them.

        Returns:
            whether they are there; not so where the app is being left.
        """
        if self._panes is None:
            from tui.screens.panes import Panes, Welcome

            sheet = self.app.stylesheet
            if not sheet.has_source(str(_PANES)):
                sheet.read(_PANES)
                sheet.parse()
            welcome, panes = Welcome(id="welcome"), Panes(id="panes")
            welcome.display = panes.display = False
            await self.query_one("#body").mount(welcome, panes)
            if not panes.complete:
                return False
            panes.detail.border_title = self.detail_title()
            self._panes = panes
            self.dashboard.settled()
        return True

    def _read_board(self, last_event_id: str | None) -> None:
        self._board_reader = BoardReader(
            self.client, self, last_event_id=last_event_id, successor=self._successor
        )

    def on_unmount(self) -> None:
        if self._board_reader is not None:
            self._board_reader.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        task = self.board.watched_task
        if action == "stop_task":
            # None dims its key, which then comes to ``key_s``.
            if task is None or status.at_rest(task) or task["id"] in self.board.stopping:
                return None
            return True
        if action == "message":
            return self.watched_chat is not None
        if action == "run_again":
            return True if task is not None and not status.is_chat(task) else None
        if action in ("delete_task", "show", "download_zip", "refresh_files"):
            return True if task is not None else None
        if action == "download":
            return True if self.selected_file is not None else None
        return True

    def key_s(self) -> None:
        if self.board.watched_task is not None:
            self.action_stop_task()

    # The inbox

    @property
    def _inbox(self) -> Inbox:
        return self.panes.inbox

    def filter_tasks(self) -> None:
        if self._panes is not None:
            self._inbox.action_filter()

    async def on_updates_waiting(self) -> None:
        if self._board_reader is not None and await self._furnish():
            before, stopping = list(self.board.tasks.values()), set(self.board.stopping)
            was_loaded = self.board.loaded
            if self.board.apply(self._board_reader.take()):
                if was_loaded:
                    self.tell_news(before, stopping)
                else:
                    self.recall_seen()
                self._sort()
            else:
                self._shown_tasks = [self.board.tasks[task["id"]] for task in self._shown_tasks]
            self._show_board()

    def on_board_live(self) -> None:
        if self.board.loaded:
            self.board.online()
            self._show_board()

    def on_board_failed(self, message: messages.BoardFailed) -> None:
        error = message.error
        if isinstance(error, AuthenticationError):
            self.ask_to_sign_in(error)
            return
        refused = isinstance(error, (APIError, InvalidResponseError))
        code = f" ({error.status_code})" if isinstance(error, APIError) else ""
        retry_at = self.clock() + timedelta(seconds=message.retry_in)
        self.board.failed(sanitize.words(error) + code, retry_at, refused=refused)
        self._show_board()

    def on_renewed(self, message: messages.Renewed) -> None:
        self.query_one(StatusBar).show_target(message.target)
        self.go_on_with(message.client)

    def go_on_with(self, client: BeRayClient) -> None:
        """Use ``client`` from now on; what was read so far goes on behind its last event."""
        super().go_on_with(client)
        reader = self._board_reader
        if reader is not None and reader.client is not client:
            reader.close()
            self._read_board(reader.last_event_id)

    def tasks_changed(self) -> None:
        """Something here has changed the tasks: show that, and ask who has to be asked."""
        if self._board_reader is not None:
            self._board_reader.refresh()
        self._sort()
        self._show_board()

    def _sort(self) -> None:
        self.board.sort(self.clock())
        self._shown_tasks = self.board.shown

    def on_inbox_filtered(self, message: Inbox.Filtered) -> None:
        self.board.query = message.query
        self._shown_tasks = self.board.shown
        self._show_board()

    def _tick(self) -> None:
        """Times go on, and what is looked at has been seen."""
        if self.app.screen is self:
            self._show_board()

    def _show_board(self) -> None:
        """Give every widget what the board knows now."""
        board = self.board
        self.query_one(StatusBar).show(board.connection, self._retry_in())
        if not board.loaded:
            self._show_loading()
            return
        empty = not board.tasks
        self.query_one("#body", ContentSwitcher).current = "welcome" if empty else "panes"
        if not empty and self.focused is None and self.app.app_focus:
            self.set_focus(self._inbox.tasks)
        self.see_watched()
        self._inbox.show(
            self._shown_tasks, len(board.tasks), self.clock(), board.unread, board.stopping
        )
        self.show_standing()
        self.show_watched()

    def _retry_in(self) -> int | None:
        retry_at = self.board.retry_at
        return None if retry_at is None else ceil((retry_at - self.clock()).total_seconds())

    def _show_loading(self) -> None:
        loading = self.query_one("#loading", Static)
        words: list[Content | str | tuple[str, str]] = []
        if self.board.connection is Connection.OFFLINE:
            words = [("The server does not answer\n\n", "bold"), sanitize.line(self.board.failure)]
        if self.board.connection is Connection.REFUSED:
            words = [sanitize.line(self.board.failure, style="bold")]
        if words:
            loading.update(Content.assemble(*words, ("\n\nIt is asked again by itself.", "dim")))
        loading.set_class(bool(words), "failed")

    async def on_task_created(self, message: messages.TaskCreated) -> None:
        await self.put_and_select(message.task)

    async def put_and_select(self, task: Task) -> None:
        if not await self._furnish():
            return
        self.board.put(task)
        self._inbox.action_unfilter()
        self.board.query = ""
        self.tasks_changed()
        self._inbox.tasks.select(task["id"])
        self._turn_to("events")
        self.watch_task(task["id"], settle=False)

    def on_task_ended(self, message: messages.TaskEnded) -> None:
        before, stopping = list(self.board.tasks.values()), set(self.board.stopping)
        if self.board.ended(message.task_id, message.event):
            self.tell_news(before, stopping)
            self.tasks_changed()

    def on_task_list_highlighted(self) -> None:
        self.watch_task(self._inbox.tasks.highlighted)
        self._show_board()

    async def on_task_list_opened(self) -> None:
        if self.watched_chat is not None:
            await self.action_message()
        else:
            await self.action_show("events")

    def on_task_stopping(self, message: messages.TaskStopping) -> None:
        self.tasks_changed()

    def on_task_deleted(self, message: messages.TaskDeleted) -> None:
        self.board.deleted(message.task_id)
        self.tasks_changed()
