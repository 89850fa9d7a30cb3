"""Public event streams: the events of a task, and the updates of all tasks.

A ``TaskStream`` yields every event once and in order, over as many connections as necessary:
after a break it reconnects with ``Last-Event-ID`` and continues after the last event it yielded.
Only a terminal ``TASK_STATUS`` ends it; if a server does not send one, the task is requested.
An ``UpdateStream`` does the same for all tasks, and has no end.

Source: the BeRay API v1 wire page, "The stream".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, Self, TypeVar

from beray.http.transport import Transport, quote_path_segment
from beray.schema import Task, TaskEvent, TaskUpdate
from beray.streaming.closable_iterator import ClosableIterator
from beray.streaming.cursor import Cursor, StreamState, UpdateCursor
from beray.streaming.reconnect import ReconnectingStream, ReconnectingUpdateStream

__all__ = [
    "IDLE_SECONDS",
    "RECONNECT_SECONDS",
    "EventStream",
    "StreamState",
    "TaskStream",
    "UpdateStream",
]

IDLE_SECONDS: Final = 45.0
"""Silence after which a connection counts as broken: three heartbeats of a BeRay server."""
RECONNECT_SECONDS: Final = 300.0
"""Seconds to continue after the first failure, without an event and without a healthy connection
in between; see ``beray.streaming.reconnect``."""

StateCallback = Callable[[StreamState], None]
T = TypeVar("T")


class EventStream(Iterator[T], Generic[T]):
    """Iterator over the events of a stream; also a context manager.

    ``close()`` may be called from any thread and returns immediately; the iteration then stops.
    Leaving a loop with ``break`` and dropping the iterator releases the connection as well.

    Raises:
        APIError: The server rejected the stream, such as ``NotFoundError`` or
            ``AuthenticationError``. This and the following are raised by the iteration.
        ConnectionFailed: Connections failed for ``reconnect`` seconds, without an event in between.
        StreamInterrupted: The stream broke, and has no ids to resume by.
        StreamGapError: The server omitted events.
        InvalidResponseError: An event is not a JSON object.
    """

    def __init__(self, stream: ReconnectingStream) -> None:
        self._stream = stream
        # Closes the stream when it is dropped, together with this object.
        self._events: ClosableIterator[T] = ClosableIterator(stream)

    def __next__(self) -> T:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the iteration, even if the iterating thread is blocked. Idempotent."""
        self._events.close()

    @property
    def last_event_id(self) -> str | None:
        """Id of the last event, with which this or another process can resume the stream."""
        return self._stream.cursor.last_event_id

    @property
    def healthy_at(self) -> float:
        """Monotonic time of the last sign that the server works; 0.0 before the first one."""
        return self._stream.healthy_at

    @property
    def state(self) -> StreamState:
        """State of the connection."""
        return self._stream.state

    @property
    def retry_in(self) -> float:
        """Duration of the wait before the next connection in seconds, while reconnecting."""
        return self._stream.retry_in


class TaskStream(EventStream[TaskEvent]):
    """The events of one task, until it has ended; see :class:`EventStream`."""

    def __init__(
        self,
        transport: Transport,
        task_id: int | str,
        get_task: Callable[[], Task],
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: StateCallback | None = None,
    ) -> None:
        path = f"/tasks/{quote_path_segment(task_id)}/stream"
        cursor = Cursor(path, last_event_id)
        super().__init__(
            ReconnectingStream(transport, path, cursor, get_task, reconnect, idle, on_state)
        )


class UpdateStream(EventStream[TaskUpdate]):
    """The updates of all tasks of the user, without an end; see :class:`EventStream`.

    If the stream reconnects so late that the server no longer has the updates in between, it
    starts anew with ``TASKS``.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: StateCallback | None = None,
    ) -> None:
        path = "/tasks/stream"
        cursor = UpdateCursor(path, last_event_id)
        super().__init__(
            ReconnectingUpdateStream(transport, path, cursor, None, reconnect, idle, on_state)
        )
