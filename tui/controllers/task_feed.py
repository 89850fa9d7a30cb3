"""Task list, kept up to date by the task feed of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from beray.exceptions import APIError, AuthenticationError, InvalidResponseError
from beray.schema import Task, TaskUpdate
from tui import messages, sanitize
from tui.controllers.failures import FailureReporter
from tui.controllers.notifier import Notifier
from tui.io.background import MessageTarget
from tui.io.task_feed_reader import Successor, TaskFeedReader
from tui.state.current_server import CurrentServer
from tui.state.tasks import TasksState


class TaskFeedController:
    """Applies the updates of the task feed to the tasks, and announces changes of status.

    Args:
        tasks: The tasks.
        server: Server of the tasks.
        notifier: Announces changes of status.
        failures: Asks the user to sign in.
        target: Receives the messages of the reader.
        clock: Returns the current time.
        successor: Finds the server that replaces an unreachable one, or None.

    Attributes:
        shown: Tasks of the list: those that match the filter, in the order of the last sorting.
    """

    def __init__(
        self,
        *,
        tasks: TasksState,
        server: CurrentServer,
        notifier: Notifier,
        failures: FailureReporter,
        target: MessageTarget,
        clock: Callable[[], datetime],
        successor: Successor | None = None,
    ) -> None:
        self.shown: list[Task] = []
        self._tasks = tasks
        self._server = server
        self._notifier = notifier
        self._failures = failures
        self._target = target
        self._clock = clock
        self._successor = successor
        self._reader: TaskFeedReader | None = None
        self._untaken: list[TaskUpdate] = []
        """Updates that a closed reader had received."""

    def start(self) -> None:
        """Start reading, unless the feed is read already."""
        if self._reader is None:
            self._read(None)

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()

    def _read(self, last_event_id: str | None) -> None:
        self._reader = TaskFeedReader(
            self._server.client,
            self._target,
            last_event_id=last_event_id,
            successor=self._successor,
        )

    def client_replaced(self) -> None:
        """Read from the new client; the feed resumes after its last update."""
        reader = self._reader
        # A reader that has found a successor uses its client already.
        if reader is not None and reader.client is not self._server.client:
            untaken, last_event_id = reader.close()
            self._untaken += untaken
            self._target.post_message(messages.UpdatesWaiting())
            self._read(last_event_id)

    # Changes

    def take_updates(self) -> None:
        """Apply the updates that have been received."""
        if self._reader is None:
            return
        tasks = self._tasks
        before, stopping, was_loaded = list(tasks.tasks.values()), set(tasks.stopping), tasks.loaded
        untaken, self._untaken = self._untaken, []
        if not tasks.apply([*untaken, *self._reader.take()]):
            self.shown = [tasks.tasks[task["id"]] for task in self.shown]
            return
        if was_loaded:
            self._notifier.announce_changes(before, stopping)
        else:
            self._notifier.recall_seen()
        self._sort()

    def task_ended(self, task_id: int, event: Mapping[str, Any]) -> bool:
        """Apply the end of a task from its own stream; return False if it was known."""
        tasks = self._tasks
        before, stopping = list(tasks.tasks.values()), set(tasks.stopping)
        if not tasks.ended(task_id, event):
            return False
        self._notifier.announce_changes(before, stopping)
        self.tasks_changed()
        return True

    def tasks_changed(self) -> None:
        """Sort after a change that was made here, and poll a server that has no task feed."""
        if self._reader is not None:
            self._reader.refresh()
        self._sort()

    def filter(self, query: str) -> None:
        """Show only the tasks that match ``query``."""
        self._tasks.query = query
        self.shown = self._tasks.shown

    def _sort(self) -> None:
        self._tasks.sort(self._clock())
        self.shown = self._tasks.shown

    # Connection

    def connected(self) -> bool:
        """Record that the feed is connected; return False before the tasks are known."""
        if self._tasks.loaded:
            self._tasks.set_online()
        return self._tasks.loaded

    def failed(self, error: Exception, retry_in: float) -> None:
        """Record why the feed cannot be read; it is retried after ``retry_in`` seconds."""
        if isinstance(error, AuthenticationError):
            self._failures.ask_to_sign_in(error)
            return
        refused = isinstance(error, (APIError, InvalidResponseError))
        code = f" ({error.status_code})" if isinstance(error, APIError) else ""
        retry_at = self._clock() + timedelta(seconds=retry_in)
        self._tasks.failed(sanitize.error_text(error) + code, retry_at, refused=refused)

    @property
    def retry_in(self) -> int | None:
        """Seconds to the next attempt, or None if the feed is connected."""
        retry_at = self._tasks.retry_at
        return None if retry_at is None else ceil((retry_at - self._clock()).total_seconds())
