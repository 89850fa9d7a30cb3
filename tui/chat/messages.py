"""What background work tells the main screen of chats."""

from __future__ import annotations

from textual.message import Message

from beray.schema import Task
from tui.composer.sending import Sent
from tui.state.task_draft import TaskDraft


class ChatOpened(Message):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task


class ChatRefused(Message):
    """There is no chat of this name, and none could be made."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__()
        self.name = name
        self.error = error


class Said(Message):
    """What was said in the chat ``task_id`` has arrived."""

    def __init__(self, task_id: int, draft: TaskDraft, sent: Sent) -> None:
        super().__init__()
        self.task_id = task_id
        self.draft = draft
        self.sent = sent


class NotSaid(Message):
    """Nothing was said in the chat ``task_id``."""

    def __init__(self, task_id: int, error: Exception) -> None:
        super().__init__()
        self.task_id = task_id
        self.error = error
