"""What the background tells the screens. Each is posted from a thread of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from beray.config import Target
from beray.schema import FilePage, Task, TaskEvent
from beray.streaming.cursor import StreamState

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.state.file_listing import FileListing


class Failed(Message):
    """A call went wrong; ``what`` says which, for a reader."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__()
        self.what = what
        self.error = error


class SignedIn(Message):
    """There is a token now; ``unsaved`` says why it could not be stored, if it could not."""

    def __init__(self, target: Target, unsaved: str = "") -> None:
        super().__init__()
        self.target = target
        self.unsaved = unsaved


class CodeSent(Message):
    def __init__(self, email: str, words: str) -> None:
        super().__init__()
        self.email = email
        self.words = words


class SessionEnded(Message):
    """The server takes the token no longer."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class Renewed(Message):
    """The server has a successor, which ``client`` is connected to."""

    def __init__(self, target: Target, client: BeRayClient) -> None:
        super().__init__()
        self.target = target
        self.client = client


class UpdatesWaiting(Message):
    """The reader of the board has updates to be taken."""


class BoardLive(Message):
    """The server is connected and says what happens."""


class BoardFailed(Message):
    """The server does not say what happens; it is asked again ``retry_in`` seconds later."""

    def __init__(self, error: Exception, retry_in: float) -> None:
        super().__init__()
        self.error = error
        self.retry_in = retry_in


class EventsWaiting(Message):
    """The reader of ``task_id`` has events to be taken."""

    def __init__(self, task_id: int) -> None:
        super().__init__()
        self.task_id = task_id


class StreamChanged(Message):
    """The stream of ``task_id`` has another state; ``retry_in`` is in seconds."""

    def __init__(self, task_id: int, state: StreamState, retry_in: float) -> None:
        super().__init__()
        self.task_id = task_id
        self.state = state
        self.retry_in = retry_in


class StreamFailed(Message):
    """The stream of ``task_id`` was given up."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error


class TaskCreated(Message):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task


class TaskStopping(Message):
    def __init__(self, task_id: int, words: str) -> None:
        super().__init__()
        self.task_id = task_id
        self.words = words


class StopFailed(Message):
    """``task_id`` could not be asked to stop."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error


class TaskEnded(Message):
    """The stream of ``task_id`` told its end, maybe before that of all tasks does."""

    def __init__(self, task_id: int, event: TaskEvent) -> None:
        super().__init__()
        self.task_id = task_id
        self.event = event


class TaskDeleted(Message):
    def __init__(self, task_id: int) -> None:
        super().__init__()
        self.task_id = task_id


class FilesArrived(Message):
    def __init__(self, task_id: int, listing: FileListing) -> None:
        super().__init__()
        self.task_id = task_id
        self.listing = listing


class FilesFailed(Message):
    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error


class FolderArrived(Message):
    """A page of a folder, which comes ``after`` a position."""

    def __init__(self, task_id: int, path: str, after: str | None, page: FilePage) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.after = after
        self.page = page


class FolderFailed(Message):
    def __init__(self, task_id: int, path: str, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.error = error


class PreviewArrived(Message):
    """The first ``content`` of a file; ``complete`` where that is all of it."""

    def __init__(self, task_id: int, path: str, content: bytes, complete: bool) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.content = content
        self.complete = complete


class PreviewFailed(Message):
    def __init__(self, task_id: int, path: str, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.path = path
        self.error = error


class TransferAdvanced(Message):
    """Bytes done and, where it is known, bytes in all."""

    def __init__(self, done: int, total: int | None) -> None:
        super().__init__()
        self.done = done
        self.total = total


class TransferDone(Message):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


class TransferFailed(Message):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class NotRemembered(Message):
    """Something of the memory could not be read or written."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
