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
from beray.exceptions import BeRayException
from beray.schema import TaskEvent
from beray.streaming import StreamState
from tui import messages

POLL_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 0.05
_MOST_WAITING: Final = 4000
"""Events that a reader holds before it stops reading on: the server's turn to wait."""

EXPECTED: Final = (BeRayException, OSError)
"""What a call may raise without being a mistake of the program."""


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
    """Asks for the list of tasks, about once a second, until it is closed."""

    def __init__(
        self, client: BeRayClient, target: MessagePump, every: float = POLL_SECONDS
    ) -> None:
        self.generation = 0
        """An answer of an earlier generation was asked for before the last ``refresh``."""
        self._client = client
        self._target = target
        self._every = every
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
            generation = self.generation
            message: Message
            try:
                message = messages.TasksArrived(self._client.list_tasks(), generation)
            except EXPECTED as error:
                message = messages.PollFailed(error)
            if self._closed:
                return
            deliver(self._target, message)
            self._wake.wait(self._every)
            self._wake.clear()


class StreamReader:
    """Reads one task's events and holds them until the screen takes them.

    However fast they come, one ``EventsWaiting`` stands for all that have not been
    taken, and there is at most one in ``FLUSH_SECONDS``.
    """

    def __init__(self, client: BeRayClient, task_id: int, target: MessagePump) -> None:
        self.task_id = task_id
        self._target = target
        self._events: deque[TaskEvent] = deque()
        self._changed = threading.Condition()
        self._announced = False
        self._closed = False
        self._stream = client.stream_task_updates(task_id, on_state=self._state_changed)
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
