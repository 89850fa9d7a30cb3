"""Messages that background threads post to the screens.

Messages are compared by identity, and their content is not part of their repr: it may be large or
private.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from beray.config import Target
from beray.schema import FilePage, Task, TaskEvent, User
from beray.streaming.cursor import StreamState

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.state.checkpoints import CheckpointIndex, LogPosition
    from tui.state.file_listing import TaskFileListing


@dataclass(eq=False, repr=False)
class OperationFailed(Message):
    """A request failed; ``action`` completes the sentence "Could not …"."""

    action: str
    error: Exception


@dataclass(eq=False, repr=False)
class SignedIn(Message):
    """The user signed in.

    Attributes:
        target: Server and account with the token.
        unsaved: Reason why the token could not be stored, or "".
        must_change_password: Whether the server requires a new password first.
    """

    target: Target
    unsaved: str = ""
    must_change_password: bool = False


@dataclass(eq=False, repr=False)
class CodeSent(Message):
    """The server sent a verification code to ``email``."""

    email: str
    text: str


@dataclass(eq=False, repr=False)
class SessionEnded(Message):
    """The server no longer accepts the token."""

    reason: str


@dataclass(eq=False, repr=False)
class UserRead(Message):
    """The server returned the account of ``client``."""

    client: BeRayClient
    user: User


class UserUnknown(Message):
    """The account could not be read."""


class AccountChanged(Message, bubble=False):
    """The account in use has another address, or its other sessions ended."""


@dataclass(eq=False, repr=False)
class PasswordChanged(Message):
    """The user changed the password; ``text`` is the confirmation of the server."""

    text: str


@dataclass(eq=False, repr=False)
class EmailChanged(Message):
    """The user changed the address of the account."""

    email: str


@dataclass(eq=False, repr=False)
class SignedOutByServer(Message):
    """The user ended the session in use, or deleted the account; ``text`` is a notice."""

    text: str


@dataclass(eq=False, repr=False)
class SuccessorFound(Message):
    """Another server has taken over the tasks; ``client`` is a client for it."""

    target: Target
    client: BeRayClient


class ClientReplaced(Message, bubble=False):
    """The session has another client: another server took over, or the user signed in again."""


class UpdatesWaiting(Message):
    """The task feed reader has received updates."""


class TaskFeedConnected(Message):
    """The task feed is connected."""


@dataclass(eq=False, repr=False)
class TaskFeedFailed(Message):
    """The task feed failed; it is retried after ``retry_in`` seconds."""

    error: Exception
    retry_in: float


@dataclass(eq=False, repr=False)
class EventsWaiting(Message):
    """The stream reader of ``task_id`` has received events."""

    task_id: int


@dataclass(eq=False, repr=False)
class StreamChanged(Message):
    """The stream of ``task_id`` changed its state; ``retry_in`` is in seconds."""

    task_id: int
    state: StreamState
    retry_in: float


@dataclass(eq=False, repr=False)
class StreamFailed(Message):
    """The stream of ``task_id`` failed and is not retried."""

    task_id: int
    error: Exception


@dataclass(eq=False, repr=False)
class TaskCreated(Message):
    """The server created a task."""

    task: Task


@dataclass(eq=False, repr=False)
class TaskStopping(Message):
    """The server accepted the request to stop ``task_id``."""

    task_id: int
    text: str


@dataclass(eq=False, repr=False)
class StopFailed(Message):
    """The request to stop ``task_id`` failed."""

    task_id: int
    error: Exception


@dataclass(eq=False, repr=False)
class TaskEnded(Message):
    """The stream of ``task_id`` ended with ``event``, possibly before the task feed reports it."""

    task_id: int
    event: TaskEvent


@dataclass(eq=False, repr=False)
class TaskDeleted(Message):
    """The server deleted ``task_id``."""

    task_id: int


@dataclass(eq=False, repr=False)
class CheckpointsArrived(Message):
    """The checkpoints of ``task_id`` were read."""

    task_id: int
    index: CheckpointIndex


@dataclass(eq=False, repr=False)
class CheckpointsFailed(Message):
    """The checkpoints of ``task_id`` could not be read."""

    task_id: int
    error: Exception


@dataclass(eq=False, repr=False)
class FilesArrived(Message):
    """The files of ``task_id`` were read: the present ones, or those of the checkpoint ``at``."""

    task_id: int
    listing: TaskFileListing
    at: str | None = None


@dataclass(eq=False, repr=False)
class FilesFailed(Message):
    """The files of ``task_id`` could not be read."""

    task_id: int
    error: Exception
    at: str | None = None


@dataclass(eq=False, repr=False)
class FolderArrived(Message):
    """A page of the directory ``path`` was read; ``after`` is the cursor it was requested with."""

    task_id: int
    path: str
    after: str | None
    page: FilePage
    at: str | None = None


@dataclass(eq=False, repr=False)
class FolderFailed(Message):
    """A page of the directory ``path`` could not be read."""

    task_id: int
    path: str
    error: Exception
    at: str | None = None


@dataclass(eq=False, repr=False)
class PreviewArrived(Message):
    """The beginning of a file was read; ``complete`` if ``content`` is the whole file."""

    task_id: int
    path: str
    content: bytes
    complete: bool
    at: str | None = None


@dataclass(eq=False, repr=False)
class PreviewFailed(Message):
    """The beginning of a file could not be read."""

    task_id: int
    path: str
    error: Exception
    at: str | None = None


@dataclass(eq=False, repr=False)
class ChangesRequested(Message):
    """The user wants to see changes of a task.

    Attributes:
        task_id: The task.
        title: Its goal, which may be untrusted.
        step: Position in a step, whose changes only are shown; ``None`` for all changes.
    """

    task_id: int
    title: str
    step: LogPosition | None = None


@dataclass(eq=False, repr=False)
class FilesRestored(Message):
    """Files of ``task_id`` were restored from a checkpoint."""

    task_id: int


@dataclass(eq=False, repr=False)
class TransferAdvanced(Message):
    """A transfer progressed: bytes done and, if known, bytes in total."""

    done: int
    total: int | None


@dataclass(eq=False, repr=False)
class TransferDone(Message):
    """A download was saved as ``path``."""

    path: Path


@dataclass(eq=False, repr=False)
class TransferFailed(Message):
    """A download failed or was cancelled."""

    error: Exception


@dataclass(eq=False, repr=False)
class UserStateFailed(Message):
    """A file of the saved state could not be read or written."""

    text: str
