"""Reads what happens to all tasks of the account, for as long as the dashboard is open."""

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
from tui.io.background import EXPECTED, deliver
from tui.io.mailbox import Mailbox

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.streaming.streams import UpdateStream

POLL_SECONDS: Final = 1.0
LONGEST_WAIT: Final = 5.0
"""Seconds between two attempts, at most: somebody is looking."""
_RECONNECT_SECONDS: Final = 1.0
"""How long the stream itself tries; behind that the reason is shown."""
_RENEW_SECONDS: Final = 5.0
"""How long after a successor could not be found or started it is tried again."""
_NO_SUCH_STREAM: Final = frozenset({404, 405, 422})

Successor = Callable[[], messages.Renewed | None]
"""Blocks; raises one of ``EXPECTED`` where there is none and none can be started."""


class BoardReader:
    """Holds the updates until the screen takes them; goes on whatever happens.

    A server that has no stream over all tasks is asked for them every second instead.

    Attributes:
        client: of the server that is read now.

    Args:
        last_event_id: begin behind this update instead of with all tasks.
        successor: looks for the server that has taken the place of one which does not
            answer any more, or does not know us; what it finds is read from then on.
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
        self._generation = 0  # what was asked for before the last ``refresh`` is old
        self._failures = 0
        self._renew_at = 0.0
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="beray-board", daemon=True).start()

    def take(self) -> list[TaskUpdate]:
        """What has come since the last time. Never blocks."""
        return self._updates.take()

    def refresh(self) -> None:
        """The tasks have changed: a server that is asked for them is asked at once."""
        self._generation += 1
        self._wake.set()

    def close(self) -> None:
        """Stop reading. Returns at once, wherever the thread is."""
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
            except EXPECTED as error:
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
            self._tell(messages.BoardLive())

    def _failed(self, error: Exception) -> None:
        """Say so, and wait; or turn to the successor at once."""
        self._failures += 1
        wait = min(POLL_SECONDS * self._failures, LONGEST_WAIT)
        offline = isinstance(error, ConnectionFailed)
        if self._successor is None or not (offline or isinstance(error, AuthenticationError)):
            self._tell(messages.BoardFailed(error, wait))
        elif self._renewed(self._successor, error, offline, wait):
            return
        self._pause(wait)

    def _renewed(self, successor: Successor, error: Exception, offline: bool, wait: float) -> bool:
        # A token that is refused is the end of a session only where nothing has changed.
        if offline:
            self._tell(messages.BoardFailed(error, wait))
        if self._updates.closed or time.monotonic() < self._renew_at:
            return False
        try:
            found = successor()
        except EXPECTED as failure:
            self._renew_at = time.monotonic() + _RENEW_SECONDS
            self._tell(messages.BoardFailed(failure, wait))
            return False
        if found is not None:
            self.client = found.client
            self._tell(found)
        elif not offline:
            self._tell(messages.BoardFailed(error, wait))
        return found is not None

    def _pause(self, seconds: float) -> None:
        if not self._updates.closed:
            self._wake.wait(seconds)
            self._wake.clear()

    def _tell(self, message: Message) -> None:
        if not self._updates.closed:
            deliver(self._target, message)
