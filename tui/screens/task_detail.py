"""The selected task on the main screen: its stream, its events, its files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from textual.content import Content
from textual.timer import Timer

from beray.schema import TERMINAL_STATUSES, TaskEvent, from_workspace
from beray.streaming.cursor import StreamState
from tui import messages, sanitize, status
from tui.io import background
from tui.io.background import StreamReader
from tui.screens.task_actions import TaskActions

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.log.messages import FileRequested, PositionChanged
    from tui.screens.panes import Panes
    from tui.state.selected_task import WatchedTask
    from tui.widgets.file_browser import FileBrowser

_SETTLE_SECONDS: Final = 0.12
"""How long the cursor rests on a task before its stream is opened."""
_FILES_SECONDS: Final = 0.5
"""How long after an event that may have changed files they are read again."""
_FILE_EVENTS: Final = frozenset(
    {
        "AGENT_EVENT_TOOL_RESULT",
        "AGENT_EVENT_SEND_FILE",
        "AGENT_EVENT_END",
        "TASK_STATUS",
        "USER_MESSAGE",
    }
)


class Watching(TaskActions):
    """The half of the main screen that follows ``board.watched``."""

    def __init__(self, client: BeRayClient, clock: Callable[[], datetime]) -> None:
        super().__init__(client)
        self.clock = clock
        self._reader: StreamReader | None = None
        self._settling: Timer | None = None
        self._files_due: Timer | None = None
        self._shown = "events"
        self._able: tuple[bool, ...] = ()
        self._place = ""
        self._panes: Panes | None = None
        self._files: FileBrowser | None = None
        """The files, once they have been asked for."""

    @property
    def panes(self) -> Panes:
        """What shows the tasks; there from the moment that they are known."""
        assert self._panes is not None
        return self._panes

    def on_unmount(self) -> None:
        self._close_stream()

    @property
    def selected_file(self) -> str | None:
        """The path of the file that the cursor is on, while the files are shown."""
        return self._files.selected_file if self._shown == "files" and self._files else None

    def show_watched(self) -> None:
        """Give the widgets what is known of the selected task now."""
        watched, task = self.board.watched, self.board.watched_task
        if watched is not None and task is not None:
            stopping = task["id"] in self.board.stopping
            self.panes.head.show(task, watched, self.clock(), stopping=stopping)
        self._show_keys()

    def _show_keys(self) -> None:
        """Let the footer show which actions there are now, if that has changed."""
        task, file = self.board.watched_task, self.selected_file
        able = (
            task is not None,
            task is not None and status.at_rest(task),
            file is not None,
            task is not None and status.is_chat(task),
        )
        if able != self._able:
            self._able = able
            self.refresh_bindings()

    def action_download(self) -> None:
        path = self.selected_file
        if path is not None:
            self.save_file(path)

    def action_refresh_files(self) -> None:
        self._read_files()

    async def action_show(self, what: str) -> None:
        if what == "files" and self._files is None:
            from tui.widgets.file_browser import FileBrowser  # which may never be shown

            files = FileBrowser(id="files")
            await self.panes.detail.add_content(files)
            self._files = files
        self._turn_to(what)
        self.set_focus(self.query_one("#tree" if what == "files" else "#log"))
        if what == "files":
            self._read_files()

    def _turn_to(self, what: str) -> None:
        detail = self.panes.detail
        self._shown = detail.current = what
        detail.border_title = self.detail_title()
        detail.border_subtitle = self._place if what == "events" else ""
        self._show_keys()

    def detail_title(self) -> Content:
        """The two panes by name; a click turns to the other one."""
        events, files = ("b", "dim") if self._shown == "events" else ("dim", "b")
        return Content.from_markup(
            f"[{events} @click=screen.show('events')]Events[/]"
            f" [dim]│[/] [{files} @click=screen.show('files')]Files[/]"
        )

    def on_position_changed(self, message: PositionChanged) -> None:
        self._place = message.text
        if self._shown == "events":
            self.panes.detail.border_subtitle = message.text

    async def on_file_requested(self, message: FileRequested) -> None:
        await self.action_show("files")
        if self._files is not None:
            self._files.select(from_workspace(message.path))

    # Its stream

    def watch_task(self, task_id: int | None, *, settle: bool = True) -> None:
        """Select a task, or none. Its stream is opened once the cursor rests there."""
        if self.board.watched is not None and self.board.watched.task_id == task_id:
            return
        self._close_stream()
        if self._files is not None:
            self._files.forget()
        if task_id is None:
            self.board.watched = None
            self.panes.events.leave()
        else:
            from tui.events.event_buffer import EventBuffer
            from tui.state.selected_task import WatchedTask

            task = self.board.get(task_id)
            watched = WatchedTask(task_id, EventBuffer(task.get("last_seq") if task else None))
            self.board.watched = watched
            if settle:
                self._settling = self.set_timer(_SETTLE_SECONDS, self._open_stream)
            else:
                self._open_stream()
            is_chat = task is not None and status.is_chat(task)
            self.panes.events.open(self.client, task_id, watched.record, chat=is_chat)
        self.show_watched()

    def _open_stream(self) -> None:
        self._settling = None
        watched = self.board.watched
        if watched is not None:
            begin = watched.record.start_after
            self._reader = StreamReader(
                self.client, watched.task_id, self, str(begin) if begin else None
            )
            if self._shown == "files":
                self._read_files()

    def go_on_with(self, client: BeRayClient) -> None:
        """Use ``client`` from now on, and read the stream on behind its last event."""
        self.client = client
        if self._panes is None:
            return
        self.panes.events.use_client(client)
        watched, reader = self.board.watched, self._reader
        if watched is None or reader is None:
            return
        events, last_event_id = reader.hand_over()
        self._show_events(watched, events)
        if watched.stream is not StreamState.ENDED or watched.failure:
            watched.stream_is(StreamState.CONNECTING, 0.0, self.clock())
            watched.failure = ""
            self.panes.events.show_failure("")
            self._reader = StreamReader(client, watched.task_id, self, last_event_id)
        if self._shown == "files":
            self._read_files()
        self.show_watched()

    def _close_stream(self) -> None:
        if self._settling is not None:
            self._settling.stop()
            self._settling = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _watched(self, task_id: int) -> WatchedTask | None:
        """The watched task, if it is the one that a message is about."""
        watched = self.board.watched
        return watched if watched is not None and watched.task_id == task_id else None

    def on_events_waiting(self, message: messages.EventsWaiting) -> None:
        self._take_events(message.task_id)

    def _take_events(self, task_id: int) -> None:
        watched = self._watched(task_id)
        if watched is not None and self._reader is not None:
            self._show_events(watched, self._reader.take())

    def _show_events(self, watched: WatchedTask, events: list[TaskEvent]) -> None:
        for event in events:
            self._take_status(watched.task_id, event)
        self.panes.events.append_events(events)
        if self._shown == "files" and any(map(_touches_files, events)):
            self._read_files_soon()

    def _take_status(self, task_id: int, event: TaskEvent) -> None:
        said = event.get("status") if event.get("type") == "TASK_STATUS" else None
        if isinstance(said, str) and said in TERMINAL_STATUSES:
            self.post_message(messages.TaskEnded(task_id, event))

    def on_stream_changed(self, message: messages.StreamChanged) -> None:
        # The events that came before it are shown before it.
        self._take_events(message.task_id)
        watched = self._watched(message.task_id)
        if watched is not None:
            watched.stream_is(message.state, message.retry_in, self.clock())
            self.show_watched()

    def on_stream_failed(self, message: messages.StreamFailed) -> None:
        watched = self._watched(message.task_id)
        if watched is not None:
            # Also where it is the session that ended: it is read on in the next one.
            watched.stream_is(StreamState.ENDED, 0.0, self.clock())
            watched.failure = sanitize.words(message.error)
            if not self.session_ended(message.error):
                self.panes.events.show_failure(watched.failure)
            self.show_watched()

    # Its files

    def _read_files_soon(self) -> None:
        if self._files_due is None:
            self._files_due = self.set_timer(_FILES_SECONDS, self._read_files)

    def _read_files(self) -> None:
        self._files_due = None
        watched, client, files = self.board.watched, self.client, self._files
        if watched is not None and files is not None:
            from tui.state import file_listing

            task_id, opened, is_large = watched.task_id, files.open_folders(), files.is_large
            background.run(
                self,
                lambda: messages.FilesArrived(
                    task_id, file_listing.read(client, task_id, opened, is_large=is_large)
                ),
                lambda error: messages.FilesFailed(task_id, error),
            )

    def on_files_arrived(self, message: messages.FilesArrived) -> None:
        if self._watched(message.task_id) is not None and self._files is not None:
            self._files.show(message.listing)
            self._show_keys()

    def on_file_browser_folder_wanted(self, message: FileBrowser.FolderWanted) -> None:
        watched, client = self.board.watched, self.client
        if watched is not None:
            from tui.state import file_listing

            task_id, path, after = watched.task_id, message.path, message.after
            background.run(
                self,
                lambda: messages.FolderArrived(
                    task_id, path, after, file_listing.read_page(client, task_id, path, after)
                ),
                lambda error: messages.FolderFailed(task_id, path, error),
            )

    def on_folder_arrived(self, message: messages.FolderArrived) -> None:
        if self._watched(message.task_id) is not None and self._files is not None:
            self._files.add_page(message.path, message.after, message.page)
            self._show_keys()

    def on_folder_failed(self, message: messages.FolderFailed) -> None:
        if self._watched(message.task_id) and not self.session_ended(message.error) and self._files:
            self._files.page_refused(message.path, message.error)

    def on_files_failed(self, message: messages.FilesFailed) -> None:
        if self._watched(message.task_id) and not self.session_ended(message.error) and self._files:
            self._files.refused(message.error)

    def on_file_browser_wanted(self, message: FileBrowser.Wanted) -> None:
        self._show_keys()
        watched, client, path = self.board.watched, self.client, message.path
        if watched is not None:
            from tui import preview

            task_id = watched.task_id
            background.run(
                self,
                lambda: preview.read(client, task_id, path),
                lambda error: messages.PreviewFailed(task_id, path, error),
            )

    def on_preview_arrived(self, message: messages.PreviewArrived) -> None:
        if self._watched(message.task_id) is not None and self._files is not None:
            self._files.show_preview(message.path, message.content, message.complete)

    def on_preview_failed(self, message: messages.PreviewFailed) -> None:
        if self._watched(message.task_id) and not self.session_ended(message.error) and self._files:
            self._files.preview_refused(message.path, message.error)


def _touches_files(event: TaskEvent) -> bool:
    """Whether files may have changed by what this event tells."""
    return event.get("type") in _FILE_EVENTS
