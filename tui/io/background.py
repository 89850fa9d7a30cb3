"""Blocking work in threads that post their results as messages.

Requests run in daemon threads that belong to no executor, so exiting never waits for one that
is blocked by a server. Changes of the user's settings files are joined at exit, so that quitting
right after a change does not lose it. Messages to a removed screen are dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from textual.message import Message
from textual.message_pump import MessagePump

from beray.exceptions import BeRayException
from beray.schema import TaskEvent
from beray.streaming.cursor import StreamState
from tui import messages
from tui.io.mailbox import Mailbox

if TYPE_CHECKING:
    from beray.client import BeRayClient

EXPECTED_ERRORS: Final = (BeRayException, OSError)
"""Exceptions of a request that are not programming errors."""


def deliver(target: MessagePump, message: Message) -> None:
    """Post ``message`` from any thread; drop it if the target no longer exists."""
    try:
        target.post_message(message)
    except RuntimeError:
        # Its event loop is closed, or it does not belong to an app any more.
        return


def run(
    target: MessagePump, work: Callable[[], Message], on_error: Callable[[Exception], Message]
) -> threading.Thread:
    """Run ``work`` in a daemon thread and post the returned message to ``target``.

    Args:
        target: Receives the message.
        work: Returns the message. May block indefinitely.
        on_error: Creates the message for a ``BeRayException`` or ``OSError`` of ``work``.
    """
    return _start(target, work, on_error, "beray-call", daemon=True)


def change_settings(
    target: MessagePump, change: Callable[[], Message], on_error: Callable[[Exception], Message]
) -> threading.Thread:
    """Run ``change`` in a thread that the interpreter joins at exit, and post its message.

    Args:
        target: Receives the message.
        change: Writes a settings file of the user. It waits only for the lock of that file,
            which has a timeout (``beray.config.LOCK_SECONDS``).
        on_error: Creates the message for a ``BeRayException`` or ``OSError`` of ``change``.
    """
    return _start(target, change, on_error, "beray-settings", daemon=False)


def _start(
    target: MessagePump,
    work: Callable[[], Message],
    on_error: Callable[[Exception], Message],
    name: str,
    *,
    daemon: bool,
) -> threading.Thread:
    def body() -> None:
        try:
            message = work()
        except EXPECTED_ERRORS as error:
            message = on_error(error)
        deliver(target, message)

    thread = threading.Thread(target=body, name=name, daemon=daemon)
    thread.start()
    return thread


class TaskStreamReader:
    """Reader of one task's event stream; buffers the events until the screen takes them.

    Args:
        client: Client of the task's server.
        task_id: Task to read.
        target: Receives ``EventsWaiting``, ``StreamChanged`` and ``StreamFailed``.
        last_event_id: Id of the last event already received, or None to read from the start.
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
        self._last_event_id = last_event_id
        self._events: Mailbox[tuple[TaskEvent, str | None]] = Mailbox(
            lambda: deliver(target, messages.EventsWaiting(task_id))
        )
        self._stream = client.stream_task_updates(
            task_id, last_event_id=last_event_id, on_state=self._state_changed
        )
        threading.Thread(target=self._read, name="beray-stream", daemon=True).start()

    def take(self) -> list[TaskEvent]:
        """Return the events since the last call. Never blocks."""
        return self._unpack(self._events.take())

    def stop_and_drain(self) -> tuple[list[TaskEvent], str | None]:
        """Stop reading; return the remaining events and the id of the last one received."""
        rest = self._unpack(self._events.close())
        self._stream.close()
        return rest, self._last_event_id

    def close(self) -> None:
        """Stop reading. Returns at once, whatever the threads are doing."""
        self._events.close()
        self._stream.close()

    def _unpack(self, taken: list[tuple[TaskEvent, str | None]]) -> list[TaskEvent]:
        if taken:
            self._last_event_id = taken[-1][1]
        return [event for event, _ in taken]

    def _read(self) -> None:
        try:
            for event in self._stream:
                if not self._events.put((event, self._stream.last_event_id)):
                    return
        except EXPECTED_ERRORS as error:
            self._post(messages.StreamFailed(self.task_id, error))

    def _state_changed(self, state: StreamState) -> None:
        self._post(messages.StreamChanged(self.task_id, state, self._stream.retry_in))

    def _post(self, message: Message) -> None:
        if not self._events.closed:
            deliver(self._target, message)
