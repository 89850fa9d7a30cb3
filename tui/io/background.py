"""Blocking work in threads that post their results as messages.

Requests run in daemon threads that belong to no executor, so exiting never waits for one that
is blocked by a server. Changes of the user's settings files are joined at exit, so that quitting
right after a change does not lose it. Messages to a removed screen are dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from textual.message import Message

from beray.exceptions import BeRayException
from beray.schema import TaskEvent
from beray.streaming.cursor import StreamState
from tui import messages
from tui.io.mailbox import Mailbox

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.streaming.streams import TaskStream

EXPECTED_ERRORS: Final = (BeRayException, OSError)
"""Exceptions of a request that are not programming errors."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class MessageTarget(Protocol):
    """Receiver of messages, such as a screen."""

    def post_message(self, message: Message) -> bool:
        """Add a message to the queue of the receiver. Thread-safe."""
        ...


def deliver(target: MessageTarget, message: Message) -> None:
    """Post ``message`` from any thread; drop it if the target no longer exists."""
    try:
        target.post_message(message)
    except RuntimeError:
        # Its event loop is closed, or it does not belong to an app any more.
        return


def run(
    target: MessageTarget, work: Callable[[], Message], on_error: Callable[[Exception], Message]
) -> threading.Thread:
    """Run ``work`` in a daemon thread and post the returned message to ``target``.

    Args:
        target: Receives the message.
        work: Returns the message. May block indefinitely.
        on_error: Creates the message for a ``BeRayException`` or ``OSError`` of ``work``.
    """
    return _start(target, work, on_error, "beray-call", daemon=True)


def change_settings(
    target: MessageTarget, change: Callable[[], Message], on_error: Callable[[Exception], Message]
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
    target: MessageTarget,
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


class ItemStream(Protocol[T_co]):
    """Iterator that can be resumed by the id of its last item, such as an ``EventStream``."""

    @property
    def last_event_id(self) -> str | None:
        """Id of the last item, or None if the stream has no ids."""
        ...

    def __iter__(self) -> Iterator[T_co]: ...

    def close(self) -> None:
        """End the iteration. Thread-safe; returns at once."""


class BackgroundReader(Generic[T]):
    """Thread that reads a stream, and buffers the items until they are taken.

    Args:
        name: Name of the thread.
        open_stream: Opens the stream after the item with the given id, or from the start for
            None. Called in the thread.
        on_error: Handles an expected error in the thread. Returns True to open the stream again
            after the last item received, or False to end the thread.
        announcement: Creates the message that items are waiting.
        target: Receives the messages.
        last_event_id: Id of the last item already known, or None to read from the start.
    """

    def __init__(
        self,
        name: str,
        *,
        open_stream: Callable[[str | None], ItemStream[T]],
        on_error: Callable[[Exception], bool],
        announcement: Callable[[], Message],
        target: MessageTarget,
        last_event_id: str | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._on_error = on_error
        self._target = target
        self._received_id = last_event_id  # used by the thread only
        self._taken_id = last_event_id  # used by the screen only
        self._items: Mailbox[tuple[T, str | None]] = Mailbox(
            lambda: deliver(target, announcement())
        )
        self.received = 0
        """Number of items that the thread has received."""
        self._stream: ItemStream[T] | None = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def take(self) -> list[T]:
        """Return the items since the last call. Never blocks."""
        return self._unpack(self._items.take())

    def close(self) -> tuple[list[T], str | None]:
        """Stop reading. Returns at once, whatever the thread is doing.

        Returns:
            The remaining items, and the id of the last of all items that were taken.
        """
        rest = self._unpack(self._items.close())
        if self._stream is not None:
            self._stream.close()
        self._wake.set()
        return rest, self._taken_id

    def _unpack(self, taken: list[tuple[T, str | None]]) -> list[T]:
        if taken:
            self._taken_id = taken[-1][1]
        return [item for item, _ in taken]

    # For the callbacks in the thread

    @property
    def closed(self) -> bool:
        """True if the items are no longer needed."""
        return self._items.closed

    def post(self, message: Message) -> None:
        """Post a message about the stream, unless the reader is closed."""
        if not self.closed:
            deliver(self._target, message)

    def pause(self, seconds: float) -> None:
        """Wait until ``seconds`` have passed, or ``wake`` or ``close`` is called."""
        if not self.closed:
            self._wake.wait(seconds)
            self._wake.clear()

    def wake(self) -> None:
        """End the current or the next pause. Thread-safe."""
        self._wake.set()

    def _run(self) -> None:
        while not self.closed:
            try:
                self._read()
                return
            except EXPECTED_ERRORS as error:
                if not self._on_error(error):
                    return

    def _read(self) -> None:
        stream = self._stream = self._open_stream(self._received_id)
        if self.closed:  # ``close`` has not seen the stream
            stream.close()
        for item in stream:
            self.received += 1
            if not self._items.put((item, stream.last_event_id)):
                return
            self._received_id = stream.last_event_id


class TaskStreamReader:
    """Reader of one task's event stream, which reconnects until the task ends.

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
        target: MessageTarget,
        last_event_id: str | None = None,
    ) -> None:
        self.task_id = task_id
        self._client = client
        self._stream: TaskStream | None = None
        self._reader: BackgroundReader[TaskEvent] = BackgroundReader(
            "beray-stream",
            open_stream=self._open_stream,
            on_error=self._failed,
            announcement=lambda: messages.EventsWaiting(task_id),
            target=target,
            last_event_id=last_event_id,
        )
        self._reader.start()

    def take(self) -> list[TaskEvent]:
        """Return the events since the last call. Never blocks."""
        return self._reader.take()

    def close(self) -> tuple[list[TaskEvent], str | None]:
        """Stop reading; return the remaining events and the id of the last one received."""
        return self._reader.close()

    def _open_stream(self, last_event_id: str | None) -> TaskStream:
        self._stream = self._client.stream_task_updates(
            self.task_id, last_event_id=last_event_id, on_state=self._state_changed
        )
        return self._stream

    def _state_changed(self, state: StreamState) -> None:
        retry_in = self._stream.retry_in if self._stream is not None else 0.0
        self._reader.post(messages.StreamChanged(self.task_id, state, retry_in))

    def _failed(self, error: Exception) -> bool:
        self._reader.post(messages.StreamFailed(self.task_id, error))
        return False
