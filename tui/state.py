"""What the dashboard knows, in one place. Widgets are given data from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from beray.schema import FileItem, Task
from beray.streaming import StreamState
from tui.transcript import Transcript


class Connection(StrEnum):
    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    REFUSED = "refused"
    """It answers, but not with the tasks."""


@dataclass
class WatchedTask:
    """The selected task: what has been read of it so far."""

    task_id: int
    transcript: Transcript = field(default_factory=Transcript)
    stream: StreamState = StreamState.CONNECTING
    retry_in: float = 0.0
    failure: str = ""
    """Why the stream was given up, in words."""
    files: list[FileItem] | None = None
    files_failure: str = ""


@dataclass
class Board:
    """The tasks of the account, and which one is looked at."""

    tasks: list[Task] = field(default_factory=list)
    loaded: bool = False
    connection: Connection = Connection.CONNECTING
    failure: str = ""
    """What went wrong, in words."""
    watched: WatchedTask | None = None

    def arrived(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self.loaded = True
        self.connection, self.failure = Connection.ONLINE, ""

    def failed(self, reason: str, *, refused: bool = False) -> None:
        self.connection = Connection.REFUSED if refused else Connection.OFFLINE
        self.failure = reason

    def created(self, task: Task) -> None:
        if self.get(task["id"]) is None:
            self.tasks = [task, *self.tasks]

    def deleted(self, task_id: int) -> None:
        self.tasks = [task for task in self.tasks if task["id"] != task_id]

    def get(self, task_id: int | None) -> Task | None:
        return next((task for task in self.tasks if task["id"] == task_id), None)

    @property
    def watched_task(self) -> Task | None:
        return self.get(self.watched.task_id) if self.watched else None

    def ended(self, task_id: int, status: str, reason: str | None) -> None:
        """Take over the end of a task that its stream told before the next list does."""
        self.tasks = [
            {**task, "status": status, "reason": reason} if task["id"] == task_id else task
            for task in self.tasks
        ]
