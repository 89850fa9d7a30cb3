"""Everything that waits for a server: daemon threads whose results are messages.

The threads belong to no executor, so leaving the program never joins one that a
server keeps waiting. What they post to a screen that has gone is dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from textual.message import Message
from textual.message_pump import MessagePump

from beray.client import BeRayClient
from beray.exceptions import AuthenticationError, BeRayException, ConnectionFailed
from beray.schema import TaskEvent
from beray.streaming import StreamState
from tui import messages

POLL_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 0.05
_MOST_WAITING: Final = 4000
"""Events that a reader holds before it stops reading on: the server's turn to wait."""

_RENEW_SECONDS: Final = 5.0
"""How long after a successor could not be found or started it is tried again."""

EXPECTED: Final = (BeRayException, OSError)
"""What a call may raise without being a mistake of the program."""


Successor = Callable[[], messages.Renewed | None]
"""Blocks; raises one of ``EXPECTED`` where there is none and none can be started."""


def deliver(target: MessagePump, message: Message) -> None:
    """Post ``message`` from any thread; a target that has gone gets nothing."""
    try:
        target.post_message(message)
    except RuntimeError:
        # Its event loop is closed, or it belongs to no app any more: nobody is left to tell.
        return


def run(
    target: MessagePump, work: Callable[[], Message], refused: Callable[[Exception], Message]
) -> threading.Thread:
    """Do ``work`` in a daemon thread and post the message that comes of it to ``target``.

    Args:
        work: makes the message; may block for as long as it likes.
        refused: makes the message from a ``BeRayException`` or ``OSError`` of ``work``.
    """

    def body() -> None:
        try:
            message = work()
        except EXPECTED as error:
            message = refused(error)
        deliver(target, message)

    thread = threading.Thread(target=body, name="beray-call", daemon=True)
    thread.start()
    return thread


class Poller:
    """Asks for the list of tasks, about once a second, until it is closed.

    Args:
        successor: looks for the server that has taken the place of one which does not
            answer any more, or does not know us; what it finds is asked from then on.
    """

    def __init__(
        self,
        client: BeRayClient,
        target: MessagePump,
        every: float = POLL_SECONDS,
        successor: Successor | None = None,
    ) -> None:
        self.generation = 0
        """An answer of an earlier generation was asked for before the last ``refresh``."""
        self._client = client
        self._target = target
        self._every = every
        self._successor = successor
        self._renew_at = 0.0
        self._wake = threading.Event()
        self._closed = False
        threading.Thread(target=self._run, name="beray-poll", daemon=True).start()

    def refresh(self) -> None:
        """The tasks have changed: ask at once, and count what is on its way as old."""
        self.generation += 1
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            renewed = self._ask()
            if self._closed:
                return
            if not renewed:
                self._wake.wait(self._every)
                self._wake.clear()

    def _ask(self) -> bool:
        """Ask once; whether there is another server to be asked at once."""
        generation = self.generation
        try:
            tasks = self._client.list_tasks()
        except EXPECTED as error:
            gone = isinstance(error, (ConnectionFailed, AuthenticationError))
            if self._successor is None or not gone:
                self._tell(messages.PollFailed(error))
                return False
            return self._renewed(self._successor, error)
        self._tell(messages.TasksArrived(tasks, generation))
        return False

    def _renewed(self, successor: Successor, error: Exception) -> bool:
        # A token that is refused is the end of a session only where nothing has changed.
        offline = isinstance(error, ConnectionFailed)
        if offline:
            self._tell(messages.PollFailed(error))
        if self._closed or time.monotonic() < self._renew_at:
            return False
        try:
            found = successor()
        except EXPECTED as failure:
            self._renew_at = time.monotonic() + _RENEW_SECONDS
            self._tell(messages.PollFailed(failure))
            return False
        if found is not None:
            self._client = found.client
            self._tell(found)
        elif not offline:
            self._tell(messages.PollFailed(error))
        return found is not None

    def _tell(self, message: Message) -> None:
        if not self._closed:
            deliver(self._target, message)


class StreamReader:
    """Reads one task's events and holds them until the screen takes them.

    However fast they come, one ``EventsWaiting`` stands for all that have not been
    taken, and there is at most one in ``FLUSH_SECONDS``.
    """

    def __init__(
        self,
        client: BeRayClient,
        task_id: int,
        target: MessagePump,
        last_event_id: str | None = None,
    ) -> None:
        self.task_id = task_id
        self._target = target
        self._events: deque[TaskEvent] = deque()
        self._changed = threading.Condition()
        self._announced = False
        self._closed = False
        self._last_event_id = last_event_id
        self._stream = client.stream_task_updates(
            task_id, last_event_id=last_event_id, on_state=self._state_changed
        )
        for body in (self._read, self._announce):
            threading.Thread(target=body, name="beray-stream", daemon=True).start()

    def take(self) -> list[TaskEvent]:
        """What has come since the last time. Never blocks."""
        with self._changed:
            taken = list(self._events)
            self._events.clear()
            self._announced = False
            self._changed.notify_all()
        return taken

    def hand_over(self) -> tuple[list[TaskEvent], str | None]:
        """Stop reading; give what was not taken yet, and the id of the last event of all."""
        with self._changed:
            self._closed = True
            rest, last_event_id = list(self._events), self._last_event_id
        self.close()
        return rest, last_event_id

    def close(self) -> None:
        """Stop reading. Returns at once, wherever the threads are."""
        self._stream.close()
        with self._changed:
            self._closed = True
            self._events.clear()
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for event in self._stream:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._closed or len(self._events) < _MOST_WAITING
                    )
                    if self._closed:
                        return
                    self._events.append(event)
                    self._last_event_id = self._stream.last_event_id
                    if len(self._events) == 1:
                        self._changed.notify_all()
        except EXPECTED as error:
            self._tell(messages.StreamFailed(self.task_id, error))

    def _announce(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or (self._events and not self._announced)
                )
                if self._closed:
                    return
                self._announced = True
            deliver(self._target, messages.EventsWaiting(self.task_id))
            time.sleep(FLUSH_SECONDS)

    def _state_changed(self, state: StreamState) -> None:
        self._tell(messages.StreamChanged(self.task_id, state, self._stream.retry_in))

    def _tell(self, message: Message) -> None:
        if not self._closed:
            deliver(self._target, message)
