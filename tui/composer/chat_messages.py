"""Messages about chats, from background work to the main screen."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from beray.schema import Task
from tui.composer.sending import SubmitResult
from tui.state.task_draft import TaskDraft


@dataclass(eq=False, repr=False)
class ChatOpened(Message):
    """A chat was opened or created."""

    task: Task


@dataclass(eq=False, repr=False)
class ChatOpenFailed(Message):
    """The chat ``name`` could be neither opened nor created."""

    name: str
    error: Exception


@dataclass(eq=False, repr=False)
class ChatMessageSent(Message):
    """The message ``draft`` was sent to the chat ``task_id``."""

    task_id: int
    draft: TaskDraft
    sent: SubmitResult


@dataclass(eq=False, repr=False)
class ChatMessageFailed(Message):
    """A message could not be sent to the chat ``task_id``."""

    task_id: int
    error: Exception
