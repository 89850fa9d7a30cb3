"""Main screen: the task list, and the log and files of the selected task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Static

from beray.sanitize import one_line
from beray.schema import Task, from_workspace
from tui import messages, sanitize, status
from tui.controllers.chat import ChatController
from tui.controllers.continuation import ContinuationController
from tui.controllers.failures import FailureReporter
from tui.controllers.files import FilesController
from tui.controllers.notifier import Notifier
from tui.controllers.task_actions import TaskActions
from tui.controllers.task_checkpoints import TaskCheckpoints
from tui.controllers.task_detail import TaskDetail
from tui.controllers.task_feed import TaskFeedController
from tui.io.task_feed_reader import Successor
from tui.screens.dialogs import MainScreenDialogs
from tui.state.current_server import CurrentServer
from tui.state.tasks import ConnectionState, TasksState
from tui.state.user_state import UserState
from tui.terminal import Terminal
from tui.widgets.key_footer import KeyFooter
from tui.widgets.status_bar import StatusBar

if TYPE_CHECKING:
    from tui.composer.chat_messages import (
        ChatMessageFailed,
        ChatMessageSent,
        ChatOpened,
        ChatOpenFailed,
    )
    from tui.composer.message_box import MessageBox
    from tui.log.messages import EventChanged, FileRequested, PositionChanged, StepRequested
    from tui.screens.panes import Panes
    from tui.widgets.file_browser import FileBrowser
    from tui.widgets.inbox import Inbox

_TICK_SECONDS: Final = 1.0
_FOOTER_SECONDS: Final = 0.3
"""Maximum time to wait until the footer is shown."""
_ACTIONS_ON_TASK: Final = frozenset(
    {
        "changes",
        "continue",
        "delete_task",
        "download_zip",
        "files_beside",
        "refresh_files",
        "show",
    }
)
"""Actions that need a selected task."""
_PANES_STYLESHEET: Final = Path(__file__).with_name("panes.tcss")


class MainScreen(Screen[None]):
    """Widgets, keys and messages of the main screen; the controllers do the work.

    Args:
        server: Server and account.
        user_state: State that is kept between starts.
        terminal: Title, progress and notifications of the terminal.
        clock: Returns the current time with its time zone.
        successor: Finds the server that replaces one that is unreachable or rejects the token;
            None if the server cannot be replaced.
        on_ready: Called once the imports for showing the tasks are done.

    Attributes:
        task_state: State that the controllers change and the widgets show.
    """

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
        Binding("v", "changes", "Changes", tooltip="Show the changes of the task's files"),
        Binding("V", "changes", "Changes of the task", show=False),
        Binding(
            "C", "continue", "Continue", show=False, tooltip="Continue from here in a new task"
        ),
        Binding("t", "files_beside", "Tree", show=False, tooltip="Show the files beside the log"),
        Binding("c", "new_chat", "Chat", show=False, tooltip="Talk with the agent in a new chat"),
        Binding("P", "app.prefabs", "Prefabs", show=False, tooltip="Run functions with files"),
        Binding("A", "app.account", "Account", show=False, tooltip="Password, sessions, export"),
        Binding("U", "app.users", "Users", show=False, tooltip="Manage the users of the server"),
        Binding("f5", "refresh_files", "Read the files again", show=False),
    ]

    def __init__(
        self,
        server: CurrentServer,
        *,
        user_state: UserState,
        terminal: Terminal,
        clock: Callable[[], datetime],
        successor: Successor | None = None,
        on_ready: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self.task_state = TasksState()
        self._server = server
        self._user_state = user_state
        self._clock = clock
        self._on_ready = on_ready
        self._panes: Panes | None = None
        self._available: tuple[bool, ...] = ()
        tasks, notify = self.task_state, self.show_notification
        self.failures = FailureReporter(
            target=self, notify=notify, has_successor=successor is not None
        )
        dialogs = MainScreenDialogs(
            push_screen=self._push_screen, server=server, user_state=user_state
        )
        self.notifier = Notifier(
            tasks=tasks,
            server=server,
            user_state=user_state,
            terminal=terminal,
            notify=notify,
            is_on_top=lambda: self.app.screen is self,
        )
        self.feed = TaskFeedController(
            tasks=tasks,
            server=server,
            notifier=self.notifier,
            failures=self.failures,
            target=self,
            clock=clock,
            successor=successor,
        )
        self.actions = TaskActions(
            tasks=tasks,
            server=server,
            user_state=user_state,
            target=self,
            dialogs=dialogs,
            notify=notify,
            failures=self.failures,
            on_change=self._tasks_changed,
        )
        self.checkpoints = TaskCheckpoints(tasks=tasks, server=server, target=self)
        self.files = FilesController(
            tasks=tasks,
            server=server,
            target=self,
            set_timer=self.set_timer,
            failures=self.failures,
            is_shown=lambda: self._panes is not None and self._panes.shows_files,
            checkpoints=self.checkpoints,
            on_change=lambda: self.panes.show_files_at(self.files.at),
        )
        self.detail = TaskDetail(
            tasks=tasks,
            server=server,
            log=lambda: self.panes.events,
            files=self.files,
            checkpoints=self.checkpoints,
            target=self,
            set_timer=self.set_timer,
            failures=self.failures,
            clock=clock,
            on_change=self._show_selected,
        )
        self.continuation = ContinuationController(
            tasks=tasks,
            checkpoints=self.checkpoints,
            compose=self.actions.compose,
            notify=notify,
            failures=self.failures,
        )
        self.chats = ChatController(
            tasks=tasks,
            server=server,
            target=self,
            dialogs=dialogs,
            notify=notify,
            failures=self.failures,
            add_box=self._add_message_box,
            is_log_shown=lambda: self._shows("events"),
            show_log=lambda: self._turn_to("events"),
            follow_log=lambda: self.panes.events.action_end(),
        )

    # Composition

    def compose(self) -> ComposeResult:
        yield StatusBar(self._server.target)
        with ContentSwitcher(initial="loading", id="body"):
            yield Static("Loading tasks …", id="loading", classes="note", markup=False)
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.set_interval(_TICK_SECONDS, self._tick)
        # The footer is not rendered while the terminal does not have the focus. The feed starts
        # after it, because the imports of the feed would delay the first frame.
        self.set_timer(_FOOTER_SECONDS, self.feed.start)

    def on_key_footer_shown(self) -> None:
        self.feed.start()

    def on_unmount(self) -> None:
        self.feed.close()
        self.detail.close()

    @property
    def panes(self) -> Panes:
        """The panes, which exist once the tasks are known."""
        assert self._panes is not None
        return self._panes

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
            self._panes = panes
            self._on_ready()
        return True

    async def _add_message_box(self) -> MessageBox | None:
        from tui.composer.message_box import MessageBox  # may never be needed

        box = MessageBox(
            self.chats.earlier_messages, self._user_state, self._server.account, id="message"
        )
        box.display = False
        await self.panes.of_task.mount(box)
        return box if box.children else None  # without children, the app is closing

    # Parts of the screen that the controllers use

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, which may be untrusted, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def _push_screen(self, screen: Screen[Any], callback: Callable[[Any], None]) -> None:
        self.app.push_screen(screen, callback)

    def _shows(self, what: str) -> bool:
        return self._panes is not None and self._panes.shown == what

    # Display of the state

    def _tick(self) -> None:
        """Update the displayed times, and mark the events on screen as seen."""
        if self.app.screen is self:
            self._show_board()

    def _tasks_changed(self) -> None:
        """Show a change of the tasks that was made here."""
        self.feed.tasks_changed()
        self._show_board()

    def _show_board(self) -> None:
        """Update all widgets from ``task_state``."""
        tasks = self.task_state
        self.query_one(StatusBar).show(tasks.connection, self.feed.retry_in)
        if not tasks.loaded:
            self._show_loading()
            return
        empty = not tasks.tasks
        self.query_one("#body", ContentSwitcher).current = "welcome" if empty else "panes"
        if not empty and self.focused is None and self.app.app_focus:
            self.set_focus(self.panes.inbox.tasks)
        if self.app.screen is self and self.app.app_focus:
            self.notifier.see_selected()
        self.panes.inbox.show(
            self.feed.shown, len(tasks.tasks), self._clock(), tasks.unread, tasks.stopping
        )
        self.notifier.show_summary()
        self._show_selected()

    def _show_loading(self) -> None:
        loading, tasks = self.query_one("#loading", Static), self.task_state
        text: list[Content | str | tuple[str, str]] = []
        if tasks.connection is ConnectionState.OFFLINE:
            text = [("Cannot reach the server\n\n", "bold"), sanitize.line(tasks.failure)]
        if tasks.connection is ConnectionState.REFUSED:
            text = [sanitize.line(tasks.failure, style="bold")]
        if text:
            text.append(("\n\nThe dashboard retries automatically.", "dim"))
            loading.update(Content.assemble(*text))
        loading.set_class(bool(text), "failed")

    def _show_selected(self) -> None:
        """Update the widgets of the selected task."""
        selected, task = self.task_state.selected, self.task_state.selected_task
        if selected is not None and task is not None:
            stopping = task["id"] in self.task_state.stopping
            self.panes.head.show(task, selected, self._clock(), stopping=stopping)
        self._show_keys()
        self._show_message_box()

    def _show_keys(self) -> None:
        """Update the footer if the available actions have changed."""
        task = self.task_state.selected_task
        available = (
            task is not None,
            task is not None and status.is_idle(task),
            self.files.selected_file is not None,
            self.chats.selected is not None,
        )
        if available != self._available:
            self._available = available
            self.refresh_bindings()

    def _show_message_box(self) -> None:
        if self.chats.lacks_box:
            self.call_later(self.chats.add_box)
        else:
            self.chats.show_box()

    def _turn_to(self, what: str) -> None:
        """Show the "events" or the "files" of the selected task."""
        self.panes.turn_to(what)
        self._show_keys()
        self._show_message_box()

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        task = self.task_state.selected_task
        if action == "stop_task":
            # None dims the key, which is then handled by ``key_s``.
            if task is None or status.is_idle(task) or task["id"] in self.task_state.stopping:
                return None
            return True
        if action == "message":
            return self.chats.selected is not None
        if action == "run_again":
            return True if task is not None and not status.is_chat(task) else None
        if action in _ACTIONS_ON_TASK:
            return True if task is not None else None
        if action == "download":
            return True if self.files.selected_file is not None else None
        return True

    def key_s(self) -> None:
        self.actions.stop()

    def action_new_task(self) -> None:
        self.actions.compose()

    def action_stop_task(self) -> None:
        self.actions.stop()

    def action_run_again(self) -> None:
        self.actions.run_again()

    def action_delete_task(self) -> None:
        self.actions.delete()

    def action_download_zip(self) -> None:
        self.actions.save_zip(self.files.at if self.panes.shows_files else None)

    def action_download(self) -> None:
        path = self.files.selected_file
        if path is not None:
            self.actions.save_file(path, self.files.at)

    def action_refresh_files(self) -> None:
        self.files.read()

    async def action_show(self, what: str) -> None:
        if what == "files":
            await self._add_files()
        self._turn_to(what)
        self.set_focus(self.query_one("#tree" if what == "files" else "#log"))
        self.files.read_if_shown()

    async def action_files_beside(self) -> None:
        """Show the files beside the log, or the log alone."""
        await self._add_files()
        self.panes.set_beside(beside=not self.panes.is_beside)
        self._turn_to("events")
        self.set_focus(self.query_one("#log"))
        self.files.read_if_shown()

    async def _add_files(self) -> None:
        """Create the view of the files, which may never be needed."""
        if self.files.view is None:
            self.files.view = await self.panes.add_files()

    def action_continue(self) -> None:
        """Compose a task that continues the selected one, from the selected event of its log."""
        log = self.panes.events
        self.continuation.compose(log.selected_position if log.view.has_focus else None)

    def action_changes(self) -> None:
        """Show all changes of the selected task."""
        task = self.task_state.selected_task
        if task is not None:
            self.post_message(messages.ChangesRequested(task["id"], status.title(task)))

    def action_new_chat(self) -> None:
        self.chats.open()

    async def action_message(self) -> None:
        await self.chats.write()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))

    def filter_tasks(self) -> None:
        """Focus the filter of the task list."""
        if self._panes is not None:
            self._panes.inbox.action_filter()

    async def put_and_select(self, task: Task) -> None:
        """Add ``task`` to the list, select it and show its events."""
        if not await self._load_panes():
            return
        self.task_state.put(task)
        self.panes.inbox.action_unfilter()
        self.feed.filter("")
        self._tasks_changed()
        self.panes.inbox.tasks.select(task["id"])
        self._turn_to("events")
        self.detail.select(task["id"], settle=False)

    # Messages of the task feed and the session

    async def on_updates_waiting(self) -> None:
        if await self._load_panes():
            self.feed.take_updates()
            self._show_board()

    def on_task_feed_connected(self) -> None:
        if self.feed.connected():
            self._show_board()

    def on_task_feed_failed(self, message: messages.TaskFeedFailed) -> None:
        self.feed.failed(message.error, message.retry_in)
        self._show_board()

    def on_account_changed(self) -> None:
        self.query_one(StatusBar).show_target(self._server.target)

    def on_client_replaced(self) -> None:
        self.query_one(StatusBar).show_target(self._server.target)
        self.feed.client_replaced()
        self.detail.client_replaced()

    # Messages of the task list

    def on_inbox_filtered(self, message: Inbox.Filtered) -> None:
        self.feed.filter(message.query)
        self._show_board()

    def on_task_list_highlighted(self) -> None:
        self.detail.select(self.panes.inbox.tasks.highlighted)
        self._show_board()

    async def on_task_list_opened(self) -> None:
        if self.chats.selected is not None:
            await self.action_message()
        else:
            await self.action_show("events")

    # Results of actions

    async def on_task_created(self, message: messages.TaskCreated) -> None:
        await self.put_and_select(message.task)

    def on_task_stopping(self, message: messages.TaskStopping) -> None:
        self._tasks_changed()

    def on_stop_failed(self, message: messages.StopFailed) -> None:
        message.stop()
        self.actions.stop_failed(message.task_id, message.error)

    def on_task_deleted(self, message: messages.TaskDeleted) -> None:
        self.chats.deleted(message.task_id)
        self.task_state.deleted(message.task_id)
        self._tasks_changed()

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        self.failures.report(message.action, message.error)

    # Messages of the selected task

    def on_events_waiting(self, message: messages.EventsWaiting) -> None:
        self.detail.take_events(message.task_id)

    def on_stream_changed(self, message: messages.StreamChanged) -> None:
        self.detail.stream_changed(message)

    def on_stream_failed(self, message: messages.StreamFailed) -> None:
        self.detail.stream_failed(message)

    def on_task_ended(self, message: messages.TaskEnded) -> None:
        if self.feed.task_ended(message.task_id, message.event):
            self._show_board()

    def on_position_changed(self, message: PositionChanged) -> None:
        self.panes.show_position(message.text)

    def on_event_changed(self, message: EventChanged) -> None:
        self.files.show_event(message.position)

    def on_step_requested(self, message: StepRequested) -> None:
        task = self.task_state.selected_task
        if task is not None:
            self.post_message(
                messages.ChangesRequested(task["id"], status.title(task), message.step)
            )

    def on_checkpoints_arrived(self, message: messages.CheckpointsArrived) -> None:
        self.checkpoints.arrived(message)

    def on_checkpoints_failed(self, message: messages.CheckpointsFailed) -> None:
        self.checkpoints.failed(message)

    def on_files_restored(self, message: messages.FilesRestored) -> None:
        self.checkpoints.changed()
        self.files.read_if_shown()

    async def on_file_requested(self, message: FileRequested) -> None:
        if message.written is not None:
            self.files.show_version(message.written)
        await self.action_show("files")
        if self.files.view is not None:
            self.files.view.select(from_workspace(message.path))

    # Messages of the files

    def on_files_arrived(self, message: messages.FilesArrived) -> None:
        self.files.files_arrived(message)
        self._show_keys()

    def on_files_failed(self, message: messages.FilesFailed) -> None:
        self.files.files_failed(message)

    def on_file_browser_folder_requested(self, message: FileBrowser.FolderRequested) -> None:
        self.files.read_folder(message.path, message.after)

    def on_folder_arrived(self, message: messages.FolderArrived) -> None:
        self.files.folder_arrived(message)
        self._show_keys()

    def on_folder_failed(self, message: messages.FolderFailed) -> None:
        self.files.folder_failed(message)

    def on_file_browser_preview_requested(self, message: FileBrowser.PreviewRequested) -> None:
        self._show_keys()
        self.files.read_preview(message.path)

    def on_preview_arrived(self, message: messages.PreviewArrived) -> None:
        self.files.preview_arrived(message)

    def on_preview_failed(self, message: messages.PreviewFailed) -> None:
        self.files.preview_failed(message)

    # Messages of chats

    async def on_chat_opened(self, message: ChatOpened) -> None:
        await self.put_and_select(message.task)
        await self.action_message()

    def on_chat_open_failed(self, message: ChatOpenFailed) -> None:
        self.chats.open_failed(message.name, message.error)

    def on_message_box_message_submitted(self, message: MessageBox.MessageSubmitted) -> None:
        self.chats.send(message.task_id, message.draft)

    def on_chat_message_sent(self, message: ChatMessageSent) -> None:
        self.chats.message_sent(message)

    def on_chat_message_failed(self, message: ChatMessageFailed) -> None:
        self.chats.message_failed(message)
