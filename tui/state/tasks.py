"""Tasks of the account. Widgets receive their data from here."""

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
    from tui.state.selected_task import SelectedTask


class ConnectionState(StrEnum):
    """State of the connection to the server."""

    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    REFUSED = "refused"
    """The server responds, but with an error."""


@dataclass
class TasksState:
    """Tasks in the order of the task list, the selected task, and the connection.

    Attributes:
        tasks: Tasks by id.
        order: Ids of all tasks by attention, as of the last ``sort``.
        seen: Last seen ``seq`` by task id.
        stopping: Tasks that were asked to stop and have not ended yet.
        query: Filter of the task list.
        loaded: Whether the tasks have been received.
        connection: State of the connection.
        failure: Error message while the server cannot be read, or "".
        retry_at: Time of the next attempt while the server cannot be read.
        watched: The selected task.
    """

    tasks: dict[int, Task] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    stopping: set[int] = field(default_factory=set)
    query: str = ""
    loaded: bool = False
    connection: ConnectionState = ConnectionState.CONNECTING
    failure: str = ""
    retry_at: datetime | None = None
    selected: SelectedTask | None = None

    @property
    def shown(self) -> list[Task]:
        """Tasks that match the filter, in the order of the list."""
        tasks = [self.tasks[number] for number in self.order]
        if not self.query.strip():
            return tasks
        return [task for task in tasks if inbox.matches(task, self.query, self.stopping)]

    @property
    def selected_task(self) -> Task | None:
        """The selected task as the server reports it."""
        return self.get(self.selected.task_id) if self.selected else None

    def get(self, task_id: int | None) -> Task | None:
        """Return a task, or None if it is unknown."""
        return None if task_id is None else self.tasks.get(task_id)

    def sort(self, now: datetime) -> None:
        """Sort the tasks by attention."""
        self.order = inbox.ordered(self.tasks.values(), self.seen, now)

    def unread(self, task: Task) -> int:
        """Return the number of events of ``task`` that have not been seen."""
        return inbox.unread(task, self.seen)

    def mark_seen(self, task_id: int) -> int | None:
        """Mark all events of a task as seen; return the last ``seq``, or None if none was new."""
        task = self.tasks.get(task_id)
        if task is None or not inbox.unread(task, self.seen):
            return None
        self.seen[task_id] = task.get("last_seq", 1)
        return self.seen[task_id]

    # Updates of the server

    def apply(self, updates: Iterable[Mapping[str, Any]]) -> bool:
        """Apply updates of the type ``beray.schema.TaskUpdate``.

        Returns:
            Whether the order of the tasks may have changed.
        """
        moved = False
        for update in updates:
            moved |= self._apply_update(update)
        self.loaded = True
        self.set_online()
        return moved

    def set_online(self) -> None:
        """Record that the server can be read."""
        self.connection, self.failure, self.retry_at = ConnectionState.ONLINE, "", None

    def _apply_update(self, update: Mapping[str, Any]) -> bool:
        task_id = update.get("task_id")
        match update.get("type"):
            case "TASKS":
                self.tasks = {task["id"]: task for task in update.get("tasks") or ()}
                self.stopping &= {
                    number for number, task in self.tasks.items() if not status.is_idle(task)
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
        """Add or replace a task, unless ``task`` is older than the known version."""
        known = self.tasks.get(task["id"])
        if known is None:
            self.order.insert(0, task["id"])
        elif status.has_ended(known) and not status.has_ended(task):
            return  # it was sent before the task ended
        elif status.is_chat(known) and task.get("last_seq", 0) < known.get("last_seq", 0):
            return  # likewise, before an answer began or ended
        self.tasks[task["id"]] = task
        if status.is_idle(task):
            self.stopping.discard(task["id"])

    def deleted(self, task_id: int) -> None:
        """Remove a task."""
        self.tasks.pop(task_id, None)
        self.stopping.discard(task_id)
        if task_id in self.order:
            self.order.remove(task_id)

    def ended(self, task_id: int, event: Mapping[str, Any]) -> bool:
        """Apply the end of a task from its own stream; return False if it was known."""
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
        """Record that the server cannot be read.

        Args:
            reason: Error message.
            retry_at: Time of the next attempt.
            refused: Whether the server responded with an error.
        """
        self.connection = ConnectionState.REFUSED if refused else ConnectionState.OFFLINE
        self.failure, self.retry_at = reason, retry_at
