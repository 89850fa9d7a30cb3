"""Messages that background threads post to the screens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from beray.config import Target
from beray.schema import FilePage, Task, TaskEvent
from beray.streaming.cursor import StreamState

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.state.file_listing import TaskFileListing


class OperationFailed(Message):
    """A request failed; ``action`` completes the sentence "Could not …"."""

    def __init__(self, action: str, error: Exception) -> None:
        super().__init__()
        self.action = action
        self.error = error


class SignedIn(Message):
    """The user signed in; ``unsaved`` is the reason why the token could not be stored, or ""."""

    def __init__(self, target: Target, unsaved: str = "") -> None:
        super().__init__()
        self.target = target
        self.unsaved = unsaved


class CodeSent(Message):
    """The server sent a verification code to ``email``."""

    def __init__(self, email: str, text: str) -> None:
        super().__init__()
        self.email = email
        self.text = text


class SessionEnded(Message):
    """The server no longer accepts the token."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class ClientReplaced(Message):
    """``client`` replaces the current one: another server took over, or the session is new."""

    def __init__(self, target: Target, client: BeRayClient) -> None:
        super().__init__()
        self.target = target
        self.client = client


class UpdatesWaiting(Message):
    """The task feed reader has received updates."""


class TaskFeedConnected(Message):
    """The task feed is connected."""


class TaskFeedFailed(Message):
    """The task feed failed; it is retried after ``retry_in`` seconds."""

    def __init__(self, error: Exception, retry_in: float) -> None:
        super().__init__()
        self.error = error
        self.retry_in = retry_in


class EventsWaiting(Message):
    """The stream reader of ``task_id`` has received events."""

    def __init__(self, task_id: int) -> None:
        super().__init__()
        self.task_id = task_id


class StreamChanged(Message):
    """The stream of ``task_id`` changed its state; ``retry_in`` is in seconds."""

    def __init__(self, task_id: int, state: StreamState, retry_in: float) -> None:
        super().__init__()
        self.task_id = task_id
        self.state = state
        self.retry_in = retry_in


class StreamFailed(Message):
    """The stream of ``task_id`` failed and is not retried."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error


class TaskCreated(Message):
    """The server created a task."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task


class TaskStopping(Message):
    """The server accepted the request to stop ``task_id``."""

    def __init__(self, task_id: int, text: str) -> None:
        super().__init__()
        self.task_id = task_id
        self.text = text


class StopFailed(Message):
    """The request to stop ``task_id`` failed."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error


class TaskEnded(Message):
    """The stream of ``task_id`` ended with ``event``, possibly before the task feed reports it."""

    def __init__(self, task_id: int, event: TaskEvent) -> None:
        super().__init__()
        self.task_id = task_id
        self.event = event


class TaskDeleted(Message):
    """The server deleted ``task_id``."""

    def __init__(self, task_id: int) -> None:
        super().__init__()
        self.task_id = task_id


class FilesArrived(Message):
    """The files of ``task_id`` were read."""

    def __init__(self, task_id: int, listing: TaskFileListing) -> None:
        super().__init__()
        self.task_id = task_id
        self.listing = listing


class FilesFailed(Message):
    """The files of ``task_id`` could not be read."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error


class FolderArrived(Message):
    """A page of the directory ``path`` was read; ``after`` is the cursor it was requested with."""

    def __init__(self, task_id: int, path: str, after: str | None, page: FilePage) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.after = after
        self.page = page


class FolderFailed(Message):
    """A page of the directory ``path`` could not be read."""

    def __init__(self, task_id: int, path: str, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.error = error


class PreviewArrived(Message):
    """The beginning of a file was read; ``complete`` if ``content`` is the whole file."""

    def __init__(self, task_id: int, path: str, content: bytes, complete: bool) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.content = content
        self.complete = complete


class PreviewFailed(Message):
    """The beginning of a file could not be read."""

    def __init__(self, task_id: int, path: str, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.error = error


class TransferAdvanced(Message):
    """A transfer progressed: bytes done and, if known, bytes in total."""

    def __init__(self, done: int, total: int | None) -> None:
        super().__init__()
        self.done = done
        self.total = total


class TransferDone(Message):
    """A download was saved as ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


class TransferFailed(Message):
    """A download failed or was cancelled."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class UserStateFailed(Message):
    """A file of the saved state could not be read or written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
