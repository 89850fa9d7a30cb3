"""Blocking work in threads whose results are messages.

Calls to a server run in daemon threads that belong to no executor, so leaving the program
never joins one that a server keeps waiting. Changes of the user's settings files are joined,
so that quitting at once after a change does not lose it. Messages to a screen that has been
removed are dropped.
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

    return _start(target, work, refused, "beray-call", daemon=True)


def change_settings(
    target: MessagePump, change: Callable[[], Message], refused: Callable[[Exception], Message]
) -> threading.Thread:
    """Run ``change`` in a thread that the interpreter joins at exit, and post its message.

    Args:
        target: receives the message.
        change: writes a settings file of the user. Its only wait is for the lock of that
            file, which has a timeout (``beray.config.LOCK_SECONDS``).
        refused: makes the message from a ``BeRayException`` or ``OSError`` of ``change``.
    """
    return _start(target, change, refused, "beray-settings", daemon=False)


def _start(
    target: MessagePump,
    work: Callable[[], Message],
    refused: Callable[[Exception], Message],
    name: str,
    *,
    daemon: bool,
) -> threading.Thread:
    def body() -> None:
        try:
            message = work()
        except EXPECTED as error:
            message = refused(error)
        deliver(target, message)

    thread = threading.Thread(target=body, name=name, daemon=daemon)
    thread.start()
    return thread


class StreamReader:
    """Reads one task's events and holds them until the screen takes them."""

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
        """What has come since the last time. Never blocks."""
        return self._given(self._events.take())

    def hand_over(self) -> tuple[list[TaskEvent], str | None]:
        """Stop reading; give what was not taken yet, and the id of the last event of all."""
        rest = self._given(self._events.close())
        self._stream.close()
        return rest, self._last_event_id

    def close(self) -> None:
        """Stop reading. Returns at once, wherever the threads are."""
        self._events.close()
        self._stream.close()

    def _given(self, taken: list[tuple[TaskEvent, str | None]]) -> list[TaskEvent]:
        if taken:
            self._last_event_id = taken[-1][1]
        return [event for event, _ in taken]

    def _read(self) -> None:
        try:
            for event in self._stream:
                if not self._events.put((event, self._stream.last_event_id)):
                    return
        except EXPECTED as error:
            self._tell(messages.StreamFailed(self.task_id, error))

    def _state_changed(self, state: StreamState) -> None:
        self._tell(messages.StreamChanged(self.task_id, state, self._stream.retry_in))

    def _tell(self, message: Message) -> None:
        if not self._events.closed:
            deliver(self._target, message)
