"""What the dashboard knows of the tasks, in one place. Widgets are given data from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from beray.schema import Task, Usage
from tui import status
from tui.state import inbox

if TYPE_CHECKING:
    from tui.state.selected_task import WatchedTask


class Connection(StrEnum):
    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    REFUSED = "refused"
    """It answers, but not with the tasks."""


@dataclass
class Board:
    """The tasks of the account, in the order of the inbox, and which one is looked at."""

    tasks: dict[int, Task] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    """The ids of all tasks by attention, as of the last ``sort``."""
    seen: dict[int, int] = field(default_factory=dict)
    """To which ``seq`` each task has been looked at."""
    stopping: set[int] = field(default_factory=set)
    """Tasks that were asked to stop and have not ended yet."""
    query: str = ""
    """What the list is filtered by."""
    loaded: bool = False
    connection: Connection = Connection.CONNECTING
    failure: str = ""
    """What went wrong, in words."""
    retry_at: datetime | None = None
    """When the server is asked again, while it does not answer."""
    watched: WatchedTask | None = None

    @property
    def shown(self) -> list[Task]:
        """The tasks that the list shows, in its order."""
        tasks = [self.tasks[number] for number in self.order]
        if not self.query.strip():
            return tasks
        return [task for task in tasks if inbox.matches(task, self.query, self.stopping)]

    @property
    def watched_task(self) -> Task | None:
        return self.get(self.watched.task_id) if self.watched else None

    def get(self, task_id: int | None) -> Task | None:
        return None if task_id is None else self.tasks.get(task_id)

    def sort(self, now: datetime) -> None:
        self.order = inbox.ordered(self.tasks.values(), self.seen, now)

    def unread(self, task: Task) -> int:
        return inbox.unread(task, self.seen)

    def see(self, task_id: int) -> int | None:
        """A task is being looked at; the ``seq`` that this is new up to, if it is."""
        task = self.tasks.get(task_id)
        if task is None or not inbox.unread(task, self.seen):
            return None
        self.seen[task_id] = task.get("last_seq", 1)
        return self.seen[task_id]

    # What the server says

    def apply(self, updates: Iterable[Mapping[str, Any]]) -> bool:
        """Take over ``updates``, in the words of ``beray.schema.TaskUpdate``.

        Returns:
            whether the order may be another one now.
        """
        moved = False
        for update in updates:
            moved |= self._applied(update)
        self.loaded = True
        self.online()
        return moved

    def online(self) -> None:
        self.connection, self.failure, self.retry_at = Connection.ONLINE, "", None

    def _applied(self, update: Mapping[str, Any]) -> bool:
        task_id = update.get("task_id")
        match update.get("type"):
            case "TASKS":
                self.tasks = {task["id"]: task for task in update.get("tasks") or ()}
                self.stopping &= {
                    number for number, task in self.tasks.items() if not status.at_rest(task)
                }
            case "TASK_STATUS" if (task := update.get("task")) is not None:
                self.put(task)
            case "TASK_DELETED" if isinstance(task_id, int):
                self.deleted(task_id)
            case "TASK_PROGRESS" if isinstance(task_id, int) and task_id in self.tasks:
                self._advanced(self.tasks[task_id], update)
                return False
            case _:
                return False
        return True

    def _advanced(self, task: Task, update: Mapping[str, Any]) -> None:
        last_seq, last_line = update.get("last_seq"), update.get("last_line")
        advanced: Task = {**task}
        if isinstance(last_seq, int) and last_seq > task.get("last_seq", 0):
            advanced["last_seq"] = last_seq
        if isinstance(last_line, str):
            advanced["last_line"] = last_line
        if isinstance(usage := update.get("usage"), dict):
            advanced["usage"] = cast(Usage, usage)
        self.tasks[task["id"]] = advanced

    def put(self, task: Task) -> None:
        """A task that is new, or another one than before."""
        known = self.tasks.get(task["id"])
        if known is None:
            self.order.insert(0, task["id"])
        elif status.has_ended(known) and not status.has_ended(task):
            return  # it was on its way when the end was told
        elif status.is_chat(known) and task.get("last_seq", 0) < known.get("last_seq", 0):
            return  # likewise, when an answer began or ended
        self.tasks[task["id"]] = task
        if status.at_rest(task):
            self.stopping.discard(task["id"])

    def deleted(self, task_id: int) -> None:
        self.tasks.pop(task_id, None)
        self.stopping.discard(task_id)
        if task_id in self.order:
            self.order.remove(task_id)

    def ended(self, task_id: int, event: Mapping[str, Any]) -> bool:
        """Take over the end of a task that its own stream told first; whether it is news."""
        task = self.tasks.get(task_id)
        if task is None or status.has_ended(task):
            return False
        reason, seq = event.get("reason"), event.get("seq")
        ended: Task = {**task, "status": str(event["status"])}
        ended["reason"] = reason if isinstance(reason, str) else None
        if isinstance(seq, int) and seq > task.get("last_seq", 0):
            ended["last_seq"] = seq
        self.put(ended)
        return True

    def failed(self, reason: str, retry_at: datetime, *, refused: bool = False) -> None:
        self.connection = Connection.REFUSED if refused else Connection.OFFLINE
        self.failure, self.retry_at = reason, retry_at
