"""Messages about chats, from background work to the main screen."""

from __future__ import annotations

from textual.message import Message

from beray.schema import Task
from tui.composer.sending import SubmitResult
from tui.state.task_draft import TaskDraft


class ChatOpened(Message):
    """A chat was opened or created."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task


class ChatOpenFailed(Message):
    """The chat ``name`` could be neither opened nor created."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__()
        self.name = name
        self.error = error


class ChatMessageSent(Message):
    """The message ``draft`` was sent to the chat ``task_id``."""

    def __init__(self, task_id: int, draft: TaskDraft, sent: SubmitResult) -> None:
        super().__init__()
        self.task_id = task_id
        self.draft = draft
        self.sent = sent


class ChatMessageFailed(Message):
    """A message could not be sent to the chat ``task_id``."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error
