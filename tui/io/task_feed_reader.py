"""Reader of the updates of all tasks of an account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from textual.message import Message
from textual.message_pump import MessagePump

from beray.exceptions import APIError, AuthenticationError, ConnectionFailed
from beray.schema import TaskUpdate
from beray.streaming.cursor import StreamState
from tui import messages
from tui.io.background import EXPECTED_ERRORS, deliver
from tui.io.mailbox import Mailbox

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.streaming.streams import UpdateStream

POLL_SECONDS: Final = 1.0
MAX_WAIT_SECONDS: Final = 5.0
"""Maximum pause between two attempts in seconds, short because a user is waiting."""
_RECONNECT_SECONDS: Final = 1.0
"""Time for which the stream itself reconnects; afterwards the error is shown."""
_RENEW_SECONDS: Final = 5.0
"""Pause after a successor could not be found or started."""
_NO_SUCH_STREAM: Final = frozenset({404, 405, 422})

Successor = Callable[[], messages.ClientReplaced | None]
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
        target: MessagePump,
        *,
        last_event_id: str | None = None,
        successor: Successor | None = None,
    ) -> None:
        self.last_event_id = last_event_id
        self.client = client
        self._target = target
        self._successor = successor
        self._updates: Mailbox[TaskUpdate] = Mailbox(
            lambda: deliver(target, messages.UpdatesWaiting())
        )
        self._stream: UpdateStream | None = None
        self._polls = False
        self._generation = 0  # requests from before the last ``refresh`` are outdated
        self._failures = 0
        self._renew_at = 0.0
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="beray-board", daemon=True).start()

    def take(self) -> list[TaskUpdate]:
        """Return the updates since the last call. Never blocks."""
        return self._updates.take()

    def refresh(self) -> None:
        """Poll at once if the server is polled: the tasks have changed."""
        self._generation += 1
        self._wake.set()

    def close(self) -> None:
        """Stop reading. Returns at once, whatever the thread is doing."""
        self._updates.close()
        if self._stream is not None:
            self._stream.close()
        self._wake.set()

    def _run(self) -> None:
        while not self._updates.closed:
            try:
                if self._polls:
                    self._poll()
                else:
                    self._read()
            except EXPECTED_ERRORS as error:
                self._failed(error)

    def _read(self) -> None:
        """Read the stream until it fails."""
        stream = self._stream = self.client.stream_all_updates(
            last_event_id=self.last_event_id,
            reconnect=_RECONNECT_SECONDS,
            on_state=self._state_changed,
        )
        if self._updates.closed:
            stream.close()
        try:
            for update in stream:
                self._failures = 0
                if not self._updates.put(update):
                    return
                self.last_event_id = stream.last_event_id
        except APIError as error:
            if error.status_code not in _NO_SUCH_STREAM:
                raise
            self._polls = True

    def _poll(self) -> None:
        generation = self._generation
        tasks = self.client.list_tasks()
        self._failures = 0
        if generation == self._generation:
            self._updates.put({"type": "TASKS", "tasks": tasks})
        self._pause(POLL_SECONDS)

    def _state_changed(self, state: StreamState) -> None:
        if state is StreamState.LIVE:
            self._post(messages.TaskFeedConnected())

    def _failed(self, error: Exception) -> None:
        """Report the error and pause, or continue with the successor at once."""
        self._failures += 1
        wait = min(POLL_SECONDS * self._failures, MAX_WAIT_SECONDS)
        offline = isinstance(error, ConnectionFailed)
        if self._successor is None or not (offline or isinstance(error, AuthenticationError)):
            self._post(messages.TaskFeedFailed(error, wait))
        elif self._switch_to_successor(self._successor, error, offline, wait):
            return
        self._pause(wait)

    def _switch_to_successor(
        self, successor: Successor, error: Exception, offline: bool, wait: float
    ) -> bool:
        # A rejected token ends the session only if the server has not been replaced.
        if offline:
            self._post(messages.TaskFeedFailed(error, wait))
        if self._updates.closed or time.monotonic() < self._renew_at:
            return False
        try:
            found = successor()
        except EXPECTED_ERRORS as failure:
            self._renew_at = time.monotonic() + _RENEW_SECONDS
            self._post(messages.TaskFeedFailed(failure, wait))
            return False
        if found is not None:
            self.client = found.client
            self._post(found)
        elif not offline:
            self._post(messages.TaskFeedFailed(error, wait))
        return found is not None

    def _pause(self, seconds: float) -> None:
        if not self._updates.closed:
            self._wake.wait(seconds)
            self._wake.clear()

    def _post(self, message: Message) -> None:
        if not self._updates.closed:
            deliver(self._target, message)
