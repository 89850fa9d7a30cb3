"""Files of the selected task: the present ones, or those at an event of its log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from beray.exceptions import APIError
from beray.schema import FilePage, TaskEvent
from tui import messages
from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import RunningTimer, SetTimer
from tui.controllers.task_checkpoints import TaskCheckpoints
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.checkpoints import CheckpointIndex, LogPosition
from tui.state.current_server import CurrentServer
from tui.state.tasks import TasksState

if TYPE_CHECKING:
    from tui.state.file_listing import TaskFileListing

REREAD_SECONDS: Final = 0.5
"""Delay between an event that may have changed files and reading them again."""
STATE_SECONDS: Final = 0.15
"""Minimum time between two states of the files while the log is scrolled or replayed."""
_CACHED_LISTINGS: Final = 32
"""Number of checkpoints of the selected task whose files are kept."""
_NO_HISTORY_STATUSES: Final = frozenset({404, 405, 409})
"""Statuses of a server that keeps no history, or does not know the request."""
_FILE_EVENTS: Final = frozenset(
    {
        "AGENT_EVENT_TOOL_RESULT",
        "AGENT_EVENT_SEND_FILE",
        "AGENT_EVENT_END",
        "TASK_STATUS",
        "USER_MESSAGE",
    }
)
"""Types of events that may have changed files."""


class FilesView(Protocol):
    """Display of the files; implemented by ``FileBrowser``."""

    @property
    def selected_file(self) -> str | None: ...

    @property
    def is_large(self) -> bool: ...

    def open_folders(self) -> dict[str, int]: ...

    def forget(self) -> None: ...

    def replace(self) -> None: ...

    def select(self, path: str) -> None: ...

    def show(self, listing: TaskFileListing) -> None: ...

    def refused(self, error: BaseException) -> None: ...

    def add_page(self, path: str, after: str | None, page: FilePage) -> None: ...

    def page_refused(self, path: str, error: BaseException) -> None: ...

    def show_preview(self, path: str, content: bytes, complete: bool) -> None: ...

    def preview_refused(self, path: str, error: BaseException) -> None: ...


class FilesController:
    """Reads the files of the selected task and their previews for a view.

    Args:
        tasks: Tasks, of which one is selected.
        server: Server of the tasks.
        target: Receives the results of the requests.
        set_timer: Delays reading after events.
        failures: Requests a new sign-in if the session has ended.
        is_shown: Returns True while the view is visible.
        checkpoints: Checkpoints of the selected task.
        on_change: Called after ``at`` has changed.

    Attributes:
        view: The view, which is created when the files are first shown.
        at: Checkpoint whose files are shown; ``None`` for the present files.
    """

    def __init__(
        self,
        *,
        tasks: TasksState,
        server: CurrentServer,
        target: MessageTarget,
        set_timer: SetTimer,
        failures: FailureReporter,
        is_shown: Callable[[], bool],
        checkpoints: TaskCheckpoints,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.view: FilesView | None = None
        self.at: str | None = None
        self._checkpoints = checkpoints
        self._on_change = on_change
        self._position: LogPosition | None = None
        """Position at which the log is read; ``None`` for its end."""
        self._is_after_step = False
        """True to show the files after the step at the position."""
        self._has_history = True
        """False if the server does not list the checkpoints of the task."""
        self._waiting: RunningTimer | None = None
        self._listings: OrderedDict[str, TaskFileListing] = OrderedDict()
        """Files of the checkpoints that were read last."""
        self._tasks = tasks
        self._server = server
        self._target = target
        self._set_timer = set_timer
        self._failures = failures
        self._is_shown = is_shown
        self._due: RunningTimer | None = None

    @property
    def selected_file(self) -> str | None:
        """Path of the file under the cursor while the files are shown."""
        return self.view.selected_file if self.view is not None and self._is_shown() else None

    @property
    def is_due(self) -> bool:
        """True if the files will be read after the last events."""
        return self._due is not None

    def task_selected(self) -> None:
        """Remove the files of the previous task."""
        self._position, self._has_history = None, True
        self._listings.clear()
        self._stop_waiting()
        if self.view is not None:
            self.view.forget()
        self._set_at(None)

    def events_received(self, events: Iterable[TaskEvent]) -> None:
        """Read the files soon if one of the events may have changed them."""
        if (
            self.at is None
            and self._due is None
            and self._is_shown()
            and any(map(_touches_files, events))
        ):
            self._due = self._set_timer(REREAD_SECONDS, self.read)

    # The state that is shown

    def show_event(self, position: LogPosition | None) -> None:
        """Show the files at a position soon; ``None`` for the present files."""
        if position == self._position:
            return
        self._position, self._is_after_step = position, False
        if not self._is_shown():
            self._stop_waiting()
        elif self._waiting is None:
            self._waiting = self._set_timer(STATE_SECONDS, self._show_state)

    def show_version(self, number: int) -> None:
        """Have the files after the step of event ``number`` shown when they are next read.

        At the end of the log, the present files are shown.
        """
        if self._position is not None:
            self._position, self._is_after_step = number, True

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def _show_state(self) -> None:
        """Show the files at the current event, if others are shown."""
        self._waiting = None

        def show(at: str | None) -> None:
            if at != self.at:
                self._read(at)

        self._find_checkpoint(show)

    def _find_checkpoint(self, use: Callable[[str | None], None]) -> None:
        """Call ``use`` with the checkpoint of the current event, once it is known.

        It is ``None`` for the present files, also if the server keeps no history.
        """

        def found(index: CheckpointIndex) -> None:
            position = self._position
            if position is None:
                use(None)
                return
            checkpoint = index.after(position) if self._is_after_step else index.at(position)
            if checkpoint is not None:
                use(checkpoint["checkpoint"])
            else:
                # The server reports a checkpoint that does not exist.
                use(position if isinstance(position, str) else None)

        def failed(error: Exception) -> None:
            if isinstance(error, APIError) and error.status_code in _NO_HISTORY_STATUSES:
                self._has_history = False
                use(None)
            elif self.view is not None and not self._failures.session_ended(error):
                self.view.refused(error)

        if self._position is None or not self._has_history:
            use(None)
        else:
            end = None if self._is_after_step else self._position
            self._checkpoints.with_position(end, found, failed)

    def _set_at(self, at: str | None) -> None:
        if at != self.at:
            self.at = at
            self._on_change()

    # Requests

    def read_if_shown(self) -> None:
        """Read the files if the view is visible."""
        if self._is_shown():
            self.read()

    def read(self) -> None:
        """Read the files, and as many entries of the open directories as are displayed."""
        self._due = None
        self._find_checkpoint(self._read)

    def _read(self, at: str | None) -> None:
        selected, client, view = self._tasks.selected, self._server.client, self.view
        if selected is None or view is None:
            return
        from tui.state import file_listing

        if at != self.at:
            view.replace()
            self._set_at(at)
        if at is not None and (known := self._listings.get(at)) is not None:
            self._listings.move_to_end(at)
            view.show(known)
            return
        task_id, opened, is_large = selected.task_id, view.open_folders(), view.is_large
        background.run(
            self._target,
            lambda: messages.FilesArrived(
                task_id, file_listing.read(client, task_id, opened, is_large=is_large, at=at), at
            ),
            lambda error: messages.FilesFailed(task_id, error, at),
        )

    def read_folder(self, path: str, after: str | None) -> None:
        """Read the page of a directory after the cursor ``after``."""
        selected, client = self._tasks.selected, self._server.client
        if selected is None:
            return
        from tui.state import file_listing

        task_id, at = selected.task_id, self.at
        background.run(
            self._target,
            lambda: messages.FolderArrived(
                task_id, path, after, file_listing.read_page(client, task_id, path, after, at), at
            ),
            lambda error: messages.FolderFailed(task_id, path, error, at),
        )

    def read_preview(self, path: str) -> None:
        """Read the beginning of a file."""
        selected, client = self._tasks.selected, self._server.client
        if selected is None:
            return
        from tui import preview

        task_id, at = selected.task_id, self.at
        background.run(
            self._target,
            lambda: preview.read(client, task_id, path, at),
            lambda error: messages.PreviewFailed(task_id, path, error, at),
        )

    # Results, which are dropped if another task or another checkpoint was selected meanwhile

    def files_arrived(self, message: messages.FilesArrived) -> None:
        """Show the files."""
        selected = self._tasks.selected
        if message.at is not None and selected and selected.task_id == message.task_id:
            self._listings[message.at] = message.listing
            while len(self._listings) > _CACHED_LISTINGS:
                self._listings.popitem(last=False)
        if view := self._view_of(message.task_id, message.at):
            view.show(message.listing)

    def files_failed(self, message: messages.FilesFailed) -> None:
        """Show why the files could not be read."""
        view = self._view_of(message.task_id, message.at)
        if view and not self._failures.session_ended(message.error):
            view.refused(message.error)

    def folder_arrived(self, message: messages.FolderArrived) -> None:
        """Show a page of a directory."""
        if view := self._view_of(message.task_id, message.at):
            view.add_page(message.path, message.after, message.page)

    def folder_failed(self, message: messages.FolderFailed) -> None:
        """Show why a page of a directory could not be read."""
        view = self._view_of(message.task_id, message.at)
        if view and not self._failures.session_ended(message.error):
            view.page_refused(message.path, message.error)

    def preview_arrived(self, message: messages.PreviewArrived) -> None:
        """Show a preview."""
        if view := self._view_of(message.task_id, message.at):
            view.show_preview(message.path, message.content, message.complete)

    def preview_failed(self, message: messages.PreviewFailed) -> None:
        """Show why a preview could not be read."""
        view = self._view_of(message.task_id, message.at)
        if view and not self._failures.session_ended(message.error):
            view.preview_refused(message.path, message.error)

    def _view_of(self, task_id: int, at: str | None) -> FilesView | None:
        """Return the view if it shows the files of ``task_id`` at ``at``."""
        selected = self._tasks.selected
        is_shown = selected is not None and selected.task_id == task_id and at == self.at
        return self.view if is_shown else None


def _touches_files(event: TaskEvent) -> bool:
    """Return True if an event of this type may have changed files."""
    return event.get("type") in _FILE_EVENTS
