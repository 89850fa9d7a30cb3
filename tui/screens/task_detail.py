"""Selected task on the main screen: its event stream, log and files."""

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
from tui.io.background import TaskStreamReader
from tui.screens.task_actions import TaskActions

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.log.messages import FileRequested, PositionChanged
    from tui.screens.panes import Panes
    from tui.state.selected_task import SelectedTask
    from tui.widgets.file_browser import FileBrowser

_SETTLE_SECONDS: Final = 0.12
"""Time for which the cursor must rest on a task before its stream is opened."""
_FILES_SECONDS: Final = 0.5
"""Delay between an event that may have changed files and reading them again."""
_FILE_EVENTS: Final = frozenset(
    {
        "AGENT_EVENT_TOOL_RESULT",
        "AGENT_EVENT_SEND_FILE",
        "AGENT_EVENT_END",
        "TASK_STATUS",
        "USER_MESSAGE",
    }
)


class TaskDetail(TaskActions):
    """Part of the main screen that shows ``task_state.selected``."""

    def __init__(self, client: BeRayClient, clock: Callable[[], datetime]) -> None:
        super().__init__(client)
        self.clock = clock
        self._reader: TaskStreamReader | None = None
        self._settling: Timer | None = None
        self._files_due: Timer | None = None
        self._shown = "events"
        self._able: tuple[bool, ...] = ()
        self._place = ""
        self._panes: Panes | None = None
        self._files: FileBrowser | None = None
        """Created when the files are first shown."""

    @property
    def panes(self) -> Panes:
        """The panes, which exist once the tasks are known."""
        assert self._panes is not None
        return self._panes

    def on_unmount(self) -> None:
        self._close_stream()

    @property
    def selected_file(self) -> str | None:
        """Path of the file under the cursor while the files are shown."""
        return self._files.selected_file if self._shown == "files" and self._files else None

    def show_selected(self) -> None:
        """Update the widgets of the selected task."""
        watched, task = self.task_state.selected, self.task_state.selected_task
        if watched is not None and task is not None:
            stopping = task["id"] in self.task_state.stopping
            self.panes.head.show(task, watched, self.clock(), stopping=stopping)
        self._show_keys()

    def _show_keys(self) -> None:
        """Update the footer if the available actions have changed."""
        task, file = self.task_state.selected_task, self.selected_file
        able = (
            task is not None,
            task is not None and status.is_idle(task),
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
            from tui.widgets.file_browser import FileBrowser  # imported here: may never be shown

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
        """Return the names of both panes; a click shows the other one."""
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

    # Event stream

    def watch_task(self, task_id: int | None, *, settle: bool = True) -> None:
        """Select a task, or none. Its stream is opened once the cursor rests on it.

        Args:
            task_id: Task to select.
            settle: Whether to wait for the cursor to rest.
        """
        if self.task_state.selected is not None and self.task_state.selected.task_id == task_id:
            return
        self._close_stream()
        if self._files is not None:
            self._files.forget()
        if task_id is None:
            self.task_state.selected = None
            self.panes.events.leave()
        else:
            from tui.events.event_buffer import EventBuffer
            from tui.state.selected_task import SelectedTask

            task = self.task_state.get(task_id)
            watched = SelectedTask(task_id, EventBuffer(task.get("last_seq") if task else None))
            self.task_state.selected = watched
            if settle:
                self._settling = self.set_timer(_SETTLE_SECONDS, self._open_stream)
            else:
                self._open_stream()
            is_chat = task is not None and status.is_chat(task)
            self.panes.events.open(self.client, task_id, watched.record, chat=is_chat)
        self.show_selected()

    def _open_stream(self) -> None:
        self._settling = None
        watched = self.task_state.selected
        if watched is not None:
            start_after = watched.record.start_after
            self._reader = TaskStreamReader(
                self.client, watched.task_id, self, str(start_after) if start_after else None
            )
            if self._shown == "files":
                self._read_files()

    def use_client(self, client: BeRayClient) -> None:
        """Use ``client`` from now on; the stream resumes after its last event."""
        self.client = client
        if self._panes is None:
            return
        self.panes.events.use_client(client)
        watched, reader = self.task_state.selected, self._reader
        if watched is None or reader is None:
            return
        events, last_event_id = reader.stop_and_drain()
        self._show_events(watched, events)
        if watched.stream is not StreamState.ENDED or watched.failure:
            watched.set_stream_state(StreamState.CONNECTING, 0.0, self.clock())
            watched.failure = ""
            self.panes.events.show_failure("")
            self._reader = TaskStreamReader(client, watched.task_id, self, last_event_id)
        if self._shown == "files":
            self._read_files()
        self.show_selected()

    def _close_stream(self) -> None:
        if self._settling is not None:
            self._settling.stop()
            self._settling = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _watched(self, task_id: int) -> SelectedTask | None:
        """Return the selected task if it is ``task_id``, otherwise None."""
        watched = self.task_state.selected
        return watched if watched is not None and watched.task_id == task_id else None

    def on_events_waiting(self, message: messages.EventsWaiting) -> None:
        self._take_events(message.task_id)

    def _take_events(self, task_id: int) -> None:
        watched = self._watched(task_id)
        if watched is not None and self._reader is not None:
            self._show_events(watched, self._reader.take())

    def _show_events(self, watched: SelectedTask, events: list[TaskEvent]) -> None:
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
        # Events that were received before the change are shown first.
        self._take_events(message.task_id)
        watched = self._watched(message.task_id)
        if watched is not None:
            watched.set_stream_state(message.state, message.retry_in, self.clock())
            self.show_selected()

    def on_stream_failed(self, message: messages.StreamFailed) -> None:
        watched = self._watched(message.task_id)
        if watched is not None:
            # Also if the session ended: the stream is resumed after the next sign-in.
            watched.set_stream_state(StreamState.ENDED, 0.0, self.clock())
            watched.failure = sanitize.error_text(message.error)
            if not self.session_ended(message.error):
                self.panes.events.show_failure(watched.failure)
            self.show_selected()

    # Files

    def _read_files_soon(self) -> None:
        if self._files_due is None:
            self._files_due = self.set_timer(_FILES_SECONDS, self._read_files)

    def _read_files(self) -> None:
        self._files_due = None
        watched, client, files = self.task_state.selected, self.client, self._files
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

    def on_file_browser_folder_requested(self, message: FileBrowser.FolderRequested) -> None:
        watched, client = self.task_state.selected, self.client
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

    def on_file_browser_preview_requested(self, message: FileBrowser.PreviewRequested) -> None:
        self._show_keys()
        watched, client, path = self.task_state.selected, self.client, message.path
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
    """Return True if an event of this type may have changed files."""
    return event.get("type") in _FILE_EVENTS
