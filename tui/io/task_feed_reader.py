"""Reader of the updates of all tasks of an account."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from beray.exceptions import APIError, AuthenticationError, ConnectionFailed
from beray.schema import TaskUpdate
from beray.streaming.cursor import StreamState
from tui import messages
from tui.io.background import EXPECTED_ERRORS, BackgroundReader, ItemStream, MessageTarget

if TYPE_CHECKING:
    from beray.client import BeRayClient

POLL_SECONDS: Final = 1.0
MAX_WAIT_SECONDS: Final = 5.0
"""Maximum pause between two attempts in seconds, short because a user is waiting."""
_RECONNECT_SECONDS: Final = 1.0
"""Time for which the stream itself reconnects; afterwards the error is shown."""
_RENEW_SECONDS: Final = 5.0
"""Pause after a successor could not be found or started."""
_NO_SUCH_STREAM: Final = frozenset({404, 405, 422})

Successor = Callable[[], messages.SuccessorFound | None]
"""Returns the server that replaces the current one, or None. Blocks; raises ``EXPECTED_ERRORS``."""


class TaskFeedReader:
    """Reader that buffers task updates until the screen takes them, and retries all failures.

    A server without a stream of all tasks is polled every second instead.

    Attributes:
        client: Client of the server that is currently read.

    Args:
        client: Client of the server.
        target: Receives the messages about the feed.
        last_event_id: Resume after this update instead of starting with all tasks.
        successor: Finds the server that replaces one that is unreachable or rejects the token.
            The returned server is read from then on.
    """

    def __init__(
        self,
        client: BeRayClient,
        target: MessageTarget,
        *,
        last_event_id: str | None = None,
        successor: Successor | None = None,
    ) -> None:
        self.client = client
        self._successor = successor
        self._polls = False
        self._generation = 0  # requests from before the last ``refresh`` are outdated
        self._failures = 0
        """Number of failures since the last update."""
        self._received = 0
        self._renew_at = 0.0
        self._reader: BackgroundReader[TaskUpdate] = BackgroundReader(
            "beray-board",
            open_stream=self._open_stream,
            on_error=self._failed,
            announcement=messages.UpdatesWaiting,
            target=target,
            last_event_id=last_event_id,
        )
        self._reader.start()

    def take(self) -> list[TaskUpdate]:
        """Return the updates since the last call. Never blocks."""
        return self._reader.take()

    def close(self) -> tuple[list[TaskUpdate], str | None]:
        """Stop reading; return the remaining updates and the id of the last one received."""
        return self._reader.close()

    def refresh(self) -> None:
        """Poll at once if the server is polled: the tasks have changed."""
        self._generation += 1
        self._reader.wake()

    def _open_stream(self, last_event_id: str | None) -> ItemStream[TaskUpdate]:
        if self._polls:
            return _PolledTasks(self._poll())
        return self.client.stream_all_updates(
            last_event_id=last_event_id,
            reconnect=_RECONNECT_SECONDS,
            on_state=self._state_changed,
        )

    def _poll(self) -> Iterator[TaskUpdate]:
        """Yield all tasks every second."""
        while not self._reader.closed:
            generation = self._generation
            tasks = self.client.list_tasks()
            self._failures = 0
            if generation == self._generation:
                yield {"type": "TASKS", "tasks": tasks}
            self._reader.pause(POLL_SECONDS)

    def _state_changed(self, state: StreamState) -> None:
        if state is StreamState.LIVE:
            self._reader.post(messages.TaskFeedConnected())

    def _failed(self, error: Exception) -> bool:
        """Report the error and pause, or continue with the successor at once."""
        if not self._polls and isinstance(error, APIError) and error.status_code in _NO_SUCH_STREAM:
            self._polls = True
            return True
        if self._reader.received > self._received:
            self._failures, self._received = 0, self._reader.received
        self._failures += 1
        wait = min(POLL_SECONDS * self._failures, MAX_WAIT_SECONDS)
        offline = isinstance(error, ConnectionFailed)
        if self._successor is None or not (offline or isinstance(error, AuthenticationError)):
            self._reader.post(messages.TaskFeedFailed(error, wait))
        elif self._switch_to_successor(self._successor, error, offline, wait):
            return True
        self._reader.pause(wait)
        return True

    def _switch_to_successor(
        self, successor: Successor, error: Exception, offline: bool, wait: float
    ) -> bool:
        # A rejected token ends the session only if the server has not been replaced.
        if offline:
            self._reader.post(messages.TaskFeedFailed(error, wait))
        if self._reader.closed or time.monotonic() < self._renew_at:
            return False
        try:
            found = successor()
        except EXPECTED_ERRORS as failure:
            self._renew_at = time.monotonic() + _RENEW_SECONDS
            self._reader.post(messages.TaskFeedFailed(failure, wait))
            return False
        if found is not None:
            self.client = found.client
            self._reader.post(found)
        elif not offline:
            self._reader.post(messages.TaskFeedFailed(error, wait))
        return found is not None


class _PolledTasks:
    """Substitute for the stream of a server that has none."""

    last_event_id = None

    def __init__(self, updates: Iterator[TaskUpdate]) -> None:
        self._updates = updates

    def __iter__(self) -> Iterator[TaskUpdate]:
        return self._updates

    def close(self) -> None:
        """Do nothing: the iteration ends when the reader is closed."""
