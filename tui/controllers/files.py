"""Files of the selected task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from beray.schema import FilePage, TaskEvent
from tui import messages
from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import RunningTimer, SetTimer
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.current_server import CurrentServer
from tui.state.tasks import TasksState

if TYPE_CHECKING:
    from tui.state.file_listing import TaskFileListing

REREAD_SECONDS: Final = 0.5
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
"""Types of events that may have changed files."""


class FilesView(Protocol):
    """Display of the files; implemented by ``FileBrowser``."""

    @property
    def selected_file(self) -> str | None: ...

    @property
    def is_large(self) -> bool: ...

    def open_folders(self) -> dict[str, int]: ...

    def forget(self) -> None: ...

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

    Attributes:
        view: The view, which is created when the files are first shown.
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
    ) -> None:
        self.view: FilesView | None = None
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
        if self.view is not None:
            self.view.forget()

    def events_received(self, events: Iterable[TaskEvent]) -> None:
        """Read the files soon if one of the events may have changed them."""
        if self._due is None and self._is_shown() and any(map(_touches_files, events)):
            self._due = self._set_timer(REREAD_SECONDS, self.read)

    # Requests

    def read_if_shown(self) -> None:
        """Read the files if the view is visible."""
        if self._is_shown():
            self.read()

    def read(self) -> None:
        """Read the files, and as many entries of the open directories as are displayed."""
        self._due = None
        selected, client, view = self._tasks.selected, self._server.client, self.view
        if selected is None or view is None:
            return
        from tui.state import file_listing

        task_id, opened, is_large = selected.task_id, view.open_folders(), view.is_large
        background.run(
            self._target,
            lambda: messages.FilesArrived(
                task_id, file_listing.read(client, task_id, opened, is_large=is_large)
            ),
            lambda error: messages.FilesFailed(task_id, error),
        )

    def read_folder(self, path: str, after: str | None) -> None:
        """Read the page of a directory after the cursor ``after``."""
        selected, client = self._tasks.selected, self._server.client
        if selected is None:
            return
        from tui.state import file_listing

        task_id = selected.task_id
        background.run(
            self._target,
            lambda: messages.FolderArrived(
                task_id, path, after, file_listing.read_page(client, task_id, path, after)
            ),
            lambda error: messages.FolderFailed(task_id, path, error),
        )

    def read_preview(self, path: str) -> None:
        """Read the beginning of a file."""
        selected, client = self._tasks.selected, self._server.client
        if selected is None:
            return
        from tui import preview

        task_id = selected.task_id
        background.run(
            self._target,
            lambda: preview.read(client, task_id, path),
            lambda error: messages.PreviewFailed(task_id, path, error),
        )

    # Results, which are dropped if another task was selected meanwhile

    def files_arrived(self, message: messages.FilesArrived) -> None:
        """Show the files."""
        if view := self._view_of(message.task_id):
            view.show(message.listing)

    def files_failed(self, message: messages.FilesFailed) -> None:
        """Show why the files could not be read."""
        view = self._view_of(message.task_id)
        if view and not self._failures.session_ended(message.error):
            view.refused(message.error)

    def folder_arrived(self, message: messages.FolderArrived) -> None:
        """Show a page of a directory."""
        if view := self._view_of(message.task_id):
            view.add_page(message.path, message.after, message.page)

    def folder_failed(self, message: messages.FolderFailed) -> None:
        """Show why a page of a directory could not be read."""
        view = self._view_of(message.task_id)
        if view and not self._failures.session_ended(message.error):
            view.page_refused(message.path, message.error)

    def preview_arrived(self, message: messages.PreviewArrived) -> None:
        """Show a preview."""
        if view := self._view_of(message.task_id):
            view.show_preview(message.path, message.content, message.complete)

    def preview_failed(self, message: messages.PreviewFailed) -> None:
        """Show why a preview could not be read."""
        view = self._view_of(message.task_id)
        if view and not self._failures.session_ended(message.error):
            view.preview_refused(message.path, message.error)

    def _view_of(self, task_id: int) -> FilesView | None:
        """Return the view if it shows ``task_id``."""
        selected = self._tasks.selected
        return self.view if selected is not None and selected.task_id == task_id else None


def _touches_files(event: TaskEvent) -> bool:
    """Return True if an event of this type may have changed files."""
    return event.get("type") in _FILE_EVENTS
